"""`agenttask-controller`: reads the settings and runs the controller on uvloop.

Exit status: 0 after SIGTERM, 1 when a part ended by itself (Kubernetes starts it anew), 2 for wrong settings.
"""

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence

import uvloop

from agenttask.controller.bootstrap import serve
from agenttask.controller.credentials import LoginError
from agenttask.controller.gateway.identity import BadIdentity
from agenttask.controller.logs import configure
from agenttask.controller.settings import ENV_CONFIG, ENV_PREFIX, Settings, SettingsError, read_config, read_settings

WRONG_SETTINGS = 2
CYCLES_EVERY = 20_000
"""New objects between two searches for cycles: at Python's 700 a burst of tasks spends a tenth of its CPU on them, and the loop stands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM."""
    try:
        settings = _settings(_parser().parse_args(arguments))
    except SettingsError as error:
        print(f"agenttask-controller: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return WRONG_SETTINGS
    configure(settings.logging)
    logger = logging.getLogger(__name__)
    gc.freeze()  # what is imported stays
    gc.set_threshold(CYCLES_EVERY, 10, 10)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return 0 if runner.run(serve(settings, os.environ)) else 1
    except (LoginError, BadIdentity) as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback tells the admin nothing
        return WRONG_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agenttask-controller",
        description="Runs AgentTasks as pods.",
        epilog=f"Settings: defaults < --config < environment ({ENV_PREFIX}*) < --set.",
    )
    parser.add_argument("--config", default=os.environ.get(ENV_CONFIG), help=f"a YAML file of settings (also ${ENV_CONFIG})")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, as images.runner=…; repeatable")
    parser.add_argument("--feature-gates", default="", metavar="NAME=true|false,…", help="parts to take back or to put in again")
    parser.add_argument("--namespace", action="append", default=[], help="watch this namespace; repeatable; none: what settings say")
    return parser


def _settings(flags: argparse.Namespace) -> Settings:
    config = read_config(flags.config) if flags.config else None
    chosen = [f"namespaces=[{', '.join(flags.namespace)}]"] if flags.namespace else []
    gates = [f"featureGates.{one.strip()}" for one in flags.feature_gates.split(",") if one.strip()]
    return read_settings(config=config, environ=os.environ, flags=[*flags.set, *gates, *chosen])


if __name__ == "__main__":
    sys.exit(main())
