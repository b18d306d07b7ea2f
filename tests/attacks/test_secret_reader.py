"""Log-probabilities of secrets: what whole records give, for every way to read them."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from confide.attacks import secret_reader
from confide.attacks.secret_reader import Floats, SecretReader
from confide.attacks.token_reader import TokenReader
from confide.model.lora import AdaptedModel
from confide.model.tiny import TINY_MODELS
from confide.seeds import stream
from confide.train.forward import TargetScorer, TokenTree
from tests.attacks.sure_models import adapted_model

# Sums over five tokens of log-probabilities of at most 30 nats, each after some hundred roundings of float32.
TOLERANCE = 5 * 100 * 2.0**-24 * 30
BEGINNING = stream(0, "test-beginning").integers(6, 262, 40)


def _secrets() -> npt.NDArray[np.int32]:
    """Two tokens that all begin with, and three digits, some numbers left out and one there twice."""
    digits = np.array([[int(digit) for digit in f"{number:03d}"] for number in range(0, 1000, 7)], np.int32)
    digits = np.concatenate([digits, digits[7:8]])
    stream(0, "test-order").shuffle(digits)
    return np.concatenate([np.full((len(digits), 2), 99, np.int32), digits + 20], axis=1)


def _by_whole_records(model: AdaptedModel, secrets: npt.NDArray[np.int32]) -> Floats:
    """The slow twin: each record read alone, with a token behind the secret."""
    records = [np.concatenate([BEGINNING, secret, [2]]) for secret in secrets.astype(np.int64)]
    columns = TokenReader(TargetScorer(model.module), model, {}, 1).read(records)
    start, stop = BEGINNING.size, BEGINNING.size + secrets.shape[1]
    return np.array([one["logp"][start - 1 : stop - 1].sum(dtype=np.float64) for one in columns])


def _read(model: AdaptedModel, secrets: npt.NDArray[np.int32], scorer: TargetScorer | None = None) -> Floats:
    return SecretReader(scorer or TargetScorer(model.module), model, 8).read(BEGINNING, secrets)


@pytest.mark.parametrize("way", ["tree", "whole", "whole model"])
@pytest.mark.parametrize("name", sorted(TINY_MODELS))
def test_secrets_have_the_log_probabilities_that_whole_records_give(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, secrets = adapted_model(name), _secrets()
    expected = _by_whole_records(model, secrets)
    if way == "whole model":
        model.base.module.config.final_logit_softcapping = 30.0  # the name alone: this architecture has no cap
    scorer = TargetScorer(model.module)
    assert scorer.reads_trees(45) == (way != "whole model")
    if way == "whole":
        monkeypatch.setattr(TargetScorer, "reads_trees", lambda *_: False)
    monkeypatch.setattr(secret_reader, "_TOKENS_AT_ONCE", 32)
    found = _read(model, secrets, scorer)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    spread = np.diff(np.sort(expected))
    assert np.median(spread) > 2 * TOLERANCE  # so that what follows says something
    far = np.abs(expected[:, None] - expected) > 2 * TOLERANCE
    np.testing.assert_array_equal((found[:, None] < found)[far], (expected[:, None] < expected)[far])


def test_each_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, secrets, num_tokens = adapted_model("tiny-llama"), _secrets(), [0]
    scorer = TargetScorer(model.module)
    assert scorer.reads_trees(45)  # found out before anything is counted

    def count(_module: torch.nn.Module, _args: object, options: dict[str, Tensor]) -> None:
        num_tokens.append(options["input_ids"].numel())

    monkeypatch.setattr(secret_reader, "_TOKENS_AT_ONCE", 64)
    handle = model.base.module.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    _read(model, secrets, scorer)
    handle.remove()
    num_nodes = 2 + 10 + 100  # of which the empty beginning costs nothing of its own
    num_stretches = 2
    check = BEGINNING.size + secrets.shape[1]
    ancestors = (num_stretches - 1) * (secrets.shape[1] - 2)
    assert BEGINNING.size + num_nodes + check - 1 <= sum(num_tokens) <= BEGINNING.size + num_nodes + ancestors + check


def test_logits_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, secrets = adapted_model("tiny-llama"), _secrets()
    expected = _read(model, secrets)
    monkeypatch.setattr(secret_reader, "_LOGITS_IN_MEMORY", 3 * 262)
    np.testing.assert_allclose(_read(model, secrets), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("num_tokens", [1, 2])
def test_short_secrets(num_tokens: int) -> None:
    model, secrets = adapted_model("tiny-llama"), np.unique(_secrets()[:, -num_tokens:], axis=0)
    np.testing.assert_allclose(_read(model, secrets), _by_whole_records(model, secrets), atol=TOLERANCE, rtol=0)


def test_where_a_model_knows_nothing_all_secrets_are_exactly_equal() -> None:
    model = adapted_model("tiny-gpt2")
    with torch.no_grad():
        model.base.module.get_output_embeddings().weight.zero_()
    found = _read(model, _secrets())
    assert np.unique(found).size == 1
    assert found[0] == pytest.approx(-5 * np.log(262))


@pytest.mark.parametrize("window", [16, 46])
def test_a_model_that_sees_the_last_tokens_alone_is_read_as_a_whole_where_it_sees_too_few(window: int) -> None:
    """A tree has more tokens than the window, but none of its tokens is to see more than 45."""
    model, secrets = adapted_model("tiny-llama"), _secrets()
    config = MistralConfig(
        vocab_size=262,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
    )
    torch.manual_seed(0)
    model.base.module.model = MistralForCausalLM(config).eval().model
    scorer = TargetScorer(model.base.module)
    assert scorer.reads_trees(45) == (window > 45)
    records = [np.concatenate([BEGINNING, secret, [2]]) for secret in secrets.astype(np.int64)]
    columns = TokenReader(scorer, model, {}, 1).read(records)
    start = BEGINNING.size
    expected = [one["logp"][start - 1 : start + 4].sum(dtype=np.float64) for one in columns]
    np.testing.assert_allclose(_read(model, secrets, scorer), expected, atol=TOLERANCE, rtol=0)


def test_a_tree_that_is_read_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, secrets = adapted_model("tiny-llama"), _secrets()
    right = TargetScorer.tree_states

    def wrong(self: TargetScorer, beginning: Tensor, trees: Iterable[TokenTree]) -> Iterator[Tensor]:
        """As if each token followed the one that stands before it."""
        chains = (TokenTree(tokens=one.tokens, parents=torch.arange(len(one.tokens)) - 1) for one in trees)
        return right(self, beginning, chains)

    monkeypatch.setattr(TargetScorer, "tree_states", wrong)
    np.testing.assert_allclose(_read(model, secrets), _by_whole_records(model, secrets), atol=TOLERANCE, rtol=0)
