"""A client's own numbers tell a record from another only through the record's number beside them."""

import numpy as np
import pytest

from confide.attacks.updates.reported import MEASURES, Figures, score_reported
from confide.audit.statistics import auc_value


def told(loss: float, num_targets: int, num_examples: int) -> dict[str, float]:
    return {"loss": loss, "num_targets": float(num_targets), "num_examples": float(num_examples)}


def test_records_of_one_client_that_are_alike_have_one_score_whatever_is_reported() -> None:
    """Per-client numbers are the same for all records of a client, so they cannot separate records within one."""
    rng = np.random.default_rng(0)
    owners = ["east"] * 5 + ["west"] * 4
    for _ in range(20):
        figures: Figures = {
            1: {name: told(rng.uniform(0, 9), int(rng.integers(1, 99)), 3) for name in ("east", "west")}
        }
        found = score_reported(figures, owners, losses=[2.5] * 9, lengths=[7] * 9)
        assert set(found) == set(MEASURES)
        for scores in found.values():
            assert np.unique(scores[:5]).size == np.unique(scores[5:]).size == 1


def test_a_client_with_one_record_gives_it_away() -> None:
    losses, lengths = [1.0, 2.0, 3.0, 4.0], [10, 20, 30, 40]
    figures = {1: {"east": told(3.0, 30, 1)}}
    for scores in score_reported(figures, ["east"] * 4, losses, lengths).values():
        assert scores.argmax() == 2
        assert scores[2] == 1.0  # distance 0, n = 1


@pytest.mark.parametrize("num_members", [2, 8])
def test_scores_order_records_as_the_exact_likelihood_ratio_does(num_members: int) -> None:
    """The reference is the ratio of the two densities; AUCs agree to the noise of so many draws."""
    rng = np.random.default_rng(num_members)
    scores, ratios, labels = [], [], []
    for _ in range(300):
        values = rng.normal(3, 1, 2 * num_members)
        mean = values[:num_members].mean()
        figures = {1: {"one": told(float(mean), 5, 5)}}
        own = score_reported(figures, ["one"] * values.size, values.tolist(), [1] * values.size)
        scores.append(own["reported loss"] * 5)
        squared = (values - mean) ** 2
        share = 1 / num_members
        ratios.append(-squared / (1 - share) + squared / (1 + share))
        labels.append(np.arange(values.size) < num_members)
    is_member = np.concatenate(labels)
    found, exact = (auc_value(one[is_member], one[~is_member]) for one in map(np.concatenate, (scores, ratios)))
    assert found > 0.5
    assert abs(found - exact) < 0.05


def test_the_first_round_in_which_a_client_reported_counts() -> None:
    late, early = told(9.0, 9, 1), told(1.0, 1, 1)
    both = {2: {"east": late}, 1: {"east": early}}
    alone = {1: {"east": early}}
    found, expected = (score_reported(one, ["east"] * 3, [1.0, 2.0, 3.0], [1, 2, 3]) for one in (both, alone))
    assert all(np.array_equal(found[measure], expected[measure]) for measure in MEASURES)
    with pytest.raises(KeyError, match="west"):
        score_reported(both, ["west"], [1.0], [1])
