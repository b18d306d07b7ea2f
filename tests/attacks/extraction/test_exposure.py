import math

import numpy as np
import pytest
from scipy.stats import kstest, norm, skewnorm, spearmanr
from scipy.stats import t as student

from confide.attacks.extraction.exposure import NULL_MEAN_BITS, Floats, exposure, exposures_by_samples
from confide.attacks.extraction.probabilistic import log_probability
from confide.attacks.passes import Passes
from confide.seeds import stream
from confide.update import Vector
from tests.attacks.extraction.conftest import CandidateMaker


def _by_samples(secret: float, samples: Floats, *, num_candidates: float) -> float:
    """Of a single secret, as the source has it."""
    (found,) = exposures_by_samples(np.array([secret]), [samples], num_candidates=num_candidates)
    return float(found)


@pytest.mark.parametrize(("rank", "bits"), [(1, 19.9316), (37, 14.7221), (1_000_000, 0.0)])
def test_the_published_vectors(rank: int, bits: float) -> None:
    candidates = -np.arange(1_000_000, dtype=np.float64)
    assert exposure(float(1 - rank), candidates) == pytest.approx(bits, abs=5e-5)  # as many digits as are given


def test_secrets_that_were_never_planted_have_an_exponential_exposure() -> None:
    values = stream(0, "test-exposure").normal(size=2000)
    bits = np.array([exposure(float(value), values) for value in values])
    # Over all ranks of 2,000 the mean is log2(2000) - log2(2000!) / 2000, which is 1.4427 less about log2(R) / (2 R).
    assert bits.mean() == pytest.approx(NULL_MEAN_BITS, abs=5e-3)
    assert round(NULL_MEAN_BITS, 2) == 1.44
    assert kstest(bits * math.log(2), "expon").pvalue > 0.05


def test_a_model_that_knows_nothing_exposes_nothing() -> None:
    # The middle of 1,000 equal ranks: one bit, not the ten of the first rank.
    assert exposure(-3.0, np.full(1000, -3.0)) == pytest.approx(1.0, abs=2e-3)


def test_a_likelier_secret_is_exposed_more() -> None:
    candidates = np.sort(stream(1, "test-exposure").normal(size=100))
    bits = [exposure(float(value), candidates) for value in candidates]
    assert bits == sorted(bits)
    assert bits[-1] == pytest.approx(math.log2(100))


@pytest.mark.parametrize("shape", [0.0, 4.0, -4.0])
@pytest.mark.parametrize("bits", [1.0, 5.0, 10.0, 16.0])
def test_the_fitted_exposure_is_that_of_the_true_distribution(shape: float, bits: float) -> None:
    losses = skewnorm.rvs(shape, loc=60.0, scale=3.0, size=10_000, random_state=np.random.default_rng(7))
    secret_loss = float(skewnorm.ppf(2.0**-bits, shape, loc=60.0, scale=3.0))
    found = _by_samples(-secret_loss, -losses, num_candidates=2.0**40)
    # 10,000 samples give the scale to about 1 % (one over the root of twice as many) and the shape to a few; sixteen
    # bits down the tail, some five scales from the middle, that moves the log-probability by up to about a tenth.
    assert found == pytest.approx(bits, rel=0.15, abs=0.1)


def test_sampling_agrees_with_ranking() -> None:
    candidates = -skewnorm.rvs(2.0, loc=30.0, scale=2.0, size=20_000, random_state=np.random.default_rng(3))
    secret = float(np.sort(candidates)[-20])
    ranked = exposure(secret, candidates)
    sampled = _by_samples(secret, candidates[:5000], num_candidates=candidates.size)
    assert sampled == pytest.approx(ranked, abs=0.7)  # rank 20 itself has a spread of 1 / sqrt(20), a third of a bit


def test_no_exposure_is_above_that_of_the_first_rank() -> None:
    samples = stream(2, "test-exposure").normal(size=1000) - 50.0
    assert _by_samples(0.0, samples, num_candidates=1e6) == pytest.approx(math.log2(1e6))
    assert _by_samples(-200.0, samples, num_candidates=1e6) == pytest.approx(0.0, abs=1e-9)


def test_few_samples_around_many_secrets_say_as_much_as_many_around_one() -> None:
    """Forty secrets with sixty samples each, at places and spreads of their own: the shape of the tail is shared."""
    rng = np.random.default_rng(5)
    bits = np.linspace(0.5, 14.0, 40)
    losses, secrets = [], []
    for each in bits:
        location, scale = rng.uniform(20, 80), rng.uniform(0.5, 5.0)
        losses.append(skewnorm.rvs(3.0, loc=location, scale=scale, size=60, random_state=rng))
        secrets.append(float(skewnorm.ppf(2.0**-each, 3.0, loc=location, scale=scale)))
    found = exposures_by_samples(-np.array(secrets), [-one for one in losses], num_candidates=2.0**40)
    # Sixty samples give each place and spread to about an eighth and a tenth of a spread. At 14 bits, some two spreads
    # below the middle of this shape, that is several bits for one secret; over forty of them the mean holds.
    assert abs(float((found - bits).mean())) < 1.5
    assert spearmanr(found, bits).statistic > 0.9


def test_secrets_that_were_never_planted_have_as_much_by_fit_as_by_rank() -> None:
    """A thousand of them, each with 31 others around it at a place and a spread of its own, as audits have them."""
    num, draws = 31, stream(3, "test-exposure")
    losses = draws.normal(size=(1000, 1 + num)) * draws.uniform(0.5, 5.0, (1000, 1)) + draws.uniform(20, 80, (1000, 1))
    ranked = np.array([exposure(-float(row[0]), -row) for row in losses])
    fitted = exposures_by_samples(-losses[:, 0], [-row[1:] for row in losses], num_candidates=900)
    # Ranks are uniform. Away from the others' mean and over their spread, one more value has Student's distribution.
    by_rank = np.log2(num + 1) - np.log2(np.arange(1, num + 2)).mean()
    chances = (np.arange(100_000) + 0.5) / 100_000
    away = student.ppf(chances, num - 1) * math.sqrt((num + 1) / (num - 1))
    by_fit = np.minimum(-norm.logcdf(away) / math.log(2), math.log2(900)).mean()
    assert by_rank < NULL_MEAN_BITS < by_fit < NULL_MEAN_BITS + 0.2
    beyond = fitted - ranked
    assert abs(beyond.mean() - (by_fit - by_rank)) < 5 * beyond.std() / math.sqrt(1000)  # five standard errors


def test_where_all_samples_are_alike_only_the_side_counts() -> None:
    alike = [np.full(100, -3.0)] * 3
    found = exposures_by_samples(np.array([-2.0, -3.0, -4.0]), alike, num_candidates=2.0**20)
    assert found.tolist() == [20.0, 1.0, 0.0]


def test_an_overtrained_model_exposes_its_secret_fully_and_an_untrained_one_does_not(
    passes: Passes, make_candidate: CandidateMaker, trained_rounds: dict[int, Vector]
) -> None:
    guesses = [make_candidate(f"Ada: 555-0{number}", secret=str(number)) for number in range(100, 200)]

    def bits(adapter: Vector | None) -> float:
        stats = passes.stats(adapter, [guess.example for guess in guesses])
        logs = [
            log_probability(found, guess.secret_start or 0, guess.secret_stop or 0)
            for found, guess in zip(stats, guesses, strict=True)
        ]
        return exposure(logs[1], np.array(logs))  # 101, as in the first training text

    assert bits(trained_rounds[200]) == pytest.approx(math.log2(100))
    assert bits(None) < 4.0  # nobody's secret has 4 bits or more with a chance of 1 in 16; the model is fixed


def test_what_cannot_be_ranked_is_refused() -> None:
    some = np.arange(200.0)
    with pytest.raises(ValueError, match="not among the candidates"):
        exposure(0.5, some)
    with pytest.raises(ValueError, match="at least one candidate"):
        exposure(0.0, np.empty(0))
    with pytest.raises(ValueError, match="is NaN"):
        exposure(1.0, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="is NaN"):
        _by_samples(float("nan"), some, num_candidates=1e6)
    with pytest.raises(ValueError, match="expected at least 100"):
        _by_samples(0.0, some[:99], num_candidates=1e6)
    with pytest.raises(ValueError, match="is infinite"):
        _by_samples(-math.inf, some, num_candidates=1e6)
    with pytest.raises(ValueError, match="30 for each"):
        exposures_by_samples(np.zeros(2), [some, some[:1]], num_candidates=1e6)
