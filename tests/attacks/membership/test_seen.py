import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from confide.attacks.membership.seen import Need, Seen, Shadows
from confide.errors import ModelError
from tests.attacks.membership.records import make, seen_of, token_stats

MADE = make(6, num_candidates=6, num_population=4).seen


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("column", ["logp", "mean", "std"])
def test_a_model_that_gives_no_number_is_named(column: str, value: float) -> None:
    columns: dict[str, npt.ArrayLike] = {"logp": -1.0, "mean": -1.0, "std": 1.0, column: [-1.0, value]}
    broken = token_stats(np.broadcast_to(columns["logp"], 2), mean=columns["mean"], std=columns["std"])
    fine = token_stats([-1.0, -1.0])
    message = r"{} gave a log-probability that is NaN or infinite \(record 1 of 2\)"
    with pytest.raises(ModelError, match=message.format("the final model")):
        seen_of([fine, broken], [fine, fine])
    with pytest.raises(ModelError, match=message.format("the base model")):
        seen_of([fine, fine], [fine, broken])
    with pytest.raises(ModelError, match=message.format("round 1")):
        replace(seen_of([fine, fine], [fine, fine]), rounds={1: [fine, broken]})
    with pytest.raises(ModelError, match=message.format(r"round 1 \(population\)")):
        replace(seen_of([fine], [fine]), population_rounds={1: [fine, broken]})
    with pytest.raises(ModelError, match=message.format(r"the final model \(lower-cased\)")):
        replace(seen_of([fine, fine], [fine, fine]), lower=[fine, broken])


def test_statistics_of_other_tokens_or_records_are_refused() -> None:
    two, three = token_stats([-1.0] * 2), token_stats([-1.0] * 3)
    other_targets = token_stats([-1.0] * 2, is_target=[True, False])
    with pytest.raises(ValueError, match="the base model: record 0 has other tokens or targets"):
        seen_of([two], [three])
    with pytest.raises(ValueError, match="the base model: record 0 has other tokens or targets"):
        seen_of([two], [other_targets])
    with pytest.raises(ValueError, match="round 2 has 1 entries, expected 2"):
        replace(seen_of([two, two], [two, two]), rounds={2: [two]})
    with pytest.raises(ValueError, match="texts has 1 entries, expected 2"):
        seen_of([two, two], [two, two], ["one"])
    with pytest.raises(ValueError, match="owners has 1 entries, expected 2"):
        replace(seen_of([two, two], [two, two]), owners=["north"])
    with pytest.raises(ValueError, match="lower has 1 entries, expected 2"):
        replace(seen_of([two, two], [two, two]), lower=[two])


def test_the_population_must_end_where_the_candidates_do() -> None:
    one = token_stats([-1.0])
    with pytest.raises(ValueError, match="the population's last round is 1, the candidates' is 2"):
        replace(seen_of([one], [one]), rounds={0: [one], 2: [one]}, population_rounds={0: [one], 1: [one]})


def test_shadows_that_do_not_fit_are_refused() -> None:
    one = token_stats([-1.0])
    mask = np.array([[True], [False]])
    with pytest.raises(ValueError, match=r"trained_on has shape \(2, 1\), expected bool of shape \(1, 1\)"):
        Shadows(stats=[[one]], population=[[one]], trained_on=mask)
    with pytest.raises(ValueError, match="not empty"):
        Shadows(stats=[], population=[], trained_on=np.empty((0, 0), np.bool_))
    with pytest.raises(ValueError, match="known under 1 of 2 shadows"):
        Shadows(stats=[[one], [one]], population=[[one]], trained_on=mask)
    fitting = Shadows(stats=[[one], [one]], population=[[], []], trained_on=mask)
    with pytest.raises(ValueError, match="shadow 0 has 1 entries, expected 2"):
        replace(seen_of([one, one], [one, one]), shadows=fitting)


def available(seen: Seen) -> set[Need]:
    return set(seen.available)


def test_what_is_available_follows_from_what_is_there() -> None:
    assert MADE.shadows is not None
    of_shadows: set[Need] = {"shadows", "shadows-in", "shadows-spread"}
    everything: set[Need] = {"base", "rounds", "population", "lower", *of_shadows}
    assert available(MADE) == everything
    assert available(replace(MADE, lower=None)) == everything - {"lower"}
    assert available(replace(MADE, shadows=None)) == everything - of_shadows
    none = np.zeros_like(MADE.shadows.trained_on)
    assert available(replace(MADE, shadows=replace(MADE.shadows, trained_on=none))) == everything - {"shadows-in"}
    assert available(replace(MADE, shadows=replace(MADE.shadows, trained_on=~none))) == everything - {
        "shadows",
        "shadows-in",
    }
    pair = replace(
        MADE.shadows,
        stats=MADE.shadows.stats[:2],
        population=MADE.shadows.population[:2],
        trained_on=np.stack([~none[0], none[0]]),
    )
    assert available(replace(MADE, shadows=pair)) == everything - {"shadows-spread"}  # one with, one without
    assert available(replace(MADE, rounds={4: MADE.final})) == everything - {"rounds"}
    assert available(replace(MADE, rounds={})) == everything - {"rounds"}


def test_a_population_counts_only_under_all_the_candidates_models_and_from_two_records() -> None:
    some_rounds = {number: records for number, records in MADE.population_rounds.items() if number != 2}
    assert "population" not in replace(MADE, population_rounds=some_rounds).available
    one_record = {number: records[:1] for number, records in MADE.population_rounds.items()}
    assert "population" not in replace(MADE, population_rounds=one_record, shadows=None).available
    assert "population" in replace(MADE, rounds={}, population_rounds={4: MADE.population_rounds[4]}).available


def test_nothing_of_a_record_is_shown() -> None:
    assert repr(MADE) == "Seen()"
    assert repr(MADE.shadows) == "Shadows()"
