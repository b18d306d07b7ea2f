import numpy as np
import pytest

from confide.attacks.extraction.union import best_over_rounds, unite_rounds

FOUND = np.array([[True, False, False, False], [False, True, True, False], [False, True, False, False]])


def test_the_union_counts_a_record_once_however_many_rounds_gave_it_away() -> None:
    union = unite_rounds(FOUND, (1, 2, 5))
    assert union.union_rate == 0.75
    assert union.is_extracted.tolist() == [True, True, True, False]
    assert union.rates.tolist() == [0.25, 0.5, 0.25]
    assert (union.best_round, union.best_rate) == (2, 0.5)


def test_the_union_lies_between_the_best_round_and_the_sum() -> None:
    found = np.random.default_rng(0).random((5, 40)) < 0.2
    union = unite_rounds(found, tuple(range(5)))
    assert union.best_rate <= union.union_rate <= union.rates.sum()


def test_each_record_has_its_best_round() -> None:
    np.testing.assert_array_equal(best_over_rounds(np.array([[0.1, 0.9], [0.4, 0.2]])), [0.4, 0.9])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="for 2 rounds"):
        unite_rounds(FOUND, (1, 2))
    with pytest.raises(ValueError, match="expected"):
        unite_rounds(np.zeros((0, 4), np.bool_), ())
    with pytest.raises(ValueError, match="is NaN"):
        best_over_rounds(np.array([[np.nan]]))
