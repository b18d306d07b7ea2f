"""Whether so many records could show that half of them came out, against going through all that could happen."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, fisher_exact

from confide.audit.statistics import finds_half, records_for_half, times_as_many


@pytest.mark.parametrize("num_tests", [1, 3, 10])
def test_the_fewest_records_are_those_that_counting_gives(num_tests: int) -> None:
    def power(num: int) -> float:
        found = 0.0
        for out in range(num + 1):
            base = binomtest(out, out, 0.5, alternative="greater").pvalue if out else 1.0
            others = fisher_exact([[out, num - out], [0, num]], alternative="greater").pvalue
            found += binom.pmf(out, num, 0.5) * (max(base, others) * num_tests < 0.05)
        return found

    num = records_for_half(num_tests=num_tests)
    assert num is not None
    assert power(num) >= 0.8
    assert power(num - 1) < 0.8


def test_more_attacks_and_more_from_the_controls_need_more_records() -> None:
    needed = [records_for_half(num_tests=count) or 0 for count in (1, 3, 10, 100)]
    assert needed == sorted(set(needed))
    for shares in ({"others_share": 0.3}, {"base_share": 0.3}):
        assert (records_for_half(num_tests=3, **shares) or 0) > needed[1]
    assert (records_for_half(num_tests=3, base_share=None) or 0) <= needed[1]
    assert records_for_half(num_tests=1, base_share=1.0) is None


def test_few_of_one_side_are_too_few_whatever_there_is_of_the_other() -> None:
    assert finds_half(15, 15, num_tests=3)
    assert not finds_half(14, 1000, num_tests=3)
    assert not finds_half(1000, 1, num_tests=3)


def test_as_many_times_as_many_records_find_an_effect_with_the_power_promised() -> None:
    """A mean of normal values: at factor times as many, four of five p-values are below the corrected level."""
    factor = times_as_many(0.03, num_tests=3)
    assert factor is not None
    effect = 1.8808 * factor**0.5  # in standard errors: 0.03 is the upper tail beyond 1.8808
    drawn = np.random.default_rng(0).normal(effect, 1, 20_000)
    assert np.mean(drawn > 2.1280) == pytest.approx(0.8, abs=0.01)  # 0.05 / 3 beyond 2.1280
    assert times_as_many(0.6, num_tests=3) is None
    assert times_as_many(1e-9, num_tests=3) == 1.0
