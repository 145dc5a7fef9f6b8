"""`agenttask`: run AgentTasks on this machine, check them offline, and see what is installed.

Exit codes: 0 all is well, 1 the task failed, 2 a file or an argument is wrong, 130 stopped from the terminal.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path

from agenttask.cli.checking import Checked, check
from agenttask.cli.manifests import InvalidFile, read_files
from agenttask.cli.result import cluster_note, status
from agenttask.cli.running import EXIT_INVALID, EXIT_SUCCEEDED, RunOptions, choose, exit_code, run_local
from agenttask.cli.schemas import packaged_schemas
from agenttask.plugin.registry import ENTRY_POINT_GROUP, Plugins, load
from agenttask.runner.credentials import adopt_orphans, take_credentials
from agenttask.runner.descendants import kill_descendants


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
            case "plugins":
                return _plugins(load())
            case _:
                print(version("agenttask"))
                return EXIT_SUCCEEDED
    except InvalidFile as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_INVALID


def _run(options: argparse.Namespace) -> int:
    credentials = take_credentials(os.environ)
    plugins = load()
    checked = _checked(options.files, plugins)
    wanted = RunOptions(
        task=options.task,
        inputs={name: Path(folder) for name, folder in options.input},
        params=dict(options.param),
        workspace=options.workspace,
        keep=options.keep,
    )
    outcome = run_local(checked, wanted, plugins, credentials.values, os.environ)
    if options.json:
        print(json.dumps(status(choose(checked.tasks, options.task).spec, outcome), indent=2, ensure_ascii=False))
    elif outcome.error is None:
        print(outcome.output, end="" if (outcome.output or "").endswith("\n") else "\n")
    else:
        print(f"{outcome.error.reason}: {outcome.message}", file=sys.stderr)
    if (note := cluster_note(outcome)) is not None:
        print(note, file=sys.stderr)
    return exit_code(outcome)


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
    return EXIT_SUCCEEDED


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
    return EXIT_SUCCEEDED


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agenttask", description="Run and check AgentTasks on this machine, without a cluster.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a task; progress on standard error, the result on standard output")
    run.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML: the task, its AgentModels, ConfigMaps and Secrets")
    run.add_argument("--task", metavar="NAME", help="which task, where the files have several")
    run.add_argument(
        "--input", action="append", default=[], type=_pair, metavar="NAME=DIR", help="the folder of an input, read-only for the task"
    )
    run.add_argument("--param", action="append", default=[], type=_pair, metavar="NAME=VALUE", help="in place of the task's own value")
    run.add_argument("--workspace", type=Path, metavar="DIR", help="where steps write; it stays (default: a temporary folder)")
    run.add_argument("--keep", action="store_true", help="keep the temporary workspace, and say where it is")
    run.add_argument("--json", action="store_true", help="print the whole status as JSON")
    validate = commands.add_parser("validate", help="check files offline: schema, step graph and templates")
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
    commands.add_parser("plugins", help="what is installed")
    commands.add_parser("version", help="the version of this program")
    return parser


if __name__ == "__main__":
    sys.exit(main())
