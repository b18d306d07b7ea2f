"""The scorer against the plain way: all logits of the model, then cross entropy at the targets."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.gemma2 import Gemma2Config, Gemma2ForCausalLM
from transformers.models.gemma3 import Gemma3ForCausalLM, Gemma3TextConfig
from transformers.models.mamba import MambaConfig, MambaForCausalLM

from confide.data.batches import Batch, collate
from confide.data.examples import TokenizedExample
from confide.train.forward import TargetScorer, TokenTree

VOCABULARY = 50
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def llama() -> torch.nn.Module:
    model: torch.nn.Module = LlamaForCausalLM(LlamaConfig(**_SHAPE))
    return model


def gpt2() -> torch.nn.Module:
    model: torch.nn.Module = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    )
    return model


def gemma2(cap: float = 0.05) -> torch.nn.Module:
    """Caps its logits softly behind the output layer, so the output layer alone does not give them."""
    model: torch.nn.Module = Gemma2ForCausalLM(
        Gemma2Config(
            **_SHAPE,
            head_dim=8,
            final_logit_softcapping=cap,
        )
    )
    return model


def granite() -> torch.nn.Module:
    """Divides its logits by a number so near to 1 that bfloat16 hardly tells."""
    model: torch.nn.Module = GraniteForCausalLM(
        GraniteConfig(
            **_SHAPE,
            logits_scaling=1.01,
        )
    )
    return model


class ScaledLlama(LlamaForCausalLM):  # type: ignore[misc]
    """Does to its logits what no name in its configuration tells."""

    def forward(self, *args: object, **options: object) -> object:
        output = super().forward(*args, **options)
        output.logits = output.logits * 1.03
        return output


def gemma3() -> torch.nn.Module:
    """Looks back only so far in most layers: what such a layer keeps of a beginning is its last few tokens."""
    model: torch.nn.Module = Gemma3ForCausalLM(
        Gemma3TextConfig(
            **_SHAPE | {"num_hidden_layers": 3},
            head_dim=8,
            sliding_window=5,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    )
    return model


def mamba() -> torch.nn.Module:
    """Keeps a running state, and not each token's keys and values."""
    model: torch.nn.Module = MambaForCausalLM(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=2)
    )
    return model


MAKERS = {"llama": (llama, True), "gpt2": (gpt2, True), "gemma2": (gemma2, False)}


def batch_of(lengths: list[int], seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        mask = rng.random(length) < 0.6
        mask[0], mask[-1] = False, True
        examples.append(TokenizedExample(record_id="x", input_ids=rng.integers(3, VOCABULARY, length), loss_mask=mask))
    return collate(examples, pad_token_id=0)


def plain_losses(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Each row alone, without padding, through the model's own full logits."""
    losses = []
    for ids, attended, targets in zip(batch.input_ids, batch.attention_mask, batch.loss_mask, strict=True):
        length = int(attended.sum())
        logits = model(input_ids=ids[None, :length]).logits[0, :-1]
        row = torch.nn.functional.cross_entropy(logits, ids[1:length], reduction="none")
        losses.append(row[targets[1:length]])
    return torch.cat(losses)


@pytest.mark.parametrize("name", MAKERS)
def test_losses_equal_those_of_each_row_alone(name: str) -> None:
    torch.manual_seed(0)
    make, splits = MAKERS[name]
    model = make().eval()
    scorer = TargetScorer(model)
    assert scorer.splits_head is splits
    batch = batch_of([3, 9, 6])
    scorer._chunk = 4  # smaller than the batch, so that several chunks come together
    found = scorer.score(batch)
    expected = plain_losses(model, batch)
    # float32 logits of order 1: a few roundings of 6e-8 relative, summed over 16 channels.
    torch.testing.assert_close(found.losses, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scorer.loss_sum(batch), expected.sum(), rtol=1e-5, atol=1e-6)
    assert found.row.tolist() == [row for row, n in enumerate(batch.loss_mask.sum(dim=1).tolist()) for _ in range(n)]


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_equal_the_plain_ways(name: str) -> None:
    torch.manual_seed(0)
    model = MAKERS[name][0]().eval()
    batch = batch_of([5, 8])
    scorer = TargetScorer(model)
    scorer.loss_sum(batch).backward()
    watched = [p for n, p in model.named_parameters() if "layers.0" in n or "h.0." in n]
    found = [p.grad.clone() for p in watched if p.grad is not None]
    model.zero_grad()
    plain_losses(model, batch).sum().backward()
    expected = [p.grad for p in watched if p.grad is not None]
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_correct_means_the_most_likely_token() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    batch = batch_of([7])
    found = TargetScorer(model).score(batch)
    best = model(input_ids=batch.input_ids).logits[0, :-1].argmax(-1)
    wanted = (best == batch.input_ids[0, 1:])[batch.loss_mask[0, 1:]]
    assert found.is_correct.tolist() == wanted.tolist()


def test_making_a_scorer_and_asking_whether_it_reads_on_leave_the_mode_of_the_model() -> None:
    model = llama().train()
    assert TargetScorer(model).reads_on
    assert model.training
    model.eval()
    assert TargetScorer(model).reads_on
    assert not model.training


def test_a_soft_cap_as_gemma_2_has_it_is_in_the_loss_also_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = gemma2(cap=30.0).eval()
    with torch.no_grad():  # logits of up to about 10, as a trained model's: the cap takes 3 % off the largest
        model.model.embed_tokens.weight.mul_(20)  # type: ignore[operator, union-attr]
    batch = batch_of([6])
    with torch.no_grad():
        largest = float(model(input_ids=batch.input_ids).logits.abs().max())
    assert 5 < largest < 15
    scorer = TargetScorer(model.bfloat16())
    assert not scorer.splits_head
    expected = plain_losses(model, batch)
    torch.testing.assert_close(scorer.score(batch).losses, expected.float(), rtol=0.02, atol=0.02)  # bfloat16


@pytest.mark.parametrize("make", [granite, lambda: ScaledLlama(llama().config)])
def test_a_factor_behind_the_head_is_found_in_bfloat16(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    assert not TargetScorer(make().bfloat16().eval()).splits_head


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_plain_head_is_split_in_bfloat16_too(name: str) -> None:
    torch.manual_seed(0)
    assert TargetScorer(MAKERS[name][0]().bfloat16().eval()).splits_head


@pytest.mark.parametrize("make", [llama, gpt2, gemma3])
@pytest.mark.parametrize("num_shared", [1, 4, 9])
def test_records_that_begin_alike_have_the_states_that_each_has_alone(
    make: Callable[[], torch.nn.Module], num_shared: int
) -> None:
    torch.manual_seed(0)
    scorer = TargetScorer(make().eval())
    assert scorer.reads_on
    whole = torch.randint(3, VOCABULARY, (3, num_shared + 4))
    whole[:, :num_shared] = whole[0, :num_shared]
    beginning, ends = scorer.family_states(whole[0, :num_shared], whole[:, num_shared:])
    expected = torch.stack([scorer._hidden(row[None, :])[0] for row in whole])
    for row in range(3):
        torch.testing.assert_close(beginning, expected[row, :num_shared], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends, expected[:, num_shared:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "num_shared"), [(llama, 1), (llama, 9), (gpt2, 9), (gemma3, 1)])
def test_texts_of_a_tree_have_the_states_that_each_has_alone(
    make: Callable[[], torch.nn.Module], num_shared: int
) -> None:
    torch.manual_seed(0)
    scorer = TargetScorer(make().eval())
    assert scorer.reads_trees(num_shared + 3)
    beginning = torch.randint(3, VOCABULARY, (num_shared,))
    tokens = torch.randint(3, VOCABULARY, (7,))
    ways = [[0], [0, 1], [0, 1, 2], [0, 3], [4], [4, 5], [4, 6]]
    tree = TokenTree(tokens=tokens, parents=torch.tensor([-1, 0, 1, 0, -1, 4, 4]))
    behind, *found = scorer.tree_states(beginning, [tree, tree])
    alone = [scorer._hidden(torch.cat([beginning, tokens[way]])[None, :])[0, -1] for way in ways]
    torch.testing.assert_close(behind, scorer._hidden(beginning[None, :])[0, -1:], rtol=1e-4, atol=1e-5)
    for states in found:
        torch.testing.assert_close(states, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_a_tree_is_read_where_every_layer_sees_all_of_its_texts() -> None:
    torch.manual_seed(0)
    scorer = TargetScorer(gemma3().eval())  # which looks back at five tokens, its own among them
    assert [scorer.reads_trees(num_tokens) for num_tokens in (4, 5)] == [True, False]
    assert TargetScorer(llama().eval()).reads_trees(10_000)


@pytest.mark.parametrize("make", [gemma2, mamba], ids=["whole-pass", "running-state"])
def test_models_that_cannot_read_on_from_a_beginning_say_so(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    scorer = TargetScorer(make().eval())
    assert not scorer.reads_on
    assert not scorer.reads_trees(1)


def test_a_decoder_that_forgets_where_it_was_does_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = llama().eval()
    assert isinstance(model, LlamaForCausalLM)
    scorer, decoder = TargetScorer(model), model.get_decoder()
    forward = decoder.forward

    def from_the_start(**options: object) -> object:
        ids = options["input_ids"]
        assert isinstance(ids, torch.Tensor)
        return forward(**options, position_ids=torch.arange(ids.shape[1])[None, :])

    monkeypatch.setattr(decoder, "forward", from_the_start)
    assert not scorer.reads_on


def test_a_decoder_that_gives_every_record_the_end_of_the_first_does_not_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = llama().eval()
    assert isinstance(model, LlamaForCausalLM)
    scorer, decoder = TargetScorer(model), model.get_decoder()
    forward = decoder.forward

    def first_end(**options: object) -> object:
        ids = options["input_ids"]
        assert isinstance(ids, torch.Tensor)
        return forward(**options | ({"input_ids": ids[:1].expand_as(ids)} if options.get("past_key_values") else {}))

    monkeypatch.setattr(decoder, "forward", first_end)
    assert not scorer.reads_on
