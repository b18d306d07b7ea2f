"""What a client did in a round under a guarantee, as bytes: what it has to keep so that it does it no second time."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from safetensors import SafetensorError
from safetensors.numpy import load, save

from confide.errors import MessageError
from confide.global_state import GlobalState
from confide.messages import pack_parts, unpack_parts
from confide.privacy.plan import Counts
from confide.train.outcome import LocalMetrics, LocalResult
from confide.update import Vector

_DIGEST_BYTES = 32
_TRAINED = "trained"
_NOISED = "noised."


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client is asked for: the same question gets the same answer.

    Attributes:
        shared: the global state that the round starts from.
        weight_ratio: the client's weight over the round's reference weight, in (0, 1].
        widening: how often the round's range is doubled.
    """

    shared: GlobalState
    weight_ratio: float
    widening: int

    @property
    def how(self) -> str:
        """What noise is drawn for, within a round."""
        return f"{self.weight_ratio.hex()} {self.widening}"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a client did for one round.

    Attributes:
        owner: its run and its name.
        state_digest: of the global state that the round starts from.
        round_number: from 1.
        counts: what the client has released with all of this; at least so much counts before any of it leaves.
        result: of the training; None where it was not finite and noise hides that.
        noised: the protected values by `Asked.how`, where noise hides the update.
    """

    owner: str
    state_digest: str
    round_number: int
    counts: Counts
    result: LocalResult | None = field(repr=False)
    noised: Mapping[str, Vector] = field(default_factory=dict, repr=False)

    def to_bytes(self) -> bytes:
        """Encodes it, under a digest that shows damage."""
        about = {
            "owner": self.owner,
            "state_digest": self.state_digest,
            "round_number": self.round_number,
            "counts": asdict(self.counts),
            "metrics": None if self.result is None else asdict(self.result.metrics),
        }
        vectors = {_NOISED + how: values for how, values in self.noised.items()}
        if self.result is not None:
            vectors[_TRAINED] = self.result.vector
        body = pack_parts({"about": json.dumps(about).encode(), "vectors": save(vectors)})
        return hashlib.sha256(body).digest() + body

    @staticmethod
    def from_bytes(data: bytes) -> "Kept":
        """Decodes it.

        Raises:
            MessageError: the bytes are damaged.
        """
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise MessageError("what a client kept of a training is damaged")
        try:
            parts = unpack_parts(body)
            about = json.loads(parts["about"])
            vectors: Mapping[str, Vector] = load(parts["vectors"])
            metrics = about.pop("metrics")
            result = None
            if metrics is not None:
                result = LocalResult(vector=vectors[_TRAINED], metrics=LocalMetrics(**metrics))
            return Kept(
                **{**about, "counts": Counts(**about["counts"])},
                result=result,
                noised={how.removeprefix(_NOISED): one for how, one in vectors.items() if how != _TRAINED},
            )
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MessageError("what a client kept of a training is of another version") from error
