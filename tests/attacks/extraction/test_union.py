import numpy as np
import pytest

from confide.attacks.extraction.union import best_over_rounds


def test_each_record_has_its_best_round() -> None:
    np.testing.assert_array_equal(best_over_rounds(np.array([[0.1, 0.9], [0.4, 0.2]])), [0.4, 0.9])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="is NaN"):
        best_over_rounds(np.array([[np.nan]]))
