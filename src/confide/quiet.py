"""Keeps a library's remarks out of the log, for a while."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_only(logger_name: str) -> Iterator[None]:
    """Runs the body with one logger at the level of errors, then puts its level back.

    Args:
        logger_name: of the logger; those below it that have no level of their own follow.
    """
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
