"""Each program starts with the packages of its own requirement file alone, all built-in plugins loaded.

Without this an import at the top of a plugin shows only when the image with the fewest packages crashes in a cluster.
"""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from tests.unit.house.pins import pinned

ROOT = Path(__file__).parents[3]
OURS = {"agenttask"}
START = """
import importlib, sys
from importlib.machinery import PathFinder
absent = set(sys.argv[2:])
class ThisImage(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)
sys.meta_path = [ThisImage if finder is PathFinder else finder for finder in sys.meta_path]
importlib.import_module(sys.argv[1])
from agenttask.plugin import registry
registry.load()
"""


@pytest.mark.parametrize(("program", "module"), [("controller", "agenttask.controller.main"), ("runner", "agenttask.runner.main")])
def test_a_program_and_its_plugins_start_with_its_own_packages(program: str, module: str) -> None:
    there = pinned(ROOT / "requirements" / f"{program}.txt").keys() | OURS
    absent = [name for name, owners in packages_distributions().items() if not {canonicalize_name(owner) for owner in owners} & there]
    done = subprocess.run([sys.executable, "-c", START, module, *absent], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
