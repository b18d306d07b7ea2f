"""A client's part in a round up to sealing: it trains, and makes of the update what may leave.

Knows what is private of a client; what it gives is `Trained.values`, which sealing takes, and figures, of which the
client tells what it may.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np

from confide.aggregate.scaffold import control_change, correction
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteLossError
from confide.parties.kept import Asked
from confide.parties.payload import Payload, arrive
from confide.parties.releasing import KeptReleases
from confide.parties.rules import ClientRules
from confide.parties.state import ClientState
from confide.privacy.plan import PrivacyPlan
from confide.seal.scheme import ClientSealing
from confide.train.outcome import LocalResult, StepReport
from confide.update import Layout, Vector

_NOT_FINITE = {"not_finite": 1.0}
"""In place of a training's figures, for the client's own diagnosis."""


class Trainer(Protocol):
    """What a client asks of local training; see `confide.train.local.LocalTrainer.train`."""

    def train(
        self,
        *,
        client: str,
        round_number: int,
        start: Vector,
        trained: Layout,
        examples: Sequence[TokenizedExample],
        num_seen: int,
        learning_rate: float,
        correction: Vector | None,
        on_step: Callable[[StepReport], None] | None,
    ) -> LocalResult:
        """Trains for one round."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a round's training comes to.

    Attributes:
        values: what may be sealed, flat float32.
        arrived: what they become on the way.
        own: the client's state once the sum that they go into has opened; its global state is the one before the round.
        figures: of the training and the update, for the client's own diagnosis.
        ended: when the local training was done, in seconds of `time.perf_counter`.
    """

    values: Vector = field(repr=False)
    arrived: Vector = field(repr=False)
    own: ClientState
    figures: Mapping[str, float]
    ended: float


class RoundTraining:
    """Trains one client for its rounds, under its privacy plan.

    Args:
        client: its name.
        examples: its training data, at least one.
        trainer: shared by the clients of one process.
        sealing: says what becomes of values on the way.
        releases: of this client; see `KeptReleases`.
        on_step: called after each local step; may raise to stop.
    """

    def __init__(
        self,
        *,
        client: str,
        rules: ClientRules,
        examples: Sequence[TokenizedExample],
        trainer: Trainer,
        sealing: ClientSealing,
        privacy: PrivacyPlan,
        releases: KeptReleases,
        on_step: Callable[[StepReport], None],
    ) -> None:
        self._client = client
        self._rules = rules
        self._examples = examples
        self._trainer = trainer
        self._sealing = sealing
        self._privacy = privacy
        self._releases = releases
        self._on_step = on_step

    def run(self, state: ClientState, payload: Payload, *, weight_ratio: float) -> Trained:
        """Trains for the round after `state`; asked the same again under a guarantee, it gives the same.

        Args:
            state: the client's.
            payload: of the round, in the range that is asked for.
            weight_ratio: the client's weight over the round's reference weight, in (0, 1].

        Raises:
            PrivacyBudgetError: it would cost more than was planned; nothing was trained.
            ConfideError: it failed; what may be told of that has been counted.
        """
        rules, trained = self._rules, payload.trained
        number = state.shared.round_number + 1
        asked = Asked(shared=state.shared, weight_ratio=weight_ratio, widening=payload.widening)
        self._releases.check_budget(asked)
        control = rules.step.control(state.shared, trained)
        own_control = state.controls.get(trained.digest, np.zeros(trained.num_values, np.float32))
        result = self._releases.train(asked, lambda: self._train(state, trained, control, own_control))
        ended = time.perf_counter()
        start = state.shared.layout.gather(state.shared.adapter, trained)
        update = np.zeros_like(start) if result is None else result.vector - start
        norm = float(np.linalg.norm(update))
        own, change = state, None
        if result is not None:
            own = replace(state, num_seen=state.num_seen + result.metrics.num_examples)
        if result is not None and rules.step.with_control:
            change = control_change(
                control, update, num_steps=result.metrics.num_steps, learning_rate=rules.learning_rate(number)
            )
        remainder = state.remainders.get(trained.digest, np.zeros(trained.num_values, np.float32))
        update = rules.pruning.zero_own(start, update, trained, number) + remainder
        gathered = payload.gather(update, change, weight_ratio=weight_ratio)
        values = self._releases.protect(asked, result, gathered)
        arrived, saturated = arrive(self._sealing, values, payload, max_saturated=rules.max_saturated)
        if change is not None:
            moved = own_control + payload.arrived_change(arrived, weight_ratio=weight_ratio)
            own = replace(own, controls={**state.controls, trained.digest: moved})
        rest = self._rest(payload, update, arrived, weight_ratio)
        if rest.any() or trained.digest in state.remainders:
            own = replace(own, remainders={**state.remainders, trained.digest: rest})
        figures = (_NOT_FINITE if result is None else asdict(result.metrics)) | {
            "update_norm": norm,
            "remainder_norm": float(np.linalg.norm(rest)),
            "saturated": saturated,
        }
        return Trained(values=values, arrived=arrived, own=own, figures=figures, ended=ended)

    def _train(self, state: ClientState, trained: Layout, control: Vector, own_control: Vector) -> LocalResult | None:
        """Trains.

        Returns:
            None where the training was not finite and noise hides the whole update: that this happened must show as
            little as anything else, so noise alone is sent.
        """
        rules, number = self._rules, state.shared.round_number + 1
        try:
            return self._trainer.train(
                client=self._client,
                round_number=number,
                start=state.shared.adapter,
                trained=trained,
                examples=self._examples,
                num_seen=state.num_seen,
                learning_rate=rules.learning_rate(number),
                correction=correction(control, own_control) if rules.step.with_control else None,
                on_step=self._on_step,
            )
        except NonFiniteLossError:
            if not self._privacy.noises_updates or rules.step.with_control:
                raise
            return None

    def _rest(self, payload: Payload, update: Vector, arrived: Vector, ratio: float) -> Vector:
        """What of an update did not travel; of a noised one only the coordinates that a mask left out."""
        if not self._privacy.noises_updates:
            return payload.remainder(update, arrived, weight_ratio=ratio)
        rest = update.copy()
        rest[slice(None) if payload.mask is None else payload.mask] = 0.0
        return rest
