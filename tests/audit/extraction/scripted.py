"""Model passes whose answers are written down: what an extraction attack would get, word for word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from confide.attacks.extraction.two_model import Amplification
from confide.attacks.passes import Passes
from confide.audit.extraction import TOP_K
from confide.evaluate.generation import Answer, Sampling
from confide.model.lora import AdaptedModel
from confide.update import Vector

Script = Callable[[int, str, int], str]
"""Round (0 is the base model), the prompt's text and its number: the answer."""
Heard = Callable[[int, str, Amplification], str]
"""The older model's round (0 is the base model), the prompt's text and the amplification: the answer of two models."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How often a model of a round was asked what, and how answers were to be drawn."""

    round: int
    num_prompts: int
    max_new_tokens: int
    sampling: Sampling | None


class ScriptedPasses(Passes):
    """Real statistics, written answers; an adapter's first value is its round.

    Attributes:
        asked: every call of `generate`, in order.
    """

    def __init__(self, model: AdaptedModel, script: Script) -> None:
        super().__init__(model, None, schemes=(TOP_K,))
        self._script = script
        self.asked: list[Asked] = []

    def generate(
        self,
        adapter: Vector | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> list[Answer]:
        number = self.round_of(adapter)
        self.asked.append(
            Asked(round=number, num_prompts=len(prompts), max_new_tokens=max_new_tokens, sampling=sampling)
        )
        texts = (self._script(number, self.text_of(prompt), place) for place, prompt in enumerate(prompts))
        return [self.answer(text, max_new_tokens) for text in texts]

    def round_of(self, adapter: Vector | None) -> int:
        """The round that an adapter is taken for; 0 for the base model."""
        return 0 if adapter is None else int(adapter[0])

    def text_of(self, prompt: Sequence[int]) -> str:
        text: str = self.model.tokenizer.decode(list(prompt), skip_special_tokens=True)
        return text

    def answer(self, text: str, max_new_tokens: int) -> Answer:
        """As a model that writes this text and ends."""
        ids = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Answer(token_ids=tuple(ids[:max_new_tokens]), is_finished=len(ids) <= max_new_tokens)


class PairedPasses(ScriptedPasses):
    """Notes which two rounds' models are asked together, and by which rules."""

    def __init__(self, model: AdaptedModel, script: Script, heard: Heard) -> None:
        super().__init__(model, script)
        self._heard = heard
        self.pairs: set[tuple[int, int, bool]] = set()
        self.calls: list[list[Amplification]] = []
        self.samplings: list[Sampling] = []

    def generate(
        self,
        adapter: Vector | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> list[Answer]:
        self.samplings += [] if sampling is None else [sampling]
        return super().generate(adapter, prompts, max_new_tokens=max_new_tokens, sampling=sampling)

    def generate_with_two(
        self,
        newer: Vector,
        older: Vector | None,
        prompts: Sequence[Sequence[int]],
        amplification: Amplification | Sequence[Amplification],
        *,
        max_new_tokens: int,
    ) -> list[Answer]:
        each = [amplification] * len(prompts) if isinstance(amplification, Amplification) else list(amplification)
        self.calls.append(each)
        number = 0 if older is None else int(older[0])
        self.pairs.add((int(newer[0]), number, each[0].seed is not None))  # drawn texts are the protocol's
        texts = (self._heard(number, self.text_of(prompt), how) for prompt, how in zip(prompts, each, strict=True))
        return [self.answer(text, max_new_tokens) for text in texts]


def round_adapter(model: AdaptedModel, number: int) -> Vector:
    """The adapter that `ScriptedPasses` takes for this round's."""
    vector = np.zeros(model.layout.num_values, np.float32)
    vector[0] = number
    return vector
