"""Short or long: `make test` runs each fault once and small, `make soak` often and at the size of an installation."""

import os
from typing import Final

SOAK: Final = bool(os.environ.get("AGENTTASK_SOAK"))
MANY: Final = 1000 if SOAK else 40
"""Tasks that come while nobody looks."""
ROUNDS: Final = int(os.environ.get("AGENTTASK_SOAK_ROUNDS", "20"))
"""Seeds that `make soak` tries."""
