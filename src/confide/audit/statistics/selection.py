"""Choosing the best attack on one half of the records and reporting it on the other.

The best of ten useless attacks looks like a leak on the records it was chosen on; on the other half it does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from confide.audit.statistics.area import Auc, auc, auc_value
from confide.audit.statistics.scores import (
    Flags,
    Floats,
    Statistic,
    checked_flags,
    checked_labels,
    checked_owners,
    checked_vector,
)
from confide.errors import DataError
from confide.seeds import stream


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Two disjoint halves of the records.

    Attributes:
        choosing: True for records on which an attack is chosen, shape (num_records,).
        reporting: True for all others.
    """

    choosing: Flags
    reporting: Flags


@dataclass(frozen=True, kw_only=True)
class ChosenAttack:
    """The attack that was best on one half, measured on the other.

    Attributes:
        attack: its name.
        criteria: every attack's value of the statistic on the choosing half, by name, in the order given.
        halves: which records were which.
        members: the chosen attack's scores of the members among the reporting half.
        non_members: and of the non-members.
        auc: on the reporting half, the records that choosing did not see.
    """

    attack: str
    criteria: Mapping[str, float]
    halves: Halves
    members: Floats
    non_members: Floats
    auc: Auc


def split_halves(is_member: npt.ArrayLike, owners: Sequence[str], *, seed: int) -> Halves:
    """Splits records into two halves, evenly by membership and owner.

    Args:
        is_member: the truth, shape (num_records,), at least two of each.
        owners: whose record it is, num_records names.
        seed: of the run; the split comes from a stream named after it.

    Guarantees:
        - Of each owner's members, and of each owner's non-members, the two halves have the same number, or one more on
          one side; the odd ones go to the two sides in turn, the reporting half first. So the halves differ by at most
          one member and one non-member in all, and each has at least one of both.
        - Scores are not an argument. The same arguments give the same halves.

    Raises:
        DataError: there are fewer than two members, or fewer than two non-members.
        ValueError: the arguments differ in length.
    """
    flags = checked_flags(is_member, name="is_member")
    labels = checked_labels(flags, flags.size)
    names = checked_owners(owners, labels.size)
    rng = stream(seed, "audit halves")
    choosing = np.zeros(labels.size, np.bool_)
    for side in (labels, ~labels):
        if np.count_nonzero(side) < 2:
            which = "member" if side is labels else "non-member"
            raise DataError(f"there is 1 {which}, expected at least 2: one to choose an attack on, one to report.")
        is_odd_one_reported = True
        for owner in np.unique(names[side]):
            places = rng.permutation(np.flatnonzero(side & (names == owner)))
            num_chosen = places.size // 2
            if places.size % 2:
                num_chosen += 0 if is_odd_one_reported else 1
                is_odd_one_reported = not is_odd_one_reported
            choosing[places[:num_chosen]] = True
    return Halves(choosing=choosing, reporting=~choosing)


def choose_attack(
    scores: Mapping[str, npt.ArrayLike],
    is_member: npt.ArrayLike,
    owners: Sequence[str],
    *,
    statistic: Statistic = auc_value,
    seed: int,
) -> ChosenAttack:
    """Takes the attack with the largest statistic on the choosing half and measures it on the reporting half.

    Args:
        scores: by attack, each of shape (num_records,), finite; higher = member. At least one attack.
        is_member: the truth, shape (num_records,).
        owners: whose record it is, num_records names.
        statistic: what to choose by; of equal attacks the first one is taken.
        seed: of the run.

    Guarantees:
        - The reporting half's labels and scores have no influence on the choice, so that interval and p-value of
          `auc` hold as for an attack fixed in advance; no correction for the number of attacks is needed.

    Raises:
        DataError: there are no attacks, or too few records; see `split_halves`.
        RunError, ValueError: as `checked_vector`; the message names the attack.
    """
    if not scores:
        raise DataError("there is no attack to choose from, expected at least 1.")
    checked = {name: checked_vector(values, name=f"scores of {name}") for name, values in scores.items()}
    halves = split_halves(is_member, owners, seed=seed)
    num_records = halves.choosing.size
    for name, values in checked.items():
        if values.size != num_records:
            raise ValueError(f"scores of {name}: {values.size} values for {num_records} records")
    labels = checked_labels(is_member, num_records)
    seen, seen_others = halves.choosing & labels, halves.choosing & ~labels
    criteria = {name: statistic(values[seen], values[seen_others]) for name, values in checked.items()}
    attack = max(criteria, key=lambda name: criteria[name])
    best = checked[attack]
    members, non_members = best[halves.reporting & labels], best[halves.reporting & ~labels]
    return ChosenAttack(
        attack=attack,
        criteria=criteria,
        halves=halves,
        members=members,
        non_members=non_members,
        auc=auc(members, non_members),
    )
