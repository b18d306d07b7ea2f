"""Attacks on updates, scored: what each protection of an update buys, in one table.

The same attack (M15) on the same records and rounds, given in turn: single updates, the same pruned or noised, means of
several, the mean without the attacker's own part, and sealed bytes. One thing changes from row to row.
"""

from collections.abc import Sequence

import numpy as np

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.updates.similarity import MEASURES, Scores, Target, score_updates
from confide.audit.areas import area, blind_control, comparable
from confide.audit.judging import Findings, Subject
from confide.audit.statistics import paired_auc_difference
from confide.audit.told import Told, coins_gap
from confide.audit.truth import Population, Truth, too_few
from confide.audit.update_rows import Row, rows_of

__all__ = ["Row", "audit_updates", "rows_of"]

_FEWEST = 2
EPSILON_MEASURE = "joint"
"""Whose scores bound epsilon: what a record adds to an update, with what others add along its direction taken out.

Records' gradients overlap, and without that the others' shares hide one record's as well as noise does: a run without
any clipping would pass. Fixed, and one only, as all that are tried share the significance.
"""
_DIFFERENCE = (
    "The published score is <g, G> - |g|^2 / 2, with G the sum of the gradients that made an update; seen is only an "
    "update u, G times a factor that nobody outside knows (learning rate, steps, Adam), so the score here is "
    "<g, u> / |g|^2, which that factor does not reorder."
)
"""Why the gradient difference is not as in the literature, for whoever looks up the formula."""


def audit_updates(
    rows: Sequence[Row],
    passes: Passes,
    population: Population,
    truth: Truth,
    *,
    seed: int = 0,
) -> Findings:
    """Scores every row's updates against every candidate of the owners concerned.

    Args:
        rows: what attackers are given. The first one is what the others are compared with. All that know where a round
            started know the same.
        passes: gives the gradients: one for each candidate and round, whatever the number of rows.
        population: whom to ask about.
        truth: the answers.
        seed: of the run, for the blind baseline.

    Returns:
        For every row and measure of `MEASURES` the AUC of the mean score over rounds, beside the blind baseline's; in
        the note, the paired difference from the first row on the records that both ask about. Where coins decided about
        single copies, the scores that bound epsilon, of rows that a party of the run sees.
    """
    findings = Findings()
    if not rows:
        return findings
    scores = _mean_scores(rows, passes, population.candidates)
    for row, by_measure in zip(rows, scores, strict=True):
        is_asked = ~np.isnan(by_measure[MEASURES[0]])
        asked = [one for one, is_in in zip(population.candidates, is_asked, strict=True) if is_in]
        labels = truth.labels(asked)
        if few := too_few(f"{population.name}, {row.name}", labels, _FEWEST):
            findings.add(Findings.too_few(row.view, "updates", row.name, few))
            continue
        owners = [candidate.owner for candidate in asked]
        blind = blind_control(population, asked, truth, seed=seed)
        for measure in MEASURES:
            subject = Subject(
                view=row.view,
                family="updates",
                attack=measure,
                code="M15",
                population=row.name,
                labels=labels,
                is_hypothetical=row.is_hypothetical,
                records=tuple(one.candidate_id for one in asked),
                note=" ".join(
                    part
                    for part in (
                        "What if the run were not sealed." if row.is_hypothetical else "",
                        row.note,
                        _DIFFERENCE if measure == "difference" else "",
                        _against_first(rows[0], scores[0][measure], by_measure[measure], population, truth),
                    )
                    if part
                ),
            )
            values = comparable(by_measure[measure][is_asked], owners, is_randomised=truth.is_randomised)
            findings.found.append(area(subject, values, blind))
        if not (row.is_hypothetical or row.is_changed):
            findings.add(_told(row, population, asked, truth, by_measure[EPSILON_MEASURE][is_asked]))
    return findings


def _told(row: Row, population: Population, asked: Sequence[Candidate], truth: Truth, scores: Scores) -> Findings:
    """The scores that bound epsilon, or why none do."""
    if gap := coins_gap(population, asked, truth):
        return Findings(epsilon_gaps=[gap])
    told = Told(
        view=row.view,
        population=population.name,
        attack=f"{EPSILON_MEASURE} with the {row.name}",
        scores=scores,
        coins=truth.labels(asked),
    )
    return Findings(told=[told])


def _mean_scores(rows: Sequence[Row], passes: Passes, candidates: Sequence[Candidate]) -> list[dict[str, Scores]]:
    """By row and measure: each candidate against the update that stands for its owner, averaged over the rounds that
    have one; NaN for a candidate of whom a row says nothing. Shape (num_candidates,).
    """
    starts = {number: start for row in rows for number, start in row.starts.items()}
    shape = (len(rows), len(candidates))
    totals = {measure: np.zeros(shape) for measure in MEASURES}
    counts = np.zeros(shape)
    rounds = sorted({number for row in rows for number in row.targets})
    for owner in sorted({candidate.owner for candidate in candidates}):
        places = [place for place, candidate in enumerate(candidates) if candidate.owner == owner]
        examples = [candidates[place].example for place in places]
        for number in rounds:
            seen = {
                line: row.targets[number][owner]
                for line, row in enumerate(rows)
                if owner in row.targets.get(number, {})
            }
            targets = [
                Target(name=rows[line].name, round_number=number, layout=update.layout, vector=update.vector)
                for line, update in seen.items()
            ]
            for measure, scores in score_updates(passes, starts, examples, targets).items():
                totals[measure][np.ix_(list(seen), places)] += scores.T
            counts[np.ix_(list(seen), places)] += 1
    with np.errstate(invalid="ignore"):  # 0 / 0, where nothing was seen
        means = {measure: total / counts for measure, total in totals.items()}
    return [{measure: means[measure][line] for measure in MEASURES} for line in range(len(rows))]


def _against_first(first: Row, before: Scores, after: Scores, population: Population, truth: Truth) -> str:
    """What a row's change buys, on the records that both rows ask about; "" for the first row itself."""
    if after is before:
        return ""
    both = ~np.isnan(before) & ~np.isnan(after)
    labels = truth.labels([one for one, is_in in zip(population.candidates, both, strict=True) if is_in])
    if too_few("", labels, _FEWEST):
        return ""
    found = paired_auc_difference(after[both], before[both], labels).interval
    return (
        f"On the same {found.num} records the AUC is {abs(found.value):.2f} "
        f"{'lower' if found.value < 0 else 'higher'} than from {first.name} (difference {found.value:+.2f}, "
        f"{found.low:+.2f} to {found.high:+.2f})."
    )
