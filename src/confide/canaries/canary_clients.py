"""Canary clients: clients without data that send a random direction of full length, to measure epsilon by.

The direction follows from the run's seed and the client's name alone, so that a run that is resumed goes on with it and
an audit finds it again. Whoever attacks must not know which directions took part: attacks cannot import this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from confide.data.examples import TokenizedClient, TokenizedExample
from confide.seeds import stream
from confide.train.outcome import LocalMetrics, LocalResult, StepReport
from confide.update import Layout, Vector

Direction = npt.NDArray[np.float64]

_FEWEST_DIGITS = 2
_NOTHING = LocalMetrics(
    num_steps=0,
    num_examples=0,
    num_tokens=0,
    num_targets=0,
    loss=float("nan"),
    first_loss=float("nan"),
    last_loss=float("nan"),
    regularizer=0.0,
    gradient_norm=0.0,
    seconds=0.0,
)


def canary_client_names(num_clients: int) -> tuple[str, ...]:
    """Gives the names of so many canary clients: "canary-01", "canary-02", ..."""
    width = max(_FEWEST_DIGITS, len(str(num_clients)))
    return tuple(f"canary-{number:0{width}d}" for number in range(1, num_clients + 1))


def without_data(name: str) -> TokenizedClient:
    """A canary client as it joins: every client says how many examples it has, and the least is one.

    The one that it has is a stand-in, which nobody reads: a canary client does not train.
    """
    stand_in = TokenizedExample(record_id=name, input_ids=np.array([0, 0]), loss_mask=np.array([False, True]))
    return TokenizedClient(name=name, train=(stand_in,), held_out=())


def client_direction(client: str, num_values: int, *, seed: int) -> Direction:
    """Gives the direction of a canary client: drawn evenly from the unit sphere, shape (num_values,), float64.

    Args:
        client: its name.
        num_values: what is trained in a round, at least 2.
        seed: of the run.
    """
    return _on_the_sphere(num_values, stream(seed, "canary direction", client))


def held_out_direction(number: int, num_values: int, *, seed: int) -> Direction:
    """Gives a direction that nobody sent, drawn as `client_direction` draws, from a stream of its own.

    Args:
        number: which one.
        num_values: as there.
        seed: as there.
    """
    return _on_the_sphere(num_values, stream(seed, "held-out canary direction", number))


@dataclass(frozen=True, kw_only=True)
class CanaryTrainer:
    """What canary clients do in place of training; see `confide.parties.training.Trainer`.

    Attributes:
        layout: of the whole adapter.
        length: of the update, > 0: the bound that the guarantee is about.
        seed: of the run.
    """

    layout: Layout
    length: float
    seed: int

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
        """Goes from the start so far in the client's direction, the same in every round."""
        del round_number, examples, num_seen, learning_rate, correction, on_step
        direction = client_direction(client, trained.num_values, seed=self.seed)
        began = self.layout.gather(start, trained).astype(np.float64)
        return LocalResult(vector=(began + self.length * direction).astype(np.float32), metrics=_NOTHING)


def _on_the_sphere(num_values: int, rng: np.random.Generator) -> Direction:
    drawn = rng.standard_normal(num_values)
    return drawn / np.linalg.norm(drawn)
