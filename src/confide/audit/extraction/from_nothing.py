"""E4: texts from the begin token alone, and how like they are to what was trained on.

What is drawn at random by coins is the records, not the texts, so it is records that are counted: of each one, how like
it the most similar of all texts is. The paper counts texts: of each one, how like the most similar record it is. That
number is given too, but the texts' spread says nothing about it: a few records that are alike for any model make every
text similar to the side that the coins put them on. Its test therefore shuffles the coins.
"""

import math
from collections.abc import Sequence

import numpy as np

from confide.attacks.extraction.zero_input import begin_tokens, generate_from_nothing
from confide.attacks.text_similarity import TextIndex
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings, Found, Subject
from confide.audit.rates import FEWEST, mean, rate
from confide.audit.statistics import Difference, Flags, Floats, Interval, shuffle_coins, unit_mean_interval
from confide.evaluate.generation import Sampling
from confide.seeds import stream
from confide.update import Vector

MATCHED = 0.8
"""From this ROUGE-L on a record counts as matched."""
TOP_SHARE = 0.1
"""The paper's: the best 10 % of the texts."""
NUM_SHUFFLES = 999
_ATTACK = "zero-input"
_TOP_P = 0.9


def audit_texts_from_nothing(probe: Probe) -> Findings:
    """Draws texts from the final and from the base model and compares them with all records.

    Returns:
        Of the records: the mean ROUGE-L with the most similar text ("rouge_l"), and the share with at least `MATCHED`
        ("matched"). Of the texts: the mean ROUGE-L with the most similar record over the best `TOP_SHARE` ("top_10").
    """
    candidates = probe.asked.candidates
    labels = probe.truth.labels(candidates)
    index = TextIndex([candidate.text for candidate in candidates])
    final, base = (_similarities(probe, adapter, index) for adapter in (probe.final, None))
    note = f"{final.shape[0]} texts; numbers count records."
    subject = probe.subject(_ATTACK, "E4", labels, note)
    nearest, nearest_of_base = final.max(axis=0), base.max(axis=0)
    found = [
        mean(subject, "rouge_l", nearest, nearest_of_base, is_share=True),
        rate(subject, "matched", nearest >= MATCHED, nearest_of_base >= MATCHED),
        _of_texts(probe, labels, final, base),
    ]
    return Findings(found=found)


def _similarities(probe: Probe, adapter: Vector | None, index: TextIndex) -> Floats:
    """Of every text with every record, shape (num_texts, num_records)."""
    texts = generate_from_nothing(
        probe.passes,
        adapter,
        begin_tokens(probe.tokenizer),
        num_texts=probe.settings.num_texts,
        max_new_tokens=probe.settings.max_new_tokens,
        sampling=Sampling(temperature=1.0, top_p=_TOP_P, seed=probe.settings.seed),
    )
    return np.array([index.similarities(text.text) for text in texts])


def _of_texts(probe: Probe, labels: Flags, final: Floats, base: Floats) -> Found:
    """The paper's number, with a test that shuffles coins within owners.

    Two differences are tested: from as many others, and how much that difference has grown from the base model. Each
    interval is the difference minus what shuffles give, 95 % of them.
    """
    owners = np.array([candidate.owner for candidate in probe.asked.candidates], np.str_)
    rng = stream(probe.settings.seed, "audit zero-input", probe.view.name, probe.asked.name)
    observed = _gaps(labels, final, base)
    shuffled = np.array([_gaps(shuffle_coins(labels, owners, rng), final, base) for _ in range(NUM_SHUFFLES)])
    # The nearest of many is near by chance: as many of the one as of the other.
    count = _even(labels)
    members, others = _first(labels, count), _first(~labels, count)
    num_members, num_others = int(labels.sum()), int((~labels).sum())
    few = min(num_members, num_others) < FEWEST
    subject: Subject = probe.subject(
        _ATTACK, "E4", labels, f"The best {TOP_SHARE:.0%} of {final.shape[0]} texts against {count} records each."
    )
    return subject.found(
        "top_10",
        _top_interval(final[:, members]),
        {"held_out": _top_interval(final[:, others]), "base": _top_interval(base[:, members])},
        {
            name: _shifted(float(observed[place]), shuffled[:, place], labels.size)
            for place, name in enumerate(("held_out", "base"))
        },
        shortage=f"{num_members} members and {num_others} others; at least {FEWEST} of each are needed." if few else "",
    )


def _gaps(labels: Flags, final: Floats, base: Floats) -> Floats:
    """Members minus others for the final model; and that minus the same for the base model."""
    count = _even(labels)
    members, others = _first(labels, count), _first(~labels, count)
    of_final, of_base = (_top(one[:, members]) - _top(one[:, others]) for one in (final, base))
    return np.array([of_final, of_final - of_base])


def _even(labels: Flags) -> int:
    return min(int(labels.sum()), int((~labels).sum()))


def _first(flags: Flags, count: int) -> Sequence[int]:
    places: list[int] = np.flatnonzero(flags)[:count].tolist()
    return places


def _best(similarities: Floats) -> Floats:
    """Of the texts that are most like some record, how like; shape (num_best,)."""
    count = max(1, math.ceil(TOP_SHARE * similarities.shape[0]))
    best: Floats = np.sort(similarities.max(axis=1))[-count:]
    return best


def _top(similarities: Floats) -> float:
    return float(_best(similarities).mean())


def _top_interval(similarities: Floats) -> Interval:
    return unit_mean_interval(_best(similarities))


def _shifted(observed: float, shuffled: Floats, num: int) -> Difference:
    low, high = np.quantile(shuffled, [0.025, 0.975])
    reached = int(np.count_nonzero(shuffled >= observed - 1e-12))
    return Difference(
        interval=Interval(value=observed, low=observed - float(high), high=observed - float(low), num=num),
        p_value=(1 + reached) / (1 + shuffled.size),
    )
