"""A study's runs: each variant is trained once, however often the command is given."""

from pathlib import Path
from typing import TYPE_CHECKING

from confide.cli.train import check_unchanged, resume_command, train

if TYPE_CHECKING:
    from confide.config.schema import Config


def train_variant(config: "Config", run: Path) -> None:
    """Trains a variant as far as that was not done yet.

    Raises:
        ConfigError: a run of this name was started with another configuration.
    """
    from confide.auditor import ATTACK_KEYS
    from confide.config.load import load_resolved
    from confide.run import RunDirectory

    if not run.exists():
        train(config)
        return
    directory = RunDirectory.open(run)
    started, advice = load_resolved(directory.config_path), f"Remove {run} or give its settings"
    check_unchanged(directory, started, config, advice=advice, ignoring=ATTACK_KEYS)
    if directory.status != "finished":
        resume_command(run)
