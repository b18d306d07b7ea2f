"""An audit of a whole run: what it writes, that it is the same each time, and what it refuses."""

import json
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from confide.attacks.passes import Passes
from confide.audit.judging import Findings
from confide.audit.results import AuditResults, Measure, Memorised
from confide.audit.updates import rows_of
from confide.auditor import AuditRequest, audit_run, results_path
from confide.auditor.audited import Audited
from confide.auditor.case import PASSIVE
from confide.auditor.conclusions import conclude
from confide.auditor.of_run import NOT_RECORDED, TRANSCRIPT_GONE, open_run
from confide.build import build_model
from confide.config.load import load_config
from confide.errors import ConfigError, DataError, NonFiniteUpdateError, RunDirectoryError, UsageError
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.run import RunDirectory
from tests.recorded import CLIENTS, ROUNDS, record_run

QUICK = AuditRequest(views=("final",), attacks=("membership",))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run that a test may change, with what earlier audits of it computed."""
    return Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))


def families(results: AuditResults) -> set[tuple[str, str]]:
    return {(measure.view, measure.family) for measure in results.measures}


def test_results_are_written_as_they_are_given(results: AuditResults, run: Path) -> None:
    assert AuditResults.model_validate_json(results_path(run).read_text()) == results
    assert (results.run.name, results.run.base_model) == ("recorded", "tiny-llama")
    assert (results.run.num_rounds, results.run.num_clients, results.run.scheme) == (ROUNDS, len(CLIENTS), "onetime")
    assert any("sealed" in line for line in results.run.protection)
    assert results.settings["rounds looked at"] == [1.0, 2.0, 3.0]
    assert results.seconds > 0


def test_every_view_is_attacked_by_every_family_that_it_allows(results: AuditResults) -> None:
    adapters = {(view, family) for view in ("final", "client", "coalition") for family in ("membership", "extraction")}
    updates = {(view, "updates") for view in ("server", "sealed-server", "client", "coalition")}
    assert adapters | updates <= families(results)
    assert {family for view, family in families(results) if view in ("server", "sealed-server")} == {"updates"}
    assert ("final", "exposure") in families(results)


def test_sample_sizes_are_those_of_the_questions(results: AuditResults) -> None:
    assert sum(results.counts[f"records: {label}"] for label in ("members", "others")) == 14 * len(CLIENTS)
    assert sum(results.counts[f"personal: {label}"] for label in ("members", "others")) == 4 * len(CLIENTS)
    areas = {
        measure.view: measure.members.num
        for measure in results.measures
        if (measure.family, measure.attack, measure.population) == ("membership", "loss", "records")
        and measure.metric == "auc"
    }
    assert areas == {"final": 42, "client": 28, "coalition": 14}  # without the attackers' own


def test_usefulness_is_measured_beside_the_base_model_s(results: AuditResults) -> None:
    assert set(results.run.utility) == {"held-out loss", "base held-out loss"}
    assert results.run.utility["held-out loss"] < results.run.utility["base held-out loss"]
    change = results.run.utility_change
    assert change is not None
    assert change.low < change.value < 0
    assert change.num > 1


def test_progress_counts_every_step(results: AuditResults, phrases: list[str]) -> None:
    counted = [match for phrase in phrases if (match := re.fullmatch(r"(\d+)/(\d+) (\w+).*", phrase))]
    total = int(counted[0][2])
    assert [int(match[1]) for match in counted] == list(range(1, total + 1))
    # Two kinds of records, three views; exposure needs planted secrets; and the table of updates.
    assert total == 3 * (2 + 2 + 1) + 1
    assert phrases[:2] == ["reading the data", "loading tiny-llama"]


def test_digests_of_texts_need_a_key_that_only_the_owner_may_read(results: AuditResults, run: Path) -> None:
    key = run / "audit" / "redaction.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert key.read_bytes().hex() not in results_path(run).read_text()


def test_what_came_out_is_listed_by_the_name_that_the_data_gives_it(audited: Audited) -> None:
    listed = [
        Memorised(
            view="final",
            attack="greedy",
            population="records",
            candidate_id=candidate_id,
            owner="east",
            sha256="0" * 64,
            num_characters=3,
            distance=0.0,
        )
        for candidate_id in ("record-00001", "another")
    ]
    named = replace(audited, case=audited.case.with_names({"record-00001": "in.jsonl:7"}))
    found = conclude(named, Findings(memorised=listed), ["a warning"], Passes(audited.model, None), 1.0)
    assert [one.candidate_id for one in found.memorised] == ["in.jsonl:7", "another"]
    assert found.warnings == ["a warning"]


def comparable(results: AuditResults) -> dict[str, Any]:
    """Results without what the clock and the command line decide."""
    return results.model_dump(exclude={"created", "seconds", "command"})


def test_an_audit_gives_the_same_each_time_whatever_it_had_computed_before(results: AuditResults, copy: Path) -> None:
    shutil.rmtree(copy / "audit" / "cache")
    again = audit_run(copy)
    assert comparable(again) == comparable(results)


def test_what_is_found_from_one_view_does_not_depend_on_the_others(results: AuditResults, copy: Path) -> None:
    request = AuditRequest(views=("client",), attacks=("membership", "exposure"))
    alone = audit_run(copy, request)

    def of_client(found: AuditResults) -> list[Measure]:
        return [one for one in found.measures if one.view == "client" and one.family in ("membership", "exposure")]

    assert of_client(alone) == of_client(results)
    assert alone.measures == of_client(alone)


def test_a_second_audit_asks_the_model_nothing_again(results: AuditResults, copy: Path) -> None:
    model: AdaptedModel = build_model(load_config(copy / "config.toml"))
    num_tokens: list[int] = []
    model.base.module.get_input_embeddings().register_forward_hook(
        lambda _module, given, _output: num_tokens.append(given[0].numel())
    )
    request = AuditRequest(attacks=("membership", "exposure"))
    found = audit_run(copy, request, model=model)
    assert sum(num_tokens) < 10  # what `TargetScorer` tries a model with
    assert {one.key for one in found.measures} < {one.key for one in results.measures}
    shutil.rmtree(copy / "audit" / "cache")
    audit_run(copy, request, model=model)
    assert sum(num_tokens) > 10_000


def test_only_what_is_asked_for_is_done(copy: Path) -> None:
    found = audit_run(copy, QUICK)
    assert families(found) == {("final", "membership")}
    assert found.settings["views"] == ["final"]
    found = audit_run(copy, AuditRequest(views=("server",)))
    assert families(found) == {("server", "updates"), ("sealed-server", "updates")}
    found = audit_run(copy, AuditRequest(views=("client",), attacks=("updates",), attackers=("south",)))
    assert families(found) == {("client", "updates")}
    assert found.settings["attackers"] == "east, south"


def test_secrets_are_ranked_among_all_of_their_form_where_the_configuration_says_so(run: Path) -> None:
    """That takes long; here is only what would be asked."""
    for most, are_all in ((9_999, True), (9_000, False)):
        audited = open_run(run, AuditRequest(settings=(f"audit.full_ranking={most}",)), progress=lambda _: None)
        (population,) = (one for one in audited.case.populations if one.name == "personal")
        assert 9_000 < population.num_possible <= 9_999  # without what belongs to another canary
        assert len(population.every_secret) == are_all * len(population.candidates)
        assert bool(population.alternatives) != are_all


def test_clients_that_work_together_attack_updates_and_with_one_other_client_know_its_update(copy: Path) -> None:
    found = audit_run(copy, AuditRequest(views=("coalition",), attacks=("updates",)))
    assert families(found) == {("coalition", "updates")}
    assert {one.population for one in found.measures} == {"mean without their own parts"}
    assert all("Nobody else is left in it" in one.note for one in found.measures)
    # South's own update, as a server that reads it sees it, is what is left.
    audited = open_run(copy, AuditRequest(), progress=lambda _: None)
    single = audited.views.server()
    rows = rows_of(single, None, [audited.views.client(["east", "north"])], is_sealed=True, seed=0, most_rounds=3)
    for number, others in rows[-1].targets.items():
        expected = single.client_updates[number]["south"].vector
        # Both opened and sent lie on one fixed-point range of 8; what is left is float32 rounding, thrice as large.
        assert np.abs(others["south"].vector - expected).max() < 3 * 8 * 2.0**-23 * len(CLIENTS)


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (AuditRequest(views=("server",), attacks=("membership",)), ()),  # a sealed server has no model
        (AuditRequest(views=("coalition",), attacks=("updates",), attackers=("east",)), ("clients/*/opened-*",)),
    ],
)
def test_an_audit_that_measures_nothing_fails_and_leaves_the_last_one_alone(
    copy: Path, request_: AuditRequest, settings: tuple[str, ...]
) -> None:
    before = results_path(copy).read_text()
    for pattern in settings:
        for path in (copy / "transcript").glob(pattern):
            path.unlink()
    with pytest.raises(UsageError, match="measured nothing, so no results are written") as caught:
        audit_run(copy, request_)
    assert all("of round 1 the mean that was opened" in str(caught.value) for _ in settings)
    assert results_path(copy).read_text() == before


def test_holes_in_the_transcript_are_warned_of_and_do_not_touch_other_parties_rows(
    results: AuditResults, copy: Path
) -> None:
    for path in (copy / "transcript" / "clients" / "0001").glob("sent-*"):
        path.unlink()
    found = audit_run(copy, AuditRequest(attacks=("updates",)))
    assert [one for one in found.warnings if "Missing: of round 1 the update of east; of round 2" in one]

    def sizes(audit: AuditResults) -> dict[tuple[str, str], int]:
        return {(one.view, one.population): one.members.num for one in audit.measures if one.family == "updates"}

    whole, holed = sizes(results), sizes(found)
    gone = {("client", "mean without one's own part"), ("coalition", "mean without their own parts")}
    assert gone <= whole.keys()  # all of these need what east sent
    assert not gone & holed.keys()
    assert holed["server", "one client's update"] < whole["server", "one client's update"]
    for row in (("client", "mean of all clients"), ("sealed-server", "sealed updates")):
        assert holed[row] == whole[row]


MODEL_FAMILIES = ("membership", "extraction", "exposure")


def audited_twice(run: Path, *, first: tuple[str, ...], then: tuple[str, ...]) -> tuple[AuditResults, list[int]]:
    """Audits models from some views and then from more of them; how many tokens each audit had a model read."""
    num_tokens: list[int] = []
    for views in (first, then):
        model: AdaptedModel = build_model(load_config(run / "config.toml"))
        read: list[int] = []
        model.base.module.get_input_embeddings().register_forward_hook(
            lambda _module, given, _output, read=read: read.append(given[0].numel())
        )
        settings = (f"audit.attacks={list(MODEL_FAMILIES)}".replace("'", '"'),)
        found = audit_run(run, AuditRequest(views=views, settings=settings), model=model)
        num_tokens.append(sum(read))
    return found, num_tokens


@pytest.mark.parametrize(
    ("view", "overrides"),
    [
        ("server", {"seal__scheme": "plain", "seal__initial_range": 0.0}),
        ("sealed-server", {"seal__release": "server"}),
    ],
)
def test_a_server_that_has_the_adapters_attacks_the_models_with_the_passes_of_others(
    tmp_path: Path, view: str, overrides: dict[str, Any]
) -> None:
    run = record_run(tmp_path, **overrides)
    found, (first, again) = audited_twice(run, first=("final", "client"), then=("final", "client", "server"))
    assert {family for name, family in families(found) if name == view} == set(MODEL_FAMILIES)
    # It has no records of its own to leave out or to tune on: what is new is about the attacking client's, one of
    # three, in rounds before the last, and two models together as they are preset.
    assert again < first / 3
    about = {
        one.view: one.members.num
        for one in found.measures
        if (one.family, one.attack, one.population, one.metric) == ("membership", "loss", "records", "auc")
        and one.view != "final"
    }
    assert about == {"client": 28, view: 42}


def test_settings_change_how_an_audit_looks(copy: Path) -> None:
    request = AuditRequest(views=("final",), attacks=("membership",), settings=("evaluate.batch_size=3",))
    assert audit_run(copy, request).settings["max_new_tokens"] == 4
    with pytest.raises(ConfigError, match=r"an audit cannot change what was trained: train\.learning_rate"):
        audit_run(copy, AuditRequest(settings=("train.learning_rate=1.0",)))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (AuditRequest(views=("nowhere",)), 'expected a list of "final", "client", "coalition", "server"'),
        (AuditRequest(attacks=("magic",)), 'expected a list of "membership", "extraction", "exposure", "updates"'),
        (AuditRequest(attackers=("nobody",)), "the clients are: east, north, south"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(run: Path, request_: AuditRequest, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        audit_run(run, request_)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        audit_run(tmp_path)


def test_a_run_without_a_round_is_refused(copy: Path) -> None:
    for number in range(1, ROUNDS + 1):
        shutil.rmtree(copy / "rounds" / f"{number:04d}")
    with pytest.raises(RunDirectoryError, match=r"has no complete round to audit. Finish it with `confide resume"):
        audit_run(copy)
    shutil.rmtree(copy / "rounds" / "0000")
    with pytest.raises(RunDirectoryError, match="has no complete round to audit"):
        audit_run(copy)


def test_a_round_that_is_missing_is_said_and_worked_around(copy: Path) -> None:
    shutil.rmtree(copy / "rounds" / "0002")
    found = audit_run(copy, AuditRequest(views=("client",), attacks=("membership", "updates")))
    assert [warning for warning in found.warnings if "has no folder of round 2" in warning]
    assert found.settings["rounds looked at"] == [1.0, 3.0]
    assert ("client", "updates") in families(found)


def test_a_last_round_that_is_missing_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "rounds" / f"{ROUNDS:04d}")
    with pytest.raises(RunDirectoryError, match=f"completed round {ROUNDS}, and rounds/{ROUNDS:04d} is gone: round "):
        audit_run(copy, QUICK)


def test_of_a_run_that_was_interrupted_the_last_complete_round_is_audited(copy: Path) -> None:
    shutil.rmtree(copy / "rounds" / f"{ROUNDS:04d}")  # as if it had been killed while it trained that round
    directory = RunDirectory.open(copy)
    directory.publish(ROUNDS - 1)
    directory.rebuild_records()
    directory.set_status("interrupted")
    assert audit_run(copy, QUICK).run.num_rounds == ROUNDS - 1


def test_another_base_model_is_refused(copy: Path) -> None:
    other = build_model(load_config(copy / "config.toml", ["run.seed=1"]))
    with pytest.raises(RunDirectoryError, match="was started with other weights of tiny-llama"):
        audit_run(copy, QUICK, model=other)


def test_changed_data_is_refused(copy: Path) -> None:
    config = load_config(copy / "config.toml")
    rows = Path(config.data.path).read_text().splitlines()
    changed = copy / "rows.jsonl"
    row = json.loads(rows[0])
    changed.write_text("\n".join([json.dumps(row | {"response": "something else"}), *rows[1:]]))
    text = (copy / "config.toml").read_text().replace(config.data.path, str(changed))
    (copy / "config.toml").write_text(text)
    with pytest.raises(RunDirectoryError, match="the data of east is not what the run"):
        audit_run(copy, QUICK)


def damage(run: Path, number: int) -> None:
    """Writes NaN into a round's adapter."""
    model = build_model(load_config(run / "config.toml"))
    folder = RunDirectory.open(run).round_folder(number)
    vector = read_adapter(folder, model.layout, "tiny-llama").copy()
    vector[7] = float("nan")
    model.save(folder, vector)


@pytest.mark.parametrize(("number", "view"), [(ROUNDS, "final"), (1, "client")])
def test_an_adapter_that_is_not_finite_stops_the_audit(copy: Path, number: int, view: str) -> None:
    damage(copy, number)
    with pytest.raises(NonFiniteUpdateError, match=f"000{number} holds 1 values of 448 that are NaN") as caught:
        audit_run(copy, AuditRequest(views=(view,)))
    assert caught.value.exit_code == 1


def test_a_model_that_gives_nan_stops_the_audit(copy: Path) -> None:
    """A base model that is damaged where its digest does not look: no score may be made of it."""
    shutil.rmtree(copy / "audit" / "cache")
    model = build_model(load_config(copy / "config.toml"))
    with torch.no_grad():
        model.base.module.get_input_embeddings().weight[:, 3] = float("nan")
    with pytest.raises(Exception, match="NaN or infinite") as caught:
        audit_run(copy, QUICK, model=model)
    assert type(caught.value).__name__ == "NonFiniteLossError"


def test_a_transcript_that_was_deleted_is_said(copy: Path) -> None:
    shutil.rmtree(copy / "transcript")
    found = audit_run(
        copy, AuditRequest(views=("server", "final"), settings=('audit.attacks=["membership", "updates"]',))
    )
    assert TRANSCRIPT_GONE in found.warnings
    assert families(found) == {("final", "membership")}
    with pytest.raises(RunDirectoryError, match=r"Train with --set audit\.record=true"):
        audit_run(copy, AuditRequest(attacks=("updates",)))


def test_the_record_of_a_round_that_is_gone_is_an_error_with_its_name(copy: Path) -> None:
    (copy / "rounds" / "0002" / "record.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"0002/record\.json"):
        audit_run(copy, QUICK)


def test_without_coins_nothing_is_called_a_leak(tmp_path: Path) -> None:
    run = record_run(
        tmp_path,
        audit__record=False,
        audit__canaries=[],
        audit__records_per_client=16,
        audit__canaries_per_client=8,
        data__held_out=0.5,
        train__local_epochs=0,
        train__local_steps=1,
        federation__rounds=2,
    )
    found = audit_run(run, AuditRequest(attacks=("membership",)))
    assert PASSIVE in found.warnings
    assert NOT_RECORDED in found.warnings
    assert "leak" not in {measure.verdict for measure in found.measures}
    # A step reads 4 rows: two rounds came to 8 of each client's 10.
    assert found.counts["records: members"] == 8 * len(CLIENTS)
    assert found.counts["records: others"] == 10 * len(CLIENTS)


def test_with_nothing_held_out_and_no_coins_there_is_nothing_to_compare(tmp_path: Path) -> None:
    run = record_run(
        tmp_path,
        audit__record=False,
        audit__canaries=[],
        audit__records_per_client=16,
        audit__canaries_per_client=8,
        data__held_out=0.0,
        federation__rounds=1,
    )
    with pytest.raises(DataError, match="nothing to compare"):
        audit_run(run, QUICK)


def test_of_a_client_that_never_took_part_nothing_is_asked(tmp_path: Path) -> None:
    run = record_run(
        tmp_path,
        audit__record=False,
        federation__rounds=1,
        federation__clients_per_round=2,
        federation__min_clients=2,
        seal__initial_range=8.0,
    )
    (record,) = RunDirectory.open(run).records()
    (absent,) = set(CLIENTS) - set(record.members)
    found = audit_run(run, QUICK)
    assert [warning for warning in found.warnings if f"No update of {absent} is in any round's sum" in warning]
    assert sum(found.counts[f"records: {label}"] for label in ("members", "others")) == 14 * 2
    # One client against two is too few to tell who took part.
    assert [warning for warning in found.warnings if ", clients, user: 2 members and 1 other to" in warning]


def test_clients_that_took_part_are_told_from_those_that_were_never_drawn(tmp_path: Path) -> None:
    run = record_run(
        tmp_path,
        audit__record=False,
        audit__canaries=["records"],
        audit__records_per_client=4,
        audit__canaries_per_client=8,
        data__partition="iid",
        data__clients=5,
        federation__rounds=1,
        federation__clients_per_round=2,
        federation__min_clients=2,
    )
    found = audit_run(run, QUICK)
    (about_clients,) = [one for one in found.measures if one.attack == "user"]
    assert (about_clients.population, about_clients.members.num) == ("clients", 5)
    assert about_clients.verdict == "too few records"


def test_where_everybody_took_part_there_are_no_clients_to_tell_apart(results: AuditResults) -> None:
    assert not [one for one in results.measures if one.attack == "user"]
    told = [one for one in results.warnings if "Membership of clients" in one]
    assert told == [
        "Membership of clients (M18) was not asked about: every client's update is in some round's sum, so there is "
        "nobody to compare clients with."
    ]


def test_two_clients_make_no_coalition(tmp_path: Path) -> None:
    run = record_run(
        tmp_path,
        audit__record=False,
        data__clients=2,
        federation__rounds=1,
        federation__min_clients=2,
    )
    with pytest.raises(UsageError, match="--view coalition needs a run of at least three clients"):
        audit_run(run, AuditRequest(views=("coalition",)))
