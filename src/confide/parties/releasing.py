"""What a client releases in a round under a guarantee: once, counted before it can leave, and the same if asked again.

A round that is asked for again, also after a restart, gets the same training and the same noise: what was released once
is no second release. It has to be the very same. Noise drawn anew on the same update would be another release, and not
only for its client: who sees two sums that differ in one member's noise averages that noise away for all members. So
nothing that may have left is made anew while it is there, and what cannot be read stops its client.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from confide.errors import MessageError, NonFiniteLossError, RunDirectoryError
from confide.global_state import GlobalState
from confide.parties.kept import Asked, Kept
from confide.parties.state import PendingStore
from confide.privacy.plan import Counts, PrivacyPlan
from confide.privacy.releases import Releases
from confide.train.outcome import LocalResult
from confide.update import Vector

MOST_NOISINGS = 16
"""Ways to ask for one round's noised update; each is a release of its own. It bounds what a client has to keep."""


class KeptReleases:
    """Does once a round what a client's guarantee answers for, and counts it before anything of it can leave.

    Args:
        owner: the client's run and name; what another kept is refused.
        plan: of its guarantee. Without one nothing is kept or counted.
        store: keeps this round's, for a client that is restarted.
        releases: counts.

    Guarantees:
        - What is asked for again as it was asked for before is the same to the bit, and counts once.
        - It is in `store` and then in `releases` before it is handed out: a client that dies in between has released
          nothing, and counts what it finds kept.
        - Where nothing is kept, as it was lost or belongs to another state or round, it is made anew and counts anew.
    """

    def __init__(self, *, owner: str, plan: PrivacyPlan, store: PendingStore, releases: Releases) -> None:
        self._owner = owner
        self._plan = plan
        self._store = store
        self._releases = releases

    @property
    def counts(self) -> Counts:
        """So much counts so far."""
        return self._releases.counts

    def check_budget(self, asked: Asked) -> None:
        """Refuses what would go beyond what was planned.

        Raises:
            PrivacyBudgetError: it would.
            RunDirectoryError, StorageError: what was kept or counted cannot be read.
        """
        kept = self._of_round(asked.shared)
        counts = self._with(kept)
        is_noised = kept is not None and asked.how in kept.noised
        counts = replace(
            counts,
            trainings=counts.trainings + (self._plan.trains_privately and kept is None),
            uploads=counts.uploads + (self._plan.noises_updates and not is_noised),
        )
        self._plan.check_budget(counts)

    def train(self, asked: Asked, train: Callable[[], LocalResult | None]) -> LocalResult | None:
        """What the round's training gave; it is done if nothing is kept of it.

        Raises:
            NonFiniteLossError: `train` did; whoever hears of a private training's error has heard what it released.
            RunDirectoryError, StorageError: what was kept or counted cannot be read or written.
        """
        kept = self._of_round(asked.shared)
        if kept is not None:
            self._count(self._with(kept))
            return kept.result
        counts = self.counts
        counts = replace(counts, trainings=counts.trainings + self._plan.trains_privately)
        try:
            result = train()
        except NonFiniteLossError:
            if self._plan.trains_privately:
                self._count(counts)
            raise
        if self._plan.trains_privately:
            self._keep(asked, counts, result, {})
        return result

    def protect(self, asked: Asked, result: LocalResult | None, values: Vector) -> Vector:
        """The values that may be sealed; noised where the plan says so, and then kept with the training's result.

        Args:
            asked: of the round; `train` was called with it.
            result: what that gave.
            values: flat float32, multiplied by the weight; they follow from `asked` and `result`.

        Raises:
            MessageError: the round's update was asked for in too many ways.
            SaturationError: nothing may be released.
            RunDirectoryError, StorageError: as for `train`.
        """
        plan, ratio = self._plan, asked.weight_ratio
        if not plan.noises_updates:
            return plan.protect(values, ratio, self.counts.uploads)
        kept = self._of_round(asked.shared)
        earlier = {} if kept is None else kept.noised
        if kept is not None and asked.how in earlier:
            return earlier[asked.how]  # counted by `train`
        if len(earlier) >= MOST_NOISINGS:
            raise MessageError(
                f"round {asked.shared.round_number + 1} was asked for with {MOST_NOISINGS} reference weights or "
                "ranges, each a release of its own; it is not noised in another way"
            )
        counts = self._with(kept)
        counts = replace(counts, uploads=counts.uploads + 1)
        noised = plan.protect(values, ratio, counts.uploads)
        self._keep(asked, counts, result, {**earlier, asked.how: noised})
        return noised

    def forget_earlier(self, round_number: int) -> None:
        """Forgets what belongs to a round before `round_number`.

        That round's own stays when it is opened, as a run may be killed before its clients' next state is saved. What
        is damaged stays too, for the next training to refuse.

        Raises:
            StorageError: it cannot be read or removed.
        """
        try:
            kept = self._load()
        except RunDirectoryError:
            return
        if kept is not None and kept.round_number < round_number:
            self.forget()

    def forget(self) -> None:
        """Forgets what is kept.

        Raises:
            StorageError: it cannot be removed.
        """
        self._store.save(None)

    def _keep(self, asked: Asked, counts: Counts, result: LocalResult | None, noised: Mapping[str, Vector]) -> None:
        """Keeps, then counts: what is kept says what it counts, and what is not kept cannot have left."""
        kept = Kept(
            owner=self._owner,
            state_digest=asked.shared.digest,
            round_number=asked.shared.round_number + 1,
            counts=counts,
            result=result,
            noised=noised,
        )
        self._store.save(kept.to_bytes())
        self._count(counts)

    def _with(self, kept: Kept | None) -> Counts:
        """What counts, with what was kept and perhaps not counted any more."""
        counts = self.counts
        if kept is None:
            return counts
        return Counts(
            trainings=max(counts.trainings, kept.counts.trainings), uploads=max(counts.uploads, kept.counts.uploads)
        )

    def _count(self, counts: Counts) -> None:
        if counts != self.counts:
            self._releases.set(counts)

    def _of_round(self, shared: GlobalState) -> Kept | None:
        """What is kept of the round after `shared`."""
        kept = self._load()
        if kept is None or (kept.state_digest, kept.round_number) != (shared.digest, shared.round_number + 1):
            return None
        return kept

    def _load(self) -> Kept | None:
        data = None if self._plan.unit == "none" else self._store.load()
        if data is None:
            return None
        try:
            kept = Kept.from_bytes(data)
            if kept.owner != self._owner:
                raise MessageError("what a client kept of a training is another client's or another run's")
        except MessageError as error:
            raise RunDirectoryError(
                f"{error}: made anew it would be released twice. Restore the client's folder in clients/ from a "
                "backup, or start a new run."
            ) from error
        return kept
