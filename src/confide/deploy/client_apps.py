"""Client apps that start warm: a SuperNode finds a stand-in for the command that it starts for each message."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from confide.deploy import hand_over
from confide.deploy.processes import GuardedProcess, program
from confide.deploy.stand_ins import with_stand_ins

COMMAND = "flwr-clientapp"
"""Flower's, which a SuperNode starts by its name for each message."""

_APP = "confide.flower_app"

_logger = logging.getLogger(__name__)


class WarmClientApps:
    """Keeps Flower's command for client apps loaded in a process of its own, until the end of `with`.

    Args:
        place: a folder that is open to this user alone, with a short path; what is written stays there.
        environment: of the node's processes.
        log: the file that the apps' output is added to.

    Raises:
        DeployError: Flower is not installed as it should be.
    """

    def __init__(self, place: Path, environment: Mapping[str, str], log: Path) -> None:
        self._address = place / "apps"
        self._own_environment = dict(environment)
        self._log = log
        self._process: GuardedProcess | None = None
        stand_in = [sys.executable, "-IS", hand_over.__file__, str(self._address), program(COMMAND)]
        self.environment = with_stand_ins(environment, place / "bin", {COMMAND: stand_in})
        """For the SuperNode: the command's name finds the stand-in, and SuperExec is kept running."""

    def __enter__(self) -> "WarmClientApps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def start(self) -> None:
        """Starts the process, to be done before each start of the SuperNode: apps of an earlier one end.

        Where it cannot be started, each app starts as Flower has it.
        """
        if self._process is not None and self._process.exit_code is not None:
            _logger.warning("the process that keeps %s loaded had ended; each message took longer", COMMAND)
        self._stop()
        try:
            self._process = GuardedProcess(
                [sys.executable, "-P", "-m", "confide.deploy.warm_command", str(self._address), COMMAND, _APP],
                environment=self._own_environment,
                log=self._log,
            )
        except OSError as error:
            _logger.warning("%s is not kept loaded (%s); each message takes longer", COMMAND, error.strerror)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
