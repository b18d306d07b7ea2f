"""`confide study`: one configuration in several variants, trained, audited and put side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from confide.cli.audit import audit, read_results
from confide.cli.study_runs import train_variant
from confide.cli.study_utility import show_utility
from confide.cli.train import Overrides
from confide.errors import UsageError

if TYPE_CHECKING:
    from confide.config.schema import Config


def study_command(
    file: Annotated[Path, typer.Argument(help="A configuration with a table [study] that names the variants.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this variant; repeatable, the first one is compared with.")
    ] = None,
    overrides: Overrides = None,
    trains: Annotated[
        bool, typer.Option("--train/--no-train", help="Train and audit what is missing, or show what is there.")
    ] = True,
) -> None:
    """Trains and audits variants of one configuration, and puts them side by side: what each defence costs and buys.

    Variant V is the run NAME-V in run.folder. What is there is not done again: a variant that was trained is audited,
    one that was stopped goes on, so that a study that was interrupted is continued by the same command. One that was
    audited with other attacks than the file now asks for is audited again. Tables are printed as Markdown; the page
    with everything is run.folder/NAME.html. Variants with the same data and seed are compared record by record.

    With study.utility = true nothing is audited: each variant is trained with each of study.seeds, and its held-out
    loss stands beside the base model's, as a table and as a picture, run.folder/NAME.svg.

    Examples:
      confide study examples/leakage-small.toml

      confide study examples/leakage-small.toml --only lora --only kl --no-train

      confide study examples/medquad-privacy.toml --set data.path=medquad.jsonl.gz
    """
    from confide.config.study import load_study
    from confide.report.differences import notes_on_changes
    from confide.report.page import write_report
    from confide.report.study import curve_markdown, measures_markdown

    study = load_study(file, overrides or [])
    names = list(dict.fromkeys(only or study.variants))
    for name in names:
        if name not in study.variants:
            raise UsageError(f"{file} has no variant {name!r}. There are {', '.join(study.variants)}.")
    console = Console(stderr=True)
    if study.utility:
        show_utility(study, names, console, trains=trains)
        return
    runs = [study.folder / study.variants[name].run.name for name in names]
    if trains:
        for name, run in zip(names, runs, strict=True):
            console.print(f"variant {name}: {run}", markup=False, highlight=False, soft_wrap=True)
            _complete(study.variants[name], run, console)
    results = [read_results(run) for run in runs]
    page = study.folder / f"{study.name}.html"
    write_report(results, page)
    if study.measures:
        typer.echo(measures_markdown(results, names, study.measures))
    for key in study.curves:
        typer.echo(f"`{key}`\n\n{curve_markdown(results, names, key)}")
    for sentence in notes_on_changes(results, names):
        console.print(f"note: {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def _complete(config: "Config", run: Path, console: Console) -> None:
    """Trains and audits a variant as far as that was not done yet.

    Raises:
        ConfigError: a run of this name was started with another configuration.
    """
    from confide.auditor import AuditRequest, results_path, settings_of

    train_variant(config, run)
    asked = settings_of(config)
    if results_path(run).exists() and read_results(run).settings.items() >= asked.items():
        console.print(f"{run} was audited already", markup=False, highlight=False, soft_wrap=True)
    else:
        audit(run, console, AuditRequest.as_in(config))
