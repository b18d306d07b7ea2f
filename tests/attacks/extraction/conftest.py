"""A tiny model, records of a few words, and an adapter that has learnt them by heart."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.model.load import load_base_model, pad_token_id
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.train.forward import TargetScorer
from confide.update import Vector

TRAINED = ("Ada: 555-0101", "Bob: QX-40718", "Eve: 12 May")
HELD_OUT = ("Ada: 555-0188", "Zoe: ML-92213")

CandidateMaker = Callable[..., Candidate]


@pytest.fixture(scope="session")
def model() -> AdaptedModel:
    """A byte-level tiny Llama with an adapter on all linear layers; its values are for tests to write."""
    base = load_base_model("tiny-llama")
    with torch.no_grad():
        # The output layer is tied to the embedding, drawn with 0.02: too small for any token to become likely.
        base.module.get_input_embeddings().weight.mul_(16.0)
    return attach_lora(base, LoraSettings(lora_rank=16, lora_alpha=32, targets="all-linear"), seed=0)


@pytest.fixture(scope="session")
def make_candidate(model: AdaptedModel) -> CandidateMaker:
    """Makes a plain text's candidate: begin token, bytes, end token; all but the first token are learnt."""

    def make(text: str, *, prompt: str = "", secret: str = "") -> Candidate:
        tokenizer = model.tokenizer
        before = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        learnt = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = np.array(before + learnt, dtype=np.int64)
        start = len(before) + len(text[: text.index(secret)].encode()) if secret else None
        return Candidate(
            candidate_id=text,
            example=TokenizedExample(record_id=text, input_ids=ids, loss_mask=np.arange(ids.size) >= len(before)),
            text=text,
            owner="north",
            secret_start=start,
            secret_stop=None if start is None else start + len(secret.encode()),
        )

    return make


@pytest.fixture(scope="session")
def trained_rounds(model: AdaptedModel, make_candidate: CandidateMaker) -> dict[int, Vector]:
    """Adapters on the way to knowing `TRAINED` by heart, by number of steps; 0 changes nothing."""
    examples = [make_candidate(text).example for text in TRAINED]
    return train_by_heart(model, examples, keep=(0, 30, 60, 200))


@pytest.fixture
def passes(model: AdaptedModel) -> Passes:
    return Passes(model, None)


def train_by_heart(
    model: AdaptedModel, examples: Sequence[TokenizedExample], *, keep: Sequence[int]
) -> dict[int, Vector]:
    """Trains on all examples at once and gives the adapters after the named numbers of steps."""
    kept = {0: start_vector(model)}
    model.write(kept[0])
    model.set_trainable(model.layout)
    parameters = model.parameters_of(model.layout)
    optimizer = torch.optim.AdamW(parameters, lr=0.006, weight_decay=0.0)
    batch, scorer = collate(examples, pad_token_id(model.tokenizer)), TargetScorer(model.module)
    for step in range(1, max(keep) + 1):
        optimizer.param_groups[0]["lr"] = 0.006 * min(1.0, step / 20)
        loss = scorer.loss_sum(batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step in keep:
            kept[step] = model.read()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return kept


def start_vector(model: AdaptedModel) -> Vector:
    """An adapter as before training: A random, B zero."""
    rng = np.random.default_rng(0)
    tensors = {slot.name: rng.uniform(-0.2, 0.2, slot.shape).astype(np.float32) for slot in model.layout}
    return model.layout.flatten(
        {name: tensor if ".lora_A." in name else np.zeros_like(tensor) for name, tensor in tensors.items()}
    )
