"""Usefulness of a study's variants, over seeds: a table as Markdown, and a picture as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from confide.privacy.randomness import SEEDED_MEANS, SEEDED_NOISE
from confide.report.wording import number

_WIDTH, _HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 30, 70
_HIDES = {"none": "nothing", "example": "one row", "client": "one client", "both": "one row and one client"}
_ROOM = 1.06  # of the axis, beyond the data, as a factor: the axis is logarithmic
_TICKS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class VariantUtility:
    """What came of one variant.

    Attributes:
        name: of the variant.
        unit: whose presence it hides, "none", "example", "client" or "both".
        epsilon: what was spent, the most over seeds; None without a guarantee. With "both" that of a row.
        client_epsilon: with "both" that of a client; else None.
        losses: held-out loss by seed, in nats per target token.
        base_losses: the base model's on the same rows.
        seeded_noise: whether who knows the run's seed knows the noise.
    """

    name: str
    unit: str
    epsilon: float | None
    client_epsilon: float | None
    losses: tuple[float, ...]
    base_losses: tuple[float, ...]
    seeded_noise: bool = False

    @property
    def changes(self) -> tuple[float, ...]:
        """Loss less the base model's, by seed: below 0, training helped."""
        return tuple(loss - base for loss, base in zip(self.losses, self.base_losses, strict=True))


def utility_markdown(variants: Sequence[VariantUtility]) -> str:
    """Gives a row per variant: what it hides, what that cost, and what it is good for; and what seeded noise means.

    Args:
        variants: each with at least one seed.
    """
    rows = [
        ("variant", "hides", "epsilon spent", "held-out loss", "change from the base model", "seeds"),
        ("---",) * 6,
        *(
            (
                one.name,
                _HIDES[one.unit],
                _spent(one),
                _mean_and_range(one.losses),
                _mean_and_range(one.changes),
                str(len(one.losses)),
            )
            for one in variants
        ),
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return table + (f"\nNote: {SEEDED_MEANS}.\n" if any(one.seeded_noise for one in variants) else "")


def utility_svg(variants: Sequence[VariantUtility], *, title: str) -> str:
    """Draws held-out loss by variant: a dot for each seed, a line between them, and the base model's loss dashed.

    Args:
        variants: each with at least one seed; all losses finite and above 0.
        title: of the picture, for who does not see it.
    """
    base = _mean([loss for one in variants for loss in one.base_losses])
    every = [loss for one in variants for loss in one.losses] + [base]
    low, high = min(every) / _ROOM, max(every) * _ROOM

    def y(loss: float) -> float:
        share = math.log(loss / low) / math.log(high / low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    step = (_WIDTH - _LEFT - _RIGHT) / len(variants)
    environment = Environment(
        loader=PackageLoader("confide.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("utility.svg.j2").render(
        title=title,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        base=y(base),
        ticks=[(y(tick), f"{tick:g}") for tick in _TICKS if low <= tick <= high],
        summary="; ".join(f"{one.name}: {_mean_and_range(one.losses)}" for one in variants),
        variants=[
            {
                "x": round(_LEFT + step * (place + 0.5), 1),
                "name": one.name,
                "dots": [y(loss) for loss in one.losses],
                "low": y(min(one.losses)),
                "high": y(max(one.losses)),
                "unit": one.unit,
            }
            for place, one in enumerate(variants)
        ],
    )


def _spent(one: VariantUtility) -> str:
    if one.epsilon is None:
        return "no guarantee"
    of_client = "" if one.client_epsilon is None else f"; of a client {one.client_epsilon:.2f}"
    return f"{one.epsilon:.2f}{of_client}" + (f" ({SEEDED_NOISE})" if one.seeded_noise else "")


def _mean_and_range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return number(values[0])
    return f"{number(_mean(values))} [{number(min(values))}, {number(max(values))}]"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
