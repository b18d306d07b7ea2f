"""Words and numbers as the report writes them: names of views, attacks and metrics, values with their intervals.

What a result calls itself by a name that is not listed here is shown by that name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from confide.audit.results import AuditResults, Estimate, Family, Measure, Verdict, ViewKind


@dataclass(frozen=True, kw_only=True)
class ViewWords:
    """A party's title, and what it sees."""

    title: str
    sees: str


VIEWS: Mapping[ViewKind, ViewWords] = MappingProxyType(
    {
        "final": ViewWords(title="The holder of the final model", sees="the final weights and the public base model"),
        "client": ViewWords(
            title="A participating client", sees="every round's global model, its own data and its own updates"
        ),
        "coalition": ViewWords(
            title="Clients that work together",
            sees="as one client, and the mean of all others' updates, without their own parts",
        ),
        "server": ViewWords(
            title="A server that reads updates",
            sees="every client's update of every round, the global models that follow from them, and reported figures",
        ),
        "sealed-server": ViewWords(
            title="A server with sealed updates",
            sees="sealed updates, their sizes, who took part, masks sent in the clear and reported figures; where the "
            "run hands them over (seal.release), the global models too",
        ),
    }
)

FAMILIES: Mapping[Family, str] = MappingProxyType(
    {
        "extraction": "Extraction",
        "exposure": "Exposure",
        "membership": "Membership",
        "updates": "Updates",
    }
)
"""Text that comes out stands before what can only be recognised."""

VERDICTS: tuple[Verdict, ...] = ("leak", "unexplained", "too few records", "no evidence")
"""Worst first: what is not decided stands before what was looked for and not found."""

BEYOND_CONTROLS: tuple[Verdict, ...] = ("leak", "unexplained")
"""With these something was found: for certain in training, or where something else may be why."""

WHAT_IF = "if this run were not sealed"
"""Said of what no party of a run sees: a measure that `is_hypothetical`."""

_METRICS = {
    "auc": "AUC",
    "exact": "exact match",
    "near": "near match",
    "rouge_l": "ROUGE-L",
    "exposure": "exposure in bits",
    "coverage": "share of others' secrets found",
    "matched": "share of records that a text from nothing comes close to",
    "within_100": "chance to come out in 100 samples",
    "top_10": "ROUGE-L of the closest tenth of texts",
    "rouge_l_top_10": "ROUGE-L of the closest tenth of texts",
    "rate": "share of records",
    "longest_run": "longest run of tokens in common",
    "verbatim_50": "share of records quoted by 50 tokens",
    "verbatim_20": "share of records quoted by 20 tokens",
    "verbatim_10": "share of records quoted by 10 tokens",
    "precision_loss_ratio": "share right of the texts an attacker would pick, by loss against the base model",
    "precision_zlib": "share right of the texts an attacker would pick, by loss against compressed size",
    "precision_ez": "share right of the texts an attacker would pick, by mistakes against the base model's",
    "precision_wbc": "share right of the texts an attacker would pick, by short passages against the base model",
}

_POPULATIONS = {
    "records": "records",
    "personal": "planted personal data",
    "random": "canaries of random tokens",
    "reserved": "canaries of reserved tokens",
    "ladder": "repeated canaries",
}

_CONTROLS = {
    "members": "trained on",
    "held_out": "held out",
    "base": "base model",
    "blind": "blind, without a model",
    "chance": "chance",
    "false positives": "false positives",
}

_RATES = {"exact", "near", "coverage", "matched", "within_100", "verbatim_50", "verbatim_20", "verbatim_10"} | {
    "precision_loss_ratio",
    "precision_zlib",
    "precision_ez",
    "precision_wbc",
}


_NOTHING = 1e-12
"""Bounds of intervals can be as small as the smallest of floats, which tells a reader no more than 0 does."""


ENHANCED = "-two"
"""How the name of an attack's enhanced form, with two models, ends."""


def run_names(runs: list[AuditResults]) -> list[str]:
    """Gives each run a name of its own: where several are called alike, a number follows."""
    names: list[str] = []
    for results in runs:
        name = results.run.name
        copy = 2
        while name in names:
            name = f"{results.run.name} ({copy})"
            copy += 1
        names.append(name)
    return names


def attack_name(attack: str, code: str = "") -> str:
    """Names an attack: its code in the literature's list, if any, and its name."""
    named = "best attack (chosen on the other half)" if attack == "best" else attack
    if attack.endswith(ENHANCED):
        named = f"{attack.removesuffix(ENHANCED)} with two models"
    return f"{code} {named}".strip()


def metric_name(metric: str) -> str:
    """Says what a metric measures: "tpr@0.01" is "true positives at 1 % false positives"."""
    false_positive_rate = tpr_target(metric)
    if false_positive_rate is not None:
        return f"true positives at {100 * false_positive_rate:.4g} % false positives"
    name, above, threshold = metric.partition(">")
    if above and name in _METRICS:
        return f"share with {_METRICS[name]} above {threshold}"
    return _METRICS.get(metric, metric)


def population_name(population: str) -> str:
    """Says what an attack was asked about."""
    return _POPULATIONS.get(population, population)


def series_name(series: str) -> str:
    """Says what a control, or the line of a figure, is."""
    return _CONTROLS.get(series, series)


def tpr_target(metric: str) -> float | None:
    """Gives the false-positive rate of a metric "tpr@RATE"; None for every other metric."""
    name, _, rate = metric.partition("@")
    if name != "tpr":
        return None
    try:
        target = float(rate)
    except ValueError:
        return None
    return target if 0.0 < target <= 1.0 else None


def is_rate(metric: str) -> bool:
    """Whether a metric is a share of records, which sentences give in percent."""
    return metric in _RATES or ">" in metric or tpr_target(metric) is not None


def number(value: float) -> str:
    """Writes a number with three digits that count, as the tables do: 0.417, 12.3, 1,234, and
    4.0e-05 with a minus sign.

    Args:
        value: finite, any sign; what is smaller than `_NOTHING` is shown as 0.
    """
    size = abs(value)
    if size < _NOTHING:
        return "0"
    if size >= 100:
        shown = f"{size:,.0f}"
    elif size >= 10:
        shown = f"{size:.1f}"
    elif size >= 1:
        shown = f"{size:.2f}"
    elif size >= 0.001:
        shown = f"{size:.3f}"
    else:
        shown = with_minus_signs(f"{size:.1e}")
    return f"\N{MINUS SIGN}{shown}" if value < 0 else shown


def interval(estimate: Estimate) -> str:
    """Writes "0.417 [0.221, 0.634]", with spaces at which no line breaks."""
    shown = f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


BY_CONSTRUCTION = "by construction"
"""Said of a control that no record stands behind, because it cannot be anything else."""


def counted(estimate: Estimate) -> str:
    """Writes "0.417 [0.221, 0.634], n = 24", and "0, by construction" where there was nothing to measure."""
    if not estimate.num:
        return f"{number(estimate.value)}, {BY_CONSTRUCTION}"
    return f"{interval(estimate)}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{estimate.num:,}"


def in_words(metric: str, estimate: Estimate, *, is_difference: bool = False) -> str:
    """Writes a value for a sentence, with its 95 % interval and the number of records: "41.7 % (22.1 to 63.4, n = 24)".

    Shares are in percent (differences of shares in percentage points), exposure in bits, all else as it is.
    """
    parts = (estimate.value, estimate.low, estimate.high)
    unit = ""
    if is_rate(metric):
        unit = " percentage points" if is_difference else "\N{NO-BREAK SPACE}%"
        value, low, high = (_with_minus(f"{100 * part:.1f}") for part in parts)
    else:
        unit = " bits" if metric == "exposure" else ""
        value, low, high = (number(part) for part in parts)
    return f"{value}{unit} ({low} to {high}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{estimate.num:,})"


def _with_minus(shown: str) -> str:
    is_zero = not shown.strip("-0.")
    return shown.lstrip("-") if is_zero else shown.replace("-", "\N{MINUS SIGN}")


def with_minus_signs(text: str) -> str:
    """Gives a text with minus signs before its negative numbers, as `number` writes them.

    Hyphens stay in words, dates and options: "partial-80", "2026-11-22", "--view".
    """
    return _NEGATIVE.sub("\N{MINUS SIGN}", text)


_NEGATIVE = re.compile(r"((?<![\w.-])|(?<=\de))-(?=\d|\.\d)")


def p_value(value: float | None) -> str:
    """Writes a p-value; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


NARROW = {"exposure": 1.0}
"""Half the width that an interval must have to say something, by metric, in its unit; 0.05 for any other."""

_LARGEST_NEED = 385
"""Records for a share's interval of 0.05 to each side at worst: 1.96^2 * 0.25 / 0.05^2."""


def records_needed(measure: Measure) -> int:
    """Says about how many records would let a measure decide.

    For "tpr@RATE" ten records that are not members per 1 / RATE, so that the threshold rests on ten of them. Else an
    interval's width falls with the square root of the number of records, which gives the number at which it is
    narrow enough (`NARROW`).
    """
    target = tpr_target(measure.metric)
    if target is not None:
        return math.ceil(round(10 / target, 6))
    estimate = measure.excess or measure.members
    half = (estimate.high - estimate.low) / 2
    if estimate.num == 0 or half == 0:
        return _LARGEST_NEED
    wanted = NARROW.get(measure.metric, 0.05)
    return max(estimate.num + 1, math.ceil(estimate.num * (half / wanted) ** 2))


def need(measure: Measure) -> str:
    """Says how many records would let a measure decide, in a clause: what its caveat asks for, or computed.

    A caveat that asks for no number of records says what else is in the way: then that is the clause.
    """
    asked = measure.caveat or measure.note
    if found := _ABOUT_EACH.search(asked):
        return f"about {found[1]} records that were trained on and as many others are needed"
    if found := _OF_EACH.search(asked) or _AS_MANY.search(asked):
        return f"at least {found[1]} records that were trained on and as many others are needed"
    if found := _OF_BOTH.search(asked):
        return f"about {found[1]} records that were trained on and {found[2]} others are needed"
    if measure.caveat:
        return as_clause(measure.caveat)
    if tpr_target(measure.metric) is not None:
        return f"at least {records_needed(measure):,} records that were not trained on are needed"
    return f"about {records_needed(measure):,} records are needed"


_ABOUT_EACH = re.compile(r"about (\d[\d,]*) of each")
_OF_EACH = re.compile(r"(\d[\d,]*) of each")
_AS_MANY = re.compile(r"needs (\d[\d,]*) members and as many others")
_OF_BOTH = re.compile(r"about (\d[\d,]*) members and (\d[\d,]*) others")


def verdict_name(measure: Measure) -> str:
    """Gives a verdict as tables without marks write it: "leak", or "leak if this run were not sealed"."""
    return f"{measure.verdict} {WHAT_IF}" if measure.is_hypothetical else measure.verdict


def as_clause(note: str) -> str:
    """Gives the first sentence of a note as a part of another, without what follows a semicolon in it."""
    first = note.strip().split(". ")[0].split("; ")[0].rstrip(".")
    return with_minus_signs(first[:1].lower() + first[1:])
