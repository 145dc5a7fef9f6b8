"""docs/http.md names every setting with the defaults and bounds that the code has."""

import re
from pathlib import Path
from typing import get_args

from agenttask.controller.installation import RunnerVariable
from agenttask.runner.gates import GATES, VARIABLE
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http_settings import _LARGEST, HttpSettings

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()


def test_every_variable_stands_with_its_default_and_bound() -> None:
    defaults = HttpSettings()
    for name, largest in _LARGEST.items():
        default = getattr(defaults, name.removeprefix("HTTP_").lower())
        assert f"| `{name}` | {default} | {largest} |" in PAGE


def test_an_operator_may_set_each_of_them_for_all_pods() -> None:
    assert {*_LARGEST, VARIABLE} <= set(get_args(RunnerVariable))


def test_every_gate_stands_with_its_default() -> None:
    for name, on in GATES.items():
        assert f"`{name}={str(on).lower()}`" in PAGE


def test_the_numbers_of_http2_are_the_codes() -> None:
    settings = Http2Settings()
    said = {
        rf"more than {settings.streams_per_connection} requests at once",
        rf"at most {settings.connections_per_origin} of them",
        rf"silent for {settings.ping_after_seconds:g} s",
        rf"without a byte within {settings.ping_seconds:g} s",
        rf"\| {settings.idle_seconds:g} s without a request, or {settings.max_age_seconds / 60:g} minutes old",
        rf"remembered for {settings.remember_seconds / 60:g} minutes",
        rf"up to {settings.sends} times",
        rf"may send {settings.stream_window >> 20} MiB more",
        rf"more than {settings.header_bytes >> 10} KiB of fields",
    }
    assert not [sentence for sentence in said if not re.search(sentence, PAGE)]
