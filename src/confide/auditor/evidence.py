"""Whether an audit can say anything: enough records, and members that were trained on by what the losses show."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.audit.area_samples import WORTH_FINDING
from confide.audit.judging import Findings
from confide.audit.statistics import (
    Interval,
    auc,
    mean_difference,
    mean_interval,
    records_for_auc,
    records_for_half,
    shortage,
    smallest_auc,
)
from confide.auditor.case import Case
from confide.data.examples import TokenizedExample
from confide.errors import DataError
from confide.update import Vector

_SIGNIFICANCE = 0.05
_CHANCE = 0.5
_FEWEST_TO_COMPARE = 2
_OF_A_RUN = "A run keeps records aside with data.held_out, and leaves some out by coins with audit.canaries."

Losses = npt.NDArray[np.float64]


def few_records(case: Case) -> list[str]:
    """Says of which kinds there are too few records for rankings to say much, and how many are needed.

    About rankings alone: what comes out as text may be told from what does not by fewer records.

    Raises:
        DataError: of no kind is there anything to compare.
    """
    check_comparable(case, advice=_OF_A_RUN)
    found = []
    enough = records_for_half(num_tests=1) or 0  # for a single attack; several need more, and say so themselves
    for population in case.populations:
        labels = case.truth.labels(population.candidates)
        if _FEWEST_TO_COMPARE <= _fewest(labels) < enough:
            few = shortage(int(labels.sum()), int((~labels).sum()), auc=WORTH_FINDING)
            found.append(
                f"{population.name}: too few records for a conclusion from rankings (membership): {few} That is for "
                "one attack alone: where several are tried, or one half of the records chooses the attack, more are "
                "needed, as each measure says."
            )
    return found


def check_comparable(case: Case, *, advice: str) -> None:
    """Makes sure that of some kind there are records of both sides.

    Args:
        case: what an audit asks about.
        advice: what the user can do, in a sentence.

    Raises:
        DataError: there are not; says how many there are, how many are needed, and the advice.
    """
    labels = [case.truth.labels(population.candidates) for population in case.populations]
    if any(_fewest(one) >= _FEWEST_TO_COMPARE for one in labels):
        return
    enough = records_for_auc(WORTH_FINDING).members
    raise DataError(
        "there is nothing to compare: an audit needs records that were trained on and records that were not, at "
        f"least {_FEWEST_TO_COMPARE} of each, and {enough} of each to find an AUC of {WORTH_FINDING} with one attack. "
        f"There are {_listed(case)}. {advice}"
    )


def doubts(passes: Passes, adapter: Vector, case: Case) -> Findings:
    """Says, with the evidence, where the losses speak against what the user said: who was trained on, on which base.

    A model that was trained on records has a lower loss on them than its base model, and by more than on like records
    that it was not trained on. The second is expected of a model only as far as it learns records by heart. That it is
    not so is not said where there are too few records for an AUC of `WORTH_FINDING`, nor where no coins decided: then
    the membership audit says it.

    Returns:
        Warnings. Doubts among them are those that no honest training explains: that members became less likely, and
        that others were learnt better than members, by an AUC whose interval lies wholly below chance. That nothing
        shows members were trained on is none: so it is with a model that has a good defence.
    """
    found = Findings()
    for population in case.populations:
        labels = case.truth.labels(population.candidates)
        if min(int(labels.sum()), int((~labels).sum())) < _FEWEST_TO_COMPARE:
            continue
        falls = _falls(passes, adapter, [candidate.example for candidate in population.candidates])
        members, others = mean_interval(falls[labels]), mean_interval(falls[~labels])
        evidence = (
            f"{population.name}: from the base to the final model the loss of members fell by {_shown(members)} nats a "
            f"token and that of others by {_shown(others)} (means with 95 % intervals over {members.num} and "
            f"{others.num} records)"
        )
        if members.high < 0:
            found.add(
                _doubt(
                    f"{evidence}: the adapter makes its own members less likely. It is of another base model, or the "
                    "records were read with another template."
                )
            )
        elif auc(falls[labels], falls[~labels]).interval.high < _CHANCE:
            found.add(
                _doubt(
                    f"{evidence}: the others were learnt better than the members. The two lists are swapped, or not "
                    "the right ones for this adapter, or the others are of an easier kind."
                )
            )
        elif (
            case.truth.is_randomised
            and not shortage(members.num, others.num, auc=WORTH_FINDING)
            and _is_no_more(falls[labels], falls[~labels])
        ):
            least = smallest_auc(members.num, others.num)
            found.warnings.append(
                f"{evidence}: nothing shows that they were trained on, though so many records would as a rule show it "
                f"from an AUC of {least:.2f} up. Either the model learnt this kind of text and hardly any record by "
                "heart, or it is not the right list or not the right adapter."
            )
    return found


def _doubt(sentence: str) -> Findings:
    return Findings(warnings=[sentence], doubts=[sentence])


def _fewest(labels: npt.NDArray[np.bool_]) -> int:
    """How many there are of the side that has fewer."""
    return min(int(labels.sum()), int((~labels).sum()))


def _is_no_more(members: Losses, others: Losses) -> bool:
    return mean_difference(members, others, alternative="greater").p_value >= _SIGNIFICANCE


def _falls(passes: Passes, adapter: Vector, examples: Sequence[TokenizedExample]) -> Losses:
    """How far each record's mean loss lies below the base model's, in nats per learnt token, (num_examples,)."""
    before, after = (
        np.array([_mean_loss(stats) for stats in passes.stats(which, examples)]) for which in (None, adapter)
    )
    falls: Losses = before - after
    return falls


def _mean_loss(stats: TokenStats) -> float:
    return -float(stats.logp[stats.is_target].mean(dtype=np.float64))


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _listed(case: Case) -> str:
    return ", ".join(f"{count} {name}" for name, count in case.counts.items() if count) or "no records"
