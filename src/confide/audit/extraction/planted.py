"""Planted secrets: give a model all that stands before one, and see whether it says it (E1, E6, E7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from confide.attacks.extraction.generated import Generated
from confide.attacks.extraction.prompts import Split, split_at_secret
from confide.attacks.extraction.scoring import says_secret_first
from confide.audit.extraction.harvest import audit_harvest
from confide.audit.extraction.probe import Probe, ids_of, splits_of
from confide.audit.extraction.samples import audit_samples
from confide.audit.extraction.tasks import lengths_of
from confide.audit.extraction.two_models import audit_two_models
from confide.audit.extraction.weight_space import audit_beyond
from confide.audit.judging import Findings
from confide.audit.rates import rate, share_of
from confide.audit.statistics import Flags
from confide.update import Vector

_ROOM = 2  # tokens beyond the longest secret: models may begin with a blank of their own
_METRIC = "exact"


def audit_planted(probe: Probe) -> Findings:
    """Runs all attacks on planted secrets."""
    cut = partial(split_at_secret, tokenizer=probe.tokenizer)
    splits = splits_of(probe.asked, cut)
    if few := probe.few("greedy", splits):
        return few
    secrets = _Secrets.ask(probe, splits)
    findings = secrets.greedy()
    findings.add(audit_samples(probe, splits))
    if len(probe.rounds) > 1:
        findings.add(secrets.union())
    own = splits_of(probe.own, cut)
    findings.add(audit_two_models(probe, splits, own, max_new_tokens=secrets.room, score=secrets.score))
    findings.add(audit_beyond(probe, splits, own, max_new_tokens=secrets.room, score=secrets.score))
    findings.add(audit_harvest(probe, splits))
    return findings


@dataclass(frozen=True, kw_only=True)
class _Secrets:
    """What the models of the rounds say behind the prompts; round 0 is the base model."""

    probe: Probe
    splits: Sequence[Split]
    room: int
    texts: Mapping[int, Sequence[Generated]]
    labels: Flags

    @staticmethod
    def ask(probe: Probe, splits: Sequence[Split]) -> "_Secrets":
        room = max(len(split.remainder) for split in splits) + _ROOM
        adapters: Mapping[int, Vector | None] = probe.adapters()
        return _Secrets(
            probe=probe,
            splits=splits,
            room=room,
            texts={number: probe.complete(adapter, splits, room) for number, adapter in adapters.items()},
            labels=probe.labels(splits),
        )

    def score(self, attack: str, code: str, texts: Sequence[Generated], note: str) -> Findings:
        """How many secrets an attack's texts begin with."""
        note = f"{lengths_of(self.splits)} {note}".rstrip()
        subject = self.probe.subject(attack, code, self.labels, note, records=ids_of(self.splits))
        hits = self._hits(texts)
        return Findings(
            found=[rate(subject, _METRIC, hits, self._hits(self.texts[0]))],
            memorised=self.probe.memorised(attack, texts, self.splits, hits & self.labels),
        )

    def greedy(self) -> Findings:
        """E1, and how it grows with the number of training records that carry a secret."""
        last = self.probe.rounds[-1]
        findings = self.score("greedy", "E1", self.texts[last], "")
        hits = self._hits(self.texts[last])
        copies = np.array([self.probe.truth.copies.get(split.candidate_id, 1) for split in self.splits])
        numbers = sorted(set(copies[self.labels].tolist()))
        if len(numbers) > 1:
            shares = {number: share_of(hits[self.labels & (copies == number)]) for number in numbers}
            findings.curves.append(self.probe.curve("greedy", _METRIC, "copies", "members", shares))
        return findings

    def union(self) -> Findings:
        """E7: what came out of some round's model, and of each.

        Source: Rashid et al. 2023, "FLTrojan" (rounds before the last give away more), here without any tampering.
        """
        hits = {number: self._hits(texts) for number, texts in self.texts.items()}
        rounds = self.probe.rounds
        union = np.any([hits[number] for number in rounds], axis=0)
        best = max(rounds, key=lambda number: int(hits[number][self.labels].sum()))
        note = (
            f"{lengths_of(self.splits)} Out of any model of the rounds {', '.join(map(str, rounds))}; of these round "
            f"{best} alone gave most members away, {int(hits[best][self.labels].sum())}."
        )
        subject = self.probe.subject("union", "E7", self.labels, note, records=ids_of(self.splits))
        curves = [
            self.probe.curve(
                "greedy", _METRIC, "rounds", series, {number: share_of(one[chosen]) for number, one in hits.items()}
            )
            for series, chosen in (("members", self.labels), ("held_out", ~self.labels))
        ]
        return Findings(found=[rate(subject, _METRIC, union, hits[0])], curves=curves)

    def _hits(self, texts: Sequence[Generated]) -> Flags:
        secrets = self.probe.truth.secrets
        return np.array(
            [
                says_secret_first(text, secrets[split.candidate_id])
                for text, split in zip(texts, self.splits, strict=True)
            ],
            np.bool_,
        )
