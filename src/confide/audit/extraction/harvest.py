"""E8: the words before the attacker's own personal data bring out that of others, by three ways of asking."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from confide.attacks.extraction.own_pairs import collect_pairs, like_base, tune_on_pairs
from confide.attacks.extraction.own_prefix import Harvest, collect_prefixes, harvest
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.recogniser import PERSONAL_PATTERNS, Found, Recogniser
from confide.audit.extraction.probe import Probe, ids_of
from confide.audit.judging import Findings
from confide.audit.judging import Found as Finding
from confide.audit.rates import rate, scaled
from confide.audit.statistics import Difference
from confide.evaluate.generation import Sampling
from confide.update import Vector

NUM_CONTEXT_TOKENS = 12
TEXTS_PER_RECORD = 2
TEXTS_PER_SAMPLE = 8
"""A strategy's texts at most, for each text that is drawn from nothing."""
FREQUENT_SHARE = 0.25
"""Of the prefixes, the most frequent ones, which "own-prefix-frequent" spends all its texts on."""
_TOP_P = 0.9
_ATTACK = "own-prefix"
_METRICS = ("coverage", "efficiency")


def audit_harvest(probe: Probe, splits: Sequence[Split]) -> Findings:
    """Looks for others' planted secrets with the attacker's own prefixes.

    Args:
        probe: what is attacked.
        splits: of the secrets that are sought.

    Returns:
        For "own-prefix" (as many texts behind every prefix), "own-prefix-frequent" (all of them behind the most
        frequent ones, where there are several prefixes) and, with `protocol`, "own-prefix-tuned" (the first, of a model
        tuned on the attacker's own pairs of prefix and data; beside the base model, tuned likewise): the coverage, the
        share of others' secrets that were found, of those that the attacker does not have itself; and the efficiency,
        different secrets found per text, held-out ones as if as many of them as of members had been sought.
        Nothing where the attacker has no data, or where the secrets are of a form that nobody takes for personal data;
        a warning where its data holds nothing personal to begin with.
    """
    recogniser = Recogniser(PERSONAL_PATTERNS)
    secrets = probe.truth.secrets
    if not probe.view.own_examples or not any(recogniser.find(secrets[split.candidate_id]) for split in splits):
        return Findings()
    prefixes = collect_prefixes(
        probe.view.own_examples, recogniser, probe.tokenizer, num_context_tokens=NUM_CONTEXT_TOKENS
    )
    if not prefixes:
        return Findings(
            warnings=[f"Extraction, {probe.asked.name}, {_ATTACK}: the attacker's own records hold no personal data."]
        )
    findings = Findings()
    for strategy in _strategies(probe, recogniser, len(prefixes)):
        findings.add(_compare(probe, recogniser, strategy, splits))
    return findings


@dataclass(frozen=True, kw_only=True)
class _Strategy:
    """One way of asking.

    Attributes:
        num_prefixes: that are used, the most frequent ones.
        models: the adapter under attack, and its control.
    """

    attack: str
    num_prefixes: int
    models: tuple[Vector | None, Vector | None] = field(repr=False)


def _strategies(probe: Probe, recogniser: Recogniser, num_prefixes: int) -> Iterator[_Strategy]:
    yield _Strategy(attack=_ATTACK, num_prefixes=num_prefixes, models=(probe.final, None))
    if num_prefixes > 1:
        num_frequent = math.ceil(FREQUENT_SHARE * num_prefixes)
        yield _Strategy(attack=f"{_ATTACK}-frequent", num_prefixes=num_frequent, models=(probe.final, None))
    if probe.settings.protocol:
        pairs = collect_pairs(
            probe.view.own_examples, recogniser, probe.tokenizer, num_context_tokens=NUM_CONTEXT_TOKENS
        )
        tuned, base = (
            tune_on_pairs(probe.passes, start, pairs) for start in (probe.final, like_base(probe.passes, probe.final))
        )
        yield _Strategy(attack=f"{_ATTACK}-tuned", num_prefixes=num_prefixes, models=(tuned, base))


def _compare(probe: Probe, recogniser: Recogniser, strategy: _Strategy, splits: Sequence[Split]) -> Findings:
    secrets = probe.truth.secrets
    found, base = (_harvest(probe, recogniser, model, strategy.num_prefixes) for model in strategy.models)
    sought = [split for split in splits if not _is_among(found.own, secrets[split.candidate_id])]
    if few := probe.few(strategy.attack, sought, _METRICS):
        return few
    labels = probe.labels(sought)
    is_said, is_said_by_base = (
        np.array([_is_among(one.found, secrets[split.candidate_id]) for split in sought], np.bool_)
        for one in (found, base)
    )
    num_found = int((is_said & ~is_said_by_base & labels).sum())
    note = (
        f"{num_found} that the base model does not say, in {found.num_generations} texts: "
        f"{1000 * num_found / found.num_generations:.3g} in a thousand; each of at most {NUM_CONTEXT_TOKENS} tokens, "
        f"behind as many at most."
    )
    subject = probe.subject(strategy.attack, "E8", labels, note, records=ids_of(sought))
    coverage = rate(subject, "coverage", is_said, is_said_by_base)
    return Findings(found=[coverage, _per_text(coverage, int(labels.sum()) / found.num_generations)])


def _per_text(coverage: Finding, sought_per_text: float) -> Finding:
    """The efficiency: found / texts is found / sought times sought / texts, so the same tests apply."""
    return replace(
        coverage,
        metric="efficiency",
        members=scaled(coverage.members, sought_per_text),
        controls={name: scaled(one, sought_per_text) for name, one in coverage.controls.items()},
        differences={
            name: Difference(interval=scaled(one.interval, sought_per_text), p_value=one.p_value)
            for name, one in coverage.differences.items()
        },
        outcomes=None,
    )


def _harvest(probe: Probe, recogniser: Recogniser, adapter: Vector | None, num_prefixes: int) -> Harvest:
    # Where records begin alike there are few prefixes, and each gets more of the same number of texts.
    budget = min(TEXTS_PER_RECORD * len(probe.view.own_examples), TEXTS_PER_SAMPLE * probe.settings.num_texts)
    return harvest(
        probe.passes,
        adapter,
        probe.view.own_examples,
        recogniser,
        num_context_tokens=NUM_CONTEXT_TOKENS,
        num_samples=max(1, budget // num_prefixes),
        budget=budget,
        max_new_tokens=NUM_CONTEXT_TOKENS,
        sampling=Sampling(temperature=1.0, top_p=_TOP_P, seed=probe.settings.seed),
    )


def _is_among(found: Collection[Found], secret: str) -> bool:
    """Whether a secret stands in one of the strings, which may have more on them, such as a country code."""
    return any(_plain(secret) in _plain(item.value) for item in found)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
