import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from confide.data.examples import Chat, ChatMessage, ClientRecords, Instruction, Record, Text
from confide.data.templates import Template, make_template
from confide.errors import DataError
from confide.evaluate.evaluation import evaluate_model
from confide.evaluate.rouge import rouge_l
from confide.evaluate.scores import Evaluation, Scores
from confide.model.tiny import make_byte_tokenizer, make_tiny_model

TOKENIZER = make_byte_tokenizer()
WORDS = ["fever", "cough", "pain", "rest", "water", "sleep"]


@pytest.fixture
def module() -> torch.nn.Module:
    return make_tiny_model("tiny-llama")


@pytest.fixture
def template() -> Template:
    return make_template("plain", TOKENIZER)


def _record(name: str, instruction: str, response: str, **more: object) -> Record:
    return Record(record_id=name, content=Instruction(instruction=instruction, response=response), **more)  # type: ignore[arg-type]


def _client(name: str, *held_out: Record) -> ClientRecords:
    return ClientRecords(name=name, train=(), held_out=held_out)


CLIENTS = (
    _client(
        "north", *(_record(f"n{number}", f"What helps against {word}?", word) for number, word in enumerate(WORDS))
    ),
    _client("south", _record("s0", "Say it.", "A rather longer response, in a few more words than the others.")),
)


def _evaluate(
    module: torch.nn.Module, template: Template, clients: Sequence[ClientRecords], **changes: int
) -> Evaluation:
    limits = {"max_examples": 0, "max_tokens": 256, "max_new_tokens": 5} | changes
    return evaluate_model(
        module,
        TOKENIZER,
        template,
        clients,
        max_examples=limits["max_examples"],
        max_tokens=limits["max_tokens"],
        max_new_tokens=limits["max_new_tokens"],
        batch_size=3,
    )


def _only(evaluation: Evaluation) -> Scores:
    (client,) = evaluation.clients
    return client.scores


def _log_likelihood(module: torch.nn.Module, template: Template, record: Record) -> float:
    """The slow obvious twin: one record, the log-probability of each target summed in float64."""
    ids, mask = template.encode(record)
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([ids])).logits[0].double()
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return sum(float(log_probabilities[at - 1, ids[at]]) for at in range(len(ids)) if mask[at])


def _greedy_ids(module: torch.nn.Module, template: Template, record: Record, max_new_tokens: int) -> list[int]:
    ids = template.prompt(record)
    start = len(ids)
    with torch.no_grad():
        for _ in range(max_new_tokens):
            ids.append(int(module(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert TOKENIZER.eos_token_id not in ids[start:]  # this model, with these weights, never ends by itself
    return ids[start:]


class WordTokenizer:
    """Reads every token as a word, so that the answers of a random model have words in them."""

    pad_token_id: int | None = None

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return " ".join(WORDS[token % len(WORDS)] for token in token_ids)


def test_loss_overall_weighs_every_target_token_the_same(module: torch.nn.Module, template: Template) -> None:
    evaluation = _evaluate(module, template, CLIENTS, max_new_tokens=0)
    records = [record for client in CLIENTS for record in client.held_out]
    total = -sum(_log_likelihood(module, template, record) for record in records)
    num_targets = sum(sum(template.encode(record)[1]) for record in records)
    # Float32 logits of width 32 over 262 tokens: some 100 roundings of 2**-24 on losses of about 5.6.
    assert evaluation.overall.value("loss") == pytest.approx(total / num_targets, abs=100 * 2.0**-24 * 5.6)
    assert evaluation.overall.value("perplexity") == math.exp(evaluation.overall.value("loss") or 0.0)
    assert [client.name for client in evaluation.clients] == ["north", "south"]
    assert evaluation.metrics == ("loss", "perplexity", "token_accuracy")


def test_rouge_l_is_that_of_the_greedy_answers(module: torch.nn.Module, template: Template) -> None:
    evaluation = evaluate_model(
        module, WordTokenizer(), template, CLIENTS[:1], max_examples=0, max_tokens=256, max_new_tokens=8, batch_size=4
    )
    scores = _only(evaluation)
    answers = [_greedy_ids(module, template, record, 8) for record in CLIENTS[0].held_out]
    texts = [WordTokenizer().decode(answer, skip_special_tokens=True) for answer in answers]
    expected = np.mean([rouge_l(word, text) for word, text in zip(WORDS, texts, strict=True)])
    assert expected > 0
    assert scores.value("rouge_l") == pytest.approx(float(expected), rel=1e-12)  # float64 means of six numbers
    assert scores.rouge_l.count == scores.num_unfinished == len(WORDS)


def test_exact_match_counts_the_records_whose_answer_the_model_gives(
    module: torch.nn.Module, template: Template
) -> None:
    question = _record("q", "Why?", "Because.")
    said = TOKENIZER.decode(_greedy_ids(module, template, question, 5), skip_special_tokens=True).strip()
    records = (
        _record("right", "Why?", "Because.", answer=said),
        _record("wrong", "Why?", "Because.", answer=f"{said} not at all"),
        question,
    )
    scores = _only(_evaluate(module, template, [_client("north", *records)]))
    assert (scores.value("exact_match"), scores.exact_match.count) == (0.5, 2)


@pytest.mark.parametrize("choices", [("aspirin", "rest", "a long walk by the sea"), ("yes", "no", "maybe")])
def test_the_likeliest_complete_choice_is_chosen(
    choices: tuple[str, ...], module: torch.nn.Module, template: Template
) -> None:
    def question(name: str, answer: str) -> Record:
        return _record(name, "What helps?", "It depends.", choices=choices, answer=answer)

    likelihoods = [_log_likelihood(module, template, _record("c", "What helps?", choice)) for choice in choices]
    best = int(np.argmax(likelihoods))
    right, wrong = question("right", choices[best]), question("wrong", choices[best - 1])
    assert _only(_evaluate(module, template, [_client("north", right)])).value("choice_accuracy") == 1.0
    assert _only(_evaluate(module, template, [_client("north", wrong)])).value("choice_accuracy") == 0.0
    both = _only(_evaluate(module, template, [_client("north", right, wrong)]))
    assert both.value("choice_accuracy") == 0.5
    assert both.value("exact_match") is None


def test_choices_of_a_conversation_take_the_place_of_its_last_answer(module: torch.nn.Module) -> None:
    template = make_template("chat", TOKENIZER)

    def conversation(answer: str) -> Record:
        said = [("user", "Hello"), ("assistant", "How can I help?"), ("user", "yes or no?"), ("assistant", answer)]
        messages = tuple(ChatMessage(role=role, content=content) for role, content in said)
        return Record(record_id=answer, content=Chat(messages=messages), choices=("yes", "no"))

    likelihoods = {word: _log_likelihood(module, template, conversation(word)) for word in ("yes", "no")}
    best = max(likelihoods, key=lambda word: likelihoods[word])
    scores = _only(_evaluate(module, template, [_client("north", conversation("yes"), conversation("no"))]))
    assert scores.choice_accuracy.count == 2
    assert scores.value("choice_accuracy") == 0.5
    assert _only(_evaluate(module, template, [_client("a", conversation(best))])).value("choice_accuracy") == 1.0


def test_only_the_first_held_out_records_are_measured(module: torch.nn.Module, template: Template) -> None:
    capped = _evaluate(module, template, CLIENTS, max_examples=2)
    first = _evaluate(module, template, [_client("north", *CLIENTS[0].held_out[:2]), CLIENTS[1]])
    assert capped.to_json() == first.to_json()
    assert capped.overall.num_examples == 3


def test_the_same_model_gives_the_same_scores(module: torch.nn.Module, template: Template) -> None:
    assert _evaluate(module, template, CLIENTS).to_json() == _evaluate(module, template, CLIENTS).to_json()


def test_plain_text_has_a_loss_and_no_answer(module: torch.nn.Module, template: Template) -> None:
    texts = [Record(record_id=word, content=Text(text=f"All about {word}.")) for word in WORDS]
    assert _evaluate(module, template, [_client("north", *texts)]).metrics == ("loss", "perplexity", "token_accuracy")


def test_cut_and_dropped_records_are_counted(module: torch.nn.Module, template: Template) -> None:
    records = (_record("a", "Short?", "no"), _record("b", "Short?", "x" * 50), _record("c", "y" * 50, "no"))
    scores = _only(_evaluate(module, template, [_client("north", *records)], max_tokens=20))
    assert (scores.num_examples, scores.num_truncated, scores.num_dropped) == (2, 1, 1)
    assert scores.rouge_l.count == 2


def test_progress_ends_at_its_total_for_every_client(module: torch.nn.Module, template: Template) -> None:
    choosing = _record("q", "Yes or no?", "yes", choices=("yes", "no"))
    calls: list[tuple[str, int, int]] = []
    evaluate_model(
        module,
        TOKENIZER,
        template,
        [*CLIENTS, _client("west", choosing)],
        max_examples=0,
        max_tokens=256,
        max_new_tokens=3,
        batch_size=4,
        progress=lambda *call: calls.append(call),
    )
    last = {name: (done, total) for name, done, total in calls}
    assert last == {"north": (12, 12), "south": (2, 2), "west": (4, 4)}


def test_a_client_without_held_out_records_is_named(module: torch.nn.Module, template: Template) -> None:
    evaluation = _evaluate(module, template, [*CLIENTS, _client("empty")])
    assert evaluation.not_evaluated == ("empty",)
    assert evaluation.overall.num_examples == 7


def test_no_held_out_records_at_all_is_refused(module: torch.nn.Module, template: Template) -> None:
    with pytest.raises(DataError, match=r"none of the 2 clients has held-out records.*data\.held_out"):
        _evaluate(module, template, [_client("a"), _client("b")])


def test_held_out_records_that_are_all_cut_away_are_refused(module: torch.nn.Module, template: Template) -> None:
    with pytest.raises(DataError, match=r"loses its whole response when cut to 4 tokens.*train\.max_tokens"):
        _evaluate(module, template, CLIENTS, max_tokens=4)


def test_an_answer_that_is_no_choice_is_refused(module: torch.nn.Module, template: Template) -> None:
    record = _record("row-3", "Yes or no?", "yes", choices=("yes", "no"), answer="perhaps")
    with pytest.raises(DataError, match="record row-3: its answer is none of its 2 choices"):
        _evaluate(module, template, [_client("north", record)])
