"""The example of a third party's plugin: built as a wheel, found by its entry point in another process, and used."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
import yaml

from agenttask.api.task import AgentTask
from agenttask.domain.validation import validate

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"

USE = """
import asyncio, json, sys
from pathlib import Path
import msgspec
from agenttask.api.document import Policy, TaskRef
from agenttask.api.errors import StepFailed
from agenttask.domain.placement import place
from agenttask.plugin.device import DeviceClass, Stock
from agenttask.plugin.registry import load
from agenttask.plugin.step import StepContext
from agenttask.plugin.threading import ThreadingLimits

plugins = load(allowed_distributions=sys.argv[1:] or None)
print(json.dumps([plugins.device_strategies.names, plugins.step_kinds.names]))
if "word-count" not in plugins.step_kinds.names:
    sys.exit()

spot = DeviceClass(name="spot", node_selector={"example.com/capacity": "spot"})
inventory = [Stock(class_=DeviceClass(name="cpu")), Stock(class_=spot)]
placement = place(["cpu", "spot"], plugins.device_strategies.choose("spot-first")(), inventory)
print(json.dumps([placement.chosen.name, placement.reason]))

async def main():
    threads = plugins.threading_strategies.choose("async")(ThreadingLimits())
    kind = plugins.step_kinds.choose("word-count")()
    said = []
    context = StepContext(name="count", task=TaskRef(name="t", namespace="n", uid="u"), outputs={}, files=None, workspace=Path("."),
                          threads=threads, model=None, environment={}, secrets={}, log=said.append,
                          locks=None, policy=Policy(), session=None)
    output = await kind.run(msgspec.convert({"text": "two words", "atLeast": 1}, kind.schema), context)
    print(json.dumps([output.text, output.json, said]))
    try:
        await kind.run(msgspec.convert({"text": "two words", "atLeast": 3}, kind.schema), context)
    except StepFailed as error:
        print(json.dumps(str(error)))
    await threads.drain(1)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin's wheel unpacked: what installing into a target folder gives."""
    folder = tmp_path_factory.mktemp("example")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=EXAMPLE, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    target = folder / "target"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def use(installed: Path, *allowed: str) -> list[object]:
    search = os.pathsep.join(part for part in (str(installed), os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(
        [sys.executable, "-c", USE, *allowed],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_installed_plugin_is_found_and_both_its_parts_work(installed: Path):
    names, placement, output, failure = use(installed)
    assert "spot-first" in names[0]
    assert "word-count" in names[1]
    assert placement == ["spot", "spot: spot capacity with room"]
    assert output == ["2", {"words": 2, "lines": 1, "characters": 9}, ["2 words"]]
    assert failure == "the text has 2 words, atLeast asks for 3"


def test_the_plugin_does_not_load_where_only_others_are_allowed(installed: Path):
    ((devices, kinds),) = use(installed, "agenttask")
    assert ("spot-first" in devices, "word-count" in kinds) == (False, False)


def test_the_plugin_loads_where_its_distribution_is_allowed(installed: Path):
    assert use(installed, "agenttask", "agenttask-example-plugin")[1][0] == "spot"


def test_the_examples_task_is_valid_with_the_plugin():
    task = msgspec.convert(yaml.safe_load((EXAMPLE / "agenttask.yaml").read_text()), AgentTask)
    assert validate(task.spec, step_kinds=["read", "word-count"]).names == ("count",)
    assert task.spec.device.strategy == "spot-first"
