"""Weights & Biases: offline files in the run directory's `wandb` folder. The only module that imports wandb."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from confide.errors import MissingExtraError
from confide.tracking.tracker import TrackedRun, numbers_in

if TYPE_CHECKING:
    from wandb import Run


class WandbTracker:
    """Writes offline runs, to be sent with `wandb sync` by who wants to.

    The environment variable WANDB_MODE=online, which wandb itself reads, is the user's explicit word to send at once.
    """

    def __init__(self) -> None:
        self._run: Run | None = None

    def start(self, run: TrackedRun) -> None:
        """Opens a run; a resumed one keeps its identity, so that wandb joins the parts.

        Raises:
            MissingExtraError: wandb is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", "wandb", "run.loggers = ['wandb']") from error
        self._run = wandb.init(
            project="confide",
            name=run.name,
            id=run.run_id,
            dir=str(run.folder),
            config=dict(run.settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            settings=wandb.Settings(silent=True),
        )

    def log(self, record: Mapping[str, object], step: int) -> None:
        """Logs all numbers of the round at once."""
        if self._run is not None:
            self._run.log(numbers_in(record), step=step)

    def finish(self) -> None:
        """Closes the run's files."""
        if self._run is not None:
            self._run.finish()
            self._run = None
