import pytest
import torch

from confide.attacks.decoding import DecodingScheme
from confide.attacks.token_columns import token_columns

VOCABULARY = 300
# Log-probabilities down to -60: a sum over 300 terms rounds some 300 times at 2**-24.
TOLERANCE = 300 * 2.0**-24 * 60


def _case(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(50, VOCABULARY, generator=generator) * spread
    return logits, torch.randint(VOCABULARY, (50,), generator=generator)


@pytest.mark.parametrize("spread", [0.01, 1.0, 15.0])
def test_columns_are_those_of_the_full_softmax_in_float64(spread: float) -> None:
    logits, targets = _case(spread)
    columns = token_columns(logits, targets, {})
    for row, target in enumerate(targets.tolist()):
        logp = logits[row].double() - logits[row].double().logsumexp(dim=0)
        p = logp.exp()
        mean = float((p * logp).sum())
        assert float(columns["logp"][row]) == pytest.approx(float(logp[target]), abs=TOLERANCE)
        assert float(columns["mean"][row]) == pytest.approx(mean, abs=TOLERANCE)
        assert float(columns["std"][row]) == pytest.approx(float((p * (logp - mean) ** 2).sum() ** 0.5), abs=TOLERANCE)
        assert int(columns["rank"][row]) == int((logits[row] > logits[row, target]).sum())
        assert bool(columns["is_top"][row]) == (int(logits[row].argmax()) == target)
    assert columns["rank"].dtype == torch.int32
    assert columns["is_top"].dtype == torch.bool
    assert all(columns[name].dtype == torch.float32 for name in ("logp", "mean", "std"))


def test_a_token_that_the_model_rules_out_counts_as_absent() -> None:
    logits, _ = _case(2.0)
    targets = torch.zeros(50, dtype=torch.int64)
    ruled_out = logits.clone()
    ruled_out[:, 200:] = -torch.inf
    whole, absent = token_columns(ruled_out, targets, {}), token_columns(logits[:, :200], targets, {})
    for name in whole:
        torch.testing.assert_close(whole[name], absent[name], atol=TOLERANCE, rtol=0)


def test_a_sure_model_has_mean_and_spread_zero() -> None:
    logits = torch.full((1, VOCABULARY), -1000.0)
    logits[0, 7] = 0.0
    columns = token_columns(logits, torch.tensor([7]), {})
    assert [float(columns[name]) for name in ("logp", "mean", "std")] == [0.0, 0.0, 0.0]


def test_of_equally_likely_tokens_the_first_is_top_and_all_have_one_rank() -> None:
    columns = token_columns(torch.tensor([[0.0, 1.0, 1.0]] * 3), torch.arange(3), {})
    assert columns["is_top"].tolist() == [False, True, False]
    assert columns["rank"].tolist() == [2, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_shows(value: float) -> None:
    logits, targets = _case(1.0)
    logits[3, 10] = value
    assert token_columns(logits, targets, {})["logp"].isnan().nonzero().tolist() == [[3]]


def test_every_scheme_has_a_column() -> None:
    logits, targets = _case(1.0)
    columns = token_columns(logits, targets, {"a": DecodingScheme("x"), "b": DecodingScheme("y", top_k=2)})
    torch.testing.assert_close(columns["a"], columns["logp"], atol=TOLERANCE, rtol=0)
    assert torch.equal(columns["b"].isfinite(), columns["rank"] < 2)
