from dataclasses import replace

import numpy as np
import pytest

from confide.attacks.membership.user import user_scores
from tests.attacks.membership.records import make, permuted, seen_of, token_stats, without_training


def test_a_client_has_the_mean_of_its_records_however_long_they_are() -> None:
    base = [token_stats([-4.0] * length) for length in (1, 50, 2, 3)]
    final = [token_stats([level] * length) for level, length in ((-3.0, 1), (-2.0, 50), (-4.5, 2), (-1.0, 3))]
    seen = replace(seen_of(final, base), owners=["west", "east", "west", "north"])
    found = user_scores(seen)
    assert found.owners == ("west", "east", "north")
    assert list(found.scores) == [(1.0 - 0.5) / 2, 2.0, 3.0]
    assert found.num_records == (2, 1, 1)


def test_the_order_of_records_only_changes_the_order_of_owners() -> None:
    seen = make(7).seen
    one, other = user_scores(seen), user_scores(permuted(seen, np.arange(seen.num_candidates)[::-1]))
    assert set(one.owners) == set(other.owners)
    for owner, score in zip(one.owners, one.scores, strict=True):
        # Sums of 60 numbers below 10 in two orders.
        assert other.scores[other.owners.index(owner)] == pytest.approx(score, abs=1e-12)


def test_an_untrained_model_knows_no_client() -> None:
    assert set(user_scores(without_training(make(7).seen)).scores) == {0.0}


def test_a_client_that_took_part_is_above_one_that_did_not() -> None:
    made = make(7, effect=0.2)
    owners = ["took part" if member else "did not" for member in made.is_member]
    found = user_scores(replace(made.seen, owners=owners))
    assert max(zip(found.scores, found.owners, strict=True))[1] == "took part"


def test_positions_can_be_chosen() -> None:
    base = token_stats([-4.0, -4.0], is_target=[False, True])
    final = token_stats([-1.0, -3.0], is_target=[False, True])
    seen = seen_of([final], [base])
    assert list(user_scores(seen).scores) == [1.0]
    assert list(user_scores(seen, "all").scores) == [2.0]
