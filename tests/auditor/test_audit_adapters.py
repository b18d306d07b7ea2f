"""An audit of adapters that come from anywhere: a folder of them, a base model, and two files of records."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken

from confide.audit.gate import failed_conditions, parse_condition
from confide.audit.measure_names import CURVES, parse_measure_name
from confide.audit.results import AuditResults
from confide.auditor import AdaptersToAudit, AuditRequest, audit_adapters, results_path
from confide.auditor.of_adapters import CLAIMED, model_called
from confide.build import build_model
from confide.build.data import build_flipped
from confide.canaries.coins import Flipped
from confide.config.load import load_config
from confide.data.examples import Instruction, Record
from confide.errors import DataError, ModelError, NonFiniteUpdateError, UsageError
from confide.model import load as load_module
from confide.model.adapter_files import read_adapter
from confide.model.registry import BUILTIN_MODELS
from confide.model.tiny import make_byte_tokenizer
from confide.report.wording import need
from tests.auditor.test_adapter_folders import save_with_peft
from tests.recorded import ROUNDS, words

QUICK = AuditRequest(attacks=("membership",), settings=("train.max_tokens=160", "run.threads=1", "run.device=cpu"))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def as_row(record: Record) -> dict[str, object]:
    assert isinstance(record.content, Instruction)
    return {
        "instruction": record.content.instruction,
        "response": record.content.response,
        "client": record.client,
    }


@pytest.fixture(scope="session")
def flipped(run: Path) -> Flipped:
    return build_flipped(load_config(run / "config.toml"))


@pytest.fixture
def given(run: Path, flipped: Flipped, tmp_path: Path) -> AdaptersToAudit:
    """The run's adapters as somebody without the run has them, and the records that had coins."""
    shutil.copytree(run / "rounds", tmp_path / "adapters")
    coins = [coin for coin in flipped.plan.coins if coin.kind == "records"]
    files = [
        write_rows(tmp_path / f"{name}.jsonl", [as_row(coin.records[0]) for coin in coins if coin.included == label])
        for name, label in (("in", True), ("out", False))
    ]
    return AdaptersToAudit(
        folder=tmp_path / "adapters",
        members=files[0],
        non_members=files[1],
        out=tmp_path / "found",
        base="tiny-llama",
        template="plain",
        is_randomised=True,
    )


def scores(found: AuditResults, view: str) -> dict[str, tuple[float, int]]:
    return {
        one.attack: (one.members.value, one.members.num)
        for one in found.measures
        if (one.view, one.population, one.metric) == (view, "records", "auc") and one.attack != "best"
    }


def test_adapters_alone_give_the_numbers_that_their_run_gives(given: AdaptersToAudit, results: AuditResults) -> None:
    found = audit_adapters(given, QUICK)
    # What only a run knows: records that nobody had a coin for, which one attack compares with.
    expected = {name: score for name, score in scores(results, "final").items() if name != "standardised_gain"}
    assert scores(found, "final") == expected
    assert {one.view for one in found.measures} == {"final", "client"}
    assert AuditResults.model_validate_json(results_path(given.out).read_text()) == found
    assert (found.run.name, found.run.num_rounds, found.run.num_clients) == ("adapters", ROUNDS, 3)
    assert CLAIMED not in found.warnings


def test_without_coins_nothing_is_called_a_leak_and_the_report_says_why(given: AdaptersToAudit) -> None:
    found = audit_adapters(replace(given, is_randomised=False), QUICK)
    assert CLAIMED in found.warnings
    assert "leak" not in {one.verdict for one in found.measures}


def test_a_single_adapter_is_what_its_holder_sees(given: AdaptersToAudit) -> None:
    found = audit_adapters(replace(given, folder=given.folder / "0003"), QUICK)
    assert {one.view for one in found.measures} == {"final"}
    several = audit_adapters(given, QUICK)
    assert scores(found, "final").keys() == set(scores(several, "final"))
    # What cannot be asked of one round, or of adapters alone, is said.
    (told,) = [one for one in found.warnings if one.startswith("There is one round's adapter")]
    assert all(name in told for name in ("(E6)", "(E7)", "largest_gain, summed_gain, standardised_gain (M14)"))
    assert not [one for one in several.warnings if one.startswith("There is one round's adapter")]
    (held_out,) = [one for one in several.warnings if "standardised_gain" in one]
    assert "standardised_gain (M14) did not run: it needs records that nobody trained on" in held_out
    for one in (found, several):
        assert [warning for warning in one.warnings if "(M18) was not asked about: which clients" in warning]
        assert not [warning for warning in one.warnings if "planted secrets" in warning]  # not asked for
    texts = audit_adapters(
        given, replace(QUICK, attacks=("extraction",), settings=(*QUICK.settings, "audit.samples=2"))
    )
    assert [one for one in texts.warnings if "planted secrets (of adapters alone none are known)" in one]
    assert not [one for one in texts.warnings if "M18" in one or "M14" in one]


def test_extraction_runs_on_adapters_alone(given: AdaptersToAudit) -> None:
    settings = (*QUICK.settings, "audit.max_new_tokens=3", "audit.samples=2", "audit.protocol=true")
    found = audit_adapters(given, replace(QUICK, attacks=("extraction",), settings=settings))
    assert {one.family for one in found.measures} == {"extraction"}
    assert {one.attack for one in found.measures} >= {"prefix-80", "prefix-30", "two-model", "zero-input"}
    assert {(one.view, one.attack) for one in found.measures} >= {
        ("final", "prefix-80-rounds"),
        ("client", "prefix-80-rounds"),
        ("client", "zero-input-rounds-two"),
    }
    assert ("final", "prefix-80-rounds-two") not in {(one.view, one.attack) for one in found.measures}
    for one in found.measures:
        assert parse_measure_name(one.key, what="this", is_whole=True).covers(one)
    for curve in found.curves:
        if curve.name == "rounds":
            key = ".".join((curve.view, curve.family, curve.attack, curve.population, curve.metric))
            parse_measure_name(key, what="this", metrics=CURVES, is_whole=True)
    assert "record-0" not in found.model_dump_json()  # the ids that attacks see mean nothing to the reader


@pytest.mark.parametrize(
    "row",
    [
        lambda number: {
            "messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": words(5, number)}]
        },
        lambda number: {"text": words(8, number)},
        lambda number: {"instruction": "续写", "response": f"患者第{number}号出院后" + "复查" * (number % 5)},
        lambda number: {"text": f"Größe: {number} м, цена {number * 7} ₽, 名前{number}"},
    ],
    ids=["messages", "text", "chinese", "mixed scripts"],
)
def test_records_are_read_in_every_form_and_script(
    given: AdaptersToAudit, tmp_path: Path, row: Callable[[object], dict[str, object]]
) -> None:
    members = write_rows(tmp_path / "m.jsonl", [row(number) for number in range(12)])
    others = write_rows(tmp_path / "n.jsonl", [row(number + 50) for number in range(12)])
    request = AuditRequest(
        views=("final",),
        settings=("train.max_tokens=160", "run.threads=1", "audit.max_new_tokens=4", "audit.samples=2"),
    )
    template = "chat" if "messages" in row(0) else "plain"
    found = audit_adapters(replace(given, members=members, non_members=others, template=template), request)
    assert {one.family for one in found.measures} == {"membership", "extraction"}
    assert found.counts["records: members"] + found.counts["records: others"] > 12


def test_members_that_were_never_trained_on_are_doubted_with_the_numbers(
    given: AdaptersToAudit, tmp_path: Path
) -> None:
    rows = [{"instruction": "say", "response": words(6, "never", number)} for number in range(48)]
    never = replace(
        given,
        members=write_rows(tmp_path / "never.jsonl", rows[:24]),
        non_members=write_rows(tmp_path / "nor.jsonl", rows[24:]),
    )
    claims = audit_adapters(never, QUICK)
    assert [
        one for one in claims.warnings if "nothing shows that they were trained on" in one and "nats a token" in one
    ]
    passive = audit_adapters(replace(never, is_randomised=False), QUICK)
    assert [
        one
        for one in passive.warnings
        if "No trace of training is shown on the members" in one and "nats a token" in one
    ]
    assert (claims.doubts, passive.doubts) == ([], [])  # so it may be with a good defence


@pytest.mark.parametrize("is_randomised", [True, False])
def test_where_others_were_learnt_and_members_were_not_no_gate_passes(
    given: AdaptersToAudit, tmp_path: Path, is_randomised: bool
) -> None:
    """What was trained on is given as what was not, and other text as members."""
    rows = [{"instruction": "say", "response": words(6, "never", number).upper()} for number in range(24)]
    wrong = replace(given, members=write_rows(tmp_path / "never.jsonl", rows), non_members=given.members)
    found = audit_adapters(replace(wrong, is_randomised=is_randomised), QUICK)
    assert set(found.doubts) <= set(found.warnings)
    assert "the others were learnt better than the members" in found.doubts[0]
    assert len([one for one in found.doubts if "left less trace" in one]) == (not is_randomised)
    text = "final.membership.loss.records.auc > 0.999"
    (line,) = failed_conditions(found, [parse_condition(text)])
    assert line == f"{text}: not known. {found.doubts[0]}"


def test_too_few_records_are_said_with_how_many_are_needed(given: AdaptersToAudit, tmp_path: Path) -> None:
    rows = [{"text": words(6, number)} for number in range(8)]
    few = replace(
        given,
        members=write_rows(tmp_path / "m.jsonl", rows[:4]),
        non_members=write_rows(tmp_path / "n.jsonl", rows[4:]),
    )
    found = audit_adapters(few, QUICK)
    assert [one for one in found.warnings if "too few records" in one and "20 of each are needed" in one]
    alike = [{"text": str(row["text"]).upper()} for row in rows[:4]]  # each of them repeats a member
    alone = replace(few, non_members=write_rows(tmp_path / "alike.jsonl", alike))
    with pytest.raises(DataError, match=r"nothing to compare.*4 near-duplicates left out") as raised:
        audit_adapters(alone, QUICK)
    assert "Give more records with --members and --non-members" in str(raised.value)
    assert "audit.canaries" not in str(raised.value)


def test_the_sentence_the_note_and_the_gate_ask_for_as_many_records(given: AdaptersToAudit) -> None:
    """Half of the records measure the best attack: whoever gives as many as are asked for must not be asked again."""
    found = audit_adapters(given, QUICK)
    (best,) = [one for one in found.measures if (one.view, one.attack) == ("final", "best")]
    assert "40 of each are needed in the two halves." in best.caveat
    assert "40 of each are needed in the two halves." in best.note
    assert need(best) == "at least 40 records that were trained on and as many others are needed"
    (line,) = failed_conditions(found, [parse_condition("final.membership.best.records.auc > 0.9999")])
    assert "40 of each are needed in the two halves." in line


def test_one_file_for_both_sides_is_said(given: AdaptersToAudit, tmp_path: Path) -> None:
    twice = replace(given, non_members=given.members)
    with pytest.raises(
        DataError, match=r"--members and --non-members hold the same \d+ records, so there is nothing to"
    ):
        audit_adapters(twice, QUICK)
    rows = [json.loads(line) for line in given.members.read_text().splitlines()]
    part = replace(given, non_members=write_rows(tmp_path / "part.jsonl", rows[:3]))
    with pytest.raises(DataError, match="what --non-members holds, 3 records, is all in --members too"):
        audit_adapters(part, QUICK)


def test_the_hint_on_a_column_that_is_not_known_is_what_helps(given: AdaptersToAudit, tmp_path: Path) -> None:
    named = {}
    for name, path in (("members", given.members), ("non_members", given.non_members)):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        named[name] = write_rows(tmp_path / f"{name}.jsonl", [{"note": row["response"]} for row in rows])
    other = replace(given, members=named["members"], non_members=named["non_members"])
    with pytest.raises(DataError, match=r"the columns are: note\. .* --set data\.text_column=NAME"):
        audit_adapters(other, QUICK)
    found = audit_adapters(other, replace(QUICK, settings=(*QUICK.settings, "data.text_column=note")))
    assert found.measures


def test_where_records_were_cut_off_the_length_that_is_read_is_named(given: AdaptersToAudit, tmp_path: Path) -> None:
    rows = [{"instruction": "say " * 60, "response": words(6, number)} for number in range(8)]
    cut = replace(
        given,
        members=write_rows(tmp_path / "m.jsonl", rows[:4]),
        non_members=write_rows(tmp_path / "n.jsonl", rows[4:]),
    )
    with pytest.raises(DataError, match=r"8 records: cut off.*, 160 tokens.* with --set train\.max_tokens=N"):
        audit_adapters(cut, QUICK)


def test_rounds_that_are_missing_are_said(given: AdaptersToAudit) -> None:
    shutil.rmtree(given.folder / "0002")
    found = audit_adapters(given, QUICK)
    assert [one for one in found.warnings if "There is no adapter of round 2" in one]
    assert str(found.settings["rounds looked at"]) == "[1, 3]"


def test_with_more_rounds_than_are_looked_at_each_is_set_against_the_one_before_it(given: AdaptersToAudit) -> None:
    for number in range(ROUNDS + 1, 10):
        shutil.copytree(given.folder / f"{(number - 1) % ROUNDS + 1:04d}", given.folder / f"{number:04d}")
    shutil.rmtree(given.folder / "0005")
    settings = ("audit.rounds_per_attack=3", "audit.max_new_tokens=3", "audit.samples=2", "audit.protocol=true")
    request = AuditRequest(views=("client",), settings=(*QUICK.settings, *settings))
    found = audit_adapters(given, request)
    assert found.settings["rounds looked at"] == [1, 6, 9]
    notes = {one.attack: one.note for one in found.measures}
    assert "From the base model over the rounds 1, 6, 9." in notes["summed_gain"]
    assert "Round 9 against round 8: " in notes["two-model"]
    assert "Rounds 1 against the base model, 6 against round 4, 9 against round 8; no" in notes["prefix-80-rounds-two"]
    assert "rounds" not in notes["loss"]
    xs = {point.x for one in found.curves if one.name == "rounds" for point in one.points}
    assert xs == {0, 1, 6, 9}
    (told,) = [one for one in found.warnings if "audit.rounds_per_attack" in one]
    assert told.startswith("Of 8 rounds, attacks over rounds looked at 3 (audit.rounds_per_attack): 1, 6, 9.")
    everything = audit_adapters(given, replace(QUICK, settings=(*QUICK.settings, "audit.rounds_per_attack=8")))
    assert not [one for one in everything.warnings if "audit.rounds_per_attack" in one]


def test_an_adapter_that_is_not_finite_stops_the_audit(given: AdaptersToAudit, run: Path) -> None:
    model = build_model(load_config(run / "config.toml"))
    vector = read_adapter(given.folder / "0003", model.layout, "tiny-llama").copy()
    vector[:2] = np.nan
    model.save(given.folder / "0003", vector)
    with pytest.raises(NonFiniteUpdateError, match="0003 holds 2 values of 448"):
        audit_adapters(given, QUICK)


def test_a_base_model_with_other_layers_is_refused(given: AdaptersToAudit) -> None:
    with pytest.raises(ModelError, match="are of another base model than tiny-gpt2: they adapt layers that it does"):
        audit_adapters(replace(given, base="tiny-gpt2"), QUICK)


def test_a_base_model_of_another_width_is_refused(given: AdaptersToAudit, tmp_path: Path) -> None:
    base = load_module.load_base_model("tiny-llama", device="cpu")
    config = type(base.module.config)(**base.module.config.to_dict() | {"hidden_size": 64})
    type(base.module)(config).save_pretrained(str(tmp_path / "wide"))
    base.tokenizer.save_pretrained(str(tmp_path / "wide"))
    with pytest.raises(ModelError, match=r"does not fit .*wide: 0 tensors missing, 0 unexpected, \d+ of another shape"):
        audit_adapters(replace(given, base=str(tmp_path / "wide")), QUICK)


def test_a_base_model_of_another_name_is_remarked_upon(given: AdaptersToAudit, tmp_path: Path) -> None:
    base = load_module.load_base_model("tiny-llama", device="cpu")
    base.module.save_pretrained(str(tmp_path / "llama-copy"))
    base.tokenizer.save_pretrained(str(tmp_path / "llama-copy"))
    found = audit_adapters(replace(given, base=str(tmp_path / "llama-copy")), QUICK)
    (said,) = [one for one in found.warnings if one.startswith("The adapters name tiny-llama as their base model")]
    assert "give with --base a folder that is called tiny-llama, or correct base_model_name_or_path in each" in said
    assert found.doubts[0] == said
    text = "final.membership.loss.records.auc > 0.9999"
    assert failed_conditions(found, [parse_condition(text)]) == [f"{text}: not known. {said}"]
    calm = audit_adapters(given, QUICK)
    assert calm.doubts == []
    assert not [one for one in calm.warnings if "as their base model" in one]


def test_the_same_base_model_in_a_folder_of_its_name_raises_no_doubt(given: AdaptersToAudit, tmp_path: Path) -> None:
    base = load_module.load_base_model("tiny-llama", device="cpu")
    base.module.save_pretrained(str(tmp_path / "Tiny-Llama"))
    base.tokenizer.save_pretrained(str(tmp_path / "Tiny-Llama"))
    found = audit_adapters(replace(given, base=str(tmp_path / "Tiny-Llama")), QUICK)
    assert found.doubts == []


def test_one_round_of_another_base_model_is_a_doubt(given: AdaptersToAudit) -> None:
    path = given.folder / "0002" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/other"}))
    (doubt,) = audit_adapters(given, QUICK).doubts
    assert doubt.startswith("The adapters name somebody/other as their base model, and they are audited on tiny-llama")


@pytest.mark.parametrize(
    "names",
    [
        ("models/SmolLM2-135M-Instruct/", "HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("gemma3-270m", "google/gemma-3-270m", "cache/gemma3-270m"),
        ("hub/models--google--gemma-3-270m/snapshots/0a1b2c", "google/gemma-3-270m"),
        *((name, model.hub_id) for name, model in BUILTIN_MODELS.items()),
    ],
)
def test_one_model_under_several_names_is_one_model(names: Sequence[str]) -> None:
    assert len({model_called(name) for name in names}) == 1
    assert model_called(names[0]) != model_called("somebody/other")


def test_the_base_model_is_the_one_that_the_adapters_name_unless_another_is_given(
    given: AdaptersToAudit, tmp_path: Path
) -> None:
    assert audit_adapters(replace(given, base=""), QUICK).run.base_model == "tiny-llama"
    save_with_peft(tmp_path / "nameless")
    path = tmp_path / "nameless" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match=r"do not name their base model\. Say which one with --base"):
        audit_adapters(replace(given, folder=tmp_path / "nameless", base=""), QUICK)


def test_tokens_that_a_tokenizer_adds_and_the_model_does_not_know_are_an_error(
    given: AdaptersToAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_module.load_base_model("tiny-llama", device="cpu")
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens([AddedToken("diagnosis", normalized=False)])
    base.module.save_pretrained(str(tmp_path / "tiny-llama"))
    tokenizer.save_pretrained(str(tmp_path / "tiny-llama"))
    write_rows(given.members, [{"text": f"{words(4, number)} diagnosis"} for number in range(12)])
    write_rows(given.non_members, [{"text": words(4, number, "other")} for number in range(12)])
    with pytest.raises(DataError, match=r"has tokens that .* does not know: its ids are 0 to 261"):
        audit_adapters(replace(given, base=str(tmp_path / "tiny-llama")), QUICK)


def test_a_tokenizer_that_opens_texts_with_a_token_of_its_own_is_followed(
    given: AdaptersToAudit, tmp_path: Path
) -> None:
    """As Llama's, which puts a begin token before every text: it is read, and nothing is scored on it."""
    from tokenizers.processors import TemplateProcessing

    base = load_module.load_base_model("tiny-llama", device="cpu")
    tokenizer = make_byte_tokenizer()
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)]
    )
    base.module.save_pretrained(str(tmp_path / "tiny-llama"))
    tokenizer.save_pretrained(str(tmp_path / "tiny-llama"))
    found = audit_adapters(replace(given, base=str(tmp_path / "tiny-llama")), QUICK)
    plain = audit_adapters(replace(given, out=tmp_path / "plain"), QUICK)
    assert scores(found, "final").keys() == scores(plain, "final").keys()
    assert scores(found, "final")["loss"] != scores(plain, "final")["loss"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (AuditRequest(views=("server",)), "--view is 'server', expected one of: final, client"),
        (AuditRequest(attacks=("updates",)), "--attack is 'updates', expected one of: membership, extraction"),
        (AuditRequest(attackers=("east",)), "--attacker goes with a run"),
        (AuditRequest(shadows=4), r"--shadows \(audit\.shadows\) goes with a run: how adapters alone were trained"),
        (AuditRequest(settings=("audit.samples=0",)), r"audit\.samples is 0, expected a whole number >= 1"),
        (AuditRequest(settings=("lora.nothing=0",)), r"lora\.nothing .* is no key"),
    ],
)
def test_what_adapters_alone_do_not_give_is_refused(
    given: AdaptersToAudit, request_: AuditRequest, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        audit_adapters(given, request_)


def test_files_that_are_missing_or_malformed_are_named(given: AdaptersToAudit, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^--members: .*nowhere\.jsonl does not exist"):
        audit_adapters(replace(given, members=tmp_path / "nowhere.jsonl"), QUICK)
    with pytest.raises(DataError, match=r"^--non-members: .*nowhere\.jsonl does not exist"):
        audit_adapters(replace(given, non_members=tmp_path / "nowhere.jsonl"), QUICK)
    given.non_members.write_text('{"question": "?"}\n')
    with pytest.raises(DataError, match=r"out\.jsonl, line 1: no column to learn from"):
        audit_adapters(given, QUICK)


def test_columns_of_other_names_are_read_on_request(given: AdaptersToAudit) -> None:
    for path, label in ((given.members, "in"), (given.non_members, "out")):
        write_rows(path, [{"q": "say", "a": words(6, label, number)} for number in range(12)])
    settings = (*QUICK.settings, "data.instruction_column=q", "data.response_column=a")
    found = audit_adapters(given, replace(QUICK, settings=settings))
    assert (found.counts["records: members"], found.counts["records: others"]) == (12, 12)
