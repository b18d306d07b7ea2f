"""The leakage paper's protocol: what single rounds' models give away, by its basic and its enhanced attack.

In each round that is looked at a text is drawn behind every prompt: the first 80 % and 30 % of a record, the 80 % with
words replaced, and the begin token alone. The basic attack draws from the round's model; the enhanced one from that
model amplified against the model of the round right before, looked at or not. Both draw with the same top-p, the same
temperature and the same random numbers: where a round changed nothing, the second model changes nothing. But amplifying
also makes a draw sharper, as a lower temperature does, and that alone brings out more of a text that the model knows.
So what the enhanced attack has beyond the basic one is no proof that the second model knows something, and is never
called a leak. Unlike the paper, the same is asked about records that nobody trained on, and about the same records in
every round.

Source: arXiv 2509.20680, sections 3.1 to 3.3, appendices D and H.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from confide.attacks.extraction.generated import decode_tokens
from confide.attacks.extraction.prompts import Split
from confide.attacks.extraction.two_model import Amplification
from confide.attacks.extraction.union import best_over_rounds
from confide.audit.extraction.leaked_by_round import Outcome, Task, curves_over_rounds, paper_tasks
from confide.audit.extraction.probe import Probe, model_name
from confide.audit.extraction.tasks import LONG, cut_prefixes
from confide.audit.extraction.two_models import TEMPERATURES, choose_amplification, describe
from confide.audit.judging import Findings, Found, Subject
from confide.audit.rates import mean
from confide.audit.results import GAINS
from confide.audit.statistics import Floats, Interval
from confide.evaluate.generation import Answer, Sampling
from confide.seeds import derive_seed
from confide.update import Vector

_TWO = "-two"
_SHARPER = (
    "A draw that is merely sharper, as at a lower temperature, brings out more of a text that the model knows too, and "
    "amplifying makes draws sharper."
)
_NOTHING = Interval(value=0.0, low=0.0, high=0.0, num=0)
"""What amplifying the base model's change from itself gains: by construction, so that nothing is measured."""


def audit_protocol(probe: Probe) -> Findings:
    """Runs the basic and, for who has two rounds' models, the enhanced attack on every task in every round looked at.

    Returns:
        For each task and attack, by records: the mean over rounds ("rouge_l"), beside held-out records and the base
        model; where there are several rounds also each record's best one ("rouge_l_max"), beside the same of held-out
        records, which have as many draws; and curves over rounds, from the base model on. What the enhanced attack has
        beyond the basic one on the same records ("gain", "gain_max") stands beside the same on held-out records, and
        beside none: two base models amplify nothing.
    """
    tasks, findings = paper_tasks(probe)
    protocol = _Protocol(probe=probe, tasks=tasks, adapters=probe.adapters())
    own = cut_prefixes(probe, probe.own, LONG)
    chosen = protocol.choose(own) if probe.before(probe.rounds[-1]) else None
    top_p = probe.settings.top_ps[0] if chosen is None else chosen.scheme.top_p
    temperature = TEMPERATURES[0] if chosen is None else chosen.scheme.temperature
    basic = {number: protocol.draw(number, top_p, temperature) for number in protocol.adapters}
    drawn = f"temperature {temperature:g}, "
    rows = [_Row.of(probe, task, "", f"{drawn}top-p {top_p:g}", basic, place) for place, task in enumerate(tasks)]
    for row in rows:
        findings.add(row.findings())
    if chosen is None:
        return findings
    enhanced = {0: basic[0]} | {number: protocol.draw_with_two(number, chosen) for number in probe.rounds}
    pairs = ", ".join(f"{number} against {model_name(probe.before(number))}" for number in probe.rounds)
    setting = f"{drawn}{describe(chosen, own)}. Rounds {pairs}; no other pairs are tried"
    for place, task in enumerate(tasks):
        row = _Row.of(probe, task, _TWO, setting, enhanced, place)
        findings.add(row.findings())
        findings.found.extend(row.gains(rows[place]))
    return findings


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    """Asks all of a round's prompts at once; round 0 is the base model."""

    probe: Probe
    tasks: Sequence[Task]
    adapters: Mapping[int, Vector | None]

    def choose(self, own: Sequence[Split]) -> Amplification:
        """Once for all rounds and tasks: on the last two rounds and the longest prompts."""
        newest = self.probe.rounds[-1]
        return choose_amplification(
            self.probe,
            self.probe.final,
            self.probe.adapter(self.probe.before(newest)),
            own,
            max_new_tokens=self.probe.settings.max_new_tokens,
            seed=self._seed(newest),
        )

    def draw(self, number: int, top_p: float, temperature: float) -> list[Outcome]:
        """What comes of each task when a round's model is asked."""
        answers = self.probe.passes.generate(
            self.adapters[number],
            self._prompts(),
            max_new_tokens=self.probe.settings.max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=top_p, seed=self._seed(number)),
        )
        return self._score(answers)

    def draw_with_two(self, number: int, chosen: Amplification) -> list[Outcome]:
        """The same of a round's model together with that of the round before, with the same random numbers."""
        answers = self.probe.passes.generate_with_two(
            self.probe.view.adapters[number](),
            self.probe.adapter(self.probe.before(number)),
            self._prompts(),
            replace(chosen, seed=self._seed(number)),
            max_new_tokens=self.probe.settings.max_new_tokens,
        )
        return self._score(answers)

    def _prompts(self) -> list[Sequence[int]]:
        return [prompt for task in self.tasks for prompt in task.prompts]

    def _score(self, answers: Sequence[Answer]) -> list[Outcome]:
        texts = [decode_tokens(self.probe.tokenizer, answer.token_ids) for answer in answers]
        ends = list(accumulate(len(task.prompts) for task in self.tasks))
        return [task.score(texts[end - len(task.prompts) : end]) for task, end in zip(self.tasks, ends, strict=True)]

    def _seed(self, number: int) -> int:
        return derive_seed(self.probe.settings.seed, "audit protocol", number)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One attack on one task over the rounds that are looked at.

    Attributes:
        outcomes: by round; round 0 is the base model.
    """

    probe: Probe
    subject: Subject
    outcomes: Mapping[int, Outcome]

    @staticmethod
    def of(
        probe: Probe, task: Task, kind: str, setting: str, outcomes: Mapping[int, Sequence[Outcome]], place: int
    ) -> "_Row":
        rounds = ", ".join(map(str, probe.rounds))
        note = f"{task.note} Drawn once for each prompt in each of the rounds {rounds}; {setting}."
        subject = probe.subject(
            task.attack + kind, "E6" if kind else task.code, task.labels, note, records=task.records
        )
        return _Row(probe=probe, subject=subject, outcomes={number: of[place] for number, of in outcomes.items()})

    def findings(self) -> Findings:
        of_base, subject = self.outcomes[0].records, self.subject
        found = [mean(subject, "rouge_l", self._mean(), of_base, most=1.0)]
        if len(self.probe.rounds) > 1:
            # The base model is asked once: it has no maximum to compare with.
            found.append(mean(subject, "rouge_l_max", self._best(), None, most=1.0))
        return Findings(found=found, curves=curves_over_rounds(self.probe, subject.attack, self.outcomes))

    def gains(self, basic: "_Row") -> list[Found]:
        pairs = ((self._mean(), basic._mean()), (self._best(), basic._best()))
        return [self._gain(metric, one, other) for metric, (one, other) in zip(GAINS, pairs, strict=True)]

    def _gain(self, metric: str, with_two: Floats, alone: Floats) -> Found:
        subject = replace(self.subject, note=f"{self.subject.note} {_SHARPER}")
        nothing = np.zeros(alone.size)
        found = mean(subject, metric, with_two - alone, nothing, most=None, most_of_each=1 - alone)
        return replace(found, controls={**found.controls, "base": _NOTHING}, barred=_SHARPER)

    def _mean(self) -> Floats:
        average: Floats = self._values().mean(axis=0)
        return average

    def _best(self) -> Floats:
        return best_over_rounds(self._values())

    def _values(self) -> Floats:
        """ROUGE-L, shape (num_rounds, num_records)."""
        return np.array([self.outcomes[number].records for number in self.probe.rounds])
