"""The server: the party that brings the clients together.

Sees: who takes part, sizes, times, the numbers clients report about themselves, and sealed updates. It adds those and
cannot open them (with scheme `plain` there is nothing to open: it can read them). It imports neither data nor model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from confide.errors import AgreementError, MessageError, RoundFailedError
from confide.messages import CatchUpRequest, JoinRequest, OpenReply, OpenRequest, StateRequest, TrainReply, TrainRequest
from confide.seal.scheme import ServerSealing
from confide.seeds import stream
from confide.update import Layout

LARGEST_FIGURE = 1e30


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round.

    Attributes:
        round_number: rounds done.
        adapter_digest: of the global state after them, as the clients reported it.
        current: the clients that hold that state; all others must catch up first.
        num_examples: how many training examples each client said it has when it joined; its weight follows from that.
    """

    round_number: int
    adapter_digest: str
    current: frozenset[str]
    num_examples: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Who trains in a round, and with which weight each one's update may count."""

    round_number: int
    cohort: tuple[str, ...]
    adapter_digest: str
    weights: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SealedSum:
    """The sum of the members' sealed updates; `members` gives each one's weight in the mean."""

    members: Mapping[str, float]
    body: bytes


class Server:
    """Plans rounds, adds sealed updates, and holds the clients to one global state.

    Args:
        run: the run's id.
        clients: everybody in the federation; sorted, so that sums are formed in one order.
        clients_per_round: size of a round's cohort; 0 = everybody.
        min_clients: a round with fewer valid updates fails.
        seed: from which the stream "cohort" is derived.
        payload: layout of what a client seals, by round number.
        weight: of a client in the mean, by its number of training examples.
    """

    def __init__(
        self,
        *,
        run: str,
        clients: Sequence[str],
        clients_per_round: int,
        min_clients: int,
        seed: int,
        payload: Callable[[int], Layout],
        weight: Callable[[int], float],
        sealing: ServerSealing,
    ) -> None:
        self.run = run
        self.clients = tuple(sorted(clients))
        self.clients_per_round = clients_per_round or len(self.clients)
        self._min_clients = min_clients
        self._seed = seed
        self._payload = payload
        self._weight = weight
        self._sealing = sealing

    def plan(self, state: ServerState) -> RoundPlan:
        """Draws the next round's cohort; the same for the same seed and round."""
        number = state.round_number + 1
        rng = stream(self._seed, "cohort", number)
        drawn = rng.permutation(len(self.clients))[: self.clients_per_round]
        cohort = tuple(sorted(self.clients[index] for index in drawn))
        weights = {client: self._weight(count) for client, count in state.num_examples.items()}
        return RoundPlan(round_number=number, cohort=cohort, adapter_digest=state.adapter_digest, weights=weights)

    def join_requests(self, round_number: int) -> dict[str, bytes]:
        """Asks everybody where they stand."""
        return dict.fromkeys(self.clients, JoinRequest(run=self.run, round_number=round_number).to_bytes())

    def train_requests(self, plan: RoundPlan) -> dict[str, bytes]:
        """Asks the cohort to train."""
        request = TrainRequest(
            run=self.run,
            round_number=plan.round_number,
            cohort=list(plan.cohort),
            adapter_digest=plan.adapter_digest,
        )
        return dict.fromkeys(plan.cohort, request.to_bytes())

    def check_update(self, plan: RoundPlan, client: str, reply: TrainReply) -> None:
        """Checks what can be checked without opening an update.

        Raises:
            MessageError: the reply is of another round or client, has another layout, another weight than follows from
                what the client said when it joined, or lacks figures.
        """
        expected = self._payload(plan.round_number)
        if (reply.run, reply.round_number, reply.client) != (self.run, plan.round_number, client):
            raise MessageError(f"client {client} answered for another run, round or client")
        if reply.layout_digest != expected.digest:
            raise MessageError(
                f"client {client}, round {plan.round_number}: its update has another layout than the federation's. "
                "Check that base model, lora.rank and lora.targets are the same everywhere."
            )
        weight = plan.weights.get(client)
        if reply.weight != weight:
            raise MessageError(f"client {client} claims the weight {reply.weight:.6g}, by its examples it is {weight}")
        check_metrics(client, reply.metrics, required=("loss", "seconds"))
        self._sealing.check(reply.body, expected.num_values)

    def add(self, plan: RoundPlan, updates: Mapping[str, TrainReply], failures: Mapping[str, str]) -> SealedSum:
        """Adds the sealed updates in the order of the clients' names.

        Raises:
            RoundFailedError: there are fewer than `min_clients`.
        """
        if len(updates) < self._min_clients:
            reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failures.items()))
            raise RoundFailedError(
                f"round {plan.round_number}: {len(updates)} of {len(plan.cohort)} clients delivered an update, "
                f"federation.min_clients is {self._min_clients}. {reasons}. "
                "The last complete round is saved: `confide resume` tries again from there."
            )
        members = {client: updates[client].weight for client in sorted(updates)}
        num_values = self._payload(plan.round_number).num_values
        return SealedSum(
            members=members, body=self._sealing.add([updates[client].body for client in members], num_values)
        )

    def open_requests(self, plan: RoundPlan, total: SealedSum, current: frozenset[str]) -> dict[str, bytes]:
        """Sends the sealed sum to every client that holds the state before this round."""
        request = OpenRequest(
            run=self.run, round_number=plan.round_number, members=dict(total.members), body=total.body
        ).to_bytes()
        return {client: request for client in self.clients if client in current}

    def check_opened(self, plan: RoundPlan, client: str, reply: OpenReply) -> None:
        """Checks a client's report on the opened sum.

        Raises:
            MessageError: it is of another round or client, or lacks figures.
        """
        if (reply.run, reply.round_number, reply.client) != (self.run, plan.round_number, client):
            raise MessageError(f"client {client} answered for another run, round or client")
        check_metrics(client, reply.metrics, required=("step_norm",))

    def agree(self, plan: RoundPlan, state: ServerState, digests: Mapping[str, str]) -> ServerState:
        """Makes the state after the round from the clients' digests.

        Raises:
            AgreementError: two clients computed different global states.
            RoundFailedError: fewer than `min_clients` opened the sum.
        """
        if len(set(digests.values())) > 1:
            raise AgreementError(
                f"round {plan.round_number}: the clients computed {len(set(digests.values()))} different global "
                "adapters from one sum. Check that all run the same Confide release and configuration."
            )
        if len(digests) < self._min_clients:
            raise RoundFailedError(
                f"round {plan.round_number}: only {len(digests)} clients opened the sum, "
                f"federation.min_clients is {self._min_clients}. `confide resume` tries again."
            )
        return ServerState(
            round_number=plan.round_number,
            adapter_digest=next(iter(digests.values())),
            current=frozenset(digests),
            num_examples=state.num_examples,
        )

    def state_request(self, state: ServerState) -> bytes:
        """Asks a client that is up to date for the global state."""
        return StateRequest(run=self.run, round_number=state.round_number).to_bytes()

    def catch_up_request(self, state: ServerState, body: bytes) -> bytes:
        """Hands the global state to a client that is behind."""
        return CatchUpRequest(
            run=self.run, round_number=state.round_number, adapter_digest=state.adapter_digest, body=body
        ).to_bytes()


def check_metrics(client: str, metrics: Mapping[str, float], *, required: Sequence[str]) -> None:
    """Checks the figures that a client tells about itself.

    Raises:
        MessageError: one is missing, or too large to be true.
    """
    missing = [name for name in required if name not in metrics]
    if missing:
        raise MessageError(f"client {client} does not report {', '.join(missing)}")
    wild = [name for name, value in metrics.items() if not -LARGEST_FIGURE < value < LARGEST_FIGURE]
    if wild:
        raise MessageError(f"client {client} reports figures beyond {LARGEST_FIGURE:g}: {', '.join(wild)}")
