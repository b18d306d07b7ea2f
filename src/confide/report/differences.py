"""Several audits side by side: how far their numbers are apart.

Results hold each run's numbers and not the records behind them, so that differences are taken as of independent
samples. Where two runs were asked about the same records, a paired interval would usually be narrower.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from confide.audit.results import AuditResults, Estimate, Measure


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One measure in several runs.

    Attributes:
        key: the measure's name for gates.
        measures: one per run, in the runs' order; None where a run has no such measure.
        differences: of each later run to the first, unpaired; None where either is missing.
    """

    key: str
    measures: tuple[Measure | None, ...]
    differences: tuple[Estimate | None, ...]


def compare(runs: Sequence[AuditResults]) -> list[Compared]:
    """Puts the measures of several runs side by side, in the order in which they first appear.

    Args:
        runs: at least one; of measures with the same name in one run the first goes with the first.
    """
    by_key = [_keyed(results) for results in runs]
    keys = dict.fromkeys(key for keyed in by_key for key in keyed)
    return [_compared(key, [keyed.get(key) for keyed in by_key]) for key in keys]


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Gives `second` minus `first` with a 95 % interval, taking both as independent.

    With estimates a, b and intervals [l, u] the interval's ends are b - a - sqrt((b - l_b)^2 + (u_a - a)^2) and
    b - a + sqrt((u_b - b)^2 + (a - l_a)^2); `num` is the smaller sample's.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10;
        for any estimates Zou and Donner 2008, "Construction of confidence limits about effect measures".
    """
    value = second.value - first.value
    down = math.hypot(second.value - second.low, first.high - first.value)
    up = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value=value, low=value - down, high=value + up, num=min(first.num, second.num))


def _keyed(results: AuditResults) -> dict[tuple[str, int], Measure]:
    keyed: dict[tuple[str, int], Measure] = {}
    for measure in results.measures:
        copy = 0
        while (measure.key, copy) in keyed:
            copy += 1
        keyed[measure.key, copy] = measure
    return keyed


def _compared(key: tuple[str, int], measures: Sequence[Measure | None]) -> Compared:
    first = measures[0]
    return Compared(
        key=key[0],
        measures=tuple(measures),
        differences=tuple(
            None if first is None or later is None else difference(first.members, later.members)
            for later in measures[1:]
        ),
    )
