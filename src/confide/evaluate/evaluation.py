"""One model on every client's held-out records: loss, greedy answers, multiple choice, put together.

Stands on the data (templates, records) and on a model given as a plain torch module; it does not know how the model was
trained, so the base model, an adapter and a merged model are all measured by the same lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from confide.data.examples import Chat, ClientRecords, Instruction, Record, TokenizedExample
from confide.data.templates import Template
from confide.data.tokenize import tokenize_records
from confide.errors import DataError
from confide.evaluate.generation import end_token_ids, generate_answers
from confide.evaluate.loss import example_losses
from confide.evaluate.metrics import (
    best_choice,
    choice_candidates,
    correct_choice,
    is_exact_match,
    response_text,
)
from confide.evaluate.rouge import rouge_l
from confide.evaluate.scores import ClientScores, Evaluation, Mean, Scores
from confide.train.forward import TargetScorer

Progress = Callable[[str, int, int], None]


class AnswerTokenizer(Protocol):
    """What reading answers needs of a transformers tokenizer."""

    pad_token_id: int | None

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Gives the text of token ids."""


def evaluate_model(
    module: torch.nn.Module,
    tokenizer: AnswerTokenizer,
    template: Template,
    clients: Sequence[ClientRecords],
    *,
    max_examples: int,
    max_tokens: int,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures a model on each client's held-out records.

    Args:
        module: a causal language model of transformers, bare or wrapped by peft; its mode is put back afterwards.
        tokenizer: the model's.
        template: turns records into tokens, as in training.
        clients: whose `held_out` is read; `train` is not looked at.
        max_examples: the first so many held-out records of each client that keep a response when they are cut, the same
            ones each time, and those that a run measures on its way; 0 = all.
        max_tokens: the longest example, in tokens; longer ones are cut as in training, and counted.
        max_new_tokens: the longest greedy answer, in tokens; 0 = no answers, so no ROUGE-L and no exact match.
        batch_size: examples at a time; changes speed only, up to float rounding.
        progress: called as progress(client name, steps done, steps in all for this client).

    Returns:
        Scores per client and overall. The same model and records give the same scores on the same machine.

    Raises:
        DataError: no client has anything to measure on; or a multiple-choice answer names none of the choices.
    """
    measurement = _Measurement(
        TargetScorer(module), tokenizer, template, max_examples, max_tokens, max_new_tokens, batch_size
    )
    measured: list[ClientScores] = []
    not_evaluated: list[str] = []
    for client in clients:
        scores = measurement.scores(client.name, client.held_out, progress)
        if scores is None:
            not_evaluated.append(client.name)
        else:
            measured.append(ClientScores(name=client.name, scores=scores))
    if not measured:
        raise _nothing_to_measure(clients, max_tokens)
    return Evaluation(clients=tuple(measured), not_evaluated=tuple(not_evaluated))


def _nothing_to_measure(clients: Sequence[ClientRecords], max_tokens: int) -> DataError:
    if not any(client.held_out for client in clients):
        return DataError(
            f"none of the {len(clients)} clients has held-out records to evaluate on. "
            "Set data.held_out above 0 (0.1 keeps a tenth of each client's rows aside), or give clients more rows."
        )
    return DataError(
        f"every held-out record loses its whole response when cut to {max_tokens} tokens. Raise train.max_tokens."
    )


class _Steps:
    """Counts what is done for one client and tells the caller."""

    def __init__(self, client: str, num_steps: int, progress: Progress | None) -> None:
        self._client = client
        self._num_steps = num_steps
        self._num_done = 0
        self._progress = progress

    def __call__(self, num_done: int) -> None:
        self._num_done += num_done
        if self._progress is not None:
            self._progress(self._client, self._num_done, self._num_steps)


@dataclass(frozen=True)
class _Measurement:
    """A model and how it is measured: what stays the same over clients."""

    scorer: TargetScorer
    tokenizer: AnswerTokenizer
    template: Template
    max_examples: int
    max_tokens: int
    max_new_tokens: int
    batch_size: int

    def scores(self, client: str, records: Sequence[Record], progress: Progress | None) -> Scores | None:
        """One client's scores, or None if it has no example to measure on."""
        tokenized = tokenize_records(records, self.template, self.max_tokens, max_examples=self.max_examples)
        examples = tokenized.examples
        if not examples:
            return None
        kept_ids = {example.record_id for example in examples}
        kept = [record for record in records if record.record_id in kept_ids]
        prompts = self._prompts(kept)
        questions = [question for record in kept if (question := self._question(record)) is not None]
        num_candidates = sum(len(question.examples) for question in questions)
        steps = _Steps(client, len(examples) + len(prompts) + num_candidates, progress)

        losses = example_losses(
            self.scorer, examples, pad_token_id=self._pad_token_id, batch_size=self.batch_size, progress=steps
        )
        answers = self._answer(prompts, steps)
        return Scores(
            losses=losses,
            rouge_l=_mean([rouge_l(response_text(answer.record), answer.text) for answer in answers]),
            exact_match=_mean(
                [
                    is_exact_match(answer.record.answer, answer.text)
                    for answer in answers
                    if answer.record.answer is not None and not answer.record.choices
                ]
            ),
            choice_accuracy=_mean(self._choose(questions, steps)),
            num_truncated=tokenized.num_truncated,
            num_dropped=tokenized.num_dropped,
            num_unfinished=sum(not answer.is_finished for answer in answers),
        )

    def _prompts(self, records: Sequence[Record]) -> list["_Prompt"]:
        """The records that can be answered: those with a reference, whose prompt fits into the longest length."""
        if self.max_new_tokens == 0:
            return []
        prompts = [
            _Prompt(record, tuple(self.template.prompt(record))) for record in records if response_text(record).strip()
        ]
        return [prompt for prompt in prompts if 0 < len(prompt.token_ids) <= self.max_tokens]

    def _answer(self, prompts: Sequence["_Prompt"], steps: "_Steps") -> list["_Answered"]:
        if not prompts:
            return []
        answers = generate_answers(
            self.scorer.model,
            [prompt.token_ids for prompt in prompts],
            max_new_tokens=self.max_new_tokens,
            end_token_ids=self._end_token_ids,
            pad_token_id=self._pad_token_id,
            batch_size=self.batch_size,
            progress=steps,
        )
        return [
            _Answered(
                record=prompt.record,
                text=self.tokenizer.decode(list(answer.token_ids), skip_special_tokens=True).strip(),
                is_finished=answer.is_finished,
            )
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def _question(self, record: Record) -> "_Question | None":
        """A record's choices, each as the complete response; None without choices or where one of them is cut."""
        right = correct_choice(record) if record.choices and response_text(record).strip() else None
        if right is None:
            return None
        candidates = [_with_response(record, text) for text in choice_candidates(record)]
        tokenized = tokenize_records(candidates, self.template, self.max_tokens)
        if tokenized.num_truncated or tokenized.num_dropped:
            return None
        return _Question(tokenized.examples, right)

    def _choose(self, questions: Sequence["_Question"], steps: "_Steps") -> list[bool]:
        """Whether the likeliest choice is the right one, for each question."""
        candidates = [example for question in questions for example in question.examples]
        losses = example_losses(
            self.scorer, candidates, pad_token_id=self._pad_token_id, batch_size=self.batch_size, progress=steps
        )
        log_likelihoods = iter((-losses.sums).tolist())
        return [
            best_choice([next(log_likelihoods) for _ in question.examples]) == question.right for question in questions
        ]

    @property
    def _end_token_ids(self) -> tuple[int, ...]:
        return end_token_ids(self.scorer.model, self.template.stop_ids)

    @property
    def _pad_token_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else pad  # any valid id does: what is padded is masked


@dataclass(frozen=True)
class _Prompt:
    record: Record
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Answered:
    record: Record
    text: str
    is_finished: bool


@dataclass(frozen=True)
class _Question:
    """A multiple-choice record: one example per choice, and the index of the right one."""

    examples: tuple[TokenizedExample, ...]
    right: int


def _with_response(record: Record, response: str) -> Record:
    content = record.content
    if isinstance(content, Instruction):
        return replace(record, content=replace(content, response=response))
    assert isinstance(content, Chat)  # plain text has no response and does not come here
    last = max(index for index, message in enumerate(content.messages) if message.role == "assistant")
    messages = list(content.messages[: last + 1])
    messages[last] = replace(messages[last], content=response)
    return replace(record, content=replace(content, messages=tuple(messages)))


def _mean(values: Sequence[float]) -> Mean:
    return Mean(float(sum(values)), len(values))
