"""What a measure says, in plain words: the part of a sentence that holds its numbers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from confide.audit.results import Estimate, Measure
from confide.report.wording import in_words, metric_name, population_name, tpr_target

_CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        "held_out": "for held-out records",
        "base": "with the base model",
        "blind": "for a guess from the texts alone",
        "chance": "by chance",
        "false positives": "of others by mistake",
    }
)

_CLAUSES: Mapping[str, Callable[[str, str], str]] = MappingProxyType(
    {
        "exact": lambda value, about: f"{value} of {about} came out word for word",
        "near": lambda value, about: f"{value} of {about} came out nearly word for word",
        "coverage": lambda value, about: f"{value} of {about} came out behind the attacker's own beginnings",
        "matched": lambda value, about: f"{value} of {about} are nearly matched by texts written from nothing",
        "rate": lambda value, about: f"{value} of {about} came out",
        "within_100": lambda value, about: f"{about} have a chance of {value} on average to come out in 100 samples",
        "rouge_l": lambda value, about: f"the texts that come out are {value} like {about} on average by ROUGE-L",
        "top_10": lambda value, about: f"the closest tenth of texts are {value} like {about} by ROUGE-L",
        "rouge_l_top_10": lambda value, about: f"the closest tenth of texts are {value} like {about} by ROUGE-L",
        "exposure": lambda value, about: f"{about} stand out among others of their form by {value}",
        "auc": lambda value, about: f"{about} that were trained on are told from others {_with_auc(value)}",
    }
)


def clause(measure: Measure) -> str:
    """Gives a measure's number in words, with its interval and sample size: "41.7 % (22.1 to 63.4, n = 24) of planted
    personal data came out word for word".
    """
    value, about = in_words(measure.metric, measure.members), population_name(measure.population)
    if measure.metric == "auc" and measure.family == "updates":
        return f"from {about}, what was trained on is told from other records {_with_auc(value)}"
    if (known := _CLAUSES.get(measure.metric)) is not None:
        return known(value, about)
    if (rate := tpr_target(measure.metric)) is not None:
        mistaken = f"{100 * rate:.4g}\N{NO-BREAK SPACE}%"
        return f"{value} of {about} are recognised as trained on while {mistaken} of others are mistaken for such"
    return f"{metric_name(measure.metric)} of {about} is {value}"


def _with_auc(value: str) -> str:
    return f"with an AUC of {value}, where 0.5 is guessing,"


def best_control(measure: Measure) -> tuple[str, Estimate] | None:
    """Gives the control that explains most of a measure, by name; None without any."""
    if not measure.controls:
        return None
    return max(measure.controls.items(), key=lambda item: item[1].value)


def against(measure: Measure) -> str:
    """Gives the control that explains most of a measure as a part of a sentence; "" without any."""
    control = best_control(measure)
    if control is None:
        return ""
    name, estimate = control
    value = in_words(measure.metric, estimate)
    if estimate.low == estimate.value == estimate.high:  # known, not measured
        value = value.split(" (")[0]
    return f", against {value} {_CONTROLS.get(name, f'by the control {name}')}"
