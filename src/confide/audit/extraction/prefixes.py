"""Records without planted secrets: give a model a part of each, and see how much of the rest it writes (E1, E5, E6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.scoring import CompletionScore, score_completion
from confide.audit.extraction.probe import Probe, ids_of
from confide.audit.extraction.samples import audit_samples
from confide.audit.extraction.tasks import (
    LONG,
    SHORT,
    cut_after,
    cut_prefixes,
    disturb_prefixes,
    lengths_of,
    within_reach,
)
from confide.audit.extraction.two_models import audit_two_models
from confide.audit.extraction.weight_space import audit_beyond
from confide.audit.judging import Findings
from confide.audit.rates import mean, rate

NUM_PROMPT, NUM_REMAINDER = 50, 50
"""Of discoverable extraction with a fixed length, as most of the literature reports it."""
_FIXED = f"prefix-{NUM_PROMPT}-tokens"
_METRICS = ("exact", "near", "rouge_l", "longest_run")


def audit_prefixes(probe: Probe) -> Findings:
    """Runs all attacks that give a model a record's beginning."""
    findings = Findings()
    long = cut_prefixes(probe, probe.asked, LONG)
    for attack, splits in (
        ("prefix-80", long),
        ("prefix-30", cut_prefixes(probe, probe.asked, SHORT)),
        ("disturbed-80", disturb_prefixes(probe, long)),
    ):
        findings.add(probe.few(attack, splits, _METRICS) or _complete(probe, attack, "E5", splits))
    of_length = cut_after(probe, NUM_PROMPT, NUM_REMAINDER)
    if not probe.few(_FIXED, of_length):  # shorter records are no shortage of records: E5 asks about them
        findings.add(_complete(probe, _FIXED, "E1", of_length))
    if not probe.few("", long):
        own, score = cut_prefixes(probe, probe.own, LONG), _Completions.of(probe, long).score
        length = probe.settings.max_new_tokens
        findings.add(audit_samples(probe, long))
        findings.add(audit_two_models(probe, long, own, max_new_tokens=length, score=score))
        findings.add(audit_beyond(probe, long, own, max_new_tokens=length, score=score))
    return findings


def _complete(probe: Probe, attack: str, code: str, splits: Sequence[Split]) -> Findings:
    texts = probe.complete(probe.final, splits, probe.settings.max_new_tokens)
    return _Completions.of(probe, splits).score(attack, code, texts, "")


@dataclass(frozen=True, kw_only=True)
class _Completions:
    """What the base model writes behind the prompts: what attacks' texts are compared with."""

    probe: Probe
    splits: Sequence[Split]
    of_base: Sequence[CompletionScore]

    @staticmethod
    def of(probe: Probe, splits: Sequence[Split]) -> "_Completions":
        texts = probe.complete(None, splits, probe.settings.max_new_tokens)
        shortened = [within_reach(probe, split) for split in splits]
        return _Completions(probe=probe, splits=shortened, of_base=_scores(texts, shortened))

    def score(self, attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        """How much of the remainders an attack's texts are: exactly, nearly, by ROUGE-L, and in a row."""
        found = _scores(texts, self.splits)
        note = f"{lengths_of(self.splits)} {note}".rstrip()
        subject = self.probe.subject(attack, code, self.probe.labels(self.splits), note, records=ids_of(self.splits))
        (is_exact, base_exact), (is_near, base_near) = (
            [np.array([getattr(score, name) for score in scores], np.bool_) for scores in (found, self.of_base)]
            for name in ("is_exact", "is_near")
        )
        (rouge, base_rouge), (run, base_run) = (
            [np.array([float(getattr(score, name)) for score in scores]) for scores in (found, self.of_base)]
            for name in ("rouge_l", "num_common")
        )
        lengths = np.array([float(len(split.remainder)) for split in self.splits])
        return Findings(
            found=[
                rate(subject, "exact", is_exact, base_exact),
                rate(subject, "near", is_near, base_near),
                mean(subject, "rouge_l", rouge, base_rouge, most=1.0),
                mean(subject, "longest_run", run, base_run, most=float(lengths.max()), most_of_each=lengths),
            ],
            memorised=self.probe.memorised(attack, texts, self.splits, is_exact & subject.labels),
        )


def _scores(texts: Sequence[Generated], splits: Sequence[Split]) -> list[CompletionScore]:
    return [score_completion(text, split) for text, split in zip(texts, splits, strict=True)]
