"""Records that begin alike, read as a family: what comes out is what each of them gives alone."""

import numpy as np
import pytest
import torch

from confide.attacks.token_reader import Columns, TokenReader, Tokens
from confide.model.lora import AdaptedModel
from confide.model.tiny import TINY_MODELS
from confide.seeds import stream
from confide.train.forward import TargetScorer
from tests.attacks.sure_models import adapted_model

# Log-probabilities of at most 30 nats, after some hundred roundings of float32.
TOLERANCE = 100 * 2.0**-24 * 30


def _records() -> list[Tokens]:
    """Two beginnings with several ends each, the ends of different lengths, and some records beside them."""
    rng = stream(0, "test-token-reader")
    beginnings = [rng.integers(6, 262, size) for size in (70, 90)]
    families = [
        np.concatenate([beginning, rng.integers(6, 262, size)]) for beginning in beginnings for size in (1, 5, 3, 4)
    ]
    return [*families, *(rng.integers(6, 262, size) for size in (2, 9, 1, 20))]


def _reader(model: AdaptedModel, batch_size: int) -> TokenReader:
    return TokenReader(TargetScorer(model.module), model, {}, batch_size)


def _assert_close(found: list[Columns], expected: list[Columns]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in ("logp", "mean", "std"):
            assert one[name].dtype == other[name].dtype
            np.testing.assert_allclose(one[name], other[name], atol=TOLERANCE, rtol=0)
        np.testing.assert_array_equal(one["is_top"], other["is_top"])
        assert one["rank"].shape == other["rank"].shape


@pytest.mark.parametrize("name", sorted(TINY_MODELS))
def test_families_give_what_each_record_gives_alone(name: str) -> None:
    model, records = adapted_model(name), _records()
    _assert_close(_reader(model, 8).read(records), _reader(model, 1).read(records))


def test_a_beginning_is_read_once() -> None:
    model, records = adapted_model("tiny-llama"), _records()
    reader, num_tokens = _reader(model, 8), 0
    decoder = model.base.module.get_decoder()

    def count(_module: torch.nn.Module, _args: object, options: dict[str, torch.Tensor]) -> None:
        nonlocal num_tokens
        num_tokens += options["input_ids"].numel()

    reader.read(records[:2])  # whatever is found out about the model on first use
    handle = decoder.register_forward_pre_hook(count, with_kwargs=True)
    reader.read(records)
    handle.remove()
    assert num_tokens == (70 + 4 * 5) + (90 + 4 * 5) + 4 * 20


def test_a_record_that_another_one_begins_with_has_a_token_of_its_own() -> None:
    model, (longer, *_) = adapted_model("tiny-llama"), _records()
    records = [longer, longer[:-1], longer[:-2]]
    _assert_close(_reader(model, 8).read(records), _reader(model, 1).read(records))
