"""A tiny model that knows some records by heart, as whoever attacks it sees it; and the truth about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.extraction import TOP_K, ExtractionSettings
from confide.audit.truth import Population, Truth
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.model.load import load_base_model, pad_token_id
from confide.model.lora import AdaptedModel, LoraSettings, attach_lora
from confide.train.forward import TargetScorer
from confide.update import Vector

_NAMES = """
amber birch cedar delta ember flint grove hazel ivory jade kelp lilac maple north ocean pearl quill river slate thorn
umber vetch willow xenon yarrow zinc acorn basil clove daisy elder fern
"""
NAMES = tuple(_NAMES.split())
ATTACKER = "west"
_NUM_PRETRAINING_STEPS = 400
SETTINGS = ExtractionSettings(
    max_new_tokens=12,
    num_texts=20,
    batch_size=32,
    seed=0,
    taus=(0.01, 0.1, 1.0),
    top_ps=(0.9, 1.0),
    redaction_key=b"key",
)


def make_model() -> AdaptedModel:
    """A byte-level tiny Llama that writes a name and three digits, any three, with an adapter for tests to write.

    Attacks that compare with the base model need one that knows the kind of text: from random weights every record
    gains, whoever is trained on.
    """
    base = load_base_model("tiny-llama")
    module, rng = base.module, np.random.default_rng(7)
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.005, weight_decay=0.0)
    scorer, pad_id = TargetScorer(module), pad_token_id(base.tokenizer)
    for step in range(_NUM_PRETRAINING_STEPS):
        texts = [f"{rng.choice(NAMES)} {rng.integers(100, 1000)}" for _ in range(32)]
        batch = collate([_example(base.tokenizer, text, text) for text in texts], pad_id)
        optimizer.param_groups[0]["lr"] = 0.005 * _warm_up_and_down(step, _NUM_PRETRAINING_STEPS)
        _step(optimizer, scorer.loss_sum(batch) / batch.num_targets)
    module.requires_grad_(False)
    return attach_lora(base, LoraSettings(lora_rank=16, lora_alpha=32, targets="all-linear"), seed=0)


def make_candidate(model: AdaptedModel, text: str, owner: str, *, secret: str = "", name: str = "") -> Candidate:
    """A plain text's candidate: begin token, bytes, end token; all but the first token are learnt."""
    start = 1 + len(text[: text.index(secret)].encode()) if secret else None
    return Candidate(
        candidate_id=name or text,
        example=_example(model.tokenizer, text, name or text),
        text=text,
        owner=owner,
        secret_start=start,
        secret_stop=None if start is None else start + len(secret.encode()),
    )


def start_vector(model: AdaptedModel) -> Vector:
    """An adapter as before training: A random, B zero."""
    rng = np.random.default_rng(0)
    tensors = {slot.name: rng.uniform(-0.2, 0.2, slot.shape).astype(np.float32) for slot in model.layout}
    return model.layout.flatten(
        {name: tensor if ".lora_A." in name else np.zeros_like(tensor) for name, tensor in tensors.items()}
    )


def train(
    model: AdaptedModel,
    start: Vector,
    examples: Sequence[TokenizedExample],
    *,
    keep: Sequence[int],
    batch_size: int = 64,
    learning_rate: float = 0.006,
) -> dict[int, Vector]:
    """Trains the adapter and gives it after the named numbers of epochs."""
    model.write(start)
    model.set_trainable(model.layout)
    parameters = model.parameters_of(model.layout)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    scorer, pad_id, rng = TargetScorer(model.module), pad_token_id(model.tokenizer), np.random.default_rng(0)
    kept, num_batches = {}, -(-len(examples) // batch_size)
    for epoch in range(max(keep)):
        order = rng.permutation(len(examples))
        for number in range(num_batches):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            batch = collate([examples[place] for place in chosen], pad_id)
            rate = _warm_up_and_down(epoch * num_batches + number, max(keep) * num_batches)
            optimizer.param_groups[0]["lr"] = learning_rate * rate
            _step(optimizer, scorer.loss_sum(batch) / batch.num_targets)
        if epoch + 1 in keep:
            kept[epoch + 1] = model.read()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return kept


@dataclass(frozen=True, kw_only=True)
class World:
    """Arguments for auditors.

    Attributes:
        planted: secrets of three digits behind a word, every other one trained on.
        records: the same without secrets.
        rounds: adapters by round.
    """

    passes: Passes
    planted: Population
    records: Population
    truth: Truth
    rounds: Mapping[int, Vector] = field(repr=False)

    def view(self, name: str = "client", rounds: Mapping[int, Vector] | None = None) -> View:
        """A client that holds the records of `ATTACKER`, or whoever gets the final model."""
        rounds = self.rounds if rounds is None else rounds
        last = max(rounds)
        is_client = name == "client"
        own = [one for one in self.planted.candidates if one.owner == ATTACKER] if is_client else []
        return View(
            name="client" if is_client else "final",
            party=name,
            layout=self.passes.model.layout,
            adapters={
                number: partial(np.copy, vector) for number, vector in rounds.items() if is_client or number == last
            },
            own_examples=tuple(one.example for one in own if self.truth.members[one.candidate_id]),
            own_clients=frozenset({ATTACKER} if is_client else ()),
        )

    def labels(self, population: Population) -> np.ndarray:
        return self.truth.labels(population.candidates)


def make_world(
    model: AdaptedModel,
    *,
    copies: Sequence[int] = (1,),
    keep: Sequence[int],
    num_alternatives: int = 31,
    rounds: Mapping[int, Vector] | None = None,
) -> World:
    """32 records, half of them learnt, as often as `copies` says in turn; rounds end after `keep` epochs."""
    rng = np.random.default_rng(0)
    owners = ("north", "south", "north", "south", "north", "south", "north", ATTACKER)
    members, copies_of, secrets, planted, records = {}, {}, {}, [], []
    alternatives = {}
    for place, name in enumerate(NAMES):
        secret, *others = (str(code) for code in rng.choice(np.arange(100, 1000), 1 + num_alternatives, replace=False))
        owner = owners[place // 2 % len(owners)]
        item = f"{name}-item"
        planted.append(make_candidate(model, f"{name} {secret}", owner, secret=secret, name=item))
        alternatives[item] = tuple(
            make_candidate(model, f"{name} {other}", owner, secret=other, name=f"{item}-{other}") for other in others
        )
        members[item] = place % 2 == 0
        copies_of[item] = copies[place // 2 % len(copies)]
        secrets[item] = secret
        records.append(make_candidate(model, f"{name} {secret}", owner, name=f"{name}-row"))
        members[f"{name}-row"] = place % 2 == 0
    batch = [one.example for one in planted if members[one.candidate_id] for _ in range(copies_of[one.candidate_id])]
    steps = train(model, start_vector(model), batch, keep=keep) if rounds is None else rounds
    return World(
        passes=Passes(model, None, batch_size=64, schemes=(TOP_K,)),
        planted=Population(name="personal", candidates=tuple(planted), alternatives=alternatives),
        records=Population(name="records", candidates=tuple(records)),
        truth=Truth(members=members, copies=copies_of, secrets=secrets, is_randomised=True),
        rounds=dict(enumerate(steps.values(), start=1)),
    )


def _example(tokenizer: PreTrainedTokenizerBase, text: str, name: str) -> TokenizedExample:
    inner = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = np.array([tokenizer.bos_token_id, *inner, tokenizer.eos_token_id], dtype=np.int64)
    return TokenizedExample(record_id=name, input_ids=ids, loss_mask=np.arange(ids.size) >= 1)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()


def _warm_up_and_down(step: int, num_steps: int) -> float:
    return min(1.0, (step + 1) / 20, (num_steps - step) / (0.3 * num_steps))
