"""Shadow models: their coins, that they are trained once and only anew where something changed, and what they show."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.aggregate.travelling import travelling_slots
from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.judging import Findings
from confide.audit.membership import audit_membership
from confide.audit.results import AuditResults
from confide.audit.truth import Population, Truth
from confide.auditor import AuditRequest, audit_run
from confide.auditor import shadows as module
from confide.auditor.of_run import open_run
from confide.auditor.shadows import ShadowModels, ShadowRound, ShadowTraining, shadow_coins, train_shadows, training_of
from confide.build import build_model
from confide.config.load import parse_config
from confide.errors import NonFiniteLossError, RunDirectoryError, UsageError
from confide.model.lora import AdaptedModel
from confide.train.local import LocalSettings, LocalTrainer
from confide.train.optimizer import OptimizerSettings
from confide.train.outcome import LocalResult
from tests.audit.overtrained import NAMES, make_candidate, make_model, start_vector
from tests.auditor.conftest import say_nothing

QUICK = AuditRequest(views=("final", "client"), attacks=("membership",))
SHADOW_ATTACKS = {"rmia", "lira_online", "lira_offline"}


# ---- coins


@given(st.integers(2, 50), st.integers(1, 8), st.integers(0, 99))
def test_every_record_is_in_exactly_half_of_the_shadows_and_every_shadow_has_half_of_the_records(
    num_candidates: int, num_pairs: int, seed: int
) -> None:
    coins = shadow_coins(num_candidates, 2 * num_pairs, seed=seed)
    assert coins.shape == (2 * num_pairs, num_candidates)
    assert (coins.sum(axis=0) == num_pairs).all()
    assert set(coins.sum(axis=1)) <= {num_candidates // 2, -(-num_candidates // 2)}
    assert (shadow_coins(num_candidates, 16, seed=seed)[: 2 * num_pairs] == coins).all()


def test_coins_of_pairs_and_seeds_are_unrelated() -> None:
    coins = shadow_coins(400, 4, seed=1)
    # Two halves drawn apart share 100 of 400 records, give or take a hypergeometric deviation of 5.
    assert abs(int((coins[0] & coins[2]).sum()) - 100) < 25
    assert abs(int((coins[0] & shadow_coins(400, 4, seed=2)[0]).sum()) - 100) < 25


@pytest.mark.parametrize("number", [-2, 0, 1, 5])
def test_a_number_that_makes_no_pairs_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"{number} shadow models were asked for, expected an even number >= 2"):
        shadow_coins(10, number, seed=0)


def test_one_record_makes_no_two_halves() -> None:
    with pytest.raises(UsageError, match="at least two records to be asked about, and there are 1"):
        shadow_coins(1, 2, seed=0)


# ---- training and keeping


@dataclass
class Trainings:
    """Counts what is trained."""

    rounds: int = 0


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """How many rounds of shadows are trained in a test."""
    counted, train = Trainings(), LocalTrainer.train

    def counting(self: LocalTrainer, **arguments: Any) -> LocalResult:
        counted.rounds += 1
        return train(self, **arguments)

    monkeypatch.setattr(LocalTrainer, "train", counting)
    return counted


@pytest.fixture(scope="module")
def model() -> AdaptedModel:
    return build_model(
        parse_config({"model": {"base": "tiny-llama"}, "lora": {"rank": 2}, "data": {"source": "clinics"}})
    )


@pytest.fixture(scope="module")
def candidates(model: AdaptedModel) -> list[Candidate]:
    return [make_candidate(model, f"{name} {place}", "north", name=name) for place, name in enumerate(NAMES[:6])]


def two_rounds(model: AdaptedModel) -> ShadowTraining:
    return ShadowTraining(
        start=start_vector(model),
        settings=LocalSettings(local_steps=1, batch_size=2),
        rounds=tuple(ShadowRound(trained=model.layout, learning_rate=rate) for rate in (0.01, 0.005)),
        seed=3,
    )


Make = Callable[..., ShadowModels]


@pytest.fixture
def make(model: AdaptedModel, candidates: list[Candidate], tmp_path: Path) -> Make:
    """Trains two shadows into one folder."""

    def make(
        training: ShadowTraining | None = None, about: list[Candidate] | None = None, num_shadows: int = 2
    ) -> ShadowModels:
        return train_shadows(
            model,
            training or two_rounds(model),
            about or candidates,
            num_shadows=num_shadows,
            folder=tmp_path / "shadows",
            progress=say_nothing,
        )

    return make


def same(one: ShadowModels, other: ShadowModels) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.adapters, other.adapters, strict=True))


def test_what_is_kept_is_not_trained_again(make: Make, trainings: Trainings) -> None:
    first = make()
    assert trainings.rounds == 2 * 2
    again = make()
    assert trainings.rounds == 2 * 2
    assert same(first, again)
    assert (again.trained_on == first.trained_on).all()
    make(num_shadows=4)
    assert trainings.rounds == 4 * 2  # two more


def test_a_killed_audit_goes_on_where_it_was(make: Make, trainings: Trainings, tmp_path: Path) -> None:
    whole = make()
    shutil.rmtree(tmp_path / "shadows" / "0002")
    assert same(make(), whole)
    assert trainings.rounds == 2 * 2 + 2


def test_shadows_do_not_depend_on_the_candidates_order(
    make: Make, candidates: list[Candidate], trainings: Trainings
) -> None:
    first = make()
    again = make(about=candidates[::-1])
    assert same(first, again)
    assert first.places == again.places
    assert trainings.rounds == 2 * 2


CHANGES: dict[str, Callable[[ShadowTraining], ShadowTraining]] = {
    "seed": lambda training: replace(training, seed=4),
    "steps": lambda training: replace(training, settings=LocalSettings(local_steps=2, batch_size=2)),
    "optimiser": lambda training: replace(
        training, settings=replace(training.settings, optimizer=OptimizerSettings(kind="sgd"))
    ),
    "rounds": lambda training: replace(training, rounds=training.rounds[:1]),
    "learning rate": lambda training: replace(training, rounds=training.rounds[::-1]),
    "slots": lambda training: replace(
        training,
        rounds=tuple(replace(one, trained=travelling_slots(one.trained, "freeze-a", 1)) for one in training.rounds),
    ),
    "start": lambda training: replace(training, start=training.start + np.float32(0.01)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_settings_train_other_shadows_in_their_place(
    make: Make, model: AdaptedModel, trainings: Trainings, change: Callable[[ShadowTraining], ShadowTraining]
) -> None:
    first = make()
    changed = change(two_rounds(model))
    again = make(changed)
    assert trainings.rounds == 2 * (2 + len(changed.rounds))
    assert not same(first, again)
    make(changed)
    assert trainings.rounds == 2 * (2 + len(changed.rounds))


def test_other_records_train_other_shadows(
    make: Make, model: AdaptedModel, candidates: list[Candidate], trainings: Trainings
) -> None:
    make()
    make(about=[make_candidate(model, "another", "north", name=NAMES[0]), *candidates[1:]])
    assert trainings.rounds == 3 * 2  # the record is in one of the two


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "shadow.json").write_bytes(b"\xff"),
        lambda folder: (folder / "shadow.json").write_text("[]"),
        lambda folder: (folder / "shadow.json").unlink(),
        lambda folder: (folder / "adapter_config.json").unlink(),
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"short"),
        lambda folder: shutil.copy(folder.parent / "0002" / "adapter_model.safetensors", folder),
    ],
    ids=["no text", "no note", "note gone", "settings gone", "cut off", "another's"],
)
def test_a_damaged_shadow_is_trained_again(
    make: Make, trainings: Trainings, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    first = make()
    damage(tmp_path / "shadows" / "0001")
    assert same(make(), first)
    assert trainings.rounds == 3 * 2


def test_a_half_written_shadow_is_never_there(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("confide.auditor.shadow_files.write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert list((tmp_path / "shadows").iterdir()) == []


def test_training_that_diverges_names_the_shadow(make: Make, model: AdaptedModel) -> None:
    training = two_rounds(model)
    diverging = replace(
        training,
        rounds=tuple(replace(one, learning_rate=float("inf")) for one in training.rounds),
    )
    with pytest.raises(NonFiniteLossError, match=r"training shadow 1/2, round 1: .*--shadows 0"):
        make(diverging)


# ---- what they show


@dataclass(frozen=True, kw_only=True)
class World:
    """A model overtrained on half of 48 records, four shadows of it, and records that no model was trained on.

    Records differ in how hard they are: behind a name and a number stand none to nine letters that nothing foretells.
    (Where all are equally hard the loss alone ranks best, and what few shadows say of each record is only noise.)
    """

    passes: Passes
    population: Population
    held_out: tuple[Candidate, ...]
    is_member: npt.NDArray[np.bool_]
    view: View
    shadows: ShadowModels

    def audit(self, is_member: npt.NDArray[np.bool_]) -> Findings:
        names = [candidate.candidate_id for candidate in self.population.candidates]
        held_out = [candidate.example for candidate in self.held_out]
        return audit_membership(
            self.view,
            self.passes,
            self.population,
            Truth(members=dict(zip(names, is_member.tolist(), strict=True)), is_randomised=True),
            held_out=held_out,
            rounds=[1],
            seed=0,
            shadows=self.shadows.shown(self.passes, self.population.candidates, held_out),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    model, rng = make_model(), np.random.default_rng(0)
    codes = rng.choice(np.arange(100, 1000), 96, replace=False)
    texts = [
        f"{NAMES[place % len(NAMES)]} {code}{''.join(rng.choice(list(ascii_lowercase), place % 4 * 3))}"
        for place, code in enumerate(codes)
    ]
    everything = [make_candidate(model, text, "north", name=f"record-{place:02}") for place, text in enumerate(texts)]
    asked, held_out = tuple(everything[:48]), tuple(everything[48:])
    is_member = rng.permutation(np.arange(48) % 2 == 0)
    training = ShadowTraining(
        start=start_vector(model),
        settings=LocalSettings(local_steps=None, local_epochs=6, batch_size=8),
        rounds=(ShadowRound(trained=model.layout, learning_rate=0.006),) * 2,
        seed=0,
    )
    adapter = training.start
    for number, one in enumerate(training.rounds, start=1):
        adapter = (
            LocalTrainer(model, training.settings, seed=77)
            .train(
                client="north",
                round_number=number,
                start=adapter,
                trained=one.trained,
                examples=[candidate.example for candidate, is_in in zip(asked, is_member, strict=True) if is_in],
                num_seen=0,
                learning_rate=one.learning_rate,
            )
            .vector
        )
    return World(
        passes=Passes(model, None, batch_size=32),
        population=Population(name="records", candidates=asked),
        held_out=held_out,
        is_member=is_member,
        view=View(name="final", party="final", layout=model.layout, adapters={1: lambda: adapter}),
        shadows=train_shadows(
            model,
            training,
            asked,
            num_shadows=4,
            folder=tmp_path_factory.mktemp("shadows"),
            progress=say_nothing,
        ),
    )


def areas(findings: Findings) -> dict[str, tuple[float, float, float]]:
    return {
        one.attack: (one.members.value, one.members.low, one.members.high)
        for one in findings.found
        if one.metric == "auc"
    }


def test_attacks_with_shadows_find_what_was_learnt_by_heart_and_more_than_the_loss_does(world: World) -> None:
    found = areas(world.audit(world.is_member))
    assert found.keys() >= SHADOW_ATTACKS
    for name in SHADOW_ATTACKS:
        assert found[name][1] > 0.6, (name, found[name])
        assert found[name][0] > max(found["loss"][0], found["reference"][0]), (name, found)


def test_under_shuffled_coins_attacks_with_shadows_are_at_chance(world: World) -> None:
    shuffled = [areas(world.audit(np.random.default_rng(seed).permutation(world.is_member))) for seed in range(3)]
    for name in SHADOW_ATTACKS:
        # Of one shuffle the standard deviation is 0.084 (24 and 24 records), of the mean of three 0.048.
        assert abs(np.mean([found[name][0] for found in shuffled]) - 0.5) < 4 * 0.048


def test_a_shadow_gives_the_records_it_was_trained_on_a_smaller_loss(world: World) -> None:
    shown = world.shadows.shown(world.passes, world.population.candidates, [])
    for records, is_in in zip(shown.stats, shown.trained_on, strict=True):
        losses = np.array([-one.logp[one.is_target].mean() for one in records])
        for kind in range(4):  # of equally many letters, 12 records each
            of_kind = np.arange(losses.size) % 4 == kind
            assert losses[is_in & of_kind].mean() < losses[~is_in & of_kind].mean()
    others = world.population.candidates[::-3]
    part = world.shadows.shown(world.passes, others, [])
    assert (part.trained_on == shown.trained_on[:, ::-3]).all()
    assert [one.logp.tolist() for one in part.stats[0]] == [one.logp.tolist() for one in shown.stats[0][::-3]]


# ---- of a run


@pytest.fixture
def copy(run: Path, results: AuditResults, tmp_path: Path) -> Path:
    """A run that a test may change, with what an audit without shadows computed."""
    return Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))


def attacks(found: AuditResults) -> set[str]:
    return {one.attack for one in found.measures}


def test_an_audit_has_attacks_with_shadows_only_where_they_are_asked_for(
    copy: Path, results: AuditResults, trainings: Trainings
) -> None:
    assert not SHADOW_ATTACKS & attacks(results)
    phrases: list[str] = []
    found = audit_run(copy, replace(QUICK, shadows=4), progress=phrases.append)
    assert attacks(found) >= SHADOW_ATTACKS
    assert found.settings["shadows"] == 4
    assert trainings.rounds == 4 * found.run.num_rounds
    assert [phrase for phrase in phrases if phrase.startswith("training shadow")] == [
        f"training shadow {shadow}/4, round {number}/3" for shadow in (1, 2, 3, 4) for number in (1, 2, 3)
    ]
    again = audit_run(copy, replace(QUICK, shadows=4))
    assert trainings.rounds == 4 * found.run.num_rounds
    assert again.measures == found.measures
    # What stood there without shadows has the same numbers; only the correction counts more attacks.
    plain = {(one.key, one.members) for one in audit_run(copy, QUICK).measures if one.attack != "best"}
    assert plain < {(one.key, one.members) for one in found.measures}


def test_two_shadows_are_enough_for_rmia_and_too_few_for_lira(copy: Path) -> None:
    found = audit_run(copy, replace(QUICK, views=("final",), settings=("audit.shadows=2",)))
    assert SHADOW_ATTACKS & attacks(found) == {"rmia"}
    assert [one for one in found.warnings if "LiRA" in one and "at least four shadow models (audit.shadows)" in one]


def test_shadows_train_as_the_run_did(copy: Path) -> None:
    audited = open_run(copy, QUICK, progress=say_nothing)
    training = training_of(audited.config, audited.adapters, audited.model.layout)
    assert [one.learning_rate for one in training.rounds] == [0.02] * 3
    assert {one.trained.digest for one in training.rounds} == {audited.model.layout.digest}
    assert (training.settings.local_epochs, training.settings.batch_size, training.seed) == (2, 4, 0)
    assert (training.start == audited.adapters.read(0)).all()


def test_no_answer_reaches_a_shadow(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shadows' coins tell no more of the run's than any other fair coins would."""
    kept: list[ShadowModels] = []
    train = module.train_shadows

    def keeping(*given: Any, **named: Any) -> ShadowModels:
        kept.append(train(*given, **named))
        return kept[-1]

    monkeypatch.setattr("confide.auditor.audit.train_shadows", keeping)
    audit_run(copy, replace(QUICK, views=("final",), shadows=2))
    audited = open_run(copy, QUICK, progress=say_nothing)
    of_candidates = [audited.case.truth.members[name] for name in sorted(kept[0].places)]
    # Coins of shadows and of the run agree as two sets of fair coins do: 54 of them, give or take 3.7 each.
    agreeing = (kept[0].trained_on[0] == np.array(of_candidates)).sum()
    assert len(of_candidates) == 54
    assert abs(int(agreeing) - 27) < 4 * 3.7


def test_shadows_without_an_attack_that_reads_them_are_refused(copy: Path) -> None:
    for request in (AuditRequest(attacks=("extraction",), shadows=2), AuditRequest(views=("server",), shadows=2)):
        with pytest.raises(UsageError, match="--shadows trains models for attacks of the family membership"):
            audit_run(copy, request)


def test_a_run_whose_start_is_gone_has_no_shadows(copy: Path) -> None:
    shutil.rmtree(copy / "rounds" / "0000")
    with pytest.raises(RunDirectoryError, match=r"rounds/0000 is gone: put it back, or audit with --shadows 0"):
        audit_run(copy, replace(QUICK, views=("final",), shadows=2))


def test_what_is_kept_names_no_record(copy: Path) -> None:
    audit_run(copy, replace(QUICK, views=("final",), shadows=2))
    folder = copy / "audit" / "shadows"
    assert sorted(path.name for path in folder.iterdir()) == ["0001", "0002"]
    assert json.loads((folder / "0001" / "shadow.json").read_text()).keys() == {"training", "adapter"}
