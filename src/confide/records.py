"""Round records: what a round left to tell, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from confide.errors import RunDirectoryError


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round, over all clients: what goes into `rounds.jsonl`.

    Attributes:
        round_number: from 1.
        cohort: the clients asked to train.
        members: the clients whose updates are in the sum.
        failures: why each other client of the cohort, or one that could not open the sum, was left out.
        learning_rate: of the local training.
        loss: mean over members, by weight, of their mean training loss in nats per target token; None under
            differential privacy, where no client tells it.
        held_out_loss: mean over clients, by target tokens, of the new global adapter's loss on their held-out data;
            None when it was not measured in this round.
        update_norm: L2 norm of the step that the global adapter made; None where every client had reported it to a
            server that was restarted before it had written it down.
        bytes_up: sum over clients of all bytes sent to the server.
        bytes_down: sum over clients of all bytes received from it.
        seconds: wall seconds by phase: "train" (waiting for updates), of which "local" was local training itself,
            of which "seal" was pruning, sealing and sharing keys, "aggregate" (with signing the list of members),
            "open" (releasing shares of the key included), of which "unseal" was opening and "evaluate" held-out
            evaluation, "save", and "total". "local", "seal", "unseal" and "evaluate" are summed over clients.
        sealing: scheme and profile.
        is_sealed: whether the updates were hidden from the server.
        server_reads: whether the server is given the global adapter.
        num_values: how many values of an update travelled.
        sparsity: share of an update's coordinates that did not.
        saturated: the largest share, over clients, of values outside the range that sealing carried.
        privacy: the formal guarantee, in words.
        epsilon: what the guarantee has cost so far, the most over clients that uploaded in some round until this one;
            None without one. With both units, that of a record.
        client_epsilon: with both units, that of a client's whole contribution; else None.
        seeded_noise: whether the noise behind epsilon is drawn from a seed: it is none to who knows that.
        adapter_digest: of the global state after the round.
        factor_error: with LoRA's factors averaged apart: Frobenius norm of mean(BA) - mean(B)mean(A), and the same
            divided by the norm of the round's change of BA. None when exact, or when updates are sealed.
    """

    round_number: int
    cohort: tuple[str, ...]
    members: tuple[str, ...]
    failures: Mapping[str, str]
    learning_rate: float
    loss: float | None
    held_out_loss: float | None
    update_norm: float | None
    bytes_up: int
    bytes_down: int
    seconds: Mapping[str, float]
    sealing: str
    is_sealed: bool
    server_reads: bool
    num_values: int
    sparsity: float
    saturated: float
    privacy: str
    epsilon: float | None
    adapter_digest: str
    factor_error: Mapping[str, float] | None = None
    client_epsilon: float | None = None
    seeded_noise: bool = False

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(line: str) -> "RoundRecord":
        """Reads a line back.

        Raises:
            RunDirectoryError: the line is no round record.
        """
        try:
            named = json.loads(line)
            named["cohort"], named["members"] = tuple(named["cohort"]), tuple(named["members"])
            return RoundRecord(**named)
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(f"a round record cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ClientDiagnostics:
    """One client's part of a round: data about a client, written apart from what may be published.

    Attributes:
        weight: in the mean.
        training: as `LocalMetrics`, by name.
        opening: what the client measured when it opened the sum, by name.
    """

    client: str
    weight: float = 0.0
    training: Mapping[str, float] = field(default_factory=dict)
    opening: Mapping[str, float] = field(default_factory=dict)
