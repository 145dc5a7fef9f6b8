"""SIGTERM: the first asks, time or a second one ends; and who is below a process."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agenttask.runner.credentials import Credentials, take_credentials
from agenttask.runner.descendants import descendants
from agenttask.runner.stop import Stop


def stop(events: list[str], grace: float = 60) -> Stop:
    return Stop(
        grace_seconds=grace,
        ask=lambda: events.append("ask"),
        give_up=lambda: events.append("give up"),
        leave=lambda: events.append("leave"),
    )


async def test_the_first_signal_asks_and_the_second_ends() -> None:
    events: list[str] = []
    found = stop(events)
    found.listen(asyncio.get_running_loop())
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        assert (events, found.requested) == (["ask"], True)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    assert events == ["ask", "give up", "leave"]


async def test_the_end_of_the_grace_period_ends() -> None:
    events: list[str] = []
    stop(events, grace=0.01).request(asyncio.get_running_loop())
    await asyncio.sleep(0.05)
    assert events == ["ask", "give up", "leave"]


async def test_it_leaves_even_when_the_last_report_cannot_be_written() -> None:
    events: list[str] = []

    def full() -> None:
        raise OSError("No space left on device")

    found = Stop(grace_seconds=60, ask=lambda: None, give_up=full, leave=lambda: events.append("leave"))
    found.request(asyncio.get_running_loop())
    with pytest.raises(OSError, match="No space"):
        found.request(asyncio.get_running_loop())
    assert events == ["leave"]


def test_descendants_are_found_by_their_parents(tmp_path: Path) -> None:
    for pid, parent, name in ((1, 0, "init"), (5, 1, "runner"), (7, 5, "a) S 1 ("), (9, 7, "sh"), (8, 5, "b"), (6, 1, "other")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} 0")
    (tmp_path / "self").mkdir()
    (tmp_path / "11").mkdir()
    assert descendants(5, proc=tmp_path) == [7, 8, 9]


def test_credentials_leave_the_environment_and_never_show() -> None:
    environ = {"AGENTTASK_CREDENTIAL_0": "a", "AGENTTASK_SECRET_0": "b", "PATH": "/bin"}
    taken = take_credentials(environ)
    assert (environ, taken.values) == ({"PATH": "/bin"}, {"AGENTTASK_CREDENTIAL_0": "a", "AGENTTASK_SECRET_0": "b"})
    assert repr(taken) == "Credentials(AGENTTASK_CREDENTIAL_0, AGENTTASK_SECRET_0)"
    assert taken.gateway_token is None
    assert isinstance(taken, Credentials)


def test_the_object_stores_secret_leaves_the_environment_and_is_none_of_those_that_steps_name() -> None:
    environ = {"AGENTTASK_STORE_aws_access_key_id": "a", "AGENTTASK_STORE_AWS_SECRET_ACCESS_KEY": "b", "PATH": "/bin"}
    taken = take_credentials(environ)
    assert (environ, taken.values) == ({"PATH": "/bin"}, {})
    assert taken.store == {"aws_access_key_id": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert repr(taken) == "Credentials()"


def test_the_gateways_token_leaves_the_environment_and_is_none_of_those_that_steps_name() -> None:
    environ = {"AGENTTASK_GATEWAY_TOKEN": "secret", "PATH": "/bin"}
    taken = take_credentials(environ)
    assert (environ, taken.values, taken.gateway_token, "secret" in repr(taken)) == ({"PATH": "/bin"}, {}, "secret", False)
