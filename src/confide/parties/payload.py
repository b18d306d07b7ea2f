"""What travels in one round: which coordinates, in which range, with which weight; the same at every client.

Everything here follows from the global state and the agreed rules, so that no client has to be told, and none differs.

A vector has one fixed-point range. So that it follows the size of updates without saturating them, each client seals
one more number with its values: how large its largest one is, squared, as a part of the range squared. The sum of these
opens with the rest, and its root bounds every client's largest value while showing nobody's.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from confide.aggregate.step import GlobalStep, payload_layout
from confide.errors import SaturationError
from confide.global_state import GlobalState
from confide.messages import MAX_WIDENINGS
from confide.prune.masks import Mask
from confide.prune.plan import Pruning
from confide.seal.scheme import ClientSealing
from confide.update import Layout, Vector

_HEADROOM = 4.0  # costs two bits of each value; without it a round is often trained twice
_STEEPEST_FALL = 0.8  # a quiet round tells little about the one after it
_SMALLEST_LIMIT, _LARGEST_LIMIT = 1e-12, 2.0**57  # doubled MAX_WIDENINGS times it is no more than a list takes, 2**64
_NO_RANGE = 1.0


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A round's payload: kept values of the update, with SCAFFOLD the control change, and a peak of each per range.

    Attributes:
        trained: the slots that train in this round.
        mask: the coordinates of the update that travel, bool over `trained`; None for all.
        with_control: whether a control change travels behind the update.
        limits: fixed-point range of the update, and of the control change, as planned; empty where there is no range.
        keeps_limit: whether the range is the same in every round: then no peak travels, and it is never widened.
        widening: how often the range was doubled since, because an update did not fit.
    """

    trained: Layout
    mask: Mask | None
    with_control: bool
    limits: tuple[float, ...]
    keeps_limit: bool = False
    widening: int = 0

    @property
    def limit(self) -> float:
        """The range that the sealed vector is quantised in."""
        return self.limits[0] * 2.0**self.widening if self.limits else _NO_RANGE

    def widened(self, widening: int) -> "Payload":
        """The same payload in 2**widening times the planned range."""
        return replace(self, widening=widening)

    def widening_to(self, limit: float) -> int:
        """By how many doublings the planned range becomes `limit`; 0 if by none that a round may take."""
        return next((one for one in range(MAX_WIDENINGS + 1) if self.widened(one).limit == limit), 0)

    @property
    def layout(self) -> Layout:
        """Of what the sealed values are coordinates of, dropped ones included."""
        return payload_layout(self.trained, with_control=self.with_control)

    @property
    def has_peaks(self) -> bool:
        """Whether largest values travel, for the next round's range."""
        return bool(self.limits) and not self.keeps_limit

    @property
    def num_update_values(self) -> int:
        """How many coordinates of the update travel."""
        return self.trained.num_values if self.mask is None else int(np.count_nonzero(self.mask))

    @property
    def num_values(self) -> int:
        """How many values travel."""
        return num_sealed_values(
            self.num_update_values, self.trained.num_values if self.with_control else 0, has_peaks=self.has_peaks
        )

    def gather(self, update: Vector, control_change: Vector | None, *, weight_ratio: float) -> Vector:
        """Puts together what is sealed.

        Args:
            update: flat float32 over `trained`.
            control_change: the same with SCAFFOLD, else None.
            weight_ratio: the client's weight over the round's reference weight, in (0, 1].
        """
        kept = update if self.mask is None else update[self.mask]
        parts = [np.float32(weight_ratio) * kept]
        largest = [weight_ratio * _largest(update)]  # of all, as a coordinate that stays behind now travels later
        if control_change is not None:
            parts.append(np.float32(weight_ratio * self._control_scale) * control_change)
            largest.append(weight_ratio * self._control_scale * _largest(control_change))
        if self.has_peaks:
            peaks = [self.limit * min(1.0, (one / self.limit) ** 2) for one in largest]
            parts.append(np.array(peaks, np.float32))
        return np.concatenate(parts)

    def scatter(self, opened: Vector) -> Vector:
        """Puts opened values back in their places, over `layout`; coordinates that did not travel are zero."""
        update = opened[: self.num_update_values]
        if self.mask is not None:
            update = np.zeros(self.trained.num_values, np.float32)
            update[self.mask] = opened[: self.num_update_values]
        if not self.with_control:
            return update
        controls = opened[self.num_update_values :][: self.trained.num_values]
        return np.concatenate([update, controls / np.float32(self._control_scale)])

    def next_limits(self, opened: Vector) -> tuple[float, ...]:
        """The ranges of the next round of these slots: four times what bounds every client's largest value of this one.

        Never less than 0.8 of the range before, so that one quiet round does not make the next one saturate. Where a
        client's largest value was outside the range, the next one is at least four times as wide. A widened round
        counts with what its updates needed: a server that widens without need leaves no trace in the rounds after.
        """
        if not self.has_peaks:
            return ()
        peaks = opened[opened.size - len(self.limits) :]
        return tuple(
            float(np.float32(min(max(bound * _HEADROOM, limit * _STEEPEST_FALL, _SMALLEST_LIMIT), _LARGEST_LIMIT)))
            for limit, bound in (
                (limit, limit * 2.0**self.widening * math.sqrt(max(0.0, float(peak) / self.limit)))
                for limit, peak in zip(self.limits, peaks, strict=True)
            )
        )

    def remainder(self, update: Vector, arrived: Vector, *, weight_ratio: float) -> Vector:
        """What of an update did not travel: dropped coordinates, rounding, saturation; for the client to remember.

        Args:
            update: as in `gather`.
            arrived: what `gather`'s values became on the way.
            weight_ratio: as in `gather`.
        """
        sent = arrived[: self.num_update_values] / np.float32(weight_ratio)
        if self.mask is None:
            return update - sent
        rest = update.copy()
        rest[self.mask] -= sent
        return rest

    def arrived_change(self, arrived: Vector, *, weight_ratio: float) -> Vector:
        """What a control change became on the way: what its client adds to its own control variate.

        The opened sum moves the common control variate by what arrived of all members. Were a client's own moved by
        what it sent, the common one would no longer be their mean.

        Args:
            arrived: what `gather`'s values became on the way.
            weight_ratio: as in `gather`.
        """
        part = arrived[self.num_update_values :][: self.trained.num_values]
        return part / np.float32(self._control_scale) / np.float32(weight_ratio)

    @property
    def _control_scale(self) -> float:
        """Brings the control change into the update's range, so that one vector has one range."""
        return self.limits[0] / self.limits[1] if len(self.limits) > 1 else 1.0


def num_sealed_values(num_update_values: int, num_control_values: int, *, has_peaks: bool) -> int:
    """The length of a sealed vector: the values, and one peak for each part where the range follows the updates."""
    num_parts = 2 if num_control_values else 1
    return num_update_values + num_control_values + (num_parts if has_peaks else 0)


def plan_payload(
    step: GlobalStep, pruning: Pruning, shared: GlobalState, trained: Layout, *, learning_rate: float
) -> Payload:
    """The payload of the round after `shared`."""
    return Payload(
        trained=trained,
        mask=pruning.mask(step.accumulated(shared, trained), shared.round_number + 1),
        with_control=step.with_control,
        limits=step.limits(shared, trained, learning_rate=learning_rate),
        keeps_limit=step.keeps_limit,
    )


def check_saturation(num_saturated: int, num_values: int, *, limit: float, max_saturated: float) -> None:
    """Refuses a payload of which too much lies outside the range.

    Raises:
        SaturationError: more than the share `max_saturated` of its values does.
    """
    if num_saturated > max_saturated * num_values:
        raise SaturationError(
            f"{num_saturated} of {num_values} values (a share of {num_saturated / num_values:.3g}) lie outside the "
            f"range of +-{limit:.3g} that sealing carries in this round; seal.max_saturated allows {max_saturated:.3g}"
        )


def arrive(sealing: ClientSealing, values: Vector, payload: Payload, *, max_saturated: float) -> tuple[Vector, float]:
    """What sealed values become on the way, and the share of them that saturates.

    Raises:
        SaturationError: too many do.
    """
    arrived, num_saturated = sealing.received(values, payload.limit)
    check_saturation(num_saturated, values.size, limit=payload.limit, max_saturated=max_saturated)
    return arrived, num_saturated / values.size


def _largest(values: Vector) -> float:
    return float(np.abs(values).max(initial=0.0))
