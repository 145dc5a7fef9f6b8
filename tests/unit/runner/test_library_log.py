"""What libraries log becomes lines of ours."""

import logging

from agenttask.runner.library_log import LibraryLog, library_log


def test_a_record_is_a_line_with_its_logger_and_level() -> None:
    told: list[tuple[str, str]] = []
    logger = logging.getLogger("some.library")
    with library_log(lambda about, line: told.append((about, line))):
        logger.warning("slow: %s", 3)
        logger.debug("not heard")
        try:
            raise ValueError("x")
        except ValueError:
            logger.exception("failed")
        LibraryLog(lambda about, line: told.append((about, line))).emit(
            logging.LogRecord("some.library", logging.ERROR, "", 0, "%d wrong", ("no number",), None)
        )
    logger.warning("after the end")
    assert told[0] == ("some.library warning", "slow: 3")
    assert told[1][0] == "some.library error"
    assert told[1][1].startswith("failed\nTraceback")
    assert told[2] == ("some.library error", "%d wrong ('no number',)")
    assert len(told) == 3
