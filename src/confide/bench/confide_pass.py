"""A pass through Confide's own local training, as a client of a federation does it in one round."""

from collections.abc import Sequence
from pathlib import Path

from confide.bench.work import TrainingWork
from confide.data.examples import TokenizedExample
from confide.model.load import BaseModel
from confide.model.lora import LoraSettings, attach_lora
from confide.train.local import LocalSettings, LocalTrainer
from confide.train.optimizer import OptimizerSettings

_CLIENT = "bench"
_ROUND = 1


class ConfidePass:
    """One client, one round of one local epoch, both factors trained."""

    def __init__(self, base: BaseModel, examples: Sequence[TokenizedExample], *, work: TrainingWork) -> None:
        self._examples = examples
        self._work = work
        settings = LoraSettings(
            lora_rank=work.lora_rank, lora_alpha=work.lora_alpha, dropout=0.0, targets=work.lora_targets
        )
        self._model = attach_lora(base, settings, seed=work.seed)
        self._vector = self._model.read()
        optimizer = OptimizerSettings(kind="adamw", weight_decay=0.0, clip_grad_norm=work.clip_grad_norm)
        self._trainer = LocalTrainer(
            self._model,
            LocalSettings(local_steps=None, local_epochs=1, batch_size=work.batch_size, optimizer=optimizer),
            seed=work.seed,
        )

    def run(self) -> list[float]:
        """Trains on every row once and gives the losses."""
        losses: list[float] = []
        result = self._trainer.train(
            client=_CLIENT,
            round_number=_ROUND,
            start=self._vector,
            trained=self._model.layout,
            examples=self._examples,
            num_seen=0,
            learning_rate=self._work.learning_rate,
            on_step=lambda step: losses.append(step.loss),
        )
        self._vector = result.vector
        return losses

    def batches(self) -> list[list[int]]:
        """The rows of each step of `run`, in order: what local training draws for this client and round."""
        return self._trainer.plan(_CLIENT, _ROUND, self._examples, 0)

    def save(self, folder: Path) -> None:
        """Writes the adapter in PEFT's format."""
        self._model.save(folder, self._vector)
