"""Whole runs with canary clients: what they measure, that a broken mechanism is found out, and what stays theirs."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from confide.audit.epsilon_bounds import EpsilonBound
from confide.audit.statistics import CanaryClientEpsilon, canary_cosines, final_model_epsilon
from confide.auditor import AuditRequest, audit_run
from confide.auditor.audited import Audited
from confide.auditor.canary_clients import find_canary_clients, look_for_canary_clients
from confide.auditor.of_run import open_run
from confide.auditor.views import MOST_UPDATE_ROUNDS
from confide.build.privacy import build_privacy
from confide.canaries.canary_clients import CanaryTrainer, canary_client_names, client_direction
from confide.cli.train import resume_command, train
from confide.config.load import parse_config
from confide.config.schema import Config
from confide.errors import ConfigError, RunInterrupted
from confide.privacy import client_level
from confide.privacy.both_levels import BothPrivacy
from confide.privacy.discrete_gaussian import discrete_gaussian
from confide.privacy.plan import Counts
from confide.privacy.randomness import NoiseSource
from confide.records import RoundRecord
from tests.auditor.conftest import say_nothing
from tests.interrupts import press_ctrl_c_at
from tests.recorded import words

ConfigMaker = Callable[..., Config]

BOTH: dict[str, Any] = {
    "privacy__unit": "both",
    "privacy__noise_multiplier": 2.0,
    "privacy__clip_norm": 0.25,
    "privacy__client_noise_multiplier": 0.5,
    "privacy__client_clip_norm": 2.0,
}
OWNERS = ("north", "south", "west")
NUM_CANARIES = 12
ROUNDS = 2
NOISE = 0.5
CANARY: dict[str, Any] = {
    "lora__rank": 8,  # enough values for canaries not to be in each other's way
    "data__held_out": 0.3,
    "federation__rounds": ROUNDS,
    "federation__min_clients": NUM_CANARIES + len(OWNERS),  # no more noise than is claimed
    "federation__weights": "equal",
    "privacy__unit": "client",
    "privacy__noise_multiplier": NOISE,
    "privacy__delta": 1e-3,
    "privacy__randomness": "seeded",
    "audit__record": True,
    "audit__canary_clients": NUM_CANARIES,
}


def opened(run: Path) -> Audited:
    return open_run(run, AuditRequest(), progress=say_nothing)


def bounds_of(audited: Audited) -> dict[str, EpsilonBound]:
    """The bounds by view: who gets the final model, one client, two of them."""
    assert audited.canary_clients is not None
    views = [audited.views.final(), audited.views.client(["north"]), audited.views.client(["north", "south"])]
    found = look_for_canary_clients(audited.canary_clients, views, audited.adapters)
    assert found.warnings == []
    return {bound.view: bound for bound in found.epsilons}


def fitted(audited: Audited) -> CanaryClientEpsilon:
    """What the final model says, without a level shared by others."""
    canaries = audited.canary_clients
    assert canaries is not None
    change = audited.adapters.read(ROUNDS) - audited.adapters.read(0)
    update = audited.model.layout.gather(change, canaries.trained)
    directions = np.stack([client_direction(name, update.size, seed=canaries.seed) for name in canaries.everyone])
    return final_model_epsilon(canary_cosines(directions, update), update.size, delta=1e-3)


@pytest.fixture(scope="module")
def make_shared_config(tmp_path_factory: pytest.TempPathFactory) -> ConfigMaker:
    """As `make_config`, for all tests of this module."""
    folder = tmp_path_factory.mktemp("canary-clients")
    rows = [
        {"instruction": words(2, owner, number, "asked"), "response": words(4, owner, number), "client": owner}
        for owner in OWNERS
        for number in range(8)
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**overrides: Any) -> Config:
        values: dict[str, dict[str, Any]] = {
            "run": {"name": "tiny", "folder": str(folder / "runs"), "threads": 1},
            "model": {"base": "tiny-llama"},
            "data": {"path": str(folder / "texts.jsonl"), "template": "plain"},
            "train": {"local_steps": 2, "batch_size": 2, "max_tokens": 128, "learning_rate": 0.05},
        }
        for name, value in overrides.items():
            section, key = name.split("__")
            values.setdefault(section, {})[key] = value
        return parse_config(values)

    return make


@pytest.fixture(scope="module")
def canary_run(make_shared_config: ConfigMaker) -> Path:
    """A run whose mechanism is right."""
    return train(make_shared_config(**CANARY))


@pytest.fixture(scope="module")
def both_run(make_shared_config: ConfigMaker) -> Path:
    """The same with rows hidden as well."""
    return train(make_shared_config(**CANARY | BOTH | {"run__name": "both"}))


def last_record(run: Path) -> RoundRecord:
    return RoundRecord.from_json((run / "rounds.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def right(canary_run: Path) -> Audited:
    return opened(canary_run)


def test_a_right_mechanism_measures_what_theory_says_and_never_more_than_claimed(right: Audited) -> None:
    """mu = sqrt(rounds) / (all noise over the bound); each other client is noise too, of one length in so many
    directions. A mean of so many canaries is within three standard errors; it is about one deviation wide."""
    found, bounds = fitted(right), bounds_of(right)
    assert right.canary_clients is not None
    num_clients, num_values = NUM_CANARIES + len(OWNERS), right.canary_clients.trained.num_values
    # Shares are sized for all but one, who may tell its own: the sum of all has a little more.
    noise = NOISE * math.sqrt(num_clients / (num_clients - 1))
    expected = math.sqrt(ROUNDS) / math.sqrt(noise**2 + ROUNDS * num_clients / num_values)
    assert found.shift == pytest.approx(expected, abs=3 / math.sqrt(NUM_CANARIES))
    assert found.num_inserted == NUM_CANARIES
    assert bounds["final"].estimate == pytest.approx(found.estimate)
    assert 0 < bounds["final"].low < (bounds["final"].claimed or 0.0)
    assert {view: bound.verdict for view, bound in bounds.items()} == {
        "final": "within the claim",
        "client": "within the claim",
        "coalition": "no claim",
    }


def test_the_claim_is_what_the_run_itself_has_counted(right: Audited, canary_run: Path) -> None:
    records = [RoundRecord.from_json(line) for line in (canary_run / "rounds.jsonl").read_text().splitlines()]
    bounds = bounds_of(right)
    assert bounds["final"].claimed == bounds["client"].claimed == records[-1].epsilon
    assert {bound.delta for bound in bounds.values()} == {1e-3}


def test_canary_clients_seal_and_sign_as_any_other_and_own_no_data(right: Audited, canary_run: Path) -> None:
    records = [RoundRecord.from_json(line) for line in (canary_run / "rounds.jsonl").read_text().splitlines()]
    assert right.canary_clients is not None
    everyone = {*OWNERS, *right.canary_clients.everyone}
    assert all(set(record.members) == everyone for record in records)
    info = json.loads((canary_run / "run.json").read_text())
    assert [one["client"] for one in info["data"]] == sorted(OWNERS)
    assert info["data_digests"].keys() == set(OWNERS)
    told = " ".join(info["protection"])
    assert "12 canary clients (canary-01 to canary-12) take part" in told
    assert "for an audit, and not for use" in told
    owners = {candidate.owner for population in right.case.populations for candidate in population.candidates}
    assert owners <= set(OWNERS)
    assert set(right.attackers.everyone) <= set(OWNERS)
    assert right.facts.num_clients == len(everyone)
    assert right.views.holes() == []


@pytest.mark.parametrize("unit", ["client", "both"])
def test_what_failed_rounds_have_spent_beyond_the_last_record_is_claimed_too(
    unit: str, canary_run: Path, both_run: Path, tmp_path: Path
) -> None:
    of_client = "client_epsilon" if unit == "both" else "epsilon"
    run = Path(shutil.copytree(both_run if unit == "both" else canary_run, tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    (recorded,) = {info["epsilon"], last_record(run).epsilon}
    (of_client_recorded,) = {info[of_client], getattr(last_record(run), of_client)}
    for factor, expected in ((2.0, 2.0), (0.5, 1.0)):
        (run / "run.json").write_text(json.dumps(info | {name: factor * info[name] for name in ("epsilon", of_client)}))
        facts, canaries = opened(run).facts, opened(run).canary_clients
        assert facts.claim is not None
        assert canaries is not None
        assert facts.claim.epsilon == expected * recorded
        assert canaries.claim.epsilon == expected * of_client_recorded
        assert (facts.client_claim is None) == (unit == "client")
        if facts.client_claim is not None:
            assert facts.client_claim.epsilon == expected * of_client_recorded


def test_with_both_units_canary_clients_measure_the_claim_of_a_client(both_run: Path) -> None:
    audited, last = opened(both_run), last_record(both_run)
    bounds, found = bounds_of(audited), fitted(audited)
    assert bounds["final"].claimed == bounds["client"].claimed == last.client_epsilon
    assert last.client_epsilon != last.epsilon
    assert bounds["coalition"].claimed is None
    assert bounds["final"].verdict == "within the claim"
    # As with "client": the length is that of a client's bound and not of a row's, an eighth of it.
    assert found.shift == pytest.approx(math.sqrt(ROUNDS) / NOISE, abs=3 / math.sqrt(NUM_CANARIES))
    told = " ".join(json.loads((both_run / "run.json").read_text())["protection"])
    assert "sends a random direction of the full length 2 in every round" in told


def test_canary_clients_train_on_no_row_and_cost_none(both_run: Path, make_shared_config: ConfigMaker) -> None:
    """A row of a client that has one alone would be in every step, and cost more than any."""
    rows = {"a": 6, "b": 6, "c": 7}
    everyone = rows | dict.fromkeys(canary_client_names(NUM_CANARIES), 1)
    counts = Counts(trainings=ROUNDS, uploads=ROUNDS)
    plans = build_privacy(make_shared_config(**CANARY | BOTH), everyone, num_values=100).plans
    spent = {name: plan.spent(counts) for name, plan in plans.items()}
    assert {spent[name]["epsilon"] for name in everyone.keys() - rows.keys()} == {0.0}
    assert spent["a"]["epsilon"] > spent["c"]["epsilon"] > 0
    assert len({one["client_epsilon"] for one in spent.values()}) == 1
    of_a = plans["a"]
    assert isinstance(of_a, BothPrivacy)
    assert 0 < (last_record(both_run).epsilon or 0.0) < replace(of_a.example, sampling_rate=1.0).epsilon(ROUNDS)
    with pytest.raises(ConfigError, match="there are 7 rows that client c trains on"):
        build_privacy(make_shared_config(**CANARY | BOTH | {"privacy__delta": 0.2}), everyone, num_values=100)


def test_a_view_holds_every_round_s_sum_without_what_its_owners_sent(right: Audited) -> None:
    alone, nobody = right.views.client(["west"]), right.views.client([])
    assert set(alone.others_means) == set(range(1, ROUNDS + 1))
    assert ROUNDS <= MOST_UPDATE_ROUNDS  # so that the means of all rounds are here to compare with
    num_clients = NUM_CANARIES + len(OWNERS)
    for number, seen in alone.others_means.items():
        own = alone.own_updates[number]["west"].vector
        mean = alone.mean_updates[number].vector
        expected = (mean * num_clients - own) / (num_clients - 1)
        assert np.abs(seen.vector - expected).max() < 1e-5
        assert np.array_equal(nobody.others_means[number].vector, mean)
    assert right.views.final().others_means == {}
    assert right.views.server().others_means == {}


def test_what_a_client_sent_is_read_back_as_its_own(right: Audited) -> None:
    """Canary clients stand among the others in the roster, by which a transcript numbers its folders."""
    assert right.canary_clients is not None
    num_values = right.canary_clients.trained.num_values
    names = right.canary_clients.everyone
    directions = np.stack([client_direction(name, num_values, seed=right.canary_clients.seed) for name in names])
    for updates in right.views.server().client_updates.values():
        leaning = np.stack([canary_cosines(directions, updates[name].vector) for name in (*names, *OWNERS)])
        own = np.eye(*leaning.shape) > 0
        # A share of the noise is NOISE / sqrt(14) a value: the direction is 1 of sqrt(1 + 1792 / 56) in length.
        assert leaning[own].min() > 4 / math.sqrt(num_values)
        assert np.abs(leaning[~own]).max() < 4 / math.sqrt(num_values)


def test_an_audit_writes_the_bounds_into_its_results(canary_run: Path) -> None:
    results = audit_run(canary_run, AuditRequest(views=("final", "client"), attacks=("membership",)))
    assert [bound.key for bound in results.epsilons] == [
        "final.epsilon.canary-clients-final.canary-clients",
        "client.epsilon.canary-clients-rounds.canary-clients",
    ]
    written = json.loads((canary_run / "audit" / "audit.json").read_text())
    assert [one["low"] for one in written["epsilons"]] == [bound.low for bound in results.epsilons]


def test_a_server_that_opens_nothing_says_that_no_epsilon_was_measured(right: Audited) -> None:
    assert right.canary_clients is not None
    found = look_for_canary_clients(right.canary_clients, [], right.adapters)
    assert found.epsilons == []
    assert "looked for from the views final, client and coalition. None of them is asked for" in found.warnings[0]


def half_the_noise(num_values: int, sigma: int, source: NoiseSource) -> npt.NDArray[np.int64]:
    return discrete_gaussian(num_values, sigma // 2, source)


def without_clipping(values: npt.NDArray[np.float64], bound: int, source: NoiseSource) -> npt.NDArray[np.int64]:
    del bound, source
    return np.rint(values).astype(np.int64)


def six_times_the_length(patch: pytest.MonkeyPatch) -> None:
    """Canary clients that go beyond the bound, and not beyond the range of the grid."""
    patch.setattr(
        "confide.build.client.canary_trainer",
        lambda config, layout: CanaryTrainer(layout=layout, length=6 * config.privacy.clip_norm, seed=config.run.seed),
    )


@pytest.mark.parametrize("broken", ["noise", "clip", "nothing"])
def test_a_broken_mechanism_is_found_out(
    broken: str, make_shared_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "noise":
        monkeypatch.setattr(client_level, "discrete_gaussian", half_the_noise)
    else:
        six_times_the_length(monkeypatch)
    if broken == "clip":
        monkeypatch.setattr(client_level, "round_within", without_clipping)
    bounds = bounds_of(opened(train(make_shared_config(**CANARY, run__name=f"broken-{broken}"))))
    expected = "within the claim" if broken == "nothing" else "above the claim"
    assert bounds["final"].verdict == expected
    if broken == "clip":  # so few canary clients cannot show more, even if all are told apart
        assert bounds["client"].low == bounds["client"].ceiling
        assert "could not have shown more than" in bounds["client"].note


def test_a_stopped_run_goes_on_in_the_same_directions(
    make_shared_config: ConfigMaker, canary_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        press_ctrl_c_at(8, patch)  # in the second round: two steps of each owner in the first
        with pytest.raises(RunInterrupted):
            train(make_shared_config(**CANARY, run__name="stopped"))
    stopped = canary_run.parent / "stopped"
    resume_command(stopped)
    # Not the same bytes: who had uploaded before the stop uploads again, with new noise.
    # Other directions in one of the two rounds would leave half of the shift.
    assert fitted(opened(stopped)).shift > 0.75 * fitted(opened(canary_run)).shift


def test_a_client_of_the_data_cannot_have_a_canary_s_name(make_config: ConfigMaker, tmp_path: Path) -> None:
    rows = [
        {"instruction": "say", "response": f"{number}", "client": client}
        for client in ("canary-02", "north", "south")
        for number in range(5)
    ]
    (tmp_path / "named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match="the data has a client canary-02, which is the name of a canary client"):
        train(make_config(**CANARY | {"data__path": str(tmp_path / "named.jsonl")}))


def test_canary_clients_count_among_those_that_a_round_needs(make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=r"federation\.min_clients is 16, but the data has only 3 clients"):
        train(make_config(**CANARY | {"federation__min_clients": NUM_CANARIES + len(OWNERS) + 1}))


def test_a_canary_that_missed_a_round_is_left_out_and_named(right: Audited) -> None:
    config, layout = right.config, right.model.layout
    whole = frozenset(right.canary_clients.everyone) if right.canary_clients is not None else frozenset[str]()
    found = find_canary_clients(config, layout, {1: whole, 2: whole - {"canary-05"}}, spent=1.0)
    assert found is not None
    assert set(found.everyone) - set(found.in_every_round) == {"canary-05"}
    told = look_for_canary_clients(found, [right.views.final()], right.adapters)
    assert [bound.num_in for bound in told.epsilons] == [NUM_CANARIES - 1]
    assert told.warnings == ["Of 12 canary clients 1 are not in every round's sum and are not looked for: canary-05."]
    none = find_canary_clients(config, layout, {1: frozenset()}, spent=1.0)
    assert none is not None
    nothing = look_for_canary_clients(none, [right.views.final()], right.adapters)
    assert nothing.epsilons == []
    assert nothing.warnings[-1] == "So no epsilon of a client was measured: two are needed."


def test_a_run_without_canary_clients_keeps_no_round_of_others(audited: Audited) -> None:
    assert audited.canary_clients is None
    assert audited.views.client(["east"]).others_means == {}
