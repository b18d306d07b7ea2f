"""What to do about what was found: one rule each, applied to the results in this order."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from confide.audit.results import GAINS, AuditResults, Family, Measure, Point, Verdict, ViewKind
from confide.report.claims import refuting
from confide.report.sentences import attack_on, is_above_controls, worst_of
from confide.report.wording import VIEWS, need

_MODEL_VIEWS: tuple[ViewKind, ...] = ("final", "client", "coalition", "server", "sealed-server")
_INSIDE_VIEWS: tuple[ViewKind, ...] = ("client", "coalition")
_UNDECIDED: tuple[Verdict, ...] = ("unexplained", "too few records")
_TEXT_FAMILIES: tuple[Family, ...] = ("extraction", "exposure")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do, and the rule it comes from.

    Attributes:
        rule: the rule's name, which says when it applies.
        text: the advice, one or more sentences.
    """

    rule: str
    text: str


def advice(results: AuditResults) -> list[Advice]:
    """Gives the advice that follows from the findings, by the rules of this module in their order."""
    given = ((rule, words(results)) for rule, words in RULES)
    return [Advice(rule=rule, text=text) for rule, text in given if text]


def _select(
    results: AuditResults,
    verdict: Verdict,
    views: Sequence[ViewKind] = tuple(VIEWS),
    families: Sequence[Family] | None = None,
    *,
    is_hypothetical: bool = False,
) -> list[Measure]:
    """What parties of the run see, unless what none of them sees is asked for."""
    return [
        measure
        for measure in results.measures
        if measure.verdict == verdict
        and measure.view in views
        and (families is None or measure.family in families)
        and measure.is_hypothetical == is_hypothetical
    ]


def _parties(measures: Iterable[Measure]) -> str:
    seen = {measure.view for measure in measures}
    names = [f"{words.title[0].lower()}{words.title[1:]}" for view, words in VIEWS.items() if view in seen]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _guarantee(results: AuditResults) -> str:
    if results.run.guarantee == "none":
        return "Only differential privacy comes with a guarantee (privacy.unit), and this run has none."
    return "A smaller epsilon (privacy.target_epsilon) bounds what can come out further."


def _nothing_measured(results: AuditResults) -> str:
    if results.measures:
        return ""
    return "Run the audit with at least one attack and enough records before anything is released."


def _text_comes_out(results: AuditResults) -> str:
    leaks = _select(results, "leak", _MODEL_VIEWS, _TEXT_FAMILIES)
    if not leaks:
        return ""
    said = [measure for measure in leaks if measure.family == "extraction"]
    what = "training text comes out for" if said else "what was planted in its training text stands out for"
    return (
        f"Do not hand on this model as it is: {what} {_parties(said or leaks)}. {_guarantee(results)} Fewer rounds, "
        "fewer local steps and fewer copies lower what is learnt by heart. Holding on to the base model's predictions "
        '(train.regularizer = "kl") changes what the model says first more than what it knows: judge it by exposure '
        "and by attacks with the base model, not by what comes out by itself."
    )


def _duplicates(results: AuditResults) -> str:
    found = {(measure.view, measure.population) for measure in _select(results, "leak", families=_TEXT_FAMILIES)}
    ladders = [
        curve.points
        for curve in results.curves
        if curve.name == "copies" and curve.series == "members" and (curve.view, curve.population) in found
    ]
    if not any(_rises(points) for points in ladders):
        return ""
    return "Remove duplicates and near-duplicates from the data: what stands there more often comes out more readily."


def _rises(points: Sequence[Point]) -> bool:
    """Whether the interval at the most copies lies above that at the fewest."""
    if not points:
        return False
    return max(points, key=lambda point: point.x).low > min(points, key=lambda point: point.x).high


def _members_recognised(results: AuditResults) -> str:
    leaks = _select(results, "leak", _MODEL_VIEWS, ("membership",))
    if not leaks:
        return ""
    return (
        f"Take it as known to {_parties(leaks)} whose records were trained on, and ask whether that alone does harm. "
        f"{_guarantee(results)} More records per client and fewer local steps lower it."
    )


def _sums_tell(results: AuditResults) -> str:
    leaks = _select(results, "leak", _INSIDE_VIEWS, ("updates",))
    if not leaks:
        return ""
    return (
        f"What {_parties(leaks)} can learn from opened sums is not changed by sealing. More clients in each round blur "
        "it; noise that the clients add bounds it."
    )


def _only_inside(results: AuditResults) -> str:
    by_model: tuple[Family, ...] = ("extraction", "exposure", "membership")
    inside = _select(results, "leak", _INSIDE_VIEWS, by_model)
    final = {measure.verdict for measure in results.measures if measure.view == "final"}
    if not inside or final != {"no evidence"}:
        return ""
    return "The models of single rounds tell more than the final one: let nobody outside the federation have them."


def _server_reads(results: AuditResults) -> str:
    if _select(results, "leak", ("server",), ("updates",)):
        return 'Seal the updates (seal.scheme = "onetime"), or let no server read them that the clients do not trust.'
    if not _select(results, "leak", ("server",), ("updates",), is_hypothetical=True):
        return ""
    return "Keep sealing on: it is what stands between a server and what single updates tell."


def _sealed_server(results: AuditResults) -> str:
    leaks = _select(results, "leak", ("sealed-server",))
    if leaks and any(one.view == "sealed-server" and one.family != "updates" for one in results.measures):
        return (
            "This server gets every global model, and sealing hides nothing of what those have learnt: give them to "
            'the clients alone (seal.release = "clients").'
        )
    if leaks:
        return (
            "Stop and look for what tells the server: it should have nothing to go by. Masks sent in the clear, sizes, "
            "and the figures that clients report are where to begin."
        )
    undecided = [one for verdict in _UNDECIDED for one in _select(results, verdict, ("sealed-server",))]
    if undecided or not _select(results, "no evidence", ("sealed-server",)):
        return ""
    return "Sealing held against the server in these attacks: keep it on. It changes nothing for any other party."


def _unexplained(results: AuditResults) -> str:
    found = [one for one in _select(results, "unexplained") if one.metric not in GAINS]
    if not found:
        return ""
    is_of_clients = all(one.population == "clients" for one in found)
    what = (
        "which clients take part in the next training" if is_of_clients else "before the next training (audit.canaries)"
    )
    return (
        f"Do not take for safe what attacks found for {_parties(found)}: it lies beyond their controls, though without "
        f"coins it stays open whether training is why. Let coins decide {what}, and audit again; more records would "
        "not settle it."
    )


def _sharper(results: AuditResults) -> str:
    gains = [one for one in _select(results, "unexplained") if one.metric in GAINS]
    if not gains:
        return ""
    return (
        f"Do not judge what {_parties(gains)} can bring out by what a second model adds: a draw that is merely sharper "
        "adds as much. Judge it by what comes out with two models beside what comes out of held-out records."
    )


def _too_few(results: AuditResults) -> str:
    undecided = _select(results, "too few records")
    if not undecided:
        return ""
    first = worst_of(undecided)
    return (
        f"Ask about more records before concluding anything for {_parties(undecided)}: for {attack_on(first)}, "
        f"{need(first)}."
    )


def _above_without_verdict(results: AuditResults) -> str:
    above = [measure for measure in _select(results, "no evidence") if is_above_controls(measure)]
    if not above:
        return ""
    return (
        f"Some numbers for {_parties(above)} lie above their controls without counting as a finding, because so many "
        "attacks may find as much by chance. Ask about more records and audit again."
    )


def _nothing_found(results: AuditResults) -> str:
    seen = [measure for measure in results.measures if not measure.is_hypothetical]
    is_calm = all(one.verdict == "no evidence" and not is_above_controls(one) for one in seen)
    if not seen or not is_calm or results.doubts or refuting(results):
        return ""
    return (
        "These findings ask for no change. Audit again when the data, the number of rounds or the model changes, and "
        "do not take the absence of evidence for a guarantee."
    )


def _mind_the_warnings(results: AuditResults) -> str:
    if not results.warnings:
        return ""
    if results.doubts:
        return (
            "Read the warnings first: what this audit was told about the model or its records does not fit, and until "
            "that is settled none of its numbers means anything."
        )
    return "Read the warnings first: they say what weakens this audit."


def _claim_is_false(results: AuditResults) -> str:
    if not refuting(results):
        return ""
    return (
        "Promise nobody the claimed epsilon, and hand on nothing that was released under it: more came out than it "
        "allows. Look for noise that is too small or drawn too seldom, for a bound that is not applied, and for data "
        "that reaches the model by another way; then train again."
    )


RULES: tuple[tuple[str, Callable[[AuditResults], str]], ...] = (
    ("the claimed epsilon is refuted", _claim_is_false),
    ("the audit has warnings", _mind_the_warnings),
    ("nothing was measured", _nothing_measured),
    ("text comes out of a model", _text_comes_out),
    ("more copies, more exposure", _duplicates),
    ("members are recognised from a model", _members_recognised),
    ("members are recognised from opened sums", _sums_tell),
    ("only rounds tell, not the final model", _only_inside),
    ("members are recognised from single updates", _server_reads),
    ("the server with sealed updates", _sealed_server),
    ("more than the controls without coins", _unexplained),
    ("more with two models", _sharper),
    ("too few records", _too_few),
    ("above the controls without a verdict", _above_without_verdict),
    ("nothing was found", _nothing_found),
)
