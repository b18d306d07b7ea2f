"""From the opened sum to the next global state: what every client does alike at the end of a round."""

from dataclasses import dataclass

import numpy as np

from confide.aggregate.optimizers import ServerOptimizer
from confide.aggregate.scaffold import next_global_control
from confide.global_state import GlobalState
from confide.update import Layout, Slot, Vector

_CONTROL = "control"
_ACCUMULATED = "accumulated"
_LIMITS = "limits"


def payload_layout(trained: Layout, *, with_control: bool) -> Layout:
    """The layout of what a client seals: its update, and with SCAFFOLD the change of its control variate behind it."""
    if not with_control:
        return trained
    controls = tuple(Slot(name=f"{_CONTROL}.{slot.name}", shape=slot.shape) for slot in trained)
    return Layout(trained.slots + controls)


@dataclass(frozen=True, kw_only=True)
class GlobalStep:
    """Applies an opened sum to the global state.

    Attributes:
        optimizer: turns the mean update into a step.
        with_control: whether payloads carry control variates (SCAFFOLD).
        num_clients: all clients of the federation.
        accumulates: whether the state keeps the sum of all steps, which a common mask goes by.
        initial_limit: fixed-point range of the first round's updates; 0 where values travel without a fixed range.
        keeps_limit: whether every round has that range, whatever its updates were.
    """

    optimizer: ServerOptimizer
    with_control: bool
    num_clients: int
    accumulates: bool = False
    initial_limit: float = 0.0
    keeps_limit: bool = False

    def control(self, state: GlobalState, trained: Layout) -> Vector:
        """The global control variate over `trained`; zero before the first round."""
        return state.memory.get(_key(trained, _CONTROL), np.zeros(trained.num_values, np.float32))

    def accumulated(self, state: GlobalState, trained: Layout) -> Vector:
        """The sum of all steps so far over `trained`; zero before the first round."""
        return state.memory.get(_key(trained, _ACCUMULATED), np.zeros(trained.num_values, np.float32))

    def limits(self, state: GlobalState, trained: Layout, *, learning_rate: float) -> tuple[float, ...]:
        """The fixed-point ranges of the next payload's parts: the update, and with SCAFFOLD the control change.

        In the units of an update at the reference weight. The first ones are given, later ones follow from the last
        opened sum, which all clients know alike. Empty where values travel without a fixed range.

        Args:
            state: before the coming round.
            trained: the slots that move in it.
            learning_rate: of the coming round; a control variate is an update over (steps x learning rate), so its
                first range is an update's over the learning rate.
        """
        if self.initial_limit == 0:
            return ()
        first = (self.initial_limit, self.initial_limit / learning_rate)[: 1 + self.with_control]
        kept = None if self.keeps_limit else state.memory.get(_key(trained, _LIMITS))
        return first if kept is None else tuple(float(limit) for limit in kept)

    def apply(
        self,
        state: GlobalState,
        trained: Layout,
        opened: Vector,
        *,
        total_weight: float,
        next_limits: tuple[float, ...] = (),
    ) -> GlobalState:
        """Gives the state after the round.

        Args:
            state: before the round; unchanged.
            trained: the slots that moved in this round.
            opened: the sum over members of weight times update (and of control changes behind it), flat.
            total_weight: the sum of the members' weights, > 0, in the units that `opened` is weighted in.
            next_limits: the fixed-point ranges that `limits` will give for the next round of these slots.

        Guarantees:
            - Equal arguments give equal bits on every machine: element-wise float32 arithmetic only.
            - Slots outside `trained` do not change.
        """
        payload_layout(trained, with_control=self.with_control).check(opened)
        mean = opened[: trained.num_values] / np.float32(total_weight)
        before = self._recall(state, trained)
        after, step = self.optimizer.apply(before, mean)
        memory = dict(state.memory) | {_key(trained, name): vector for name, vector in after.items()}
        if self.with_control:
            changes = opened[trained.num_values :]
            control = next_global_control(self.control(state, trained), changes, num_clients=self.num_clients)
            memory[_key(trained, _CONTROL)] = control
        if self.accumulates:
            memory[_key(trained, _ACCUMULATED)] = self.accumulated(state, trained) + step
        if next_limits:
            memory[_key(trained, _LIMITS)] = np.array(next_limits, np.float32)
        moved = state.layout.gather(state.adapter, trained) + step
        return GlobalState(
            layout=state.layout,
            round_number=state.round_number + 1,
            adapter=state.layout.scatter(state.adapter, trained, moved),
            memory=memory,
        )

    def _recall(self, state: GlobalState, trained: Layout) -> dict[str, Vector]:
        """The optimiser's state for these slots: `alternate` keeps one for A and one for B."""
        fresh = self.optimizer.init(trained.num_values)
        return {name: state.memory.get(_key(trained, name), vector) for name, vector in fresh.items()}


def _key(trained: Layout, name: str) -> str:
    return f"{trained.digest[:12]}.{name}"
