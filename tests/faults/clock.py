"""A wrong time of day for one process: clock.c, preloaded. gcc is among what the test cluster installs."""

import secrets
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("clock.c")


def skewed(folder: Path, seconds: float) -> dict[str, str]:
    """The variables of a process whose clock is so far ahead; the library lies in `folder`."""
    library = folder / "clock.so"
    if not library.exists():
        made = folder / f"clock-{secrets.token_hex(4)}.so"  # tests run side by side
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, _SOURCE], check=True, capture_output=True)
        made.rename(library)
    return {"LD_PRELOAD": str(library), "AGENTTASK_CLOCK_AHEAD": f"{seconds:.0f}"}
