"""Records without planted secrets: give a model a part of each, and see how much of the rest it writes (E5, E6)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from confide.attacks.candidates import Candidate
from confide.attacks.extraction.disturbed import collect_words, disturb_split
from confide.attacks.extraction.generated import Generated, decode_tokens
from confide.attacks.extraction.prompts import Split, split_by_share
from confide.attacks.extraction.scoring import CompletionScore, score_completion
from confide.audit.extraction.probe import Probe, splits_of
from confide.audit.extraction.samples import audit_samples
from confide.audit.extraction.two_models import audit_two_models
from confide.audit.judging import Findings
from confide.audit.rates import mean, rate

_LONG, _SHORT = 0.8, 0.3


def audit_prefixes(probe: Probe) -> Findings:
    """Runs all attacks that give a model a record's beginning."""
    findings = Findings()
    long = splits_of(probe.asked, partial(_cut, probe, _LONG))
    for attack, splits in (
        ("prefix-80", long),
        ("prefix-30", splits_of(probe.asked, partial(_cut, probe, _SHORT))),
        ("disturbed-80", _disturb(probe, long)),
    ):
        if few := probe.few(attack, splits):
            findings.warnings.append(few)
            continue
        texts = probe.complete(probe.final, splits, probe.settings.max_new_tokens)
        findings.add(_Completions.of(probe, splits).score(attack, "E5", texts, ""))
    if not probe.few("", long):
        findings.add(audit_samples(probe, long))
        findings.add(
            audit_two_models(
                probe,
                long,
                splits_of(probe.own, partial(_cut, probe, _LONG)),
                max_new_tokens=probe.settings.max_new_tokens,
                score=_Completions.of(probe, long).score,
                # Long texts of two models each: a second pair is worth its time only to who has rounds to compare.
                with_base=len(probe.rounds) > 1,
            )
        )
    return findings


def _cut(probe: Probe, share: float, candidate: Candidate) -> Split | None:
    return split_by_share(candidate, share, probe.tokenizer, probe.ends)


def _disturb(probe: Probe, splits: Sequence[Split]) -> list[Split]:
    words = collect_words([candidate.text for candidate in probe.asked.candidates])
    by_id = {candidate.candidate_id: candidate for candidate in probe.asked.candidates}
    return [
        disturb_split(split, by_id[split.candidate_id], words, probe.tokenizer, seed=probe.settings.seed)
        for split in splits
    ]


@dataclass(frozen=True, kw_only=True)
class _Completions:
    """What the base model writes behind the prompts: what attacks' texts are compared with."""

    probe: Probe
    splits: Sequence[Split]
    of_base: Sequence[CompletionScore]

    @staticmethod
    def of(probe: Probe, splits: Sequence[Split]) -> "_Completions":
        texts = probe.complete(None, splits, probe.settings.max_new_tokens)
        # A remainder longer than the longest continuation cannot come out whole: compare what can.
        shortened = [_at_most(probe, split) for split in splits]
        return _Completions(probe=probe, splits=shortened, of_base=_scores(texts, shortened))

    def score(self, attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        """How much of the remainders an attack's texts are: exactly, nearly, and by ROUGE-L."""
        found = _scores(texts, self.splits)
        subject = self.probe.subject(attack, code, self.probe.labels(self.splits), note)
        (is_exact, base_exact), (is_near, base_near) = (
            [np.array([getattr(score, name) for score in scores], np.bool_) for scores in (found, self.of_base)]
            for name in ("is_exact", "is_near")
        )
        rouge, base_rouge = (np.array([score.rouge_l for score in scores]) for scores in (found, self.of_base))
        return Findings(
            found=[
                rate(subject, "exact", is_exact, base_exact),
                rate(subject, "near", is_near, base_near),
                mean(subject, "rouge_l", rouge, base_rouge, is_share=True),
            ],
            memorised=self.probe.memorised(attack, texts, self.splits, is_exact & subject.labels),
        )


def _scores(texts: Sequence[Generated], splits: Sequence[Split]) -> list[CompletionScore]:
    return [score_completion(text, split) for text, split in zip(texts, splits, strict=True)]


def _at_most(probe: Probe, split: Split) -> Split:
    """The same with a remainder of at most as many tokens as are generated."""
    remainder = split.remainder[: probe.settings.max_new_tokens]
    if len(remainder) == len(split.remainder):
        return split
    return replace(split, remainder=remainder, remainder_text=decode_tokens(probe.tokenizer, remainder))
