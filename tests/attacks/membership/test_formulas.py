"""Every attack against its formula, written once more in plain Python, one token after the other."""

import math
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from confide.attacks.membership.positions import Positions
from confide.attacks.membership.registry import MEMBERSHIP_ATTACKS
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats
from tests.attacks.membership.records import make

Twin = Callable[[Seen, Positions], list[float]]
SEEN = make(11, num_candidates=30, num_population=20, effect=0.1).seen


def places(stats: TokenStats, positions: Positions) -> list[int]:
    return [i for i in range(len(stats.logp)) if positions == "all" or stats.is_target[i]]


def logps(stats: TokenStats, positions: Positions) -> list[float]:
    return [float(stats.logp[i]) for i in places(stats, positions)]


def level(stats: TokenStats, positions: Positions) -> float:
    values = logps(stats, positions)
    return sum(values) / len(values)


def loss(seen: Seen, positions: Positions) -> list[float]:
    return [level(stats, positions) for stats in seen.final]


def zlib_twin(seen: Seen, positions: Positions) -> list[float]:
    return [
        sum(logps(stats, positions)) / len(zlib.compress(text.encode()))
        for stats, text in zip(seen.final, seen.texts, strict=True)
    ]


def lowercase(seen: Seen, positions: Positions) -> list[float]:
    return [-level(x, positions) / level(low, positions) for x, low in zip(seen.final, seen.lower or [], strict=True)]


def lowest_mean(values: Sequence[float]) -> float:
    count = max(1, int(0.2 * len(values)))
    return sum(sorted(values)[:count]) / count


def min_k(seen: Seen, positions: Positions) -> list[float]:
    return [lowest_mean(logps(stats, positions)) for stats in seen.final]


def min_k_plus_plus(seen: Seen, positions: Positions) -> list[float]:
    return [
        lowest_mean([(float(x.logp[i]) - float(x.mean[i])) / float(x.std[i]) for i in places(x, positions)])
        for x in seen.final
    ]


def difference(seen: Seen, positions: Positions) -> list[float]:
    return [level(x, positions) - level(b, positions) for x, b in zip(seen.final, seen.base, strict=True)]


def ratio(seen: Seen, positions: Positions) -> list[float]:
    return [level(b, positions) / level(x, positions) for x, b in zip(seen.final, seen.base, strict=True)]


def ez(seen: Seen, positions: Positions) -> list[float]:
    found = []
    for x, b in zip(seen.final, seen.base, strict=True):
        up, down, num_errors, total = 0.1, 0.1, 0, 0.0
        for i in places(x, positions):
            d = float(x.logp[i]) - float(b.logp[i])
            total += d
            if not x.is_top[i]:
                num_errors += 1
                up += max(d, 0.0)
                down += max(-d, 0.0)
        if num_errors < 2:
            found.append(math.copysign(math.log(1 + abs(total) / 0.1), total))
        else:
            found.append(math.log(up / down))
    return found


def wbc(seen: Seen, positions: Positions) -> list[float]:
    found = []
    for x, b in zip(seen.final, seen.base, strict=True):
        losses, base_losses = ([-value for value in logps(stats, positions)] for stats in (x, b))
        shares = []
        for wanted in (2, 3, 4, 6, 9, 13, 18, 25, 32, 40):
            width = min(wanted, len(losses))
            starts = range(len(losses) - width + 1)
            votes = [math.fsum(base_losses[s : s + width]) > math.fsum(losses[s : s + width]) for s in starts]
            shares.append(sum(votes) / len(votes))
        found.append(sum(shares) / len(shares))
    return found


def shadow_levels(seen: Seen, positions: Positions, place: int, *, trained_on: bool) -> list[float]:
    assert seen.shadows is not None
    return [
        level(records[place], positions)
        for records, row in zip(seen.shadows.stats, seen.shadows.trained_on, strict=True)
        if row[place] == trained_on
    ]


def pooled_std(groups: Sequence[Sequence[float]]) -> float:
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))


def lira_online(seen: Seen, positions: Positions) -> list[float]:
    groups = {
        side: [shadow_levels(seen, positions, i, trained_on=side) for i in range(len(seen.final))]
        for side in (True, False)
    }
    stds = {side: pooled_std(groups[side]) for side in groups}
    found = []
    for i, s in enumerate(loss(seen, positions)):
        densities = {
            side: statistics.NormalDist(statistics.fmean(groups[side][i]), stds[side]).pdf(s) for side in groups
        }
        found.append(math.log(densities[True]) - math.log(densities[False]))
    return found


def lira_offline(seen: Seen, positions: Positions) -> list[float]:
    groups = [shadow_levels(seen, positions, i, trained_on=False) for i in range(len(seen.final))]
    std = pooled_std(groups)
    return [(s - statistics.fmean(group)) / std for s, group in zip(loss(seen, positions), groups, strict=True)]


def rmia(seen: Seen, positions: Positions) -> list[float]:
    assert seen.shadows is not None
    ratios = [
        math.exp(s) / statistics.fmean(math.exp(v) for v in shadow_levels(seen, positions, i, trained_on=False))
        for i, s in enumerate(loss(seen, positions))
    ]
    population = [
        math.exp(level(z, positions))
        / statistics.fmean(math.exp(level(records[i], positions)) for records in seen.shadows.population)
        for i, z in enumerate(seen.population_rounds[max(seen.population_rounds)])
    ]
    return [sum(x / z >= 1 for z in population) / len(population) for x in ratios]


def gains(rounds: Mapping[int, Sequence[TokenStats]], place: int, positions: Positions) -> list[float]:
    levels = [level(rounds[number][place], positions) for number in sorted(rounds)]
    return [levels[t] - levels[t - 1] for t in range(1, len(levels))]


def largest_gain(seen: Seen, positions: Positions) -> list[float]:
    return [max(gains(seen.rounds, i, positions)) for i in range(len(seen.final))]


def summed_gain(seen: Seen, positions: Positions) -> list[float]:
    return [sum(max(a, 0.0) for a in gains(seen.rounds, i, positions)) for i in range(len(seen.final))]


def standardised_gain(seen: Seen, positions: Positions) -> list[float]:
    others = [gains(seen.population_rounds, z, positions) for z in range(len(seen.population_rounds[0]))]
    by_round = list(zip(*others, strict=True))
    return [
        statistics.fmean(
            (a - statistics.fmean(z)) / statistics.stdev(z)
            for a, z in zip(gains(seen.rounds, i, positions), by_round, strict=True)
        )
        for i in range(len(seen.final))
    ]


TWINS: Mapping[str, Twin] = {
    "loss": loss,
    "zlib": zlib_twin,
    "lowercase": lowercase,
    "min_k": min_k,
    "min_k_plus_plus": min_k_plus_plus,
    "reference": difference,
    "reference_ratio": ratio,
    "ez": ez,
    "wbc": wbc,
    "lira_online": lira_online,
    "lira_offline": lira_offline,
    "rmia": rmia,
    "largest_gain": largest_gain,
    "summed_gain": summed_gain,
    "standardised_gain": standardised_gain,
}


def test_every_attack_has_a_twin() -> None:
    assert TWINS.keys() == MEMBERSHIP_ATTACKS.keys()


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("positions", ["targets", "all"])
def test_scores_are_the_formula(name: str, positions: Positions) -> None:
    found = MEMBERSHIP_ATTACKS[name].scores(SEEN, positions)
    # Sums of at most 240 float64 numbers below 100 in two orders: off by less than 240 * 100 * 2**-53 < 3e-12; then
    # divided by a spread or a gain of at least 0.01.
    np.testing.assert_allclose(found, TWINS[name](SEEN, positions), rtol=1e-9, atol=1e-9)
