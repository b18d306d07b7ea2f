from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.probabilistic import (
    log_probability,
    num_samples_needed,
    success_within,
)
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.model.evaluation_mode import evaluation_mode
from confide.model.lora import AdaptedModel
from confide.update import Vector
from tests.attacks.extraction.conftest import TRAINED, CandidateMaker


def _stats(logp: list[float], **decoded: list[float]) -> TokenStats:
    values = np.array(logp, np.float32)
    return TokenStats(
        logp=values,
        is_top=values > -0.5,
        rank=np.zeros(values.size, np.int32),
        mean=values,
        std=np.ones_like(values),
        is_target=np.ones(values.size, np.bool_),
        decoded={name: np.array(numbers, np.float32) for name, numbers in decoded.items()},
    )


def test_the_published_vectors() -> None:
    assert num_samples_needed(np.log(1e-3), 0.5) == 693
    assert success_within(np.log(0.01), 100) == pytest.approx(0.633968, abs=5e-7)  # as many digits as are given
    # 1 - (1 - p)^n computed as written is 0 here; log1p and expm1 lose nothing but the rounding of log(1e-20).
    assert success_within(np.log(1e-20), 1e6) == pytest.approx(1e-14, rel=1e-12)


@given(st.integers(1, 999), st.integers(1, 400))
def test_the_chance_of_success_is_that_of_exact_fractions(thousandths: int, num_samples: int) -> None:
    exact = 1 - (1 - Fraction(thousandths, 1000)) ** num_samples
    # log p_z is rounded once; an error of 1e-16 in it moves the hazard by at most about 1e-13 for p_z up to 0.999.
    assert success_within(np.log(thousandths / 1000), num_samples) == pytest.approx(float(exact), rel=1e-12)


@given(st.floats(-60.0, -0.01), st.floats(0.01, 0.99))
def test_the_number_needed_is_the_smallest_that_suffices(log_p_z: float, probability: float) -> None:
    needed = float(num_samples_needed(log_p_z, probability))
    # One part in 1e12 for rounding: whole numbers beyond 1e15 are not told apart by float64 in log space.
    assert success_within(log_p_z, needed * (1 + 1e-12)) >= probability * (1 - 1e-12)
    if needed > 1:
        assert success_within(log_p_z, (needed - 1) * (1 - 1e-12)) <= probability * (1 + 1e-12)


def test_probabilities_below_the_smallest_float_still_count() -> None:
    assert num_samples_needed(-700.0, 0.5) == pytest.approx(np.exp(700.0) * np.log(2), rel=1e-12)
    assert np.isinf(num_samples_needed(-1000.0, 0.5))
    assert success_within(-1000.0, 1e300) == pytest.approx(np.exp(300 * np.log(10) - 1000.0), rel=1e-12)


def test_a_certain_text_takes_one_sample_and_an_impossible_one_never_comes() -> None:
    assert num_samples_needed(0.0, 0.99) == 1
    assert success_within(0.0, 1) == 1.0
    assert np.isinf(num_samples_needed(-np.inf, 0.01))
    assert success_within(-np.inf, 1e9) == 0.0


def test_the_log_probability_is_the_sum_over_the_asked_tokens() -> None:
    stats = _stats([-1.0, -2.0, -4.0, -8.0], cut=[-1.0, -np.inf, -0.5, -0.25])
    assert log_probability(stats, 1, 5) == -15.0
    assert log_probability(stats, 2, 4) == -6.0  # token i is predicted at position i - 1
    assert log_probability(stats, 3, 5, scheme="cut") == -0.75
    assert log_probability(stats, 1, 3, scheme="cut") == -np.inf


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (3, 3), (2, 6)])
def test_tokens_outside_the_record_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= start < stop"):
        log_probability(_stats([-1.0] * 4), start, stop)


def test_nan_is_refused_everywhere() -> None:
    with pytest.raises(ValueError, match="is NaN"):
        log_probability(_stats([-1.0, float("nan")]), 1, 3)
    for function in (num_samples_needed, success_within):
        with pytest.raises(ValueError, match="is NaN or above 0"):
            function(np.array([-1.0, np.nan]), 0.5)
        with pytest.raises(ValueError, match="is NaN or above 0"):
            function(0.1, 0.5)
    with pytest.raises(ValueError, match="expected between 0 and 1"):
        num_samples_needed(-1.0, 1.0)
    with pytest.raises(ValueError, match="not > 0"):
        success_within(-1.0, 0.0)


def test_one_pass_gives_the_product_of_the_models_next_token_probabilities(
    model: AdaptedModel, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    candidate = make_candidate(TRAINED[1])
    scheme = DecodingScheme("warm", temperature=1.5, top_k=40)
    (stats,) = Passes(model, None, schemes=(scheme,)).stats(trained_rounds[30], [candidate.example])
    model.write(trained_rounds[30])
    ids, expected = candidate.example.input_ids.tolist(), 0.0
    with evaluation_mode(model.module):
        for position in range(5, 9):  # token by token, as sampling would
            logits = model.module(input_ids=torch.tensor([ids[:position]])).logits[0, -1].double()
            kept = logits.masked_fill(logits < logits.topk(40).values[-1], -torch.inf) / 1.5
            expected += float(kept.log_softmax(dim=0)[ids[position]])
    # float32 logits up to about 20: a few 1e-6 each, over four tokens.
    assert log_probability(stats, 5, 9, scheme="warm") == pytest.approx(expected, abs=1e-4)
