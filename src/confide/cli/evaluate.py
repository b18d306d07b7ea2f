"""`confide evaluate`: how a run's model does on held-out data, and whether federating was worth it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from confide.assess import Assessment
    from confide.evaluate.comparison import Comparison, Table
    from confide.model.lora import AdaptedModel

_CLIENT_METRICS = ("loss", "rouge_l", "exact_match", "choice_accuracy")


def evaluate_command(
    run: Annotated[Path, typer.Argument(help="The run directory, e.g. runs/clinics.")],
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Compare with the base model, each client alone, and all data pooled."),
    ] = False,
    max_examples: Annotated[
        int | None,
        typer.Option(min=0, help="Held-out rows per client, 0 = all.  [default: evaluate.max_examples of the run]"),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="Longest answer, 0 = no answers.  [default: evaluate.max_new_tokens of the run]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as one JSON object.")] = False,
) -> None:
    """Measures a run's model on the rows that each client kept aside, per client and overall.

    Response loss, perplexity and token accuracy; ROUGE-L of greedy answers; exact match or multiple choice where the
    rows have an answer or choices. With --baselines it also trains, once, what the run is compared with (kept under
    RUN/baselines) and says whether federating was worth it. Writes RUN/evaluation.json and RUN/comparison.json.

    Examples:
      confide evaluate runs/clinics

      confide evaluate runs/clinics --baselines

      confide evaluate runs/clinics --max-examples 0 --json
    """
    from confide.evaluate.comparison import evaluation_rows

    assessment = assess(
        run, Console(stderr=True), baselines=baselines, max_examples=max_examples, max_new_tokens=max_new_tokens
    )
    if as_json:
        typer.echo(json.dumps(assessment.to_json(), indent=2))
        return
    output = Console()
    if assessment.comparison is None:
        print_table(output, evaluation_rows(assessment.federated))
    else:
        print_comparison(output, assessment.comparison)
    for note in notes(assessment):
        output.print(note, markup=False, highlight=False)


def assess(
    run: Path,
    console: Console,
    *,
    baselines: bool,
    max_examples: int | None = None,
    max_new_tokens: int | None = None,
    model: "AdaptedModel | None" = None,
) -> "Assessment":
    """Evaluates a run with progress shown on `console`; see `confide.assess`."""
    from confide.assess import Watcher, assess_run, compare_run
    from confide.cli.progress import RunDisplay, StopSwitch, print_line, round_line

    stop = StopSwitch()
    with _evaluation_bar(console) as bar:

        def evaluating(model: str, client: str, num_done: int, num_steps: int) -> None:
            bar.update(bar.task_ids[0], visible=True, description=f"evaluating {model}: {client}")
            bar.update(bar.task_ids[0], completed=num_done, total=num_steps)
            stop.check()

        if not baselines:
            with stop.listening(console):
                return assess_run(
                    run,
                    max_examples=max_examples,
                    max_new_tokens=max_new_tokens,
                    watcher=Watcher(evaluating=evaluating),
                    model=model,
                )
        display = RunDisplay(console, lambda record, rounds: print_line(console, round_line(record, rounds)), stop)
        watcher = Watcher(
            evaluating=evaluating,
            baseline=lambda baseline: print_line(console, f"training {baseline.name}"),
            step=display.step,
        )
        with stop.listening(console):
            return compare_run(
                run,
                observer=display,
                max_examples=max_examples,
                max_new_tokens=max_new_tokens,
                watcher=watcher,
                model=model,
            )


def print_comparison(console: Console, comparison: "Comparison") -> None:
    """Prints the overall table, a table per main metric by client, and the verdict."""
    from confide.evaluate.comparison import client_rows, comparison_rows, verdict

    print_table(console, comparison_rows(comparison))
    for metric in _CLIENT_METRICS:
        if metric in comparison.metrics:
            print_table(console, client_rows(comparison, metric))
    console.print(verdict(comparison), markup=False, highlight=False)


def print_table(console: Console, table: "Table") -> None:
    """Prints a table: names on the left, numbers on the right."""
    from confide.evaluate.comparison import OVERALL

    shown = RichTable(title=Text(table.title), title_justify="left", title_style="bold", show_edge=False)
    for position, column in enumerate(table.columns):
        shown.add_column(Text(column), justify="left" if position == 0 else "right")
    for row in table.rows:
        if row[0] == OVERALL:
            shown.add_section()
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)
    console.print()


def notes(assessment: "Assessment") -> list[str]:
    """What a reader of the table has to know: what was left out, and answers that were cut off."""
    overall = assessment.federated.overall
    found = []
    if assessment.federated.not_evaluated:
        found.append(f"Not measured, for want of held-out rows: {', '.join(assessment.federated.not_evaluated)}.")
    if overall.num_truncated or overall.num_dropped:
        found.append(
            f"Cut to train.max_tokens: {overall.num_truncated} rows; left out, as no response was left: "
            f"{overall.num_dropped}."
        )
    if overall.num_unfinished:
        found.append(
            f"{overall.num_unfinished} of {overall.rouge_l.count} answers of the federated model were cut off at "
            "evaluate.max_new_tokens: they score lower than they might."
        )
    return found


@contextmanager
def _evaluation_bar(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task("", total=1, visible=False)
        yield progress
