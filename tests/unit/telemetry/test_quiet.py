import logging

import pytest

from agenttask.telemetry.quiet import LOGGERS, Quiet


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quiet(clock):
    quiet = Quiet(interval=60, clock=clock)
    quiet.attach()
    yield quiet
    quiet.detach()


def test_one_warning_a_minute_tells_how_many_were_held_back(quiet, clock, caplog):
    for second in range(121):
        clock.now = 1000.0 + second
        for name in LOGGERS[:2]:  # others have a filter of the SDK's own besides
            logging.getLogger(name).error("batch lost: %s", second)
    held = 60 * 2 - 1
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "spans are not exported: batch lost: 0"),
        (logging.WARNING, f"spans are not exported: batch lost: 60 ({held} more like it were not shown)"),
        (logging.WARNING, f"spans are not exported: batch lost: 120 ({held} more like it were not shown)"),
    ]


def test_a_traceback_is_not_shown(quiet, caplog):
    try:
        raise ValueError("deep inside")
    except ValueError:
        logging.getLogger(LOGGERS[0]).exception("lost")
    assert "deep inside" not in caplog.text


def test_what_is_no_warning_passes(quiet, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            logging.getLogger(LOGGERS[0]).info("hello")
    assert [record.getMessage() for record in caplog.records] == ["hello"] * 3


def test_the_loggers_are_free_again_after_detaching(clock, caplog):
    quiet = Quiet(clock=clock)
    quiet.attach()
    quiet.detach()
    for _ in range(2):
        logging.getLogger(LOGGERS[0]).warning("said twice")
    assert [record.getMessage() for record in caplog.records] == ["said twice"] * 2
