"""`confide study` of usefulness alone: each variant with each seed, and its held-out loss beside the base model's."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from confide.cli.study_runs import train_variant
from confide.errors import RunError, UsageError
from confide.files import write_atomic

if TYPE_CHECKING:
    from confide.config.schema import Config
    from confide.config.study import Study
    from confide.report.utility import VariantUtility
    from confide.run import RunDirectory

_FILE = "utility.json"


def show_utility(study: "Study", names: Sequence[str], console: Console, *, trains: bool) -> None:
    """Trains and measures what is missing, prints the table, and draws the picture beside the runs.

    Args:
        study: whose `utility` is asked for.
        names: of the variants.
        console: for progress.
        trains: whether what is missing is made; where not, runs that are not measured yet are left out.

    Raises:
        UsageError: a variant has nothing to show.
    """
    from confide.report.utility import utility_markdown, utility_svg

    # Seed by seed, so that a study that is stopped has all variants with the same seeds.
    repeats = {name: study.repeats(name) for name in names}
    if trains:
        for number in range(len(repeats[names[0]])):
            for name in names:
                config = repeats[name][number]
                run = study.folder / config.run.name
                console.print(f"variant {name}: {run}", markup=False, highlight=False, soft_wrap=True)
                train_variant(config, run)
                _measure(run)
    variants = [_variant(study, name, repeats[name]) for name in names]
    picture = study.folder / f"{study.name}.svg"
    write_atomic(picture, utility_svg(variants, title=f"{study.name}: held-out loss by variant"))
    typer.echo(utility_markdown(variants))
    console.print(f"picture: {picture}", markup=False, highlight=False, soft_wrap=True)


def _measure(run: Path) -> None:
    """Writes a run's held-out loss and its base model's, once.

    Raises:
        RunError: one of them is not finite.
    """
    from confide.assess import measure_utility

    if (run / _FILE).exists():
        return
    federated, base = measure_utility(run)
    measured = {"loss": federated.overall.value("loss"), "base_loss": base.overall.value("loss")}
    if not all(loss is not None and math.isfinite(loss) for loss in measured.values()):
        raise RunError(
            f"{run}: the held-out loss is {measured['loss']} and the base model's {measured['base_loss']}, expected "
            "finite numbers. Lower train.learning_rate, or leave the variant out with --only."
        )
    write_atomic(run / _FILE, json.dumps(measured, allow_nan=False) + "\n")


def _variant(study: "Study", name: str, repeats: "Sequence[Config]") -> "VariantUtility":
    from confide.report.utility import VariantUtility
    from confide.run import RunDirectory

    runs = [study.folder / config.run.name for config in repeats]
    measured = [run for run in runs if (run / _FILE).exists()]
    if not measured:
        raise UsageError(f"variant {name} was not trained yet: leave out --no-train, or name others with --only.")
    losses = [json.loads((run / _FILE).read_text()) for run in measured]
    directories = [RunDirectory.open(run) for run in measured]
    return VariantUtility(
        name=name,
        unit=repeats[0].privacy.unit,
        epsilon=_most(directories, "epsilon"),
        client_epsilon=_most(directories, "client_epsilon"),
        losses=tuple(one["loss"] for one in losses),
        base_losses=tuple(one["base_loss"] for one in losses),
        seeded_noise=repeats[0].privacy.seeded_noise,
    )


def _most(directories: "Sequence[RunDirectory]", name: str) -> float | None:
    """The most that was spent by any of the runs."""
    spent = [directory.info.get(name) for directory in directories]
    return max((one for one in spent if isinstance(one, float)), default=None)
