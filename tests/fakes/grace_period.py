"""What the chart leaves the controller's pod between SIGTERM and SIGKILL."""

from pathlib import Path
from typing import Final

import yaml

_VALUES: Final = Path(__file__).parents[2] / "charts" / "agenttask-operator" / "values.yaml"
GRACE_SECONDS: Final[int] = yaml.safe_load(_VALUES.read_text())["controller"]["terminationGracePeriodSeconds"]
