"""What every bound on epsilon shares: its levels, their ranges, and the search for the largest epsilon refuted."""

from collections.abc import Callable

TOLERANCE = 1e-9
"""How far below the true root a search may stop, in absolute terms and, above 1, relative to the root."""

MAX_EPSILON = 1e12
"""A search that gets here has no end: the condition holds for every epsilon."""


def largest_holding(holds: Callable[[float], bool], *, tolerance: float = TOLERANCE) -> float:
    """Gives the largest x >= 0 at which a condition holds, by doubling and halving; 0.0 if it fails at 0 already.

    Args:
        holds: true up to some x and false beyond it, at the latest at `MAX_EPSILON`.
        tolerance: see `TOLERANCE`.

    Guarantees:
        - The condition holds at the value given (or the value is 0.0): a lower bound is rounded down, never up.

    Raises:
        ArithmeticError: the condition holds everywhere; callers rule this out.
    """
    if not holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while holds(high):
        low, high = high, 2 * high
        if high > MAX_EPSILON:
            raise ArithmeticError(f"the condition still holds at {low:g}: there is no largest value")
    while high - low > tolerance * max(1.0, low):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def check_delta(delta: float, *, is_zero_allowed: bool) -> None:
    """Raises unless delta is a probability below 1, and above 0 where a Gaussian curve has no finite epsilon at 0.

    Raises:
        ValueError: it is not, or is NaN.
    """
    if is_zero_allowed:
        if not 0 <= delta < 1:
            raise ValueError(f"delta is {delta}, expected at least 0 and below 1")
    elif not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, expected above 0 and below 1: at 0 a Gaussian curve has no finite epsilon")


def check_significance(significance: float) -> None:
    """Raises unless it is strictly between 0 and 1.

    Raises:
        ValueError: it is not, or is NaN.
    """
    if not 0 < significance < 1:
        raise ValueError(f"significance is {significance}, expected above 0 and below 1")


def check_count(count: float, *, name: str, low: int, high: int | None = None) -> None:
    """Raises unless a count is a whole number within its range.

    Raises:
        ValueError: it is not, or is NaN; the message names it.
    """
    expected = f"at least {low}" if high is None else f"{low} to {high}"
    if not (count >= low and (high is None or count <= high) and count % 1 == 0):
        raise ValueError(f"{name} is {count}, expected a whole number, {expected}")
