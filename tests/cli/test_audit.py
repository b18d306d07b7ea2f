"""`confide audit` and `confide report` as a user meets them: what is shown, what is written, and every exit code."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from confide.audit.measure_names import parse_measure_name
from confide.audit.results import AuditResults
from confide.auditor import AdaptersToAudit, AuditRequest, results_path
from confide.cli import audit as audit_module
from confide.cli.audit import REPORT_FILE, print_results, read_results
from confide.cli.main import run as run_cli
from confide.cli.telling import MOST_ROWS, telling_measures
from confide.errors import RunDirectoryError
from confide.report.differences import compare
from confide.report.sentences import findings, headline
from tests.recorded import shared_run
from tests.report.audits import audit as made_audit
from tests.report.audits import calm_audit, estimate, leak, leaking_audit, measure

WIDTH = 100
QUICK = ("--view", "final", "--attack", "membership")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def confide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs `confide` with some words, on a terminal of 100 columns, in an empty folder."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERM", "dumb")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def command(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["confide", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            run_cli()
        out, err = capsys.readouterr()
        return Ended(code=int(stop.value.code or 0), out=out, err=err)

    return command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of this module's own, with what earlier audits of it computed."""
    shared = shared_run(tmp_path_factory)
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("cli") / "run", symlinks=True))


def test_an_audit_shows_a_sentence_for_each_view_a_table_and_where_the_report_is(confide: Command, run: Path) -> None:
    ended = confide("audit", run, "--view", "final", "--view", "client", "--attack", "membership")
    assert ended.code == 0
    assert " ".join(ended.out.split()).startswith(headline(read_results(run)))
    assert "  The holder of the final model. " in ended.out
    assert "  A participating client. " in ended.out
    assert "beyond its controls" in ended.out
    assert "\nfinal.membership." in ended.out
    assert ended.out.splitlines()[-1] == f"report: {run / REPORT_FILE}"
    assert "</html>" in (run / REPORT_FILE).read_text()
    assert read_results(run).settings["views"] == ["final", "client"]


def test_with_json_nothing_but_json_is_printed(confide: Command, run: Path) -> None:
    ended = confide("audit", run, *QUICK, "--json")
    assert AuditResults.model_validate_json(ended.out) == read_results(run)
    assert json.loads(ended.out)["command"] == f"confide audit {run} --view final --attack membership"
    assert ended.code == 0


def _said(errors: str) -> list[str]:
    """The lines that are not about how far the audit has come."""
    return [line for line in errors.splitlines() if not re.match(r" *\d+ s  auditing: ", line)]


def test_a_gate_ends_with_1_where_its_condition_holds_and_with_0_where_not(confide: Command, run: Path) -> None:
    passed = confide("audit", run, *QUICK, "--fail-if", "final.membership.auc:low <= 0.001")
    assert (passed.code, _said(passed.err)) == (0, [])
    assert re.search(r" \d+ s  auditing: 1/\d+ membership: ", passed.err)
    failed = confide(
        "audit", run, *QUICK, "--fail-if", "final.membership.auc:low <= 0.001", "--fail-if", "final.membership.auc >= 0"
    )
    assert failed.code == 1
    assert all(line.startswith("failed: final.membership.auc >= 0: ") for line in _said(failed.err))
    assert _said(failed.err)
    assert failed.out.splitlines()[-1].startswith("report: ")  # the results are written all the same


def test_a_gate_that_looks_at_nothing_ends_with_2(confide: Command, run: Path) -> None:
    ended = confide("audit", run, *QUICK, "--fail-if", "final.membership.lira_online.records.auc >= 1")
    assert ended.code == 2
    assert "about nothing that this audit measured" in ended.err


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("client.membership.auc >= 1", "is about the view 'client', and what is asked for is final (audit.views)"),
        ("final.extraction.exact >= 1", "is about the attack 'extraction', and what is asked for is membership"),
        ("final.membership.acu > 1", "names no metric of membership"),
        ("final.membership.auc > 80", "can never hold: an AUC lies in [0, 1]"),
    ],
)
def test_a_gate_on_what_will_not_be_measured_ends_with_2_before_the_audit(
    confide: Command, run: Path, condition: str, message: str
) -> None:
    ended = confide("audit", run, *QUICK, "--fail-if", condition)
    assert (ended.code, ended.out) == (2, "")
    assert message in " ".join(ended.err.split())
    assert "auditing" not in ended.err


def test_a_gate_takes_the_name_that_the_report_gives(confide: Command, run: Path) -> None:
    confide("audit", run, *QUICK)
    (key,) = [one.key for one in read_results(run).measures if (one.attack, one.metric) == ("loss", "auc")][:1]
    assert key in (run / REPORT_FILE).read_text()
    failed = confide("audit", run, *QUICK, "--fail-if", f"{key} >= 0")
    assert failed.code == 1
    assert [line.startswith(f"failed: {key} >= 0: {key} has value ") for line in _said(failed.err)] == [True]


def test_a_gate_does_not_pass_where_there_are_too_few_records_to_tell(confide: Command, run: Path) -> None:
    """Fourteen records of each of three clients: no AUC is near 1, and few of them could show one that is."""
    ended = confide("audit", run, *QUICK, "--fail-if", "final.membership.auc:low > 0.999")
    few = [one.key for one in read_results(run).measures if (one.metric, one.verdict) == ("auc", "too few records")]
    (line,) = _said(ended.err)
    assert len(few) > 1
    assert ended.code == 1
    assert line.startswith(f"failed: final.membership.auc:low > 0.999: not known. {few[0]} has low ")
    assert "needed" in line
    assert line.endswith(f" So it is with {len(few) - 1} more.")


def test_a_malformed_gate_ends_with_2_before_anything_is_done(confide: Command, tmp_path: Path) -> None:
    ended = confide("audit", tmp_path, "--fail-if", "everything > 0")
    assert ended.code == 2
    assert "has the view 'everything', expected final, client" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("audit",), "give a run directory, or --adapters"),
        (("audit", "RUN", "--adapters", "DIR"), "not both"),
        (("audit", "RUN", "--base", "tiny-llama", "--randomised"), "--base, --randomised goes with --adapters"),
        (("audit", "--adapters", "DIR", "--non-members", "x"), "--adapters needs --members"),
        (("audit", "--adapters", "DIR", "--members", "x"), "--adapters needs --non-members"),
        (("audit", "--adapters", "DIR", "--members", "x", "--non-members", "y"), "there is no folder DIR"),
        (("audit", "RUN"), "RUN is no run directory"),
        (("report", "RUN"), "RUN was not audited yet: run `confide audit RUN` first"),
    ],
)
def test_what_does_not_fit_together_ends_with_2_and_one_message(
    confide: Command, words: tuple[str, ...], message: str
) -> None:
    ended = confide(*words)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (("--view", "everyone"), ("final", "client", "coalition", "server")),
        (("--attack", "theft"), ("membership", "extraction", "exposure", "updates")),
        (("--attacker", "nobody"), ("east", "north", "south")),
    ],
)
def test_unknown_names_end_with_2_and_the_choices(
    confide: Command, run: Path, words: tuple[str, ...], choices: tuple[str, ...]
) -> None:
    ended = confide("audit", run, *words)
    assert ended.code == 2
    assert all(choice in ended.err for choice in choices)


def test_settings_say_how_to_audit_and_nothing_else(confide: Command, run: Path) -> None:
    assert confide("audit", run, *QUICK, "--set", "evaluate.batch_size=4").code == 0
    ended = confide("audit", run, *QUICK, "--set", "run.seed=4")
    assert ended.code == 2
    assert "an audit cannot change what was trained: run.seed: 0 -> 4" in ended.err


def test_shadow_models_are_trained_on_request_and_come_in_pairs(confide: Command, run: Path) -> None:
    ended = confide("audit", run, *QUICK, "--shadows", 2)
    assert ended.code == 0
    assert read_results(run).settings["shadows"] == 2
    assert "rmia" in {one.attack for one in read_results(run).measures}
    odd = confide("audit", run, *QUICK, "--shadows", 3)
    assert odd.code == 2
    assert "audit.shadows is 3, expected a whole number >= 0 and even (they come in pairs)" in " ".join(odd.err.split())


def test_adapters_from_anywhere_are_audited_into_a_folder_of_their_own(
    confide: Command, run: Path, tmp_path: Path
) -> None:
    adapters = Path(shutil.copytree(run / "rounds", tmp_path / "somebody-s"))
    rows = [{"text": f"text number {number} of {name}"} for name in ("in", "out") for number in range(12)]
    for name, part in (("in", rows[:12]), ("out", rows[12:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    words = ("--members", tmp_path / "in.jsonl", "--non-members", tmp_path / "out.jsonl", "--attack", "membership")
    quick = ("--template", "plain", "--set", "train.max_tokens=64", "--set", "run.threads=1")
    ended = confide("audit", "--adapters", adapters, "--base", "tiny-llama", *words, *quick)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == f"report: {Path('audit-somebody-s') / REPORT_FILE}"
    assert "this audit is passive" in ended.out.replace("\n", " ")
    assert read_results(Path("audit-somebody-s")).run.name == "somebody-s"
    ended = confide("audit", "--adapters", adapters, *words, *quick, "--out", tmp_path / "found", "--json")
    found = json.loads(ended.out)
    assert found["run"]["base_model"] == "tiny-llama"
    assert (found["run"]["num_clients"], found["run"]["scheme"], found["run"]["command"]) == (None, None, "")
    command = shlex.split(found["command"])
    assert command[:4] == ["confide", "audit", "--adapters", str(adapters)]
    assert command[command.index("--out") + 1] == str(tmp_path / "found")
    assert "--json" not in command
    page = (tmp_path / "found" / REPORT_FILE).read_text()
    assert "None" not in page[page.index("<body") : page.index("<nav")]
    assert confide("report", tmp_path / "found", "audit-somebody-s", "--out", "both.html").code == 0
    assert "somebody-s" in Path("both.html").read_text()


def test_a_report_is_written_again_from_the_results(confide: Command, run: Path) -> None:
    confide("audit", run, *QUICK)
    first = (run / REPORT_FILE).read_bytes()
    (run / REPORT_FILE).unlink()
    ended = confide("report", run)
    assert ended.out == f"report: {run / REPORT_FILE}\n"
    assert (run / REPORT_FILE).read_bytes() == first


def test_a_page_on_several_runs_is_none_of_theirs(confide: Command, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("plain", "sealed", "third", "fourth", "fifth")]
    for run in runs:
        results_path(run).parent.mkdir(parents=True)
        results_path(run).write_text(made_audit().to_json(), encoding="utf-8")
        (run / REPORT_FILE).write_text("its own")
    assert confide("report", *runs[:2]).out == "report: report-plain-sealed.html\n"
    assert "Privacy audits: " in Path("report-plain-sealed.html").read_text()
    assert confide("report", *runs).out == "report: report-plain-and-4-more.html\n"
    assert {(run / REPORT_FILE).read_text() for run in runs} == {"its own"}
    for run in runs[:2]:
        results_path(run).write_text(made_audit(measures=[leak()]).to_json(), encoding="utf-8")
    ended = confide("report", *runs[:2])
    assert ended.out == "report: report-plain-sealed.html\n"
    assert "is not known to have been asked about the same records" in ended.err


def test_an_audit_that_measures_less_keeps_the_one_before_and_says_so(
    confide: Command, run: Path, tmp_path: Path
) -> None:
    small = ("--view", "final", "--attack", "exposure")
    mine = Path(shutil.copytree(run, tmp_path / "mine", symlinks=True))
    for kept in mine.glob("audit/audit*.json"):
        kept.unlink()
    assert _said(confide("audit", mine, *QUICK).err) == []  # there was none
    full = results_path(mine).read_bytes()
    ended = confide("audit", mine, *small)
    kept = mine / "audit" / "audit-earlier-1.json"
    num_lost = len(AuditResults.model_validate_json(full).measures)
    assert _said(ended.err) == [
        f"note: the earlier audit has {num_lost} numbers that this one does not have: it is kept as {kept} "
        "(see `confide report FILE`)."
    ]
    assert kept.read_bytes() == full
    assert "audit-earlier-2.json" in confide("audit", mine, *QUICK).err
    assert kept.read_bytes() == full
    assert _said(confide("audit", mine, *QUICK, "--attack", "exposure").err) == []  # the same and more: nothing is lost
    own_page = (mine / REPORT_FILE).read_bytes()
    assert confide("report", kept).out == f"report: {kept.with_suffix('.html')}\n"
    assert "membership" in kept.with_suffix(".html").read_text()
    assert (mine / REPORT_FILE).read_bytes() == own_page


def test_an_audit_of_fewer_records_keeps_the_one_before_and_says_so(
    confide: Command, run: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "mine", symlinks=True))
    for kept in mine.glob("audit/audit*.json"):
        kept.unlink()
    confide("audit", mine, *QUICK)
    now = read_results(mine)
    # As if the audit before had asked about one record more, had drawn one text more, or had ranked among all.
    measures = [
        one.model_copy(update={"members": one.members.model_copy(update={"num": one.members.num + (place == 0)})})
        for place, one in enumerate(now.measures)
    ]
    more = [
        (now.model_copy(update={"measures": measures}), "has 1 number of more records"),
        (now.model_copy(update={"settings": {**now.settings, "samples": 5}}), "was made with more samples"),
        (
            now.model_copy(update={"settings": {**now.settings, "full_ranking": 9}}),
            "was made with a larger full_ranking",
        ),
    ]
    for number, (before, said) in enumerate(more, start=1):
        results_path(mine).write_text(before.to_json())
        (line,) = _said(confide("audit", mine, *QUICK).err)
        assert line.startswith(f"note: the earlier audit {said}: it is kept as ")
        assert f"audit-earlier-{number}.json" in line
        assert read_results(mine / "audit" / f"audit-earlier-{number}.json") == before
    fewer = [one.model_copy(update={"members": one.members.model_copy(update={"num": 1})}) for one in now.measures]
    results_path(mine).write_text(now.model_copy(update={"measures": fewer}).to_json())
    assert _said(confide("audit", mine, *QUICK).err) == []


def test_results_that_cannot_be_read_are_kept(confide: Command, run: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "mine", symlinks=True))
    results_path(mine).parent.mkdir(exist_ok=True)
    results_path(mine).write_text("{")
    assert "the earlier audit could not be read" in confide("audit", mine, *QUICK).err
    assert "{" in [kept.read_text() for kept in (mine / "audit").glob("audit-earlier-*.json")]


def test_two_audits_of_one_run_differ_by_nothing_record_by_record(confide: Command, run: Path) -> None:
    confide("audit", run, *QUICK)
    first = read_results(run)
    confide("audit", run, *QUICK)
    rows = compare([first, read_results(run)])
    assert rows
    for row in rows:
        (change,) = row.changes
        assert change is not None
        assert change.is_paired
        assert (change.members.value, change.p_adjusted) == (0.0, 1.0)
    assert results_path(run).read_text(encoding="utf-8") == read_results(run).to_json()


def test_a_model_card_is_written_of_one_run_only(confide: Command, run: Path, tmp_path: Path) -> None:
    confide("audit", run, *QUICK)
    card = tmp_path / "README.md"
    ended = confide("report", run, "--out", tmp_path / "page.html", "--model-card", card)
    assert ended.out == f"report: {tmp_path / 'page.html'}\nmodel card: {card}\n"
    assert "## Privacy audit" in card.read_text(encoding="utf-8")
    ended = confide("report", run, run, "--model-card", card)
    assert ended.code == 2
    assert "--model-card goes with one run" in ended.err


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"schema_version": 1}', b"[" * 100_000])
def test_damaged_results_are_an_error_with_their_name(confide: Command, tmp_path: Path, content: bytes) -> None:
    results_path(tmp_path).parent.mkdir()
    results_path(tmp_path).write_bytes(content)
    ended = confide("report", tmp_path)
    assert ended.code == 2
    assert "audit.json cannot be read" in ended.err
    with pytest.raises(RunDirectoryError):
        read_results(tmp_path)


def test_results_of_another_version_of_the_schema_say_which(confide: Command, tmp_path: Path) -> None:
    results_path(tmp_path).parent.mkdir()
    results_path(tmp_path).write_text('{"schema_version": 99}')
    ended = confide("report", tmp_path)
    assert ended.code == 2
    assert "of version 99 of the schema, and this program reads version 1" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--view", "final", "--view", "client", "--attack", "membership", "--attacker", "north", "--show-text"),
        ("--set", 'audit.attacks=["membership", "exposure"]', "--set", "run.threads=1", "--shadows", "0"),
    ],
)
def test_the_words_that_results_name_ask_for_the_same_audit_again(
    confide: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Path, words: tuple[str, ...]
) -> None:
    """Gates are no part of it, nor is what is printed."""
    adapters = tmp_path / "somebody's adapters"
    shutil.copytree(run / "rounds", adapters)
    others = ("--adapters", adapters, "--members", "in.jsonl", "--non-members", "not in.jsonl", "--base", "tiny-llama")
    kinds = [
        (run, *words),
        (*others, "--out", "found", "--template", "plain", "--randomised", "--set", "run.threads=1"),
    ]
    asked: list[tuple[object, AuditRequest]] = []

    def take(what: object, console: Console, request: AuditRequest) -> AuditResults:
        asked.append((what, request))
        return made_audit()

    monkeypatch.setattr(audit_module, "audit", take)
    monkeypatch.setattr(audit_module, "audit_others", take)
    for kind in kinds:
        confide("audit", *kind, "--json", "--fail-if", "final.membership.auc >= 1")
        (what, request) = asked.pop()
        given = what.words if isinstance(what, AdaptersToAudit) else (str(what),)
        confide("audit", *given, *request.words)
        assert asked.pop() == (what, request)


def shown(results: AuditResults) -> list[str]:
    text = StringIO()
    print_results(Console(width=WIDTH, file=text, force_terminal=True, no_color=True, color_system=None), results)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("results", [leaking_audit(), calm_audit(), made_audit()], ids=["leaking", "calm", "plain"])
def test_what_is_shown_fits_100_columns_and_leaves_no_view_and_no_warning_out(results: AuditResults) -> None:
    lines = shown(results)
    assert max(map(len, lines)) <= WIDTH
    running = " ".join(" ".join(lines).split())  # without the line breaks
    assert all(f"{finding.title}. " in running for finding in findings(results))
    assert all(f"note: {' '.join(warning.split())}" in running for warning in results.warnings)
    assert {one.view for one in telling_measures(results)} == {one.view for one in results.measures}


def test_the_table_has_the_worst_of_each_kind_leaks_first_and_counts_the_rest() -> None:
    quiet = [
        measure("final", "membership", attack=f"m{number}", population=f"kind {number % 20}", metric="auc")
        for number in range(60)
    ]
    results = made_audit().model_copy(
        update={"measures": [*quiet, leak("client", "extraction", excess=estimate(0.3, half=0.1))]}
    )
    telling = telling_measures(results)
    assert telling[0].verdict == "leak"
    assert len(telling) == 21
    lines = shown(results)
    rows = [line for line in lines if line.startswith(("final ", "client "))]
    assert len(rows) == MOST_ROWS
    assert rows[0].startswith("client")
    assert f"and {61 - MOST_ROWS} measures more in audit.json" in lines


def test_where_there_is_no_terminal_each_measure_has_a_line_with_its_name_for_conditions() -> None:
    what_if = measure("server", "updates", attack="cosine", metric="auc", is_hypothetical=True)
    results = made_audit(measures=[leak("client", excess=estimate(0.3)), what_if])
    text = StringIO()
    print_results(Console(width=40, file=text), results)
    lines = text.getvalue().splitlines()
    start = lines.index("measure, value, beyond its controls, verdict:")
    assert lines[start + 1] == f"{results.measures[0].key}  0.417  beyond 0.300 [0.200, 0.400]  leak"
    assert lines[start + 2].startswith(f"{what_if.key}  0.110  no control  no evidence if")
    for one in results.measures:
        assert parse_measure_name(one.key, what="it").covers(one)


def test_an_audit_without_a_measure_shows_no_table() -> None:
    lines = shown(made_audit().model_copy(update={"measures": [], "warnings": ["nothing there"]}))
    assert lines[0] == "Nothing was measured, so nothing can be concluded either way."
    assert "note: nothing there" in lines
    assert not [line for line in lines if "beyond its controls" in line]
