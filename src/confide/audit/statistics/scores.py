"""Scores as this folder takes them: float64 vectors, checked once at the door.

A score that is NaN or infinite stops everything here, with a count. Put in the middle or at the bottom of a ranking it
would be read as "not a member", which is how an attack's failures pass for privacy.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from confide.errors import DataError, RunError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

Statistic = Callable[[Floats, Floats], float]
"""A number from the members' scores and the non-members' scores, such as `auc_value`."""


def checked_vector(values: npt.ArrayLike, *, name: str) -> Floats:
    """Gives the values as a float64 vector of its own shape (num_records,).

    Raises:
        DataError: there is none.
        RunError: some are NaN or infinite.
        ValueError: it has not one dimension, or holds no real numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} is of dtype {array.dtype}, expected real numbers")
    vector = array.astype(np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has shape {vector.shape}, expected one dimension")
    if vector.size == 0:
        raise DataError(f"{name}: there are none, expected at least 1.")
    num_bad = int(np.count_nonzero(~np.isfinite(vector)))
    if num_bad:
        num_nan = int(np.count_nonzero(np.isnan(vector)))
        raise RunError(
            f"{name}: {num_bad} of {vector.size} values are no numbers ({num_nan} NaN, {num_bad - num_nan} infinite). "
            "Nothing is computed from them; find out for which records the attack's formula breaks down."
        )
    return vector


def checked_groups(members: npt.ArrayLike, non_members: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Gives both groups' scores as float64 vectors; see `checked_vector` for what it raises."""
    return checked_vector(members, name="members' scores"), checked_vector(non_members, name="non-members' scores")


def checked_labels(is_member: npt.ArrayLike, num_records: int) -> Flags:
    """Gives the truth as booleans, shape (num_records,), with at least one of each.

    Raises:
        DataError: there are no members, or no non-members.
        ValueError: it does not fit the records, or holds something else than true and false.
    """
    labels = checked_flags(is_member, name="is_member")
    if labels.shape != (num_records,):
        raise ValueError(f"is_member has shape {labels.shape}, expected ({num_records},) as the scores")
    num_members = int(np.count_nonzero(labels))
    if num_members in (0, num_records):
        which = "members" if num_members == 0 else "non-members"
        raise DataError(f"all {num_records} records are on one side: there are no {which} to compare with.")
    return labels


def checked_flags(flags: npt.ArrayLike, *, name: str) -> Flags:
    """Gives true and false, or 0 and 1, as booleans.

    Raises:
        ValueError: there is something else among them, or more than one dimension.
    """
    array = np.asarray(flags)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one dimension")
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} holds other values than true and false")
    return array.astype(np.bool_)


def checked_owners(owners: Sequence[str], num_records: int) -> npt.NDArray[np.str_]:
    """Gives the owners' names as an array, shape (num_records,).

    Raises:
        ValueError: their number is another.
    """
    if len(owners) != num_records:
        raise ValueError(f"owners has {len(owners)} names, expected {num_records}, one per score")
    return np.asarray(owners, dtype=np.str_)
