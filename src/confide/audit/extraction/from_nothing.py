"""E4: texts from the begin token alone, and how like they are to what was trained on.

What is drawn at random by coins is the records, not the texts, so it is records that are counted: of each one, how like
it the most similar of all texts is, and whether one quotes it. What counts texts (the paper's number: of each text, how
like the most similar record it is; and how many are right of those that an attacker would pick) is given too, but the
texts' spread says nothing about it: a few records that are alike for any model make every text similar to the side that
the coins put them on. Its test therefore shuffles the coins.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.scoring import find_quotes
from confide.attacks.extraction.zero_input import begin_tokens, best_texts, generate_from_nothing, rank_texts
from confide.attacks.text_similarity import TextIndex
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings, Found, Subject
from confide.audit.rates import mean, rate, share_of
from confide.audit.samples import ShareSample
from confide.audit.statistics import Difference, Flags, Floats, Interval, shuffle_coins, unit_mean_interval
from confide.evaluate.generation import Sampling
from confide.seeds import stream
from confide.update import Vector

MATCHED = 0.8
"""From this ROUGE-L on a record counts as matched."""
TOP_SHARE = 0.1
"""The paper's: the best 10 % of the texts."""
QUOTED_TOKENS = (50, 20, 10)
"""So many consecutive tokens of a record are a quote."""
RANKINGS = ("loss_ratio", "zlib", "ez", "wbc")
"""How an attacker who has no records tells remembered texts from others, see `rank_texts`."""
NUM_SHUFFLES = 999
FEWEST_TEXTS = 10
"""Below so many texts that an attacker would pick, a share of them says nothing."""
_ATTACK = "zero-input"
_TOP_P = 0.9


def audit_texts_from_nothing(probe: Probe) -> Findings:
    """Draws texts from the final and from the base model and compares them with all records.

    Returns:
        Of the records: the mean ROUGE-L with the most similar text ("rouge_l"), the share with at least `MATCHED`
        ("matched"), and the share that some text quotes, "verbatim_50" and so on, of the records that are as long. Of
        the texts: the mean ROUGE-L with the most similar record over the best `TOP_SHARE` ("top_10"), and of as many,
        or `FEWEST_TEXTS`, that look remembered by each of `RANKINGS` the share with at least `MATCHED`
        ("precision_zlib" and so on).
    """
    labels = probe.truth.labels(probe.asked.candidates)
    index = TextIndex([candidate.text for candidate in probe.asked.candidates])
    final, base = (_Drawn.by(probe, adapter, index) for adapter in (probe.final, None))
    note = f"{len(final.texts)} texts of at most {probe.settings.max_new_tokens} tokens; numbers count records."
    subject = probe.subject(_ATTACK, "E4", labels, note, records=probe.asked.ids)
    nearest, nearest_of_base = final.similarities.max(axis=0), base.similarities.max(axis=0)
    found = [
        mean(subject, "rouge_l", nearest, nearest_of_base, most=1.0),
        rate(subject, "matched", nearest >= MATCHED, nearest_of_base >= MATCHED),
        *_quoted(probe, subject, final.texts, base.texts),
        _of_texts(probe, labels, _TOP, final.similarities, base.similarities),
    ]
    for ranking in RANKINGS:
        number = _Number(
            metric=f"precision_{ranking}",
            note=f"Of {len(final.best[ranking])} texts chosen by {ranking}, no two alike, those that match.",
            value=_precision,
            interval=lambda similarities: share_of(similarities.max(axis=1) >= MATCHED),
        )
        chosen = (one.similarities[one.best[ranking]] for one in (final, base))
        found.append(_of_texts(probe, labels, number, *chosen))
    return Findings(found=found)


def even_sides(labels: Flags) -> tuple[Sequence[int], Sequence[int]]:
    """Places of members and of others, as many of the one as of the other: the nearest of many is near by chance."""
    count = min(int(labels.sum()), int((~labels).sum()))
    return _first(labels, count), _first(~labels, count)


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """One model's texts.

    Attributes:
        similarities: of every text with every record, shape (num_texts, num_records).
        best: by ranking, the places of the texts that look remembered, at least one.
    """

    texts: Sequence[Generated] = field(repr=False)
    similarities: Floats = field(repr=False)
    best: dict[str, list[int]]

    @staticmethod
    def by(probe: Probe, adapter: Vector | None, index: TextIndex) -> "_Drawn":
        begin = begin_tokens(probe.tokenizer)
        texts = generate_from_nothing(
            probe.passes,
            adapter,
            begin,
            num_texts=probe.settings.num_texts,
            max_new_tokens=probe.settings.max_new_tokens,
            sampling=Sampling(temperature=1.0, top_p=_TOP_P, seed=probe.settings.seed),
        )
        ranked = rank_texts(probe.passes, adapter, begin, texts)
        return _Drawn(
            texts=texts,
            similarities=np.array([index.similarities(text.text) for text in texts]),
            # Where all texts are empty the first one stands for them.
            best={name: best_texts(ranked, name, max(FEWEST_TEXTS, _num_best(len(texts)))) or [0] for name in RANKINGS},
        )


def _quoted(
    probe: Probe, subject: Subject, texts: Sequence[Generated], of_base: Sequence[Generated]
) -> Iterator[Found]:
    """Which records some text quotes, for every length that enough records have."""
    learnt = {
        candidate.candidate_id: candidate.example.input_ids[candidate.example.loss_mask].tolist()
        for candidate in probe.asked.candidates
    }
    for num_tokens in QUOTED_TOKENS:
        is_long = np.array([len(learnt[name]) >= num_tokens for name in subject.records], np.bool_)
        labels = subject.labels[is_long]
        if min(int(labels.sum()), int((~labels).sum())) < probe.fewest:
            continue
        records = [name for name, is_in in zip(subject.records, is_long, strict=True) if is_in]
        is_said, is_said_by_base = (
            np.isin(records, sorted(frozenset().union(*find_quotes(some, learnt, num_tokens))))
            for some in (texts, of_base)
        )
        about = replace(subject, labels=labels, records=tuple(records))
        yield rate(about, f"verbatim_{num_tokens}", is_said, is_said_by_base)


@dataclass(frozen=True, kw_only=True)
class _Number:
    """A number that counts texts, from their similarities with records, shape (num_texts, num_records)."""

    metric: str
    note: str
    value: Callable[[Floats], float]
    interval: Callable[[Floats], Interval]


def _of_texts(probe: Probe, labels: Flags, number: _Number, final: Floats, base: Floats) -> Found:
    """A number that counts texts, with a test that shuffles coins within owners.

    Two differences are tested: from as many others, and how much that difference has grown from the base model. Each
    interval is the difference minus what shuffles give, 95 % of them.
    """
    owners = np.array([candidate.owner for candidate in probe.asked.candidates], np.str_)
    rng = stream(probe.settings.seed, "audit zero-input", probe.view.name, probe.asked.name)
    observed = _gaps(labels, number, final, base)
    shuffled = np.array([_gaps(shuffle_coins(labels, owners, rng), number, final, base) for _ in range(NUM_SHUFFLES)])
    members, others = even_sides(labels)
    few = ""
    if number is not _TOP and min(final.shape[0], base.shape[0]) < FEWEST_TEXTS:
        counts = f"{final.shape[0]} and {base.shape[0]}"
        few = f"At least {FEWEST_TEXTS} texts of either model are needed, and there are {counts}."
    note = f"{number.note} Against {len(members)} records of each side."
    return probe.subject(_ATTACK, "E4", labels, note).found(
        number.metric,
        number.interval(final[:, members]),
        {"held_out": number.interval(final[:, others]), "base": number.interval(base[:, members])},
        {
            name: _shifted(float(observed[place]), shuffled[:, place], labels.size)
            for place, name in enumerate(("held_out", "base"))
        },
        sample=ShareSample(
            num_members=int(labels.sum()), num_others=int((~labels).sum()), num_base_out=None, too_few_else=few
        ),
    )


def _gaps(labels: Flags, number: _Number, final: Floats, base: Floats) -> Floats:
    """Members minus others for the final model; and that minus the same for the base model."""
    members, others = even_sides(labels)
    of_final, of_base = (number.value(one[:, members]) - number.value(one[:, others]) for one in (final, base))
    return np.array([of_final, of_final - of_base])


def _first(flags: Flags, count: int) -> Sequence[int]:
    places: list[int] = np.flatnonzero(flags)[:count].tolist()
    return places


def _best(similarities: Floats) -> Floats:
    """Of the texts that are most like some record, how like; shape (num_best,)."""
    best: Floats = np.sort(similarities.max(axis=1))[-_num_best(similarities.shape[0]) :]
    return best


def _num_best(num_texts: int) -> int:
    return max(1, math.ceil(TOP_SHARE * num_texts))


_TOP = _Number(
    metric="top_10",
    note=f"The best {TOP_SHARE:.0%} of all texts.",
    value=lambda similarities: float(_best(similarities).mean()),
    interval=lambda similarities: unit_mean_interval(_best(similarities)),
)


def _precision(similarities: Floats) -> float:
    return float((similarities.max(axis=1) >= MATCHED).mean())


def _shifted(observed: float, shuffled: Floats, num: int) -> Difference:
    low, high = np.quantile(shuffled, [0.025, 0.975])
    reached = int(np.count_nonzero(shuffled >= observed - 1e-12))
    return Difference(
        interval=Interval(value=observed, low=observed - float(high), high=observed - float(low), num=num),
        p_value=(1 + reached) / (1 + shuffled.size),
    )
