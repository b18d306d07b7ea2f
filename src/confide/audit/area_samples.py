"""The records behind rankings, and whether so many could have shown that half of the members are told for certain."""

from dataclasses import dataclass
from typing import ClassVar

from scipy.special import ndtri
from scipy.stats import binom, binomtest

from confide.attacks.blind import MIN_PER_LABEL
from confide.audit.statistics import SIGNIFICANCE, Interval, clopper_pearson, shortage, tpr_p_value
from confide.audit.statistics.interval import NORMAL_QUANTILE
from confide.audit.statistics.sample_size import POWER, hanley_mcneil_variance
from confide.plural import plural

WORTH_FINDING = 0.75
"""An audit that could not find an AUC of this size says so instead of "no evidence": half of the members for certain,
and the rest guessed.
"""
NEEDS_BLIND = f"The blind baseline needs {MIN_PER_LABEL} members and as many others; without it nothing is a leak."
_HALF = 0.5
_STEP = 1.1
_MOST_TIMES = 100.0  # more than that is no advice
_MOST_STEPS = 100  # to about ten thousand times as many


@dataclass(frozen=True, kw_only=True)
class AreaSample:
    """Behind an AUC.

    Attributes:
        blind: the blind baseline's AUC on the same records; None where there are too few for it.
        is_half: see `Sample`.
    """

    num_members: int
    num_others: int
    blind: Interval | None
    is_half: bool = False

    def shortage(self, num_attacks: int) -> str:
        """Why an AUC of `WORTH_FINDING` would not be found above chance and the texts' part; see `Sample`.

        That its interval lies above the blind baseline's asks for more than their paired test, also after correction
        over some dozens of attacks.
        """
        few = shortage(
            self.num_members, self.num_others, auc=WORTH_FINDING, num_tests=num_attacks, is_half=self.is_half
        )
        if self.blind is None:
            return f"{few} {NEEDS_BLIND}".strip()
        if few or _would_be_found(self.num_members, self.num_others, self.blind.high):
            return few
        factor = self._times_as_many(self.blind)
        if factor is None:
            return (
                f"The texts alone tell members with an AUC of {self.blind.value:.2f} ({self.blind.low:.2f} to "
                f"{self.blind.high:.2f}); a model's part cannot be told from that."
            )
        on, times, in_all = (" on one half of the records", 2, " in the two halves") if self.is_half else ("", 1, "")
        members, others = (times * round(factor * num) for num in (self.num_members, self.num_others))
        return (
            f"The blind baseline's interval reaches {self.blind.high:.2f}; for an AUC of {WORTH_FINDING:.2f} to lie "
            f"above it{on}, about {members} members and {others} others are needed{in_all}."
        )

    def _times_as_many(self, blind: Interval) -> float | None:
        """How many times as many records would show an AUC of `WORTH_FINDING`; None if `_MOST_TIMES` would not."""
        if blind.value >= WORTH_FINDING:
            return None
        factor = 1.0
        while not _would_be_found(
            int(factor * self.num_members),
            int(factor * self.num_others),
            blind.value + (blind.high - blind.value) / factor**0.5,
        ):
            factor *= _STEP
            if factor > _MOST_TIMES:
                return None
        return factor


@dataclass(frozen=True, kw_only=True)
class LowEndSample:
    """Behind a true-positive rate at a small false-positive rate.

    Attributes:
        max_fpr: the false-positive rate asked for.
        blind: the share of members that the blind baseline finds at that rate; None where there are too few for it.
    """

    num_members: int
    num_others: int
    max_fpr: float
    blind: Interval | None
    is_half: ClassVar[bool] = False

    def shortage(self, num_attacks: int) -> str:
        """Why half of the members, told for certain, would not be found; see `Sample`."""
        if self.blind is None:
            return NEEDS_BLIND
        blind = self.blind.value
        if self._is_enough(1.0, blind, num_attacks):
            return ""
        if blind >= _HALF:
            return f"The texts alone find {blind:.0%} of the members; a model's part cannot be told from that."
        few = (
            f"{self.num_members} members and {self.num_others} others are too few to find it with "
            f"{plural(num_attacks, 'attack')} if half of the members were told for certain"
        )
        factor = 1.0
        for _ in range(_MOST_STEPS):
            factor *= _STEP
            if self._is_enough(factor, blind, num_attacks):
                members, others = (round(factor * num) for num in (self.num_members, self.num_others))
                return f"{few}; about {members:,} members and {others:,} others are needed."
        return f"{few}, and so are any others in that ratio."

    def _is_enough(self, factor: float, blind: float, num_attacks: int) -> bool:
        """Whether so many times as many records would as a rule show it, by what `low_end` asks for."""
        members, others = round(factor * self.num_members), round(factor * self.num_others)
        mistaken = clopper_pearson(int(self.max_fpr * others + 1e-9), others)
        by_blind = clopper_pearson(round(blind * members), members)
        bound = max(mistaken.high, by_blind.high)
        too_few, enough = -1, members + 1  # how many members are found
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if (
                clopper_pearson(middle, members).low > bound
                and max(self._p_values(middle, members, others, by_blind.value)) * num_attacks < SIGNIFICANCE
            ):
                enough = middle
            else:
                too_few = middle
        return bool(binom.sf(enough - 1, members, _HALF) >= POWER)

    def _p_values(self, found: int, members: int, others: int, blind: float) -> tuple[float, float]:
        """Against false positives, and against what the blind baseline finds, as if it found members at random."""
        only_model, only_blind = round(found * (1 - blind)), round((members - found) * blind)
        if not only_model + only_blind:
            return tpr_p_value(found, members, others, max_fpr=self.max_fpr), 1.0
        return (
            tpr_p_value(found, members, others, max_fpr=self.max_fpr),
            float(binomtest(only_model, only_model + only_blind, alternative="greater").pvalue),
        )


def _would_be_found(num_members: int, num_others: int, bound: float) -> bool:
    """Whether, with probability `POWER`, the interval of an AUC of `WORTH_FINDING` would lie above a bound."""
    error = hanley_mcneil_variance(WORTH_FINDING, num_members, num_others) ** 0.5
    return bool(WORTH_FINDING - (NORMAL_QUANTILE + float(ndtri(POWER))) * error > bound)
