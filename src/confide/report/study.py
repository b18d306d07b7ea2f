"""The tables of a study, as Markdown: what a terminal shows, and what goes into a document as it is."""

from collections.abc import Collection, Sequence

from confide.audit.results import AuditResults, Curve, Estimate, Measure
from confide.errors import UsageError
from confide.report.differences import Change, compare
from confide.report.tables import reason
from confide.report.wording import BY_CONSTRUCTION, counted, interval, need, number, p_value, series_name, verdict_name

_MOST_NAMED = 12


def measures_markdown(runs: Sequence[AuditResults], names: Sequence[str], keys: Sequence[str]) -> str:
    """Gives a table with a row per measure and a column per run, and each later run's change from the first.

    A cell says why what lies above its controls is no leak, and how many records are needed where there are too few.
    P-values of changes are corrected with Holm's method over these measures, for each later run; beside a verdict
    stands what it follows from: the p-value of the audit, corrected over the attacks of that audit, and before that the
    one without correction where it is another. So one number can have other verdicts in audits with more attacks.

    Args:
        runs: at least one.
        names: of the runs, as many.
        keys: measures, as for gates: view.family.attack.population.metric.

    Raises:
        UsageError: no run has such a measure.
    """
    _check(keys, [measure.key for results in runs for measure in results.measures], "measure")
    # P-values are corrected for the measures that were named beforehand, and not for all that an audit has.
    asked = [_only(results, keys) for results in runs]
    compared = {one.key: one for one in reversed(compare(asked))}  # of several of one name the first
    rows = [["measure", *names], ["---"] * (1 + len(names))]
    for key in keys:
        one = compared[key]
        changes = (None, *one.changes)
        rows.append([f"`{key}`", *(_cell(*pair) for pair in zip(one.measures, changes, strict=True))])
    rows += _utility(runs)
    return _table(rows)


def curve_markdown(runs: Sequence[AuditResults], names: Sequence[str], key: str) -> str:
    """Gives a table with a row per round and a column per run and line of the figure.

    Args:
        runs: at least one.
        names: of the runs, as many.
        key: of the figure: view.family.attack.population.metric.

    Raises:
        UsageError: no run has such a figure.
    """
    found = [
        (f"{name}, {series_name(curve.series)}", curve)
        for name, results in zip(names, runs, strict=True)
        for curve in results.curves
        if curve.name == "rounds" and _key(curve) == key
    ]
    _check([key], [_key(curve) for results in runs for curve in results.curves if curve.name == "rounds"], "curve")
    rows = [["round", *(title for title, _ in found)], ["---"] * (1 + len(found))]
    for x in sorted({point.x for _, curve in found for point in curve.points}):
        rows.append([f"{x:g}", *(_point(curve, x) for _, curve in found)])
    return _table(rows)


def _only(results: AuditResults, keys: Sequence[str]) -> AuditResults:
    return results.model_copy(update={"measures": [one for one in results.measures if one.key in keys]})


def _cell(measure: Measure | None, change: Change | None) -> str:
    if measure is None:
        return "not measured"
    controls = [f"{series_name(name)} {_control(one)}" for name, one in measure.controls.items()]
    lines = [counted(measure.members), *([", ".join(controls)] if controls else [])]
    if measure.excess is not None:
        lines.append(f"beyond: {interval(measure.excess)}, {verdict_name(measure)}{_p_values(measure)}")
    lines += reason(measure)
    if measure.verdict == "too few records":
        lines.append(need(measure))
    if change is not None:
        lines.append(f"change: {_change(change.members, change.p_adjusted)}")
        if change.excess is not None:
            lines.append(f"of the excess: {_change(change.excess, change.excess_p_adjusted)}")
    return "<br>".join(lines)


def _control(control: Estimate) -> str:
    return f"{number(control.value)} ({f'n = {control.num:,}' if control.num else BY_CONSTRUCTION})"


def _p_values(measure: Measure) -> str:
    """The p-value before correction and the one that decides, once where they are shown alike; "" without any."""
    if measure.p_value is None:
        return ""
    before, decides = p_value(measure.p_value), p_value(measure.p_adjusted)
    if measure.p_adjusted is None or before == decides:
        return f", p {before}"
    return f", p {before}, corrected {decides}"


def _change(change: Estimate, p_adjusted: float | None) -> str:
    return f"{interval(change)}, {'unpaired' if p_adjusted is None else f'paired, p {p_value(p_adjusted)}'}"


def _utility(runs: Sequence[AuditResults]) -> list[list[str]]:
    names = dict.fromkeys(name for results in runs for name in results.run.utility)
    rows = [
        [name, *(number(results.run.utility[name]) if name in results.run.utility else "" for results in runs)]
        for name in names
    ]
    changes = [results.run.utility_change for results in runs]
    if any(one is not None for one in changes):
        rows.append(
            [
                "change of a held-out record's loss",
                *("" if one is None else f"{interval(one)}, n = {one.num}" for one in changes),
            ]
        )
    return rows


def _point(curve: Curve, x: float) -> str:
    for point in curve.points:
        if point.x == x:
            return f"{number(point.y)} [{number(point.low)}, {number(point.high)}]"
    return ""


def _key(curve: Curve) -> str:
    return ".".join((curve.view, curve.family, curve.attack, curve.population, curve.metric))


def _check(keys: Sequence[str], known: Collection[str], what: str) -> None:
    for key in keys:
        if key not in known:
            there = sorted(set(known))
            more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
            raise UsageError(
                f"no run has the {what} {key!r}. There are {', '.join(there[:_MOST_NAMED]) or 'none'}{more}."
            )


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
