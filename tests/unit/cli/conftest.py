"""The command line in this process, with fake plugins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.fakes.runner_plugins import plugins

from agenttask.cli import main
from agenttask.plugin.llm import ChatRequest, Message
from agenttask.plugin.step import StepOutput


class Said(msgspec.Struct, frozen=True):
    """What one command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def agenttask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`agenttask ...`; `echo`, and `read`, `write`, `chat` and `exec` of a few lines."""
    monkeypatch.setattr(
        main, "load", lambda: plugins(kinds={"read": ReadAll(), "write": WriteOne(), "chat": AskOne(), "exec": ShowSecrets()})
    )
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Said:
        try:
            code = main.run_command([str(each) for each in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """A YAML file of these objects, or of this text."""
    numbers = iter(range(100))

    def write(*objects: dict[str, Any] | str) -> Path:
        path = tmp_path / f"file{next(numbers)}.yaml"
        path.write_text("\n---\n".join(each if isinstance(each, str) else yaml.safe_dump(each, allow_unicode=True) for each in objects))
        return path

    return write


class ReadAll:
    schema = dict[str, Any]

    async def run(self, config: dict[str, Any], context: Any) -> Any:
        found = {
            str(path): await context.files.read_text(path) for pattern in config["paths"] for path in await context.files.glob(pattern)
        }
        return StepOutput(text="\n".join(found.values()), files=found)


class WriteOne:
    schema = dict[str, Any]

    async def run(self, config: dict[str, Any], context: Any) -> Any:
        context.log("writing")
        return StepOutput(text=str(await context.files.write_text(config["path"], config["content"])))


class AskOne:
    schema = dict[str, Any]

    async def run(self, config: Any, context: Any) -> Any:
        request = ChatRequest(messages=(Message(role="user", content=config["prompt"]),))
        return StepOutput(text=(await context.model(config["model"]).chat(request)).text)


class ShowSecrets:
    schema = dict[str, Any]

    async def run(self, config: dict[str, Any], context: Any) -> Any:
        shown = ", ".join(f"{name}={value}" for name, value in context.secrets.items())
        context.log(f"{context.name}: {shown}")
        return StepOutput(text=f"{context.name}: {shown}")
