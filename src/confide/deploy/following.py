"""Follows a run from outside its process: through its directory, and through what Flower says of it."""

import time
from collections.abc import Callable

from confide.deploy.control import FlowerRun
from confide.errors import DeployError, RunDirectoryError
from confide.records import RoundRecord
from confide.run import RunDirectory

_LOOK_SECONDS = 1.0
_FIRST_ASK_SECONDS = 10.0
_ASK_SECONDS = 30.0  # a look through Flower starts a process of two CPU seconds
_MAX_SILENT = 2
_START_SECONDS = 120.0
_WAITING = ("pending", "starting")


class NotStartedError(DeployError):
    """Flower took a run and does not start the server's app of it."""


def follow_run(
    directory: RunDirectory,
    *,
    look: Callable[[], FlowerRun],
    show: Callable[[RoundRecord], None],
    tell: Callable[[str], None],
    check: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Shows each round that is completed from now on, until the run is finished.

    Args:
        directory: of the run; its status is "running".
        look: asks Flower about the run; raises DeployError if Flower does not answer.
        show: is given each record.
        tell: is given each notice for the operator, such as who is left out and why.
        check: called once a second; raises to stop following.
        sleep: waits so many seconds.
        clock: seconds of a clock that never goes back.

    Raises:
        DeployError: the run failed or was stopped, the server's app died, or the server is gone.
        NotStartedError: the server's app was not started.
    """
    num_shown, num_told, num_silent = len(_records(directory)), 0, 0
    next_ask, latest_start = clock() + _FIRST_ASK_SECONDS, clock() + _START_SECONDS
    while True:
        status = directory.status  # before the records: a run that is finished has written all of them
        num_told = _tell_new(directory, num_told, tell)
        num_shown = _show_new(directory, num_shown, show)
        if status == "finished":
            return
        if status != "running":
            raise DeployError(f"the run {directory.path} {_in_words(status)}: {_reason(directory)}{_advice(directory)}")
        if clock() >= next_ask:
            next_ask = clock() + _ASK_SECONDS
            try:
                seen, num_silent = look(), 0
            except DeployError as error:
                seen, num_silent = None, num_silent + 1
                if num_silent >= _MAX_SILENT:
                    raise DeployError(f"the server is gone: {error}\nStart it again.{_advice(directory)}") from error
            if seen is not None and seen.is_over and directory.status == "running":
                how = f"{seen.status}; {seen.details or 'no details'}"
                raise DeployError(f"the server's app of the run {directory.path} died ({how}).{_advice(directory)}")
            if seen is not None and seen.status in _WAITING and clock() >= latest_start:
                raise NotStartedError(
                    f"Flower has not started the server's app within {_START_SECONDS:g} s (it says: {seen.status}). "
                    f"Stop the server and start it again.{_advice(directory)}"
                )
        check()
        sleep(_LOOK_SECONDS)


def note_death(directory: RunDirectory, reason: str) -> None:
    """Writes into run.json that a run does not run any more, where its process could not.

    Raises:
        RunDirectoryError: a process still works on the run.
    """
    with directory.locked():
        if directory.status == "running":
            directory.set_status("interrupted", reason=reason)


def _show_new(directory: RunDirectory, num_shown: int, show: Callable[[RoundRecord], None]) -> int:
    records = _records(directory)
    for record in records[num_shown:]:
        show(record)
    return max(num_shown, len(records))


def _tell_new(directory: RunDirectory, num_told: int, tell: Callable[[str], None]) -> int:
    """Tells what the run's own process noted since; run.json holds the latest notices, and how many there were."""
    info = directory.info
    notices, total = info.get("notices", []), info.get("num_notices", 0)
    if not isinstance(notices, list) or not isinstance(total, int):
        return num_told
    for notice in notices[max(0, len(notices) - (total - num_told)) :]:
        tell(str(notice))
    return max(num_told, total)


def _records(directory: RunDirectory) -> list[RoundRecord]:
    """Every complete line of rounds.jsonl; the last one may be in the making."""
    try:
        lines = (directory.path / "rounds.jsonl").read_text().splitlines(keepends=True)
    except OSError as error:
        raise RunDirectoryError(f"{directory.path / 'rounds.jsonl'} cannot be read: {error}") from error
    return [RoundRecord.from_json(line) for line in lines if line.endswith("\n")]


def _in_words(status: str) -> str:
    return "was interrupted" if status == "interrupted" else f"has {status}"


def _reason(directory: RunDirectory) -> str:
    return str(directory.info.get("reason") or "no reason is noted")


def _advice(directory: RunDirectory) -> str:
    return f"\nGo on with: confide deploy run FOLDER --resume {directory.path.name}"
