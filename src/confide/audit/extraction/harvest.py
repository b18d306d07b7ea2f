"""E8: the words before the attacker's own personal data bring out that of others."""

from collections.abc import Collection, Sequence

import numpy as np

from confide.attacks.extraction.own_prefix import Harvest, collect_prefixes, harvest
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.recogniser import PERSONAL_PATTERNS, Found, Recogniser
from confide.audit.extraction.probe import Probe
from confide.audit.judging import Findings
from confide.audit.rates import rate
from confide.evaluate.generation import Sampling
from confide.update import Vector

NUM_CONTEXT_TOKENS = 12
TEXTS_PER_RECORD = 2
_TOP_P = 0.9
_ATTACK = "own-prefix"


def audit_harvest(probe: Probe, splits: Sequence[Split]) -> Findings:
    """Looks for others' planted secrets with the attacker's own prefixes.

    Args:
        probe: what is attacked.
        splits: of the secrets that are sought.

    Returns:
        The coverage: the share of others' secrets that were found, of those that the attacker does not have itself.
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
    found, base = (_harvest(probe, recogniser, adapter, len(prefixes)) for adapter in (probe.final, None))
    sought = [split for split in splits if not _is_among(found.own, secrets[split.candidate_id])]
    if few := probe.few(_ATTACK, sought):
        return Findings(warnings=[few])
    labels = probe.labels(sought)
    is_said, is_said_by_base = (
        np.array([_is_among(one.found, secrets[split.candidate_id]) for split in sought], np.bool_)
        for one in (found, base)
    )
    num_found = int((is_said & ~is_said_by_base & labels).sum())
    note = (
        f"{num_found} that the base model does not say, in {found.num_generations} texts: "
        f"{1000 * num_found / found.num_generations:.3g} in a thousand."
    )
    return Findings(found=[rate(probe.subject(_ATTACK, "E8", labels, note), "coverage", is_said, is_said_by_base)])


def _harvest(probe: Probe, recogniser: Recogniser, adapter: Vector | None, num_prefixes: int) -> Harvest:
    # Where records begin alike there are few prefixes, and each gets more of the same number of texts.
    budget = TEXTS_PER_RECORD * len(probe.view.own_examples)
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
