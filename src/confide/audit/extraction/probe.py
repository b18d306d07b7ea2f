"""What all extraction attacks of one audit share: the view, the models, the candidates, and how findings are made."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.discoverable import complete
from confide.attacks.extraction.disturbed import Encoder
from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import score_completion
from confide.attacks.extraction.zero_input import SpecialTokens
from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.judging import Findings, Subject
from confide.audit.results import Curve, Memorised, Point
from confide.audit.statistics import Flags, Interval
from confide.audit.truth import Population, Truth, too_few
from confide.update import Vector

Cut = Callable[[Candidate], Split | None]


class Tokenizer(Encoder, SpecialTokens, Protocol):
    """What extraction needs of a transformers tokenizer."""


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """How much is generated.

    Attributes:
        max_new_tokens: the longest continuation of a record.
        num_texts: texts drawn from nothing.
        batch_size: prompts at a time.
        seed: of the draws.
        taus: strengths of the two-model attack on probabilities to choose from, each > 0; see `sweep`.
        top_ps: its nuclei to choose from, each in (0, 1]. Who has nothing to choose by takes the first of both.
        protocol: whether what takes long runs, too: the leakage paper's protocol, which draws texts from every round's
            model, and the harvest of a model that the attacker tunes on its own personal data.
        shows_text: whether results hold what came out, for the owner of the data.
        redaction_key: what stands in for a text is its digest under this key. Who has the results without the key
            cannot try out secrets of a known form, of which there are often only thousands. A fresh one if not given;
            then digests are comparable within one call alone.
    """

    max_new_tokens: int
    num_texts: int
    batch_size: int
    seed: int
    taus: tuple[float, ...]
    top_ps: tuple[float, ...]
    protocol: bool = False
    shows_text: bool = False
    redaction_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One population as one party attacks it.

    Attributes:
        asked: whose texts are looked for: others' than the attacker's.
        own: the attacker's own, which it trained on, to tune attacks on.
        rounds: whose models are looked at, ascending; the last one is under attack. The view may have more.
        fewest: members, and others, without which nothing is measured.
    """

    view: View
    passes: Passes
    asked: Population
    own: Population
    truth: Truth = field(repr=False)
    rounds: tuple[int, ...]
    settings: ExtractionSettings
    fewest: int = 2

    @cached_property
    def final(self) -> Vector:
        """The adapter under attack."""
        return self.view.adapters[self.rounds[-1]]()

    @cached_property
    def older(self) -> tuple[int, ...]:
        """The models that may be set against the final one: of equally good ones an attacker takes the first.

        That of the round right before, the base model (0), then the other rounds that are looked at, newest first.
        """
        last = self.rounds[-1]
        return tuple(dict.fromkeys((self.before(last), 0, *reversed(self.rounds[:-1]))))

    @property
    def num_older(self) -> int:
        """How many models before the final one the attacker has, looked at or not; the base model is one."""
        return 1 + sum(number < self.rounds[-1] for number in self.view.rounds)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return self.passes.end_token_ids

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        tokenizer: Tokenizer = self.passes.model.tokenizer
        return tokenizer

    def adapters(self) -> dict[int, Vector | None]:
        """The adapters of the rounds that are looked at; round 0 is the base model."""
        return {number: self.adapter(number) for number in (0, *self.rounds)}

    def adapter(self, number: int) -> Vector | None:
        """A round's adapter, looked at or not; None for round 0, the base model."""
        return self.view.adapters[number]() if number else None

    def before(self, number: int) -> int:
        """The latest earlier round whose model the attacker has: the one right before, unless that is missing.

        0, the base model, where there is none.
        """
        return max((one for one in self.view.rounds if one < number), default=0)

    def complete(self, adapter: Vector | None, splits: Sequence[Split], length: int) -> list[Generated]:
        """The likeliest continuations."""
        return complete(self.passes, adapter, splits, max_new_tokens=length)

    def few(self, attack: str, splits: Sequence[Split], metrics: Sequence[str] = ()) -> Findings | None:
        """Why an attack cannot run on these, and which of its numbers are missing; None if it can run."""
        found = too_few(f"{self.asked.name}, {attack}", self.labels(splits), self.fewest)
        if not found:
            return None
        return Findings.too_few(self.view.name, "extraction", self.asked.name, found, attack=attack, metrics=metrics)

    def labels(self, splits: Sequence[Split]) -> Flags:
        """The truth about these, shape (num_splits,)."""
        return np.array([self.truth.members[split.candidate_id] for split in splits], np.bool_)

    def subject(self, attack: str, code: str, labels: Flags, note: str = "", *, records: Sequence[str] = ()) -> Subject:
        """What a finding is about; with the ids behind the labels, runs can be compared record by record."""
        return Subject(
            view=self.view.name,
            family="extraction",
            attack=attack,
            code=code,
            population=self.asked.name,
            labels=labels,
            note=note,
            records=tuple(records),
        )

    def curve(
        self,
        attack: str,
        metric: str,
        name: Literal["rounds", "samples", "copies"],
        series: str,
        intervals: Mapping[float, Interval],
    ) -> Curve:
        """A line of a figure, with an interval at each x."""
        return Curve(
            view=self.view.name,
            family="extraction",
            attack=attack,
            population=self.asked.name,
            metric=metric,
            name=name,
            series=series,
            points=[Point(x=x, y=one.value, low=one.low, high=one.high, num=one.num) for x, one in intervals.items()],
        )

    def memorised(
        self, attack: str, texts: Sequence[Generated], splits: Sequence[Split], is_out: Flags
    ) -> list[Memorised]:
        """What came out of the splits that `is_out` marks, redacted unless the settings say otherwise."""
        owners = {candidate.candidate_id: candidate.owner for candidate in self.asked.candidates}
        shows_text = self.settings.shows_text
        return [
            Memorised(
                view=self.view.name,
                attack=attack,
                population=self.asked.name,
                candidate_id=split.candidate_id,
                owner=owners[split.candidate_id],
                sha256=hmac.new(self.settings.redaction_key, split.remainder_text.encode(), hashlib.sha256).hexdigest(),
                num_characters=len(split.remainder_text),
                distance=score_completion(text, split).token_distance,
                text=text.text if shows_text else None,
                truth=split.remainder_text if shows_text else None,
            )
            for text, split, out in zip(texts, splits, is_out, strict=True)
            if out
        ]


def model_name(number: int) -> str:
    """What a note calls a round's model."""
    return f"round {number}" if number else "the base model"


def ids_of(splits: Sequence[Split]) -> tuple[str, ...]:
    """Whose prompts these are."""
    return tuple(split.candidate_id for split in splits)


def splits_of(population: Population, cut: Cut) -> list[Split]:
    """Cuts every candidate that can be cut."""
    return [split for candidate in population.candidates if (split := cut(candidate)) is not None]
