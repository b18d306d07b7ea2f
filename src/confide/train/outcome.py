"""What comes of local training, for who passes it on: nothing here needs a model, or torch."""

from dataclasses import dataclass, field

from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimiser step, for progress displays.

    Attributes:
        step: from 1 to `num_steps`.
        loss: mean negative log-likelihood per target token of this step's examples, in nats; NaN where a private step
            drew none, or where it is not to be told.
    """

    step: int
    num_steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class LocalMetrics:
    """What one client's training in one round looked like: a diagnostic about the client, kept apart from results.

    Attributes:
        loss: mean over steps of the step's mean loss, in nats per target token, without the regulariser. Private steps
            that drew no example are left out of the losses; with no other steps these are NaN.
        first_loss, last_loss: of the first and the last step.
        regularizer: mean over steps of the added term, strength included.
        gradient_norm: mean over steps of the L2 norm before clipping; in private training with the noise.
        num_tokens: real tokens read, padding excluded.
        example_norm: in private training, the mean over examples read of the norm of their gradient; else 0.
        clipped_share: in private training, the share of them whose gradient was longer than the bound; else 0.
    """

    num_steps: int
    num_examples: int
    num_tokens: int
    num_targets: int
    loss: float
    first_loss: float
    last_loss: float
    regularizer: float
    gradient_norm: float
    seconds: float
    example_norm: float = 0.0
    clipped_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """Where local training ended.

    Attributes:
        vector: values of the trained slots, flat float32 in the trained layout's order.
    """

    vector: Vector = field(repr=False)
    metrics: LocalMetrics
