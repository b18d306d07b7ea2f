"""`confide audit` and `confide report`: what leaks, to whom, how certainly; and the page about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from confide.cli.earlier import keeping_earlier
from confide.cli.progress import phases
from confide.cli.telling import print_telling
from confide.errors import RunDirectoryError, UsageError

if TYPE_CHECKING:
    from confide.audit.results import AuditResults
    from confide.auditor import AdaptersToAudit, AuditRequest
    from confide.model.lora import AdaptedModel

REPORT_FILE = "report.html"
_MOST_NAMED = 4


def audit_command(
    run: Annotated[
        Path | None, typer.Argument(help="The run directory, e.g. runs/clinics. Not with --adapters.")
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(help="Instead of a run: a folder with PEFT adapters, one per round in a folder with its number."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With --adapters: their base model.  [default: the one they name]")
    ] = None,
    members: Annotated[
        Path | None, typer.Option(help="With --adapters: a file of records that were trained on, e.g. JSONL.")
    ] = None,
    non_members: Annotated[
        Path | None, typer.Option(help="With --adapters: a file of records that were not, but could have been.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="With --adapters: alpaca, vicuna, chat, plain or auto, as in training.  [default: auto]"),
    ] = None,
    randomised: Annotated[
        bool, typer.Option("--randomised", help="With --adapters: fair coins decided which records are members.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="With --adapters: where results go.  [default: audit-NAME, by the folder's name]"),
    ] = None,
    views: Annotated[
        list[str] | None,
        typer.Option("--view", help="From whose point of view: final, client, coalition, server; repeatable."),
    ] = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Which family: membership, extraction, exposure, updates; repeatable."),
    ] = None,
    attackers: Annotated[
        list[str] | None, typer.Option("--attacker", help="A client that attacks; repeatable.  [default: by name]")
    ] = None,
    shadows: Annotated[
        int | None,
        typer.Option(
            help="Train N shadow models for the membership attacks LiRA and RMIA: an even number, 4 is good. Each "
            "shadow costs about one client's whole training; they are kept in RUN/audit.  [default: audit.shadows]",
            metavar="N",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a key that says how to audit; repeatable."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help="Exit with 1 if this holds of a measure, or if it cannot be told, as with too few records, e.g. "
            '"client.extraction.exact > 0.01"; repeatable. NAME[:PART] OPERATOR NUMBER: the name is '
            "VIEW.FAMILY.METRIC, or VIEW.FAMILY.ATTACK.POPULATION.METRIC as the report has it; the part is value (if "
            "none is given), low or high (ends of the interval), excess (over the controls) or leaks (0 or 1). Of "
            "bounds on epsilon: VIEW.epsilon[.METHOD[.POPULATION]] > NUMBER, or > claimed.",
        ),
    ] = None,
    shows_text: Annotated[
        bool,
        typer.Option("--show-text", help="Keep the texts that came out in the results; for the data's owner only."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Attacks a run, or anybody's adapters, from each party's point of view, and says what leaks and how certainly.

    Of a run it writes RUN/audit/audit.json and RUN/report.html, and of adapters the same into --out. Model passes are
    kept beside the results, so that a second audit is quick. One that measures less than the one before, by --view or
    --attack, keeps those results as RUN/audit/audit-earlier-1.json and says so. Records are read as training data is:
    a line of JSON with instruction and response, with messages, or with text.

    Examples:
      confide audit runs/clinics

      confide audit runs/clinics --view client --attack extraction --set audit.max_new_tokens=100

      confide audit runs/clinics --attack membership --shadows 4

      confide audit runs/clinics --fail-if "client.extraction.exact:low > 0.01"

      confide audit runs/clinics --fail-if "client.extraction.greedy.ladder.exact:leaks > 0"

      confide audit runs/clinics --fail-if "client.epsilon.f-dp.records > claimed"

      confide audit --adapters adapters --base smollm2-135m --members in.jsonl --non-members out.jsonl
    """
    from confide.audit.gate import check_asked, failed_conditions, parse_gate, passed_conditions
    from confide.auditor import AdaptersToAudit, AuditRequest, config_of_adapters, config_of_run

    conditions = [parse_gate(text) for text in fail_if or []]  # before anything takes time
    request = AuditRequest(
        views=tuple(views or ()),
        attacks=tuple(attacks or ()),
        attackers=tuple(attackers or ()),
        settings=tuple(settings or ()),
        shadows=shadows,
        shows_text=shows_text,
    )
    console = Console(stderr=True)
    given = {"--base": base, "--members": members, "--non-members": non_members, "--template": template, "--out": out}
    _check_what(run, adapters, [*(name for name, value in given.items() if value), *["--randomised"] * randomised])
    if adapters is None:
        folder = run or Path()
        asked = config_of_run(folder, request).audit
        check_asked(conditions, views=asked.views, families=asked.attacks)
        results = audit(folder, console, request)
    else:
        folder = out or Path(f"audit-{adapters.resolve().name}")
        what = AdaptersToAudit(
            folder=adapters,
            members=_needed("--members", members),
            non_members=_needed("--non-members", non_members),
            out=folder,
            base=base or "",
            template=template or "auto",
            is_randomised=randomised,
        )
        asked = config_of_adapters(what, request).audit
        check_asked(conditions, views=asked.views, families=asked.attacks)
        results = audit_others(what, console, request)
    if as_json:
        typer.echo(results.to_json(), nl=False)
    else:
        output = Console()
        print_results(output, results)
        output.print(f"report: {folder / REPORT_FILE}", markup=False, highlight=False, soft_wrap=True)
    failed = failed_conditions(results, conditions)
    for line in passed_conditions(results, conditions):
        console.print(f"passed: {line}", markup=False, highlight=False, soft_wrap=True)
    for line in failed:
        console.print(f"failed: {line}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def report_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run directories that were audited, folders of --out, or files with results of audits."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the page goes.  [default: report.html in the run's directory; of several runs report-A-B.html, "
            "by their names, in the current folder]"
        ),
    ] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(help="Of one run: also write the findings into this model card, e.g. the README.md of the model."),
    ] = None,
) -> None:
    """Writes one page about one audited run, or several side by side. It opens offline, in any browser.

    Examples:
      confide report runs/clinics

      confide report runs/plain runs/sealed

      confide report runs/plain runs/sealed --out comparison.html

      confide report runs/clinics --model-card model/README.md
    """
    from confide.report.differences import notes_on_changes
    from confide.report.model_card import write_model_card
    from confide.report.page import write_report
    from confide.report.wording import run_names

    if model_card is not None and len(runs) > 1:
        raise UsageError(f"--model-card goes with one run: a card is about one model, and {len(runs)} runs are given.")
    path = out or _page_of(runs)
    results = [read_results(run) for run in runs]
    write_report(results, path)
    written = {"report": path}
    if model_card is not None:
        write_model_card(results[0], model_card)
        written["model card"] = model_card
    for sentence in notes_on_changes(results, run_names(results)):
        Console(stderr=True).print(f"note: {sentence}", markup=False, highlight=False, soft_wrap=True)
    for what, where in written.items():
        Console().print(f"{what}: {where}", markup=False, highlight=False, soft_wrap=True)


def audit(
    run: Path, console: Console, request: "AuditRequest | None" = None, *, model: "AdaptedModel | None" = None
) -> "AuditResults":
    """Audits a run with progress shown on `console`, and writes its report."""
    from confide.auditor import audit_run, results_path
    from confide.report.page import write_report

    with keeping_earlier(results_path(run), console), phases(console, "auditing") as progress:
        results = audit_run(run, request, model=model, progress=progress)
    write_report([results], run / REPORT_FILE)
    return results


def audit_others(given: "AdaptersToAudit", console: Console, request: "AuditRequest") -> "AuditResults":
    """Audits adapters from anywhere with progress shown on `console`, and writes the report."""
    from confide.auditor import audit_adapters, results_path
    from confide.report.page import write_report

    with keeping_earlier(results_path(given.out), console), phases(console, "auditing") as progress:
        results = audit_adapters(given, request, progress=progress)
    write_report([results], given.out / REPORT_FILE)
    return results


def read_results(run: Path) -> "AuditResults":
    """Reads what an audit of a run found, or what a file with results holds.

    Raises:
        RunDirectoryError: the run was not audited, or its results are damaged or of another version of the schema.
    """
    from confide.audit.results import SCHEMA_VERSION, AuditResults, written_version
    from confide.auditor import results_path

    path = run if run.is_file() else results_path(run)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunDirectoryError(f"{run} was not audited yet: run `confide audit {run}` first.") from None
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text
        raise _unreadable(path, error) from error
    try:
        return AuditResults.model_validate_json(text)
    except ValueError as error:
        version = written_version(text)
        if version not in (None, SCHEMA_VERSION):
            raise RunDirectoryError(
                f"{path} holds results of version {version} of the schema, and this program reads version "
                f"{SCHEMA_VERSION}: read it with the Confide that wrote it, or audit the run again."
            ) from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} cannot be read ({type(error).__name__}): it is damaged, or of another build of Confide. Audit the run "
        "again."
    )


def print_results(console: Console, results: "AuditResults") -> None:
    """Prints what was found: a sentence per view, the most telling measures, and what weakens the audit."""
    from confide.report.claims import epsilon_sentence, false_claim
    from confide.report.sentences import findings, headline
    from confide.report.wording import with_minus_signs

    console.print(headline(results), markup=False, highlight=False)
    for finding in findings(results):
        console.print(f"  {finding.title}. {finding.text}", markup=False, highlight=False)
    if (epsilon := epsilon_sentence(results)) and not false_claim(results):  # the headline has said that
        console.print(epsilon, markup=False, highlight=False)
    console.print()
    print_telling(console, results)
    for warning in results.warnings:
        console.print(f"note: {with_minus_signs(warning)}", markup=False, highlight=False)


def _page_of(runs: Sequence[Path]) -> Path:
    """Where a page goes: with the run it is about; one on several never takes the place of one of theirs."""
    if len(runs) == 1:
        return runs[0].with_suffix(".html") if runs[0].is_file() else runs[0] / REPORT_FILE
    names = [path.resolve().stem if path.is_file() else path.resolve().name for path in runs]
    if len(names) > _MOST_NAMED:
        names = [names[0], "and", str(len(names) - 1), "more"]
    return Path(f"report-{'-'.join(names)}.html")


def _check_what(run: Path | None, adapters: Path | None, given: Sequence[str]) -> None:
    if (run is None) == (adapters is None):
        raise UsageError(
            "give a run directory, or --adapters with a folder of adapters"
            f"{', not both' if run is not None else ''}: for example `confide audit runs/clinics`."
        )
    if run is not None and given:
        raise UsageError(f"{', '.join(given)} goes with --adapters; a run says that itself.")


def _needed(name: str, path: Path | None) -> Path:
    if path is None:
        raise UsageError(f"--adapters needs {name}: a file of records, one JSON object a line.")
    return path
