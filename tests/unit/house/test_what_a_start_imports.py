"""A runner starts with what every task needs; what some tasks need comes with the first that does."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "aiohttp",
    "anthropic",
    "h2",
    "jsonschema",
    "multiprocessing",
    "obstore",
    "openai",
    "opentelemetry",
    "stamina",
    "torch",
    "transformers",
)


@pytest.mark.parametrize("modules", ["agenttask.runner.bootstrap", "agenttask_llm, agenttask_models, agenttask_steps, agenttask_threading"])
def test_neither_the_runner_nor_its_plugins_import_what_few_tasks_need(modules: str) -> None:
    program = f"import sys, {modules}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it imports a lot itself
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300, env=environment)
    assert done.stdout.split() == []
