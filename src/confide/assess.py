"""Evaluates a run from its directory: its adapter, and on request what it is compared with.

Reads only files, so it can be done again at any time; writes RUN/evaluation.json, and with baselines
RUN/comparison.json beside it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.baselines import Baseline, alone_name, train_baselines
from confide.build import apply_threads, build_model, build_records, build_template
from confide.config.load import load_resolved
from confide.config.schema import Config
from confide.data.examples import ClientRecords
from confide.data.templates import Template
from confide.errors import RunDirectoryError
from confide.evaluate.comparison import Comparison
from confide.evaluate.evaluation import evaluate_model
from confide.evaluate.scores import ClientScores, Evaluation
from confide.federate import Observer
from confide.files import write_atomic
from confide.model.adapter_files import read_adapter
from confide.model.lora import AdaptedModel
from confide.run import RunDirectory
from confide.train.outcome import StepReport

EVALUATION_FILE = "evaluation.json"
COMPARISON_FILE = "comparison.json"
_SCHEMA_VERSION = 1
_MEASURES = {
    "loss": "mean negative log-likelihood of the response's tokens, end token included, in nats per token",
    "perplexity": "exp(loss)",
    "token_accuracy": "share of the response's tokens that were the likeliest, given all tokens before them",
    "rouge_l": "mean ROUGE-L F-measure of greedy answers against the reference response, rouge_score, no stemming",
    "exact_match": "share of greedy answers that equal the record's short answer, but for case, punctuation and "
    "articles; where that is a number, whose last number equals it",
    "choice_accuracy": "share of records whose right choice has the largest total log-likelihood as the response",
    "overall": "all clients' records together: loss, perplexity and token accuracy weighted by target tokens, the rest "
    "by records",
}


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Whom to tell how far things are; each may be left out.

    Attributes:
        evaluating: called as evaluating(model's name, client's name, steps done, steps in all for this client).
        baseline: called before a baseline is trained.
        step: called with a client's name after each local step of a baseline; may raise to stop.
    """

    evaluating: Callable[[str, str, int, int], None] | None = None
    baseline: Callable[[Baseline], None] | None = None
    step: Callable[[str, StepReport], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A run's evaluation, and the comparison where it was asked for."""

    description: dict[str, object]
    federated: Evaluation
    comparison: Comparison | None

    def to_json(self) -> dict[str, object]:
        """Gives everything as plain JSON values."""
        found = {"federated": self.federated.to_json()} if self.comparison is None else self.comparison.to_json()
        return {**self.description, **found}


def assess_run(
    run: Path,
    *,
    max_examples: int | None = None,
    max_new_tokens: int | None = None,
    watcher: Watcher | None = None,
    model: AdaptedModel | None = None,
) -> Assessment:
    """Evaluates the last complete round of a run on every client's held-out records.

    Args:
        run: the run directory.
        max_examples: held-out records per client, 0 = all; None as in the run's configuration.
        max_new_tokens: the longest greedy answer, 0 = no answers; None as in the run's configuration.
        watcher: whom to tell how far it is.
        model: as `build_model` makes it for the run's configuration; None to do that here. Overwritten.

    Raises:
        RunDirectoryError: `run` is no run directory or has no complete round.
        DataError: no held-out records; see `evaluate_model`.
    """
    assessor = _Assessor(run, max_examples, max_new_tokens, watcher or Watcher(), model)
    return assessor.save(assessor.evaluate_federated(), comparison=None)


def measure_utility(
    run: Path, *, watcher: Watcher | None = None, model: AdaptedModel | None = None
) -> tuple[Evaluation, Evaluation]:
    """Evaluates a run's model and its base model on the same held-out records, by their losses alone; writes nothing.

    Args:
        run: the run directory.
        watcher: see `assess_run`.
        model: see `assess_run`.

    Returns:
        The run's model's evaluation, and the base model's.

    Raises:
        RunDirectoryError, DataError: as `assess_run`.
    """
    assessor = _Assessor(run, None, 0, watcher or Watcher(), model)
    return assessor.evaluate_federated(), assessor.evaluate_base()


def compare_run(
    run: Path,
    *,
    observer: Observer,
    max_examples: int | None = None,
    max_new_tokens: int | None = None,
    watcher: Watcher | None = None,
    model: AdaptedModel | None = None,
) -> Assessment:
    """Evaluates a finished run beside the base model, each client alone and all data pooled.

    Trains under RUN/baselines what is not there yet.

    Args:
        run: the run directory.
        observer: told of the baselines' rounds.
        max_examples: see `assess_run`.
        max_new_tokens: see `assess_run`.
        watcher: whom to tell how far it is.
        model: see `assess_run`.

    Raises:
        RunDirectoryError: as `assess_run`, or the run is not finished.
        DataError: as `assess_run`.
    """
    assessor = _Assessor(run, max_examples, max_new_tokens, watcher or Watcher(), model)
    comparison = assessor.compare(observer)
    return assessor.save(comparison.federated, comparison=comparison)


class _Assessor:
    """One run with its data and its model, and how it is measured."""

    def __init__(
        self,
        run: Path,
        max_examples: int | None,
        max_new_tokens: int | None,
        watcher: Watcher,
        model: AdaptedModel | None,
    ) -> None:
        self._directory = RunDirectory.open(run)
        self._adapter = self._directory.final  # refuses a run without a complete round before anything is loaded
        self._config: Config = load_resolved(self._directory.config_path)
        evaluate = self._config.evaluate
        self._max_examples = evaluate.max_examples if max_examples is None else max_examples
        self._max_new_tokens = evaluate.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._watcher = watcher
        apply_threads(self._config)
        self._clients = build_records(self._config)
        self._directory.check_data({client.name: client.digest for client in self._clients})
        self._model: AdaptedModel = build_model(self._config) if model is None else model
        self._directory.check_base(self._model.base.name, self._model.base.digest)
        self._template: Template = build_template(self._config, self._model.tokenizer)

    def evaluate_federated(self) -> Evaluation:
        return self._evaluate_adapter("federated", self._adapter, self._clients)

    def evaluate_base(self) -> Evaluation:
        with self._model.base_only():
            return self._evaluate("base", self._clients)

    def compare(self, observer: Observer) -> Comparison:
        status = self._directory.status
        if status != "finished":
            raise RunDirectoryError(
                f"the run {self._directory.path} is {status}, expected finished: its baselines train as long as "
                f"it does. Finish it with `confide resume {self._directory.path}`."
            )
        federated = self.evaluate_federated()  # first: without held-out records there is nothing to train for
        base = self.evaluate_base()
        with self._directory.locked():
            folders = train_baselines(
                self._directory.path,
                self._config,
                self._model,
                observer=observer,
                on_step=self._watcher.step,
                on_baseline=self._watcher.baseline,
            )
        measured = [client for client in self._clients if client.name not in federated.not_evaluated]
        alone: list[ClientScores] = []
        for client in measured:
            alone += self._evaluate_adapter("alone", folders[alone_name(client.name)], [client]).clients
        return Comparison(
            base=base,
            alone=Evaluation(clients=tuple(alone), not_evaluated=federated.not_evaluated),
            federated=federated,
            pooled=self._evaluate_adapter("pooled", folders["pooled"], self._clients),
        )

    def save(self, federated: Evaluation, *, comparison: Comparison | None) -> Assessment:
        description = {
            "schema_version": _SCHEMA_VERSION,
            "run": self._config.run.name,
            "round": int(self._adapter.name),
            "base_model": self._config.model.base,
            "max_examples": self._max_examples,
            "max_tokens": self._config.train.max_tokens,
            "max_new_tokens": self._max_new_tokens,
            "measures": _MEASURES,
        }
        alone = Assessment(description=description, federated=federated, comparison=None)
        _write(self._directory.path / EVALUATION_FILE, alone)
        if comparison is None:
            return alone
        both = Assessment(description=description, federated=federated, comparison=comparison)
        _write(self._directory.path / COMPARISON_FILE, both)
        return both

    def _evaluate_adapter(self, name: str, folder: Path, clients: Sequence[ClientRecords]) -> Evaluation:
        self._model.write(read_adapter(folder, self._model.layout, self._model.base.name))
        return self._evaluate(name, clients)

    def _evaluate(self, name: str, clients: Sequence[ClientRecords]) -> Evaluation:
        evaluating = self._watcher.evaluating
        return evaluate_model(
            self._model.module,
            self._model.tokenizer,
            self._template,
            clients,
            max_examples=self._max_examples,
            max_tokens=self._config.train.max_tokens,
            max_new_tokens=self._max_new_tokens,
            batch_size=self._config.evaluate.batch_size,
            progress=None if evaluating is None else lambda *steps: evaluating(name, *steps),
        )


def _write(path: Path, assessment: Assessment) -> None:
    write_atomic(path, json.dumps(assessment.to_json(), indent=2, allow_nan=False) + "\n")
