"""E2: the chance to get a text by asking often, from log-probabilities alone: over samples and over rounds."""

from collections.abc import Sequence

import numpy as np

from confide.attacks.decoding import DecodingScheme
from confide.attacks.extraction.probabilistic import log_probability, num_samples_needed, success_within
from confide.attacks.extraction.prompts import Split
from confide.audit.extraction.probe import Probe, ids_of
from confide.audit.extraction.tasks import lengths_of
from confide.audit.judging import Findings
from confide.audit.rates import mean
from confide.audit.statistics import Flags, Floats, unit_mean_interval
from confide.update import Vector

TOP_K = DecodingScheme("top-k 40", top_k=40)
"""What is asked about: the scheme must be among those that `Passes` was made with."""
SAMPLES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
_ENOUGH = 100.0
_METRIC = f"within_{_ENOUGH:g}"
_ATTACK = "probabilistic"


def audit_samples(probe: Probe, splits: Sequence[Split]) -> Findings:
    """Says how likely each remainder comes out within so many samples.

    Args:
        probe: what is attacked.
        splits: with enough members and others, see `Probe.few`.

    Returns:
        The mean probability within 100 samples; its curve over the number of samples for members, held-out records and
        the base model; and over the rounds, where there are several, from 0, the base model.
    """
    labels = probe.labels(splits)
    by_round = {number: _log_probabilities(probe, adapter, splits) for number, adapter in probe.adapters().items()}
    base, final = by_round[0], by_round[probe.rounds[-1]]
    subject = probe.subject(
        _ATTACK,
        "E2",
        labels,
        f"{lengths_of(splits)} {TOP_K.name}, {_ENOUGH:g} samples of each record, computed, not drawn. "
        f"{_needed(final, labels)}",
        records=ids_of(splits),
    )
    findings = Findings(
        found=[mean(subject, _METRIC, success_within(final, _ENOUGH), success_within(base, _ENOUGH), most=1.0)]
    )
    for series, values in (("members", final[labels]), ("held_out", final[~labels]), ("base", base[labels])):
        intervals = {number: unit_mean_interval(success_within(values, number)) for number in SAMPLES}
        findings.curves.append(probe.curve(_ATTACK, "rate", "samples", series, intervals))
    if len(probe.rounds) > 1:
        for series, chosen in (("members", labels), ("held_out", ~labels)):
            over_rounds = {
                float(number): unit_mean_interval(success_within(values[chosen], _ENOUGH))
                for number, values in by_round.items()
            }
            findings.curves.append(probe.curve(_ATTACK, _METRIC, "rounds", series, over_rounds))
    return findings


def _needed(log_p_z: Floats, labels: Flags) -> str:
    """How many samples bring out the middle record with the chance of a coin: (n, p)-discoverable with p = 1/2."""
    numbers = num_samples_needed(log_p_z, 0.5)
    middle = [np.sort(numbers[which])[(which.sum() - 1) // 2] for which in (labels, ~labels)]
    members, others = (
        f"{number:.3g} samples" if np.isfinite(number) else "more than can be drawn" for number in middle
    )
    return f"For an even chance the middle one of the members needs {members}, that of the others {others}."


def _log_probabilities(probe: Probe, adapter: Vector | None, splits: Sequence[Split]) -> Floats:
    by_id = {candidate.candidate_id: candidate.example for candidate in probe.asked.candidates}
    stats = probe.passes.stats(adapter, [by_id[split.candidate_id] for split in splits])
    return np.array(
        [
            log_probability(one, split.start, split.stop, scheme=TOP_K.name)
            for one, split in zip(stats, splits, strict=True)
        ]
    )
