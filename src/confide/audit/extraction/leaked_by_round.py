"""What of each record came out of one round's model, by the leakage paper's tasks, and how that grows over rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from confide.attacks.extraction.scoring import PAPER_THRESHOLDS, top_mean
from confide.attacks.extraction.zero_input import begin_tokens
from confide.attacks.text_similarity import TextIndex
from confide.audit.extraction.from_nothing import even_sides
from confide.audit.extraction.probe import Probe, ids_of
from confide.audit.extraction.tasks import LONG, SHORT, cut_prefixes, disturb_prefixes, lengths_of, within_reach
from confide.audit.judging import Findings
from confide.audit.rates import share_of
from confide.audit.results import Curve
from confide.audit.statistics import CONFIDENCE, Flags, Floats, Interval, unit_mean_interval
from confide.seeds import stream

TOP_SHARES = (0.1, 0.3)
"""The paper's: the mean of the best 10 % and 30 % is drawn over rounds."""
NUM_RESAMPLES = 999
_METRICS = ("rouge_l", "rouge_l_max", "gain", "gain_max")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How much came out of one model, as ROUGE-L in [0, 1].

    Attributes:
        records: of each record, shape (num_records,).
        drawn: what curves show, by series, each of shape (num_values,).
    """

    records: Floats = field(repr=False)
    drawn: Mapping[str, Floats] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts, and what answers to them are worth.

    Attributes:
        attack: its name; the enhanced attack's has "-two" behind it.
        code: of the basic attack.
        prompts: token ids, none empty.
        records: ids of the records that are asked about.
        labels: the truth about them, shape (num_records,).
        note: how much is given, drawn and compared.
        score: compares texts, one for each prompt, with the records.
    """

    attack: str
    code: str
    prompts: Sequence[Sequence[int]] = field(repr=False)
    records: Sequence[str] = field(repr=False)
    labels: Flags = field(repr=False)
    note: str
    score: Callable[[Sequence[str]], Outcome]


def paper_tasks(probe: Probe) -> tuple[list[Task], Findings]:
    """The paper's tasks, and nothing but which of them there are too few records for.

    "prefix-80-rounds", "prefix-30-rounds" and "disturbed-80-rounds" ask how like its remainder a record's continuation
    is. "zero-input-rounds" draws texts from the begin token; a record counts as much as the text that is most like it,
    and its curves show the paper's number, of each text how like the most similar member it is, beside the same for as
    many held-out records.
    """
    long = cut_prefixes(probe, probe.asked, LONG)
    tasks, missing = [], Findings()
    for attack, splits in (
        ("prefix-80-rounds", long),
        ("prefix-30-rounds", cut_prefixes(probe, probe.asked, SHORT)),
        ("disturbed-80-rounds", disturb_prefixes(probe, long)),
    ):
        if few := probe.few(attack, splits, _METRICS):
            missing.add(few)
            continue
        labels = probe.labels(splits)
        compared = [within_reach(probe, split) for split in splits]
        tasks.append(
            Task(
                attack=attack,
                code="E5",
                prompts=[split.prompt for split in splits],
                records=ids_of(splits),
                labels=labels,
                note=lengths_of(compared),
                score=_Completions(labels, [split.remainder_text for split in compared]),
            )
        )
    return [*tasks, _from_nothing(probe)], missing


def curves_over_rounds(probe: Probe, attack: str, outcomes: Mapping[int, Outcome]) -> list[Curve]:
    """Draws means, shares above the paper's thresholds and means of the best over rounds; round 0 is the base model.

    Args:
        probe: what is attacked.
        attack: its name.
        outcomes: by round, of one task.
    """
    found = []
    for series in ("members", "held_out"):
        drawn = {float(number): outcome.drawn[series] for number, outcome in outcomes.items()}
        by_metric = {"rouge_l": {number: unit_mean_interval(values) for number, values in drawn.items()}}
        for threshold in PAPER_THRESHOLDS:
            by_metric[f"rouge_l>{threshold:g}"] = {
                number: share_of(values > threshold) for number, values in drawn.items()
            }
        for share in TOP_SHARES:
            by_metric[f"rouge_l_top_{100 * share:g}"] = {
                number: top_interval(values, share, seed=probe.settings.seed) for number, values in drawn.items()
            }
        found += [probe.curve(attack, metric, "rounds", series, points) for metric, points in by_metric.items()]
    return found


def top_interval(values: Floats, share: float, *, seed: int) -> Interval:
    """The mean of the largest values, see `top_mean`, with an interval from resampled records.

    The largest of a sample vary less among themselves than from sample to sample, so that an interval of their own mean
    would be too short or, for a handful of them, say nothing. Where the resamples agree (all values are 0, or many are
    1) the interval is that of a mean of so many values, which is long.

    Args:
        values: one per record, shape (num_records,), each in [0, 1].
        share: in (0, 1].
        seed: of the run.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile interval).
    """
    value = top_mean(values.tolist(), share)
    count = max(1, round(share * values.size))
    places = stream(seed, "top mean", values.size).integers(0, values.size, (NUM_RESAMPLES, values.size))
    tops = np.sort(values[places], axis=1)[:, -count:].mean(axis=1)
    low, high = np.quantile(tops, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    if low == high:
        return unit_mean_interval(np.full(count, value))
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value), num=values.size)


class _Completions:
    """Each text against the remainder of its own record."""

    def __init__(self, labels: Flags, truths: Sequence[str]) -> None:
        self._labels = labels
        self._truths = [TextIndex([truth]) for truth in truths]

    def __call__(self, texts: Sequence[str]) -> Outcome:
        values = np.array(
            [truth.similarities(text)[0] for truth, text in zip(self._truths, texts, strict=True)], np.float64
        )
        return Outcome(records=values, drawn={"members": values[self._labels], "held_out": values[~self._labels]})


class _Nearest:
    """All texts against all records."""

    def __init__(self, labels: Flags, truths: Sequence[str]) -> None:
        self._sides = dict(zip(("members", "held_out"), even_sides(labels), strict=True))
        self._index = TextIndex(truths)

    def __call__(self, texts: Sequence[str]) -> Outcome:
        similarities = np.array([self._index.similarities(text) for text in texts])  # (num_texts, num_records)
        return Outcome(
            records=similarities.max(axis=0),
            drawn={series: similarities[:, places].max(axis=1) for series, places in self._sides.items()},
        )


def _from_nothing(probe: Probe) -> Task:
    candidates = probe.asked.candidates
    labels = probe.truth.labels(candidates)
    return Task(
        attack="zero-input-rounds",
        code="E4",
        prompts=[begin_tokens(probe.tokenizer)] * probe.settings.num_texts,
        records=probe.asked.ids,
        labels=labels,
        note=f"{probe.settings.num_texts} texts of at most {probe.settings.max_new_tokens} tokens.",
        score=_Nearest(labels, [candidate.text for candidate in candidates]),
    )
