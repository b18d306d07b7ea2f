"""Shadow models: what an attacker trains itself, as the run's clients train, to see what training on a record does.

What this attacker knows, beside its view: every record that is asked about, though not which of them were trained on;
how clients train (base model, adapter, optimiser, learning rates, rounds), as all of them do; and records that nobody
trained on. It is the strongest membership game there is: whoever audits can play it, and a real attacker hardly knows
more. Whom the run trained on is not an argument of anything here: shadows have coins of their own.

A shadow trains on its half of the records pooled, as one client does alone, for as many rounds as the run did. It does
not imitate what a federation adds: averaging, the server optimiser, pruning. Of a canary that goes in several times it
reads the one form that is asked about, once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from confide.aggregate.travelling import travelling_slots
from confide.attacks.candidates import Candidate
from confide.attacks.membership.seen import Shadows
from confide.attacks.passes import Passes
from confide.auditor.adapters import Adapters
from confide.auditor.of_run import Progress
from confide.auditor.shadow_files import keep_shadow, kept_shadow, vector_digest
from confide.build import local_settings
from confide.config.schema import Config
from confide.data.examples import TokenizedExample
from confide.errors import NonFiniteLossError, RunDirectoryError, UsageError
from confide.model.lora import AdaptedModel
from confide.seeds import derive_seed, stream
from confide.train.local import LocalSettings, LocalTrainer
from confide.train.schedule import round_learning_rate
from confide.update import Layout, Vector

_FORMAT = "confide shadow 1"

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ShadowRound:
    """What differs from round to round: the slots that are trained, and the learning rate."""

    trained: Layout
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class ShadowTraining:
    """How shadows train.

    Attributes:
        start: the adapter before the first round, flat over the model's layout.
        settings: of every client's local training.
        rounds: in order, at least one.
        seed: of the run; decides the shadows' coins and the order of their examples.
    """

    start: Vector = field(repr=False)
    settings: LocalSettings
    rounds: tuple[ShadowRound, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class ShadowModels:
    """Trained shadows.

    Attributes:
        adapters: one each, flat over the model's layout.
        places: by a candidate's id, its column in `trained_on`.
        trained_on: shape (num_shadows, num_candidates).
    """

    adapters: tuple[Vector, ...] = field(repr=False)
    places: Mapping[str, int] = field(repr=False)
    trained_on: _Mask = field(repr=False)

    def shown(self, passes: Passes, candidates: Sequence[Candidate], held_out: Sequence[TokenizedExample]) -> Shadows:
        """What an attack gets of them: statistics of candidates and of records that none was trained on, and coins.

        Args:
            passes: runs the models.
            candidates: any of those that the shadows were made for, in the order in which an attack is asked.
            held_out: in the order in which attacks get them.
        """
        examples = [candidate.example for candidate in candidates]
        columns = [self.places[candidate.candidate_id] for candidate in candidates]
        return Shadows(
            stats=[passes.stats(adapter, examples) for adapter in self.adapters],
            population=[passes.stats(adapter, held_out) for adapter in self.adapters],
            trained_on=self.trained_on[:, columns],
        )


def training_of(config: Config, adapters: Adapters, layout: Layout) -> ShadowTraining:
    """How the clients of a run trained, in as many rounds as the model under attack has behind it.

    Raises:
        RunDirectoryError: the adapter that the run started from is gone.
    """
    if not adapters.has(0):
        raise RunDirectoryError(
            "audit.shadows needs the adapter that the run started from, and its folder rounds/0000 is gone: put it "
            "back, or audit with --shadows 0."
        )
    train = config.train
    return ShadowTraining(
        start=adapters.read(0),
        settings=local_settings(config),
        rounds=tuple(
            ShadowRound(
                trained=travelling_slots(layout, config.lora.average, number),
                learning_rate=round_learning_rate(
                    train.schedule,
                    learning_rate=train.learning_rate,
                    min_learning_rate=train.min_learning_rate,
                    round_number=number,
                    num_rounds=config.federation.rounds,
                ),
            )
            for number in range(1, adapters.last + 1)
        ),
        seed=config.run.seed,
    )


def train_shadows(
    model: AdaptedModel,
    training: ShadowTraining,
    candidates: Sequence[Candidate],
    *,
    num_shadows: int,
    folder: Path,
    progress: Progress,
) -> ShadowModels:
    """Trains the shadows that are not in `folder` yet, and keeps each there as soon as it is done.

    Args:
        model: overwritten.
        training: as the run's clients train.
        candidates: everything that is asked about, with different ids, in any order.
        num_shadows: even, >= 2; see `shadow_coins`.
        folder: one PEFT adapter for each shadow in a folder with its number, beside the digest of all that decided it.
            One of another digest, or a damaged one, is trained again in its place.
        progress: told of every round that is trained.

    Guarantees:
        - Every candidate is in exactly half of the shadows.
        - A shadow depends on the model, `training`, the candidates and its number, and on nothing else: neither on
          their order, nor on the number of shadows, nor on what was kept.

    Raises:
        UsageError: `num_shadows` is odd or below 2, or there are fewer than two candidates.
        NonFiniteLossError: a shadow's training diverged.
        StorageError: a shadow cannot be written.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.candidate_id)
    trained_on = shadow_coins(len(ordered), num_shadows, seed=training.seed)
    adapters = []
    for number, is_in in enumerate(trained_on, start=1):
        examples = [candidate.example for candidate, goes_in in zip(ordered, is_in, strict=True) if goes_in]
        place, digest = folder / f"{number:04d}", _digest(model, training, number, examples)
        adapter = kept_shadow(place, digest, model)
        if adapter is None:
            adapter = _train(model, training, number, examples, f"training shadow {number}/{num_shadows}", progress)
            keep_shadow(place, digest, model, adapter)
        adapter.flags.writeable = False
        adapters.append(adapter)
    places = {candidate.candidate_id: place for place, candidate in enumerate(ordered)}
    return ShadowModels(adapters=tuple(adapters), places=places, trained_on=trained_on)


def shadow_coins(num_candidates: int, num_shadows: int, *, seed: int) -> _Mask:
    """Draws which candidates each shadow is trained on.

    Shadows come in pairs: a random half of the candidates goes into one, the other half into its twin. So every
    candidate has as many shadows with it as without it, and more shadows change nothing about the first ones.

    Args:
        num_candidates: >= 2.
        num_shadows: even, >= 2.
        seed: of the run.

    Returns:
        Shape (num_shadows, num_candidates).

    Raises:
        UsageError: a number is out of its range.
    """
    if num_shadows < 2 or num_shadows % 2:
        raise UsageError(
            f"{num_shadows} shadow models were asked for, expected an even number >= 2: they come in pairs, one "
            "trained on each half of the records. 4 are a good number."
        )
    if num_candidates < 2:
        raise UsageError(f"shadow models need at least two records to be asked about, and there are {num_candidates}.")
    halves = []
    for pair in range(num_shadows // 2):
        half = np.zeros(num_candidates, np.bool_)
        order = stream(seed, "audit shadow coins", pair).permutation(num_candidates)
        half[order[: num_candidates // 2]] = True
        halves += [half, ~half]
    return np.stack(halves)


def _train(
    model: AdaptedModel,
    training: ShadowTraining,
    number: int,
    examples: Sequence[TokenizedExample],
    phrase: str,
    progress: Progress,
) -> Vector:
    """Trains as a client would alone: the next round goes on where the last one ended."""
    trainer = LocalTrainer(model, training.settings, seed=derive_seed(training.seed, "audit shadow", number))
    adapter = training.start
    for round_number, one in enumerate(training.rounds, start=1):
        progress(f"{phrase}, round {round_number}/{len(training.rounds)}")
        try:
            result = trainer.train(
                client="shadow",
                round_number=round_number,
                start=adapter,
                trained=one.trained,
                examples=examples,
                num_seen=(round_number - 1) * training.settings.num_examples(len(examples)),
                learning_rate=one.learning_rate,
            )
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{phrase}, round {round_number}: its loss or a weight is NaN or infinite, though it trains as the "
                "run's clients did, alone and on other records. Audit without shadow models (--shadows 0)."
            ) from error
        adapter = model.layout.scatter(adapter, one.trained, result.vector)
    return adapter


def _digest(model: AdaptedModel, training: ShadowTraining, number: int, examples: Sequence[TokenizedExample]) -> str:
    """SHA-256 in hexadecimal over all that decides a shadow; device, threads and library versions are not in it."""
    facts = {
        "format": _FORMAT,
        "base": model.base.digest,
        "dtype": str(model.base.dtype),
        "layout": model.layout.digest,
        "lora": asdict(model.settings),
        "start": vector_digest(training.start),
        "settings": asdict(training.settings),
        "rounds": [[one.trained.digest, one.learning_rate] for one in training.rounds],
        "seed": training.seed,
        "number": number,
        "examples": [[example.input_ids.tolist(), example.loss_mask.tolist()] for example in examples],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
