"""`agenttask`: run AgentTasks on this machine, check them offline, and see what is installed.

Exit codes are those of cli/exit_codes.py.
"""

import argparse
import asyncio
import functools
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import entry_points, version
from pathlib import Path

import msgspec

from agenttask.cli import exit_codes
from agenttask.cli.checking import Checked, check
from agenttask.cli.image_check import TOOLS, CannotCheck, check_image, choose_tool
from agenttask.cli.manifests import InvalidFile, read_files
from agenttask.cli.preparing import LocalRun, RunOptions, choose, new_workspace, prepared_runs
from agenttask.cli.result import show
from agenttask.cli.running import run_local
from agenttask.cli.schemas import packaged_schemas
from agenttask.cli.watching import file_changes, watch
from agenttask.plugin.registry import ENTRY_POINT_GROUP, Plugins, load
from agenttask.runner.credentials import adopt_orphans, take_credentials
from agenttask.runner.descendants import kill_descendants
from agenttask.runner.event_loop import new_event_loop
from agenttask.runner.station import Outcome

_MOST = 100_000


def main() -> int:
    """The program: no process that a task started outlives it."""
    adopt_orphans()
    try:
        return run_command(sys.argv[1:])
    finally:
        kill_descendants(os.getpid())


def run_command(arguments: Sequence[str]) -> int:
    """One command line; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "run":
                return _run(options)
            case "validate":
                return _validate(options.files)
            case "image":
                return _image(options)
            case "plugins":
                return _plugins(load())
            case _:
                print(version("agenttask"))
                return exit_codes.SUCCEEDED
    except InvalidFile as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return exit_codes.INVALID
    except CannotCheck as error:
        print(error, file=sys.stderr)
        return exit_codes.INVALID


def _run(options: argparse.Namespace) -> int:
    credentials = take_credentials(os.environ).values
    plugins = load()
    wanted = RunOptions(
        tasks=tuple(options.task),
        inputs={name: Path(folder) for name, folder in options.input},
        params=dict(options.param),
        workspace=options.workspace,
        keep=options.keep,
        max_tasks=options.max_tasks,
        hosts=tuple(options.allow_host),
        hub=options.allow_hub,
        max_steps=options.max_steps,
        checkpoint=options.checkpoint,
    )
    if options.watch:
        return _watch(options, wanted, plugins, credentials)
    checked = _checked(options.files, plugins)
    tasks = choose(checked.tasks, wanted.tasks)
    outcomes = run_local(checked, wanted, plugins, credentials, os.environ)
    show([(task.metadata.name, task.spec) for task in tasks], outcomes, as_json=options.json)
    return exit_codes.of_errors([outcome.error for outcome in outcomes])


def _watch(options: argparse.Namespace, wanted: RunOptions, plugins: Plugins, credentials: Mapping[str, str]) -> int:
    """Run at each change, in one workspace, until a person ends it.

    Raises:
        InvalidFile: the command line contradicts itself.
    """
    if wanted.checkpoint is not None:
        raise InvalidFile(["--checkpoint: --watch keeps finished steps itself, from each run to the next; leave out one of the two"])

    def prepare(stack: ExitStack) -> Sequence[LocalRun]:
        return prepared_runs(_checked(options.files, plugins), wanted, plugins, credentials, os.environ, stack)

    def shown(runs: Sequence[LocalRun], outcomes: Sequence[Outcome]) -> None:
        show([(run.name, run.local.document.spec) for run in runs], outcomes, as_json=options.json)
        sys.stdout.flush()

    async def watching() -> Sequence[Outcome]:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        changes = file_changes(options.files, list(wanted.inputs.values()), stopping)
        say = functools.partial(print, file=sys.stderr, flush=True)
        return await watch(prepare, shown, changes, stopping=stopping, max_tasks=wanted.max_tasks, say=say)

    with ExitStack() as stack:
        if wanted.workspace is None:
            folder = new_workspace()
            if wanted.keep:
                stack.callback(print, f"workspace: {folder}", file=sys.stderr)
            else:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            wanted = msgspec.structs.replace(wanted, workspace=folder)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            outcomes = runner.run(watching())
    return exit_codes.of_errors([outcome.error for outcome in outcomes])


def _image(options: argparse.Namespace) -> int:
    tool = choose_tool(options.tool)
    name = f"agenttask-image-check-{secrets.token_hex(4)}"
    return exit_codes.SUCCEEDED if check_image(options.image, tool, timeout=options.timeout, name=name) else exit_codes.FAILED


def _validate(files: Sequence[Path]) -> int:
    checked = _checked(files, load())
    if not (checked.tasks or checked.models or checked.others):
        raise InvalidFile([f"{', '.join(map(str, files))}: there is no object to check"])
    for task in checked.tasks:
        steps = len(task.spec.steps)
        print(f"AgentTask {task.metadata.name}: valid, {steps} step{'' if steps == 1 else 's'}")
    for model in checked.models:
        print(f"AgentModel {model.metadata.name}: valid")
    for other in checked.others:
        print(other.at("", "not checked"))
    return exit_codes.SUCCEEDED


def _checked(files: Sequence[Path], plugins: Plugins) -> Checked:
    return check(read_files(files), packaged_schemas(), step_kinds=plugins.step_kinds.names)


def _plugins(plugins: Plugins) -> int:
    for what, catalogue in (
        ("device strategies", plugins.device_strategies),
        ("threading strategies", plugins.threading_strategies),
        ("LLM clients", plugins.llm_clients),
        ("model factories", plugins.model_factories),
        ("step kinds", plugins.step_kinds),
    ):
        print(f"{what + ':':22}{', '.join(catalogue.names) or 'none'}")
    found = sorted({f"{entry.dist.name} {entry.dist.version}" for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.dist is not None})
    print(f"{'from:':22}{', '.join(found)}")
    return exit_codes.SUCCEEDED


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {_MOST}")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agenttask", description="Run and check AgentTasks on this machine, without a cluster.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run tasks; progress on standard error, the result on standard output")
    run.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML: tasks, their AgentModels, ConfigMaps and Secrets")
    run.add_argument("--task", action="append", default=[], metavar="NAME", help="only this one of the files' tasks; may be repeated")
    run.add_argument("--max-tasks", type=_count, default=10, metavar="N", help="so many tasks at once (default: 10)")
    run.add_argument("--max-steps", type=_count, metavar="N", help="so many steps of all tasks at once (default: each task's own limit)")
    run.add_argument(
        "--input", action="append", default=[], type=_pair, metavar="NAME=DIR", help="the folder of an input, read-only for the task"
    )
    run.add_argument("--param", action="append", default=[], type=_pair, metavar="NAME=VALUE", help="in place of the task's own value")
    run.add_argument("--workspace", type=Path, metavar="DIR", help="where steps write; it stays (default: a temporary folder)")
    run.add_argument("--keep", action="store_true", help="keep the temporary workspace, and say where it is")
    run.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="a host that `fetch` and `git` may reach, as api.example.com:8443"
    )
    run.add_argument("--allow-hub", action="store_true", help="weights may be downloaded from a model hub")
    run.add_argument("--checkpoint", type=Path, metavar="DIR", help="keep finished steps there, and start after those that are there")
    run.add_argument("--watch", action="store_true", help="run again when a file changes, after the finished steps that are unchanged")
    run.add_argument("--json", action="store_true", help="print the whole status as JSON; of several tasks as a List")
    validate = commands.add_parser("validate", help="check files offline: schema, step graph and templates")
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
    image = commands.add_parser("image", help="look at runner images").add_subparsers(
        dest="image_command", required=True, metavar="COMMAND"
    )
    trial = image.add_parser("check", help="start an image as a task's pod would be, and try the runner contract in it")
    trial.add_argument("image", metavar="IMAGE")
    trial.add_argument("--with", dest="tool", choices=TOOLS, help="what starts it (default: the first of these that is there)")
    trial.add_argument("--timeout", type=_count, default=300, metavar="SECONDS", help="for a pod to start and end (default: 300)")
    commands.add_parser("plugins", help="what is installed")
    commands.add_parser("version", help="the version of this program")
    return parser


if __name__ == "__main__":
    sys.exit(main())
