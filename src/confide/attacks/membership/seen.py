"""What membership attacks read: several models' statistics of the same candidates, and nothing that tells members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from confide.attacks.token_stats import TokenStats
from confide.errors import ModelError

Need = Literal["base", "rounds", "population", "lower", "shadows", "shadows-in", "shadows-spread"]
"""What an attack cannot do without, beside the final model:

- "base": the base model (everybody has it);
- "rounds": the global model after at least one earlier round than the last, the base model counting as round 0;
- "population": at least two records of the same kind that were not trained on, under the same models;
- "lower": the lower-cased twins of the candidates;
- "shadows": models that the attacker trained like the target, for every candidate at least one without it;
- "shadows-in": the same, and for every candidate at least one with it;
- "shadows-spread": for some candidate two shadows without it, and if any was trained on a candidate, for some two with
  it: from one alone nothing tells how far two of them differ.
"""

_Records = Sequence[TokenStats]


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Models that the attacker trained itself, as the target was trained, on data that it chose.

    Attributes:
        stats: of the candidates under every shadow, [shadow][candidate].
        population: of the population records (those of `Seen.population_rounds`, in the same order) under every
            shadow, [shadow][record]; no shadow was trained on one of them.
        trained_on: shape (num_shadows, num_candidates); whether that shadow was trained on that candidate. These are
            the attacker's own coins and say nothing about the target's training.

    Raises:
        ValueError: the parts do not fit together.
    """

    stats: Sequence[_Records] = field(repr=False)
    population: Sequence[_Records] = field(repr=False)
    trained_on: npt.NDArray[np.bool_] = field(repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.stats), len(self.stats[0]) if self.stats else 0)
        if not self.stats or self.trained_on.shape != shape or self.trained_on.dtype != np.bool_:
            raise ValueError(f"trained_on has shape {self.trained_on.shape}, expected bool of shape {shape}, not empty")
        if len(self.population) != len(self.stats):
            raise ValueError(f"the population is known under {len(self.population)} of {len(self.stats)} shadows")

    @property
    def has_spread(self) -> bool:
        """Whether on each side that there is, with a candidate and without it, some candidate has two shadows."""
        sides = (self.trained_on, ~self.trained_on)
        return all(bool((side.sum(axis=0) >= 2).any()) for side in sides if side.any())


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All that a membership attack gets, one entry per candidate everywhere.

    Statistics of one record stand in the same place for every model and are of the same tokens. There are no labels.

    Attributes:
        final: the model that is asked about.
        base: the base model.
        rounds: the global model by the number of rounds done; 0 is the base model, the last one the final model. Rounds
            may be missing. Empty where only the final model is known.
        population_rounds: the same for records known not to be trained on; it has at least the final model where it is
            not empty, and the last round is the same as in `rounds`.
        lower: the final model on each candidate's lower-cased text; other tokens, so of other lengths.
        texts: what would be learnt of each candidate.
        owners: the client each candidate would belong to.
        shadows: models of the attacker's own.

    Raises:
        ValueError: the parts do not fit together.
        ModelError: a model gave a log-probability that is NaN or infinite.
    """

    final: _Records = field(repr=False)
    base: _Records = field(repr=False)
    rounds: Mapping[int, _Records] = field(default_factory=dict, repr=False)
    population_rounds: Mapping[int, _Records] = field(default_factory=dict, repr=False)
    lower: _Records | None = field(default=None, repr=False)
    texts: Sequence[str] = field(repr=False)
    owners: Sequence[str] = field(repr=False)
    shadows: Shadows | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_finite("the final model", self.final)
        _check_same_tokens("the base model", self.base, self.final)
        for number, records in self.rounds.items():
            _check_same_tokens(f"round {number}", records, self.final)
        for number, records in self.population_rounds.items():
            _check_same_tokens(f"round {number} (population)", records, self.population_final)
        if self.lower is not None:
            _check_count("lower", len(self.lower), self.num_candidates)
            _check_finite("the final model (lower-cased)", self.lower)
        if self.rounds and self.population_rounds and max(self.rounds) != max(self.population_rounds):
            last = f"{max(self.population_rounds)}, the candidates' is {max(self.rounds)}"
            raise ValueError(f"the population's last round is {last}: expected the final model in both")
        _check_count("texts", len(self.texts), self.num_candidates)
        _check_count("owners", len(self.owners), self.num_candidates)
        if self.shadows is not None:
            self._check_shadows(self.shadows)

    @property
    def num_candidates(self) -> int:
        """How many records are asked about."""
        return len(self.final)

    @property
    def round_numbers(self) -> tuple[int, ...]:
        """Rounds whose model is known, ascending."""
        return tuple(sorted(self.rounds))

    @property
    def population_final(self) -> _Records:
        """The final model on the population; only where there is one."""
        return self.population_rounds[max(self.population_rounds)]

    @property
    def available(self) -> frozenset[Need]:
        """What of all that an attack may need is here."""
        has: dict[Need, bool] = {
            "base": True,
            "rounds": len(self.rounds) >= 2,
            "population": bool(self.population_rounds)
            and set(self.rounds) <= set(self.population_rounds)
            and len(self.population_final) >= 2,
            "lower": self.lower is not None,
            "shadows": self.shadows is not None and not self.shadows.trained_on.all(axis=0).any(),
            "shadows-spread": self.shadows is not None and self.shadows.has_spread,
        }
        has["shadows-in"] = has["shadows"] and self.shadows is not None and bool(self.shadows.trained_on.any(0).all())
        return frozenset(need for need, is_here in has.items() if is_here)

    def _check_shadows(self, shadows: Shadows) -> None:
        for number, (records, population) in enumerate(zip(shadows.stats, shadows.population, strict=True)):
            _check_same_tokens(f"shadow {number}", records, self.final)
            if self.population_rounds:
                _check_same_tokens(f"shadow {number} (population)", population, self.population_final)


def _check_count(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{name} has {found} entries, expected {expected}, one per record")


def _check_same_tokens(model: str, records: _Records, expected: _Records) -> None:
    _check_count(model, len(records), len(expected))
    for place, (stats, known) in enumerate(zip(records, expected, strict=True)):
        if not np.array_equal(stats.is_target, known.is_target) or stats.logp.shape != known.logp.shape:
            raise ValueError(f"{model}: record {place} has other tokens or targets than under the final model")
    _check_finite(model, records)


def _check_finite(model: str, records: _Records) -> None:
    for place, stats in enumerate(records):
        if not all(np.isfinite(values).all() for values in (stats.logp, stats.mean, stats.std)):
            raise ModelError(
                f"{model} gave a log-probability that is NaN or infinite (record {place} of {len(records)}). "
                "A score of it would mean nothing: look whether training diverged, or load the model in float32."
            )
