"""Private steps by ghost clipping, to compare with those that Confide trains with (train/private.py).

A row's gradient is never made: from a first way back Opacus' hooks keep its norm, which follows from what went into a
layer and what came back; a second way back, with each row's loss scaled, makes the sum of clipped gradients. Opacus'
own wrapper of a loss goes back through the vocabulary twice, which torch's fused loss refuses, and needs all logits at
once without it. Here the way back through the vocabulary is taken once, up to the states before the output layer.

Source: Li et al. 2022, "Large language models can be strong differentially private learners", section 4; Bu et al.
    2023, "Differentially private optimization on large model at small cost", for the second way back.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from confide.data.batches import Batch
from confide.train.objective import Objective
from confide.train.per_example import logging_left_alone
from confide.train.private import PrivateSteps, target_shares
from confide.train.steps import MicroBatches, StepGradient


class _Hooks(Protocol):
    """What is used of Opacus' `GradSampleHooksFastGradientClipping`."""

    def get_norm_sample(self) -> Tensor:
        """Norms of the rows' gradients, of the last way back, shape (num_rows,)."""

    def get_clipping_coef(self) -> Tensor:
        """min(1, bound / norm), shape (num_rows,)."""

    def disable_hooks(self) -> None: ...

    def enable_hooks(self) -> None: ...

    def cleanup(self) -> None: ...


class GhostSteps:
    """One client's steps of one round; see `RoundSteps`.

    Args:
        module: of the objective.
        objective: of this client's round.
        clip_norm: bound on one row's gradient, > 0.
        private: the steps of `train/private.py` with the same bound: they draw the rows, and release the sums.
    """

    def __init__(
        self, module: torch.nn.Module, objective: Objective, *, clip_norm: float, private: PrivateSteps
    ) -> None:
        self.batches = private.batches
        self.dropout_seed = private.dropout_seed
        self._module = module
        self._objective = objective
        self._clip_norm = clip_norm
        self._private = private
        self._hooks: _Hooks | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watches the norms of gradients for the body."""
        with logging_left_alone():
            from opacus.grad_sample import GradSampleHooksFastGradientClipping
        self._hooks = hooks = GradSampleHooksFastGradientClipping(
            self._module, loss_reduction="sum", max_grad_norm=self._clip_norm
        )
        try:
            with warnings.catch_warnings():
                # The first layer's input needs no gradient; its hook gets the output's, which is all it reads.
                warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
                yield
        finally:
            hooks.cleanup()
            self._hooks = None

    def make_gradient(self, batches: MicroBatches) -> StepGradient:
        """See `RoundSteps.make_gradient`."""
        parameters = self._objective.parameters
        totals = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        norms: list[float] = []
        loss = 0.0
        for examples in batches:
            batch = self._objective.batch(examples)
            batch_loss, batch_norms = self._add_clipped(totals, batch)
            loss, norms = loss + batch_loss, norms + batch_norms
        self._private.release(totals)
        num_targets = sum(int(example.loss_mask.sum()) for examples in batches for example in examples)
        return StepGradient(loss=loss / num_targets, added=0.0, example_norms=norms)

    def _add_clipped(self, totals: Sequence[Tensor], batch: Batch) -> tuple[float, list[float]]:
        """Adds the sum of clipped gradients to the totals; gives the sum of losses, and the norms."""
        if self._hooks is None:
            raise RuntimeError("a step of ghost clipping runs inside `running`")
        parameters = self._objective.parameters
        sums = self._objective.sums(batch)
        (gradient,) = torch.autograd.grad(sums.loss, sums.states)
        own = gradient * target_shares(batch)[:, None]  # (num_targets, width): of the mean over its own example
        sums.states.backward(own.to(gradient.dtype), retain_graph=True)
        norms: list[float] = self._hooks.get_norm_sample().tolist()
        row = batch.loss_mask[:, 1:].nonzero()[:, 0]  # (num_targets,)
        factors = self._hooks.get_clipping_coef()[row]
        for parameter in parameters:
            parameter.grad = None  # the sum of what was not clipped
        self._hooks.disable_hooks()
        sums.states.backward((own * factors[:, None]).to(gradient.dtype))
        self._hooks.enable_hooks()
        for total, parameter in zip(totals, parameters, strict=True):
            if parameter.grad is not None:
                total.add_(parameter.grad)
            parameter.grad = None
        return float(sums.loss.detach()), norms
