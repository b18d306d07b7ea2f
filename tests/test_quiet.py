import logging

import pytest

from confide.quiet import errors_only

NAME = "confide-test.library"


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.CRITICAL])
def test_the_loggers_level_is_put_back_whatever_the_body_does(level: int) -> None:
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    with pytest.raises(KeyError), errors_only(NAME):
        raise KeyError
    assert logger.level == level


def test_errors_are_said_and_warnings_are_not(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO), errors_only(NAME):
        for logger in (logging.getLogger(NAME), logging.getLogger(f"{NAME}.part")):
            logger.warning("a remark")
            logger.error("an error")
        logging.getLogger("confide-test.other").warning("somebody else's")
    assert [record.message for record in caplog.records] == ["an error", "an error", "somebody else's"]
