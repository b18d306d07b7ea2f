"""One record's presence hidden: DP-SGD at its client, so that whatever leaves the client is already private."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from confide.privacy.events import Event, SampledGaussian
from confide.privacy.plan import Budget, Counts, Unit
from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class ExamplePrivacy:
    """The plan of a client whose training is DP-SGD; `confide.train.private` does what it says.

    Neighbouring runs differ in one record of this client: in one of them what it contributes to any step is zero. How
    many records there are is public: sampling rate, divisor, steps and weight follow from it. The privacy loss is that
    of adding or removing one at a fixed rate. The guarantee is against everyone, the other clients and the server
    included, sealed or not.

    Attributes:
        clip_norm: bound on the L2 norm of one example's gradient, > 0.
        noise_multiplier: noise a step over `clip_norm`, > 0.
        sampling_rate: how likely an example is to join a step, in (0, 1].
        steps: of a round, >= 1; 0 of a client that trains on no record.
        budget: what may be spent.

    Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    budget: Budget
    unit: Unit = "example"
    trains_privately: bool = True
    noises_updates: bool = False
    fixed_limit: float = 0.0

    def events(self, num_trainings: int) -> list[Event]:
        """What so many rounds' trainings released."""
        count = num_trainings * self.steps
        if count == 0:
            return []
        return [SampledGaussian(noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate, count=count)]

    def epsilon(self, num_trainings: int) -> float:
        """Epsilon of so many trainings."""
        return _epsilon(self, num_trainings)

    def spent(self, counts: Counts) -> Mapping[str, float]:
        """See `PrivacyPlan.spent`."""
        return {"epsilon": self.epsilon(counts.trainings)}

    def check_budget(self, counts: Counts) -> None:
        """See `PrivacyPlan.check_budget`."""
        if self.budget.target_epsilon is not None:
            self.budget.check(self.epsilon(counts.trainings))

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        """The same values: they are the outcome of a private training."""
        del weight_ratio, upload_number
        return values


@lru_cache(maxsize=4096)
def _epsilon(plan: ExamplePrivacy, num_trainings: int) -> float:
    return plan.budget.costs(plan.events(num_trainings), plan.budget.delta)


def sampling_of(
    num_examples: int, *, batch_size: int, local_steps: int | None, local_epochs: int | None
) -> tuple[float, int]:
    """How a client with so many examples is sampled.

    Args:
        num_examples: >= 1.
        batch_size: examples that a step expects; with fewer examples every step expects all.
        local_steps: steps a round, or None.
        local_epochs: how often a round expects to read each example, or None; exactly one of the two is given.

    Returns:
        The sampling rate, in (0, 1], and the steps of a round, >= 1.
    """
    rate = min(1.0, batch_size / num_examples)
    steps = local_steps if local_steps is not None else round((local_epochs or 0) / rate)
    return rate, max(1, steps)
