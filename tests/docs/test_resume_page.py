"""The pages on resuming and debugging tell the numbers and names that the code has."""

from pathlib import Path

import pytest

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES, MAX_KEPT_FILE_BYTES, MAX_KEPT_FILES_BYTES, MAX_PACKED_BYTES
from agenttask.api.constants import POD_GRACE_SECONDS, RUNNER_GRACE_SECONDS
from agenttask.runner.debug import SLOW_CALLBACK_SECONDS
from agenttask.runner.log_queue import CLOSE_SECONDS, MAX_LINES
from agenttask.runner.resources import INTERVAL_SECONDS

DOCS = Path(__file__).parents[2] / "docs"
RESUME, DEBUGGING, IMAGE = ((DOCS / name).read_text() for name in ("resume.md", "debugging.md", "runner-image.md"))


@pytest.mark.parametrize(
    ("page", "said"),
    [
        pytest.param(RESUME, f"| the document | {MAX_CHECKPOINT_BYTES >> 10} KiB |", id="document"),
        pytest.param(RESUME, f"| vectors of a collection | {MAX_PACKED_BYTES >> 10} KiB |", id="vectors"),
        pytest.param(RESUME, f"| `keepFiles`, one file | {MAX_KEPT_FILE_BYTES >> 10} KiB |", id="file"),
        pytest.param(RESUME, f"all its items | {MAX_KEPT_FILES_BYTES >> 10} KiB |", id="files"),
        pytest.param(RESUME, f"`AGENTTASK_GRACE_SECONDS` ({RUNNER_GRACE_SECONDS}) is the runner's grace", id="grace"),
        pytest.param(RESUME, f"`terminationGracePeriodSeconds` is {POD_GRACE_SECONDS}", id="pod-grace"),
        pytest.param(IMAGE, f"| `AGENTTASK_GRACE_SECONDS` | {RUNNER_GRACE_SECONDS} |", id="image-grace"),
        pytest.param(IMAGE, f"A pod's own grace is {POD_GRACE_SECONDS} s", id="image-pod-grace"),
        pytest.param(DEBUGGING, f"every {INTERVAL_SECONDS:.0f} seconds", id="interval"),
        pytest.param(DEBUGGING, f"a bounded queue ({MAX_LINES:,})", id="lines"),
        pytest.param(DEBUGGING, f"for at most {CLOSE_SECONDS:.0f} seconds", id="close"),
        pytest.param(DEBUGGING, f"for more than {SLOW_CALLBACK_SECONDS} s", id="slow"),
    ],
)
def test_a_number_is_the_codes(page: str, said: str) -> None:
    assert said in page
