"""What a client releases under a guarantee: once a round, counted first, and the same to the bit if asked again.

Training and noise here give something else each time they are called, so that what is the same was not made anew.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.errors import (
    MessageError,
    NonFiniteLossError,
    PrivacyBudgetError,
    RunDirectoryError,
    RunInterrupted,
    SealError,
    StorageError,
)
from confide.messages import TrainReply
from confide.parties.client import Client
from confide.parties.kept import Asked, Kept
from confide.parties.releasing import MOST_NOISINGS
from confide.parties.state import ClientState, FilePending, MemoryPending, Pending, pack_own
from confide.privacy.plan import Counts, NoPrivacy, PrivacyPlan, Unit
from confide.privacy.releases import MemoryReleases
from confide.train.outcome import LocalResult
from confide.update import Vector
from tests.lone_client import (
    OTHER,
    REFERENCE_WEIGHT,
    START,
    Halving,
    catch_up_request,
    entry_of,
    make_client,
    open_request,
    sent_values,
    train,
    train_request,
)
from tests.town import FakeTrainer

UNITS: tuple[Unit, ...] = ("example", "client", "both")
ONCE = {
    "example": Counts(trainings=1),
    "client": Counts(uploads=1),
    "both": Counts(trainings=1, uploads=1),
}


def times(unit: Unit, count: int) -> Counts:
    return Counts(trainings=count * ONCE[unit].trainings, uploads=count * ONCE[unit].uploads)


@dataclass
class Noising(Halving):
    """A plan whose noise is another number each time it is drawn, and whose budget nothing spends."""

    draws: int = 0

    def spent(self, counts: Counts) -> dict[str, float]:
        return {"epsilon": float(max(counts.trainings, counts.uploads))}

    def check_budget(self, counts: Counts) -> None: ...

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        del weight_ratio, upload_number
        if not self.noises_updates:
            return values
        self.draws += 1
        return values + np.float32(0.25 * self.draws)


class DrawnTrainer:
    """Trains as DP-SGD does: to another end every time."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def train(self, **arguments: Any) -> LocalResult:
        result = FakeTrainer().train(**arguments)
        self.rounds.append(arguments["round_number"])
        number = len(self.rounds)
        metrics = replace(result.metrics, num_examples=number, loss=math.nan)  # a step that drew nobody has no loss
        return replace(result, vector=result.vector + np.float32(number), metrics=metrics)


@dataclass
class Place:
    """What of a client lasts when its process is killed."""

    plan: PrivacyPlan
    store: MemoryPending = field(default_factory=MemoryPending)
    kept: MemoryPending | FilePending = field(default_factory=MemoryPending)
    releases: MemoryReleases = field(default_factory=MemoryReleases)
    trainer: DrawnTrainer = field(default_factory=DrawnTrainer)

    def client(
        self,
        *,
        name: str = "west",
        state: ClientState | None = None,
        with_control: bool = False,
        train: Callable[..., LocalResult] | None = None,
    ) -> Client:
        """As its process starts."""
        return make_client(
            name=name,
            train=train or self.trainer.train,
            privacy=self.plan,
            with_control=with_control,
            store=self.store,
            kept=self.kept,
            releases=self.releases,
            state=state,
        )

    def pending(self) -> Pending:
        data = self.store.load()
        assert data is not None
        pending = Pending.from_bytes(data, START)
        assert pending is not None
        return pending


def ask(client: Client, reference_weight: float) -> TrainReply:
    return TrainReply.from_bytes(client.handle(train_request(client, reference_weight)))


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Unit:
    found: Unit = request.param
    return found


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("with_control", [False, True])
def test_asked_again_a_client_sends_the_same_and_pays_once(unit: Unit, with_control: bool, is_restarted: bool) -> None:
    place = Place(Noising(unit))
    client = place.client(with_control=with_control)
    first = train(client)
    if unit != "client":
        assert place.releases.counts == ONCE[unit]
    after_first = place.pending()
    client = place.client(with_control=with_control) if is_restarted else client
    again = train(client)
    num_values = 8 if with_control else 4
    assert sent_values(again, num_values) == sent_values(first, num_values)
    assert pack_own("west", place.pending().state) == pack_own("west", after_first.state)
    assert place.pending().entry == entry_of(again)
    assert place.releases.counts == ONCE[unit]
    assert again.metrics["epsilon"] == first.metrics["epsilon"] == 1.0
    assert place.trainer.rounds == [1]


@pytest.mark.parametrize("noising", ["client", "both"])
def test_each_weight_is_a_noising_of_its_own_and_is_never_drawn_twice(noising: Unit) -> None:
    """Were the first drawn anew, two sums would show one update under two noises, of which one was counted."""
    place = Place(Noising(noising))
    first, other, third, fourth = (ask(place.client(), weight) for weight in (6.0, 12.0, 6.0, 12.0))
    # Half of the update comes with a noise of 0.5, the second drawn, and not with half or all of the first, 0.25.
    assert [value - one / 2 for value, one in zip(sent_values(other), sent_values(first), strict=True)] == [0.375] * 4
    assert sent_values(third) == sent_values(first)
    assert sent_values(fourth) == sent_values(other)
    assert place.releases.counts.uploads == 2
    assert place.trainer.rounds == [1]


def test_what_noise_is_drawn_for_is_told_apart_to_the_last_bit() -> None:
    ways = [Asked(shared=START, weight_ratio=0.1, widening=0).how]
    ways.append(Asked(shared=START, weight_ratio=0.1, widening=1).how)
    ways.append(Asked(shared=START, weight_ratio=math.nextafter(0.1, 1.0), widening=0).how)
    assert len(set(ways)) == 3


def test_so_many_noisings_of_one_update_are_all_that_a_client_makes() -> None:
    place = Place(Noising("client"))
    client = place.client()
    for extra in range(MOST_NOISINGS):
        ask(client, REFERENCE_WEIGHT + extra)
    with pytest.raises(MessageError, match=f"asked for with {MOST_NOISINGS} reference weights"):
        ask(client, 100.0)
    assert place.releases.counts.uploads == MOST_NOISINGS
    assert ask(client, REFERENCE_WEIGHT).metrics["epsilon"] == MOST_NOISINGS


def test_a_private_training_in_another_weight_is_the_same_training() -> None:
    place = Place(Noising("example"))
    first, other = ask(place.client(), 6.0), ask(place.client(), 12.0)
    assert sent_values(first) == [2 * value for value in sent_values(other)]
    assert (place.trainer.rounds, place.releases.counts) == ([1], ONCE["example"])


class FullDisk(MemoryReleases):
    """Cannot note anything down."""

    def set(self, counts: Counts) -> None:
        raise StorageError(f"{counts} cannot be written")


def test_what_cannot_be_counted_does_not_leave_and_counts_when_it_does(unit: Unit) -> None:
    """As if the client died between keeping what it made and counting it."""
    place = Place(Noising(unit), releases=FullDisk())
    with pytest.raises(StorageError):
        train(place.client())
    assert place.store.load() is None
    assert place.kept.load() is not None
    place.releases = MemoryReleases()
    train(place.client())
    assert (place.trainer.rounds, place.releases.counts) == ([1], ONCE[unit])
    assert place.plan == Noising(unit, draws=int(unit != "example"))


def test_the_budget_knows_what_was_kept_and_not_counted() -> None:
    place = Place(Halving("client"), releases=FullDisk())
    with pytest.raises(StorageError):
        train(place.client())
    place.releases = MemoryReleases()
    assert train(place.client()).metrics["epsilon"] == 2.0
    ask(place.client(), 12.0)
    with pytest.raises(PrivacyBudgetError):
        ask(place.client(), 24.0)
    assert train(place.client()).metrics["epsilon"] == 4.0  # what was paid for may always be sent


class FullStore(MemoryPending):
    """Cannot keep anything."""

    def save(self, pending: bytes | None) -> None:
        raise StorageError("the disk is full")


def test_what_cannot_be_kept_does_not_leave_and_does_not_count(unit: Unit) -> None:
    place = Place(Noising(unit), kept=FullStore())
    with pytest.raises(StorageError):
        train(place.client())
    assert (place.store.load(), place.releases.counts) == (None, Counts())
    place.kept = MemoryPending()
    train(place.client())
    assert place.releases.counts == ONCE[unit]


def test_what_was_lost_is_made_anew_and_counts_again(unit: Unit) -> None:
    place = Place(Noising(unit))
    first = train(place.client())
    place.kept.save(None)
    assert sent_values(train(place.client())) != sent_values(first)
    assert place.releases.counts == times(unit, 2)


def test_from_another_state_it_trains_anew_and_counts_again(unit: Unit) -> None:
    place = Place(Noising(unit))
    train(place.client())
    other = ClientState(shared=replace(START, adapter=np.ones(4, np.float32)))
    train(place.client(state=other))
    assert place.trainer.rounds == [1, 1]
    assert place.releases.counts == times(unit, 2)
    train(place.client())
    assert place.releases.counts == times(unit, 3)  # one state's is kept


def test_each_round_counts_and_only_the_last_is_kept(unit: Unit) -> None:
    place = Place(Noising(unit))
    client = place.client()
    first = train(client)
    client.handle(open_request(client, entry_of(first), OTHER))
    train(client)
    assert place.trainer.rounds == [1, 2]
    assert place.releases.counts == times(unit, 2)
    kept = place.kept.load()
    assert kept is not None
    assert Kept.from_bytes(kept).round_number == 2


def test_a_client_killed_after_opening_and_put_back_sends_the_same_again(unit: Unit) -> None:
    """The opened state is lost with the process, and the round is done again from the state before it."""
    place = Place(Noising(unit))
    client = place.client()
    first = train(client)
    client.handle(open_request(client, entry_of(first), OTHER))
    assert sent_values(train(place.client())) == sent_values(first)
    assert place.releases.counts == ONCE[unit]


def test_a_later_round_is_the_end_of_what_was_kept_also_without_the_client(unit: Unit) -> None:
    place = Place(Noising(unit))
    client = place.client()
    client.handle(open_request(client, entry_of(train(client)), OTHER))
    assert place.kept.load() is not None
    client.handle(open_request(client, OTHER))
    assert place.kept.load() is None


@pytest.mark.parametrize(("round_number", "is_kept"), [(1, True), (2, False)])
def test_who_catches_up_beyond_a_round_forgets_what_it_sent_in_it(round_number: int, is_kept: bool, unit: Unit) -> None:
    place = Place(Noising(unit))
    client = place.client()
    train(client)
    later = replace(START, round_number=round_number)
    client.handle(catch_up_request(later.to_bytes(), later.digest, round_number=round_number))
    assert (place.kept.load() is not None) == is_kept


def test_what_was_paid_for_is_sent_again_where_nothing_more_can_be_paid(unit: Unit) -> None:
    place = Place(Halving(unit))
    client = place.client()
    client.handle(open_request(client, entry_of(train(client)), OTHER))
    second = train(client)  # the budget is for two
    assert sent_values(train(client)) == sent_values(second)
    client.handle(open_request(client, OTHER))
    with pytest.raises(PrivacyBudgetError):
        train(client)
    assert place.releases.counts == times(unit, 2)


def test_a_run_that_goes_on_no_more_keeps_nothing(unit: Unit) -> None:
    place = Place(Noising(unit))
    client = place.client()
    train(client)
    client.forget_pending()
    assert (place.store.load(), place.kept.load()) == (None, None)


def test_without_a_guarantee_nothing_is_kept_or_counted() -> None:
    place = Place(NoPrivacy())
    first, again = (
        TrainReply.from_bytes(client.handle(train_request(client)))
        for client in (place.client(train=finite(place)), place.client(train=finite(place)))
    )
    assert sent_values(first) != sent_values(again)
    assert (place.kept.load(), place.releases.counts) == (None, Counts())


def finite(place: Place) -> Callable[..., LocalResult]:
    """The same training with a loss, which a client without a guarantee tells."""

    def run(**arguments: Any) -> LocalResult:
        result = place.trainer.train(**arguments)
        return replace(result, metrics=replace(result.metrics, loss=1.0))

    return run


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"x"])
def test_what_is_damaged_is_refused_and_nothing_leaves(unit: Unit, damage: Callable[[bytes], bytes]) -> None:
    place = Place(Noising(unit))
    client = place.client()
    entry = entry_of(train(client))
    data, pending = place.kept.load(), place.store.load()
    assert data is not None
    place.kept.save(damage(data))
    with pytest.raises(RunDirectoryError, match="is damaged: made anew it would be released twice"):
        train(place.client())
    assert (place.store.load(), place.releases.counts, place.trainer.rounds) == (pending, ONCE[unit], [1])
    client.handle(open_request(client, entry, OTHER))  # the round it was for can open nevertheless
    assert client.state.shared.round_number == 1


def test_every_byte_that_is_changed_shows() -> None:
    place = Place(Noising("both"))
    train(place.client())
    data = place.kept.load()
    assert data is not None
    for at in range(len(data)):
        with pytest.raises(MessageError):
            Kept.from_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_another_clients_is_refused(unit: Unit) -> None:
    place = Place(Noising(unit))
    train(place.client())
    with pytest.raises(RunDirectoryError, match="another client's or another run's"):
        train(place.client(name="east"))


def test_a_training_that_was_stopped_has_released_nothing_and_is_done_anew(unit: Unit) -> None:
    def stop(**_arguments: Any) -> LocalResult:
        raise RunInterrupted("enough")

    place = Place(Noising(unit))
    with pytest.raises(RunInterrupted):
        train(place.client(train=stop))
    assert (place.kept.load(), place.releases.counts) == (None, Counts())
    train(place.client())
    assert place.releases.counts == ONCE[unit]


def test_what_fails_after_a_training_was_paid_for_and_is_sent_later(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the error may tell of what a private training gave."""

    def fail(*_arguments: Any) -> None:
        raise SealError("no room")

    place = Place(Noising(unit))
    with monkeypatch.context() as patch:
        patch.setattr(Client, "_seal", fail)
        with pytest.raises(SealError):
            train(place.client())
    assert place.releases.counts == ONCE[unit]
    train(place.client())
    assert (place.trainer.rounds, place.releases.counts) == ([1], ONCE[unit])


def test_a_private_training_whose_failure_shows_counts() -> None:
    def diverge(**_arguments: Any) -> LocalResult:
        raise NonFiniteLossError("a weight is not finite")

    place = Place(Noising("example"))
    with pytest.raises(NonFiniteLossError):
        train(place.client(train=diverge))
    assert place.releases.counts == ONCE["example"]


@pytest.mark.parametrize("noising", ["client", "both"])
def test_a_training_that_was_not_finite_is_not_done_again(noising: Unit) -> None:
    """Another training of the round would be another release, and would show that the first one failed."""

    def diverge(**_arguments: Any) -> LocalResult:
        raise NonFiniteLossError("the loss is nan")

    place = Place(Noising(noising))
    first = train(place.client(train=diverge))
    assert sent_values(train(place.client())) == sent_values(first) == [0.25] * 4
    assert (place.trainer.rounds, place.releases.counts) == ([], ONCE[noising])
    assert place.pending().state.num_seen == 0


def test_what_is_kept_in_a_file_is_the_owners_alone(unit: Unit, tmp_path: Path) -> None:
    path = tmp_path / "own" / "kept"
    place = Place(Noising(unit), kept=FilePending(path))
    first = train(place.client())
    assert path.stat().st_mode & 0o777 == 0o600
    place.kept = FilePending(path)
    assert sent_values(train(place.client())) == sent_values(first)


def test_what_is_kept_comes_back_as_it_was(unit: Unit) -> None:
    place = Place(Noising(unit))
    train(place.client())
    data = place.kept.load()
    assert data is not None
    kept = Kept.from_bytes(data)
    assert kept.to_bytes() == data
    assert kept.result is not None
    assert set(dataclasses.asdict(kept.result.metrics)) >= {"loss", "num_examples"}
    assert math.isnan(kept.result.metrics.loss)
    assert list(kept.noised) == (["0x1.0000000000000p-1 0"] if unit != "example" else [])
    assert str(kept.result.vector[0]) not in repr(kept)
