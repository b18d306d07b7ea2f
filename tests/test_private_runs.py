"""Whole runs under differential privacy: the epsilon that was promised, what is told, and what stops them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from confide import federate
from confide.agreed import most_values_sent, opening_threshold
from confide.auditor import AuditRequest, audit_run
from confide.build.model import build_model
from confide.build.privacy import build_privacy
from confide.cli.train import resume_command, train
from confide.config.schema import Config
from confide.errors import (
    ConfigError,
    MessageError,
    PrivacyBudgetError,
    RoundFailedError,
    RunDirectoryError,
    RunInterrupted,
)
from confide.parties.client import Client
from confide.privacy.accounting import epsilon
from confide.privacy.both_levels import BothPrivacy
from confide.privacy.client_level import ClientPrivacy, delta_for_noise
from confide.privacy.events import SampledGaussian
from confide.privacy.example_level import ExamplePrivacy, sampling_of
from confide.privacy.plan import Counts
from confide.records import RoundRecord
from confide.report.sentences import guarantee
from confide.update import Layout, Slot
from tests.interrupts import press_ctrl_c_at
from tests.recorded import record_run

ConfigMaker = Callable[..., Config]

EXAMPLE = {"privacy__unit": "example", "privacy__target_epsilon": 6.0, "privacy__delta": 1e-3}
CLIENT = {"privacy__unit": "client", "privacy__target_epsilon": 6.0, "privacy__delta": 1e-3}
BOTH = {
    "privacy__unit": "both",
    "privacy__target_epsilon": 6.0,
    "privacy__client_target_epsilon": 6.0,
    "privacy__delta": 1e-3,
}
SEEDED = {"privacy__randomness": "seeded"}
UNITS = {"example": EXAMPLE, "client": CLIENT, "both": BOTH}


def records_of(folder: Path) -> list[RoundRecord]:
    return [RoundRecord.from_json(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def adapter(folder: Path, number: int) -> dict[str, Any]:
    tensors: dict[str, Any] = load_file(folder / "rounds" / f"{number:04d}" / "adapter_model.safetensors")
    return tensors


def info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def fail_in(round_number: int, patch: pytest.MonkeyPatch) -> None:
    """Has every client upload in a round, and none sign its list."""
    original = Client._sign

    def sign(self: Client, request: Any) -> Any:
        if request.round_number == round_number:
            raise MessageError("away")
        return original(self, request)

    patch.setattr(Client, "_sign", sign)


def stop_at(call: int, owner: object, name: str, patch: pytest.MonkeyPatch) -> None:
    """Stops the run where it calls something for the `call`-th time, before it is done."""
    original = getattr(owner, name)
    calls: list[str] = []

    def stop(*args: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise RunInterrupted("enough")
        return original(*args, **options)

    patch.setattr(owner, name, stop)


def lose_what_was_kept(folder: Path) -> None:
    for path in folder.glob("clients/*/kept"):
        path.unlink()


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_ends_just_inside_the_target_and_says_so_in_every_round(unit: str, make_config: ConfigMaker) -> None:
    folder = train(make_config(**UNITS[unit]))
    spent = [record.epsilon for record in records_of(folder)]
    assert all(one is not None for one in spent)
    first, second, third = (one or 0.0 for one in spent)
    assert 0 < first < second < third <= 6.0
    assert third > 5.9
    told = info(folder)["protection"]
    assert any(line.startswith("privacy: (epsilon 6, delta 0.001)-differential privacy") for line in told) or (
        unit == "client" and any("privacy: (epsilon 5.9" in line for line in told)
    )
    assert ("all that one client contributes" in " ".join(told)) == (unit != "example")
    assert ("each row that a client trains on" in " ".join(told)) == (unit != "client")
    of_client = [record.client_epsilon for record in records_of(folder)]
    if unit == "both":
        assert 5.9 < (of_client[2] or 0.0) <= 6.0
        assert info(folder)["client_epsilon"] == of_client[2]
    else:
        assert of_client == [None] * 3


def test_epsilon_is_that_of_the_client_with_the_fewest_rows_counted_by_hand(make_config: ConfigMaker) -> None:
    config = make_config(
        privacy__unit="example", privacy__noise_multiplier=1.3, privacy__delta=1e-3, train__accumulation=2
    )
    folder = train(config)
    notes = json.loads((folder / "rounds" / "0001" / "clients.json").read_text())
    fewest = min(note["weight"] for note in notes)  # a client weighs its number of rows
    rate = min(1.0, 4 / fewest)
    steps = SampledGaussian(noise_multiplier=1.3, sampling_rate=rate, count=2)
    expected = [epsilon([steps] * rounds, 1e-3) for rounds in (1, 2, 3)]
    assert [record.epsilon for record in records_of(folder)] == pytest.approx(expected)


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_that_data_decided_is_told_beside_the_noised_update(unit: str, make_config: ConfigMaker) -> None:
    folder = train(make_config(**UNITS[unit]))
    assert [record.loss for record in records_of(folder)] == [None] * 3
    assert '"loss":null' in (folder / "rounds.jsonl").read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_noise_is_new_in_every_run_unless_a_seed_is_asked_for(unit: str, make_config: ConfigMaker) -> None:
    runs = [train(make_config(run__name=name, **UNITS[unit])) for name in ("one", "two")]
    assert not same(adapter(runs[0], 1), adapter(runs[1], 1))
    seeded = [train(make_config(run__name=name, **UNITS[unit], **SEEDED)) for name in ("three", "four")]
    assert same(adapter(seeded[0], 3), adapter(seeded[1], 3))
    assert "does not know the seed" in " ".join(info(seeded[0])["protection"])
    assert "does not know the seed" not in " ".join(info(runs[0])["protection"])
    assert [record.seeded_noise for record in records_of(seeded[0])] == [True] * 3
    assert [record.seeded_noise for record in records_of(runs[0])] == [False] * 3


@pytest.mark.parametrize("unit", UNITS)
def test_a_stopped_run_goes_on_and_costs_what_was_promised(
    unit: str, make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(make_config(run__name="whole", **UNITS[unit], **SEEDED))
    with monkeypatch.context() as patch:
        steps = press_ctrl_c_at(8, patch)
        with pytest.raises(RunInterrupted):
            train(make_config(run__name="stopped", **UNITS[unit], **SEEDED))
    stopped = tmp_path / "runs" / "stopped"
    resume_command(stopped)
    assert len(steps) == 8  # in the second round, before anybody had uploaded: nothing was released that is drawn anew
    assert info(stopped)["status"] == "finished"
    assert [one.epsilon for one in records_of(stopped)] == [one.epsilon for one in records_of(whole)]
    assert same(adapter(whole, 3), adapter(stopped, 3))


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_stopped_wherever_in_a_round_costs_and_gives_what_one_that_was_not_stopped_does(
    unit: str, make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads of the first try are sent again as they were, so nothing is released that was not released before."""
    whole = train(make_config(run__name="whole", **UNITS[unit], **SEEDED))
    stops = [
        (Client, "_train", 2),  # the second client's training of round 1: the first one's upload has left
        (Client, "_sign", 1),  # all have left
        (Client, "_open", 1),  # and shares of the key
        (federate, "save_state", 1),  # all clients opened, and what they hold now is lost
        (Client, "_train", 6),  # of round 2
        (federate, "save_state", 2),  # of round 3
    ]
    folder = tmp_path / "runs" / "stopped"

    def go_on() -> None:
        if folder.exists():
            resume_command(folder)
        else:
            train(make_config(run__name="stopped", **UNITS[unit], **SEEDED))

    for owner, name, call in stops:
        with monkeypatch.context() as patch:
            stop_at(call, owner, name, patch)
            with pytest.raises(RunInterrupted):
                go_on()
        assert (folder / "clients" / "0001" / "kept").stat().st_mode & 0o777 == 0o600
    go_on()
    assert [(one.epsilon, one.client_epsilon) for one in records_of(folder)] == [
        (one.epsilon, one.client_epsilon) for one in records_of(whole)
    ]
    counted = [json.loads(path.read_text()) for path in folder.glob("clients/*/noised.json")]
    assert counted == [{"trainings": 3 * (unit != "client"), "uploads": 3 * (unit != "example")}] * 3
    assert all(same(adapter(whole, number), adapter(folder, number)) for number in (1, 2, 3))
    assert not list(folder.glob("clients/*/kept"))  # a finished run keeps nothing of what is the clients' own


@pytest.mark.parametrize("unit", UNITS)
def test_a_round_that_failed_is_done_again_with_the_same_noise_and_costs_nothing(
    unit: str, make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here noise is the operating system's: what is the same was kept, not drawn from a seed again."""
    folder = tmp_path / "runs" / "tiny"
    sealed: list[bytes] = []
    keys: list[str] = []
    original = Client._seal

    def seal(self: Client, payload: Any, values: Any, weight: float) -> Any:
        parts, entry = original(self, payload, values, weight)
        sealed.append(values.tobytes())
        keys.append(entry.key_id)
        return parts, entry

    monkeypatch.setattr(Client, "_seal", seal)
    with monkeypatch.context() as patch:
        fail_in(2, patch)
        with pytest.raises(RoundFailedError):
            train(make_config(**UNITS[unit]))
    resume_command(folder)
    assert sealed[3:6] == sealed[6:9]
    assert len(set(sealed)) == len(sealed) - 3 == 9
    assert len(set(keys)) == len(keys) == 12  # a key seals once, also the same values
    records = records_of(folder)
    assert [record.round_number for record in records] == [1, 2, 3]
    assert info(folder)["epsilon"] == records[2].epsilon
    assert 5.9 < (records[2].epsilon or 0.0) <= 6.0


@pytest.mark.parametrize("unit", UNITS)
def test_an_upload_that_cannot_be_sent_again_is_paid_for_too(
    unit: str, make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has both uploads has two releases, so the run ends a round earlier."""
    with monkeypatch.context() as patch:
        fail_in(2, patch)
        with pytest.raises(RoundFailedError):
            train(make_config(**UNITS[unit]))
    folder = tmp_path / "runs" / "tiny"
    lose_what_was_kept(folder)
    resume_command(folder)
    records = records_of(folder)
    assert [record.round_number for record in records] == [1, 2]
    assert (records[1].epsilon or 0.0) <= 6.0
    assert "above privacy.target_epsilon" in info(folder)["reason"]
    counted = [json.loads(path.read_text()) for path in folder.glob("clients/*/noised.json")]
    expected = {"trainings": 3 * (unit != "client"), "uploads": 3 * (unit != "example")}
    assert counted == [expected] * 3
    assert info(folder)["epsilon"] == records[1].epsilon


def test_a_budget_that_failed_rounds_have_spent_ends_in_an_error_and_no_model(
    make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "tiny"
    with monkeypatch.context() as patch:
        fail_in(1, patch)
        with pytest.raises(RoundFailedError):
            train(make_config(**EXAMPLE))
        for _ in range(2):
            lose_what_was_kept(folder)
            with pytest.raises(RoundFailedError):
                resume_command(folder)
    lose_what_was_kept(folder)
    with pytest.raises(PrivacyBudgetError, match="no round is complete, so there is no model"):
        resume_command(folder)
    assert info(folder)["status"] == "failed"
    assert 5.9 < info(folder)["epsilon"] <= 6.0


def test_a_failed_rounds_uploads_stand_in_the_runs_notes_and_in_no_record(
    make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_in(3, monkeypatch)
    with pytest.raises(RoundFailedError):
        train(make_config(**EXAMPLE))
    folder = tmp_path / "runs" / "tiny"
    assert (records_of(folder)[-1].epsilon or 0.0) < info(folder)["epsilon"] <= 6.0


def test_a_run_whose_count_of_releases_is_gone_is_not_resumed(
    make_config: ConfigMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_in(3, patch)
        with pytest.raises(RoundFailedError):
            train(make_config(**EXAMPLE))
    folder = tmp_path / "runs" / "tiny"
    (folder / "clients" / "0002" / "noised.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"has counted 0 releases and is in the sums of 2 rounds"):
        resume_command(folder)


def test_epsilon_never_falls_when_others_train(make_config: ConfigMaker) -> None:
    folder = train(
        make_config(
            **EXAMPLE, federation__clients_per_round=2, federation__min_clients=2, federation__rounds=5, run__seed=3
        )
    )
    records = records_of(folder)
    spent = [record.epsilon or 0.0 for record in records]
    assert spent == sorted(spent)
    assert len({record.cohort for record in records}) > 1
    assert info(folder)["epsilon"] == spent[-1]


@pytest.mark.parametrize("on_budget", ["stop", "fail"])
def test_a_round_beyond_the_budget_is_not_trained(
    on_budget: str, make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = ExamplePrivacy.epsilon
    monkeypatch.setattr(ExamplePrivacy, "epsilon", lambda self, count: original(self, count + (count > 1)))
    config = make_config(**EXAMPLE, privacy__on_budget=on_budget)
    folder = tmp_path / "runs" / "tiny"
    if on_budget == "fail":
        with pytest.raises(PrivacyBudgetError, match=r"above privacy\.target_epsilon = 6"):
            train(config)
        assert info(folder)["status"] == "failed"
    else:
        train(config)
        assert info(folder)["status"] == "finished"
    assert "one more round would bring epsilon" in info(folder)["reason"]
    assert [record.round_number for record in records_of(folder)] == [1, 2]
    assert (folder / "final").readlink() == Path("rounds/0002")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"privacy__unit": "example"}, r"exactly one of target and noise"),
        ({"privacy__unit": "example", "privacy__target_epsilon": 1.0, "privacy__noise_multiplier": 1.0}, "exactly one"),
        ({"privacy__target_epsilon": 1.0}, r"privacy\.target_epsilon does something only where privacy\.unit"),
        ({**CLIENT, "seal__scheme": "plain"}, "hides one only where nobody sees its update alone"),
        ({**CLIENT, "seal__profile": "ultra"}, "too coarse"),
        ({**CLIENT, "privacy__coalition": 3}, "more members than may collude"),
        ({**CLIENT, "seal__initial_range": 1.0}, "decides the range"),
        ({**EXAMPLE, "train__gradient_checkpointing": True}, "layers run twice"),
        ({**EXAMPLE, "privacy__clip_norm": 0.0}, r"privacy\.clip_norm"),
        (
            {
                **EXAMPLE,
                "federation__server_optimizer": "scaffold",
                "train__optimizer": "sgd",
                "train__clip_grad_norm": 0.0,
                "federation__weights": "equal",
            },
            "second release",
        ),
    ],
)
def test_contradictions_are_refused(overrides: dict[str, Any], message: str, make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**overrides)


@pytest.mark.parametrize(("unit", "what"), [("example", "rows that client"), ("client", "3 clients")])
def test_a_delta_that_allows_publishing_somebody_is_refused(unit: str, what: str, make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=rf"privacy\.delta is 0\.5.*{what}"):
        train(make_config(**UNITS[unit] | {"privacy__delta": 0.5}))


@pytest.mark.parametrize("unit", ["example", "both"])
def test_the_client_with_most_rows_binds_delta(unit: str, make_config: ConfigMaker) -> None:
    config = make_config(**UNITS[unit] | {"privacy__delta": 0.05})
    with pytest.raises(ConfigError, match=r"privacy\.delta is 0\.05, and there are 20 rows that client b trains on"):
        build_privacy(config, {"a": 5, "b": 20, "c": 7}, num_values=1000)


@pytest.mark.parametrize("noise", [1e-4, 1e-9])
def test_noise_too_small_to_be_computed_with_is_refused(noise: float, make_config: ConfigMaker) -> None:
    config = make_config(privacy__unit="example", privacy__noise_multiplier=noise, privacy__delta=1e-3)
    with pytest.raises(ConfigError, match="no epsilon can be computed"):
        build_privacy(config, {"a": 5, "b": 6, "c": 7}, num_values=1000)


@pytest.mark.parametrize(
    ("changed", "share"),
    [
        ({"lora__average": "factors"}, 1.0),
        ({"lora__average": "freeze-a"}, 0.5),
        ({"lora__average": "factors", "prune__mask": "random", "prune__sparsity": 0.75}, 0.25),
    ],
    ids=["factors", "freeze-a", "mask"],
)
def test_client_noise_is_planned_for_the_values_that_travel(
    changed: dict[str, object], share: float, make_config: ConfigMaker
) -> None:
    config = make_config(**CLIENT | changed)
    layout = Layout((Slot(name="layer.lora_A.weight", shape=(4, 8)), Slot(name="layer.lora_B.weight", shape=(8, 4))))
    assert most_values_sent(config, layout) == share * layout.num_values


def test_with_both_units_each_has_its_own_noise_and_its_own_budget(make_config: ConfigMaker) -> None:
    config = make_config(
        privacy__unit="both",
        privacy__target_epsilon=6.0,
        privacy__clip_norm=0.5,
        privacy__client_noise_multiplier=7.0,
        privacy__client_clip_norm=2.0,
        privacy__delta=1e-3,
    )
    plan = build_privacy(config, {"a": 5, "b": 6, "c": 7}, num_values=1000).plans["a"]
    assert isinstance(plan, BothPrivacy)
    assert (plan.example.clip_norm, plan.client.clip_norm, plan.client.noise_multiplier) == (0.5, 2.0, 7.0)
    counts = Counts(trainings=3, uploads=2)
    assert plan.spent(counts) == {"epsilon": plan.example.epsilon(3), "client_epsilon": plan.client.epsilon(2)}
    with pytest.raises(PrivacyBudgetError, match=r"privacy\.target_epsilon = 6"):
        plan.check_budget(Counts(trainings=4, uploads=2))
    plan.check_budget(Counts(trainings=3, uploads=6))  # noise that was given has no target: rounds may be done again
    with pytest.raises(PrivacyBudgetError, match="too many rounds were done twice"):
        plan.check_budget(Counts(trainings=3, uploads=400))
    capped = make_config(**BOTH | {"privacy__client_target_epsilon": 1.0})
    plan = build_privacy(capped, {"a": 5, "b": 6, "c": 7}, num_values=1000).plans["a"]
    with pytest.raises(PrivacyBudgetError, match=r"privacy\.client_target_epsilon = 1 "):
        plan.check_budget(Counts(trainings=3, uploads=4))


def test_noise_that_no_epsilon_covers_is_refused(make_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match="no epsilon can be computed"):
        train(make_config(privacy__unit="example", privacy__noise_multiplier=1.0, privacy__delta=1e-18))


def test_a_share_of_the_noise_leaves_out_who_may_collude(make_config: ConfigMaker) -> None:
    config = make_config(**CLIENT, federation__min_clients=3)
    found = build_privacy(config, {"a": 5, "b": 6, "c": 7}, num_values=1000)
    plan = found.plans["a"]
    assert isinstance(plan, ClientPrivacy)
    assert plan.num_honest == 2
    assert plan.epsilon(3) == epsilon(plan.events(3), delta_for_noise(1e-3), accountant="rdp")
    assert found.warnings
    assert "times as long as the longest update" in found.warnings[0]


def test_the_warning_tells_how_long_the_noise_of_a_mean_is_also_where_clients_do_not_weigh_alike(
    make_config: ConfigMaker,
) -> None:
    """So little is left of an update here that the step is noise alone."""
    told: list[float] = []
    seen: list[float] = []
    sizes: dict[str, int] = {}
    for weights in ("examples", "equal"):
        changed = {"run__name": weights, "federation__weights": weights, "federation__rounds": 1}
        noise = {"privacy__target_epsilon": 0.5, "privacy__clip_norm": 1e-3, "federation__min_clients": 3}
        config = make_config(**CLIENT | noise | {"lora__rank": 16} | changed)
        notes = json.loads((train(config) / "rounds" / "0001" / "clients.json").read_text())
        seen += [note["opening"]["step_norm"] / 1e-3 for note in notes[:1]]
        sizes = sizes or {note["client"]: int(note["weight"]) for note in notes}
        num_values = most_values_sent(config, build_model(config).layout)
        (warning,) = build_privacy(config, sizes, num_values=num_values).warnings
        told += [float(re.findall(r"is ([\d,]+) times", warning)[0].replace(",", ""))]
        assert ("equal weights" in warning) == (weights == "examples")
    assert told == pytest.approx(seen, rel=0.1)
    assert told[0] / told[1] == pytest.approx(max(sizes.values()) * 3 / sum(sizes.values()), rel=0.02)


@pytest.mark.parametrize(("clients", "coalition", "threshold"), [(3, 1, 3), (4, 1, 3), (10, 1, 6), (10, 3, 7)])
def test_so_many_open_a_sum_that_a_coalition_cannot_have_two_lists_opened(
    clients: int, coalition: int, threshold: int, make_config: ConfigMaker
) -> None:
    config = make_config(**CLIENT, privacy__coalition=coalition, federation__min_clients=coalition + 1)
    found = opening_threshold(config, clients)
    assert found == threshold
    assert 2 * found - clients > coalition >= 2 * (found - 1) - clients
    too_few = make_config(
        **CLIENT, privacy__coalition=coalition, federation__min_clients=coalition + 1, seal__threshold=threshold - 1
    )
    with pytest.raises(ConfigError, match=r"half of a coalition"):
        opening_threshold(too_few, clients)


def test_a_coalition_of_nearly_all_is_refused(make_config: ConfigMaker) -> None:
    config = make_config(**CLIENT, privacy__coalition=3, federation__min_clients=4)
    with pytest.raises(ConfigError, match="withstands a coalition of 3"):
        opening_threshold(config, 3)


def test_many_clients_bring_no_warning(make_config: ConfigMaker) -> None:
    config = make_config(
        privacy__unit="client",
        privacy__noise_multiplier=1.0,
        privacy__delta=1e-3,
        federation__min_clients=60,
        data__clients=64,
    )
    assert not build_privacy(config, {f"c{number}": 5 for number in range(64)}, num_values=1000).warnings


def test_sampling_expects_the_batch_that_is_asked_for() -> None:
    assert sampling_of(100, batch_size=8, local_steps=5, local_epochs=None) == (0.08, 5)
    assert sampling_of(100, batch_size=8, local_steps=None, local_epochs=2) == (0.08, 25)
    assert sampling_of(3, batch_size=8, local_steps=None, local_epochs=2) == (1.0, 2)


def test_an_audit_quotes_the_guarantee_and_what_was_spent(tmp_path: Path) -> None:
    request = AuditRequest(views=("final",), attacks=("membership",))
    quoted, spent = {}, {}
    for name, privacy in (("private", EXAMPLE), ("plain", {})):
        folder = tmp_path / name
        folder.mkdir()
        run = record_run(folder, audit__record=False, **privacy)
        quoted[name], spent[name] = audit_run(run, request), records_of(run)[-1].epsilon
    found = quoted["private"].run.guarantee
    assert found.startswith("(epsilon 6, delta 0.001)-differential privacy after 3 rounds")
    assert found.endswith(f"spent after round 3: epsilon {spent['private']:.4g}")
    assert guarantee(quoted["private"]).startswith("Formal guarantee: (epsilon 6, delta 0.001)-differential privacy")
    assert quoted["plain"].run.guarantee == "none"
    claim = quoted["private"].run.claim
    assert claim is not None
    assert (claim.unit, claim.epsilon, claim.delta) == ("example", spent["private"], EXAMPLE["privacy__delta"])
    assert quoted["plain"].run.claim is None
    for name, claimed in (("private", spent["private"]), ("plain", None)):
        bounds = quoted[name].epsilons
        assert {(bound.view, bound.unit) for bound in bounds} == {("final", "example")}
        assert {bound.claimed for bound in bounds} == {claimed}
        assert not any(bound.verdict == "above the claim" for bound in bounds)
        assert {bound.delta for bound in bounds} == {claim.delta if claimed else 1e-5}
