"""DP-SGD: a client's steps whose gradients hide whether any one example was there.

Each example joins a step by a coin of its own; its gradient is clipped; noise is added once a step. What the steps cost
is for an accountant to say, who needs `sampling_rate`, `noise_multiplier` and `num_steps` and nothing else from here.
Where noise and coins come from is not known here either: they are asked for.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from confide.data.batches import Batch
from confide.data.examples import TokenizedExample
from confide.model.lora import AdaptedModel
from confide.train.objective import Objective
from confide.train.per_example import ExampleGradients, watch_examples
from confide.train.steps import MicroBatches, StepGradient
from confide.update import Vector

_ROUNDING = 1e-6  # a float32 gradient scaled to a norm is off by up to 2**-23 of it: stay below the bound by more
_GRID_BITS = 20


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """Draws that a guarantee rests on; every call gives new ones, independent of all before.

    Attributes:
        noise: (num_values, noise_stddev) -> float32 values of N(0, noise_stddev**2), shape (num_values,).
        coins: (num_coins, probability) -> bool, shape (num_coins,), each True with that probability.
    """

    noise: Callable[[int, float], Vector]
    coins: Callable[[int, float], npt.NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class PrivateSettings:
    """How one client trains in every round.

    Attributes:
        clip_norm: bound on the L2 norm of one example's gradient over all trained slots, > 0.
        noise_multiplier: standard deviation of a step's noise over `clip_norm`, > 0.
        sampling_rate: the probability that an example joins a step, in (0, 1].
        num_steps: of a round, >= 1.
        max_physical_batch: examples whose gradients are held at once, >= 1: bounds memory, changes no result beyond
            rounding.
        randomness: gives a round's draws, by the round's number, from 1.

    Raises:
        ValueError: a number is out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    num_steps: int
    max_physical_batch: int
    randomness: Callable[[int], Randomness] = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("clip_norm", self.clip_norm), ("noise_multiplier", self.noise_multiplier)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected a finite number > 0")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, expected in (0, 1]")
        for name, count in (("num_steps", self.num_steps), ("max_physical_batch", self.max_physical_batch)):
            if count < 1:
                raise ValueError(f"{name} is {count}, expected >= 1")


class PrivateSteps:
    """One client's private steps of one round; see `RoundSteps`.

    An example's loss is the mean over its own targets, the regulariser's term at them included. A step's gradient is
    (sum over the step's examples of their clipped gradients + noise) / (sampling_rate * all examples); then comes what
    depends on no example: the regulariser's term on weights. A step that drew nobody is made of noise alone.

    Args:
        model: of the objective.
        objective: of this client's round.
        settings: of this client.
        examples: all of the client's.
        round_number: from 1.

    Guarantees:
        - Every example joins every step with probability `sampling_rate`, independent of all else.
        - With one example more or less, and the same coins for the others, a step's sum before noise changes by at most
          `clip_norm` in L2. That is so in real numbers: in float32 the gradients of the others move by roundings,
          as padding and the order of a sum do.
        - Noise is drawn once a step, for all trained values, with standard deviation noise_multiplier * clip_norm,
          whatever is in the step.
        - Nothing is dropped out, the base model's own dropout included: one example more would shift the others' masks,
          and no bound on one gradient would cover that.

    Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1, with the expected batch as the
        divisor in place of the size of the step's own batch.
    """

    dropout_seed = 0  # nothing is drawn from it

    def __init__(
        self,
        model: AdaptedModel,
        objective: Objective,
        settings: PrivateSettings,
        examples: Sequence[TokenizedExample],
        round_number: int,
    ) -> None:
        self._module = model.module
        self._objective = objective
        self._settings = settings
        self._divisor = settings.sampling_rate * len(examples)
        self._randomness = settings.randomness(round_number)
        self._gradients: ExampleGradients | None = None
        self.batches = [self._draw(examples) for _ in range(settings.num_steps)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watches the gradients of examples for the body, and drops nothing out.

        Raises:
            ModelError: the model trains something that has no per-example gradients.
        """
        watching = watch_examples(self._module, self._objective.parameters)
        with _without_dropout(self._module), watching as self._gradients:
            yield
        self._gradients = None

    def make_gradient(self, batches: MicroBatches) -> StepGradient:
        """See `RoundSteps.make_gradient`."""
        parameters = self._objective.parameters
        totals = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        norms: list[float] = []
        loss = added = 0.0
        for examples in batches:
            batch = self._objective.batch(examples)
            batch_loss, batch_added, gradients = self._of_each(batch)
            norms += add_clipped(totals, gradients, self._settings.clip_norm)
            loss, added = loss + batch_loss, added + batch_added
        self.release(totals)
        num_targets = sum(int(example.loss_mask.sum()) for examples in batches for example in examples)
        return StepGradient(
            loss=loss / num_targets if num_targets else math.nan,
            added=(added / num_targets if num_targets else 0.0) + self._objective.add_weight_term(),
            example_norms=norms,
        )

    def release(self, totals: Sequence[Tensor]) -> None:
        """Adds noise to a step's sums of clipped gradients, divides, and gives the parameters their gradients.

        What is released is rounded to a grid that no value decided: in float32 alone a sum that comes out small lies on
        the grid of the larger number it was made of, which would tell that number's size.
        """
        settings = self._settings
        num_values = sum(total.numel() for total in totals)
        stddev = settings.noise_multiplier * settings.clip_norm
        noise = torch.from_numpy(self._randomness.noise(num_values, stddev)).to(totals[0].device)
        parts = noise.split([total.numel() for total in totals])  # fails where there is not one for each value
        step = grid_step(stddev)
        for parameter, total, part in zip(self._objective.parameters, totals, parts, strict=True):
            noised = total.double().add_(part.view_as(total)).div_(step).round_().mul_(step)
            parameter.grad = noised.div_(self._divisor).to(parameter.dtype)

    def _draw(self, examples: Sequence[TokenizedExample]) -> list[list[TokenizedExample]]:
        """Tosses a coin for each example, and puts those that join side by side by length."""
        joins = self._randomness.coins(len(examples), self._settings.sampling_rate)
        members = [example for example, is_member in zip(examples, joins, strict=True) if is_member]
        members.sort(key=lambda example: example.num_tokens)
        size = self._settings.max_physical_batch
        return [members[at : at + size] for at in range(0, len(members), size)]

    def _of_each(self, batch: Batch) -> tuple[float, float, list[Tensor]]:
        """Sums over targets of loss and added term, and the gradient of each example's mean over its own targets."""
        if self._gradients is None:
            raise RuntimeError("a private step runs inside `running`")
        rows, tokens = batch.input_ids.shape
        self._gradients.expect((rows, tokens))
        sums = self._objective.sums(batch)
        shares = target_shares(batch)
        # Every term is a sum over targets that reads the model through `states` alone: what goes back through a row of
        # it is that target's, and takes its share here.
        sums.states.register_hook(lambda gradient: (gradient * shares[:, None]).to(gradient.dtype))
        (sums.loss + sums.added).backward()
        return float(sums.loss.detach()), float(sums.added.detach()), self._gradients.take()


def target_shares(batch: Batch) -> Tensor:
    """Each target's share in its own example's mean, shape (num_targets,), float32, in row-major order of the batch."""
    is_target = batch.loss_mask[:, 1:]
    return (is_target / is_target.sum(dim=1, keepdim=True))[is_target]


def grid_step(stddev: float) -> float:
    """The step of the grid that noised sums are rounded to: a power of two, about a millionth of the noise."""
    return float(2.0 ** (math.floor(math.log2(stddev)) - _GRID_BITS))


def add_clipped(totals: Sequence[Tensor], gradients: Sequence[Tensor], clip_norm: float) -> list[float]:
    """Adds each example's gradient, scaled down to an L2 norm of at most `clip_norm`, to the totals, in place.

    Args:
        totals: one tensor per parameter, float32.
        gradients: one per parameter, shape (num_examples, *parameter.shape); an example's norm is taken over all.
        clip_norm: the bound, > 0.

    Returns:
        The norms before, one per example.

    Guarantees:
        - What one example adds has a norm of at most `clip_norm`, rounding included. A gradient whose norm is below
          `clip_norm` by a millionth or more is added unchanged; one of zero adds nothing.
        - Nor does one that is NaN or infinite anywhere. To stop because of it would tell that this example was there.
    """
    flat = [gradient.flatten(start_dim=1) for gradient in gradients]  # (num_examples, parameter.numel())
    by_slot = torch.stack([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in flat])
    norms = torch.linalg.vector_norm(by_slot, dim=0)  # (num_examples,)
    factors = ((1 - _ROUNDING) * clip_norm / norms).clamp(max=1.0)  # 1 for a norm of zero
    is_finite = norms.isfinite()
    if not bool(is_finite.all()):
        factors = factors.where(is_finite, torch.zeros_like(factors))
        flat = [part.where(is_finite[:, None], torch.zeros_like(part)) for part in flat]
    for total, part in zip(totals, flat, strict=True):
        total.add_((factors.to(part.dtype) @ part).view_as(total))
    found: list[float] = norms.tolist()
    return found


@contextmanager
def _without_dropout(module: torch.nn.Module) -> Iterator[None]:
    """Leaves in training mode what is trained, where gradients are watched only so, and nothing that drops out."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = any(parameter.requires_grad for parameter in part.parameters(recurse=False))
    try:
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training
