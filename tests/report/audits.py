"""Results of audits as reports get them: made by formulas, of the shape that real ones have."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal

from confide.audit.epsilon_bounds import EpsilonBound, EpsilonMethod, EpsilonVerdict
from confide.audit.results import (
    Asked,
    AuditResults,
    Curve,
    Estimate,
    Family,
    Measure,
    Memorised,
    Number,
    Outcomes,
    Point,
    Ranks,
    RunFacts,
    Setting,
    Verdict,
    ViewKind,
)

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
"""A name that would run a script wherever it is not escaped."""


def estimate(value: float, half: float = 0.1, num: int = 48) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, num=num)


def measure(
    view: ViewKind = "client",
    family: Family = "extraction",
    verdict: Verdict = "no evidence",
    *,
    attack: str = "greedy",
    code: str = "E1",
    population: str = "personal",
    metric: str = "exact",
    members: Estimate | None = None,
    controls: dict[str, Estimate] | None = None,
    excess: Estimate | None = None,
    p: float | None = 0.3,
    note: str = "",
    is_hypothetical: bool = False,
) -> Measure:
    return Measure(
        view=view,
        family=family,
        attack=attack,
        code=code,
        population=population,
        metric=metric,
        members=members or estimate(0.11, 0.09, 46),
        controls={"held_out": estimate(0.08, 0.07, 47)} if controls is None else controls,
        excess=excess,
        p_value=p,
        p_adjusted=None if p is None else min(1.0, 3 * p),
        verdict=verdict,
        note=note,
        is_hypothetical=is_hypothetical,
    )


def epsilon_bound(
    *,
    view: ViewKind = "client",
    method: EpsilonMethod = "f-dp",
    population: str = "records",
    low: float = 1.0,
    ceiling: float | None = 5.0,
    claimed: float | None = 4.0,
    verdict: EpsilonVerdict = "within the claim",
    num: int = 200,
) -> EpsilonBound:
    """Of half of `num` canaries in and half out."""
    return EpsilonBound(
        view=view,
        unit="example",
        method=method,
        population=population,
        attack="reference",
        low=low,
        delta=1e-5,
        significance=0.05,
        num_tried=1,
        num_in=num // 2,
        num_out=num - num // 2,
        ceiling=ceiling,
        claimed=claimed,
        verdict=verdict,
        note="What it assumes.",
    )


def leak(view: ViewKind = "client", family: Family = "extraction", **changes: object) -> Measure:
    found = measure(
        view,
        family,
        "leak",
        members=Estimate(value=0.417, low=0.221, high=0.634, num=24),
        controls={
            "held_out": Estimate(value=0.042, low=0.001, high=0.211, num=24),
            "base": Estimate(value=0.0, low=0.0, high=0.142, num=24),
        },
        excess=Estimate(value=0.375, low=0.17, high=0.589, num=24),
        p=0.0004,
    )
    return found.model_copy(update=changes)


def too_few(view: ViewKind = "coalition", **changes: object) -> Measure:
    found = measure(
        view,
        "membership",
        "too few records",
        attack="ez",
        code="M7",
        population="records",
        metric="tpr@0.01",
        members=Estimate(value=0.125, low=0.003, high=0.527, num=8),
        controls={"held_out": Estimate(value=0.0, low=0.0, high=0.369, num=8)},
        p=None,
    )
    return found.model_copy(update=changes)


def unexplained(view: ViewKind = "final", **changes: object) -> Measure:
    """Beyond chance and the blind baseline by far, in an audit without coins."""
    found = measure(
        view,
        "membership",
        "unexplained",
        attack="wbc",
        code="M8",
        population="records",
        metric="auc",
        members=Estimate(value=0.81, low=0.76, high=0.85, num=400),
        controls={"blind": Estimate(value=0.55, low=0.46, high=0.65, num=400)},
        excess=Estimate(value=0.26, low=0.11, high=0.39, num=400),
        p=1e-10,
    )
    caveat = "No coins decided what was trained on, so other differences may explain it."
    return found.model_copy(update={"caveat": caveat, "note": caveat} | changes)


def above_by_chance(view: ViewKind = "final", **changes: object) -> Measure:
    """Five of eleven came out, and nothing of any control; corrected over three attacks that is not enough."""
    found = measure(
        view,
        "extraction",
        "too few records",
        attack="two-model-base",
        code="E6",
        population="ladder",
        members=Estimate(value=5 / 11, low=0.167, high=0.766, num=11),
        controls={"held_out": Estimate(value=0, low=0, high=0.176, num=19), "base": estimate(0.0, 0.0, 11)},
        excess=Estimate(value=5 / 11, low=0.1, high=0.72, num=11),
        p=0.03125,
    )
    caveat = (
        "More than its controls, but not beyond what 3 attacks may find by chance (p 0.094 after correction); if the "
        "excess stays as it is, about 28 members and 49 others are needed."
    )
    return found.model_copy(update={"caveat": caveat, "note": caveat} | changes)


def roc(attack: str, power: float, *, view: ViewKind = "client", series: str = "members", num: int = 400) -> Curve:
    points = []
    for step in range(num + 1):
        x = step / num
        y = round(x**power * num) / num
        half = 1.96 * math.sqrt(max(y * (1 - y), 0.25 / num) / num)
        points.append(Point(x=x, y=y, low=max(0.0, y - half), high=min(1.0, y + half)))
    return Curve(
        view=view,
        family="membership",
        attack=attack,
        population="records",
        metric="auc",
        name="roc",
        series=series,
        points=points,
    )


def line(
    name: Literal["rounds", "samples", "copies"],
    series: str,
    values: Mapping[int, float],
    *,
    view: ViewKind = "client",
    family: Family = "extraction",
    attack: str = "greedy",
    population: str = "personal",
    metric: str = "exact",
    half: float = 0.09,
) -> Curve:
    points = [Point(x=x, y=y, low=max(0.0, y - half), high=y + half) for x, y in values.items()]
    return Curve(
        view=view,
        family=family,
        attack=attack,
        population=population,
        metric=metric,
        name=name,
        series=series,
        points=points,
    )


def memorised(number: int, *, distance: float = 0.0, text: str | None = None) -> Memorised:
    return Memorised(
        view="client",
        attack="greedy",
        population="personal",
        candidate_id=f"canary-{number:03}",
        owner="north",
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        num_characters=61 + number,
        distance=distance,
        text=text,
        truth=text,
    )


def facts(**changes: object) -> RunFacts:
    run = RunFacts(
        name="clinics-2026",
        base_model="SmolLM2-135M-Instruct",
        num_rounds=10,
        num_clients=3,
        scheme="onetime",
        protection=[
            "The server holds sealed updates and cannot open them.",
            "Every client reads every round's global adapter.",
        ],
        utility={"held-out loss": 1.8342, "base held-out loss": 2.9105},
        seed=7,
        num_parameters=4_884_480,
    )
    return run.model_copy(update=changes)


def audit(**changes: object) -> AuditResults:
    """Gives results with nothing measured."""
    results = AuditResults(
        run=facts(),
        command="confide audit runs/clinics-2026",
        created="2026-11-22T10:15:00Z",
        versions={"confide": "0.1.0", "torch": "2.13.0"},
        machine={"cpu": "2 cores", "memory": "8 GB"},
        seconds=184.2,
        settings={"attacks": ["greedy", "ez", "wbc"], "prefix": [0.3, 0.8], "max_new_tokens": 64},
        counts={"members, records": 64, "held out, records": 64, "near-duplicates removed": 3},
        warnings=[],
        measures=[],
        curves=[],
        memorised=[],
    )
    return results.model_copy(update=changes)


def leaking_audit() -> AuditResults:
    """Gives results with everything that a report shows: five views, all verdicts, all kinds of curves."""
    return audit(
        measures=[*_on_models(), *_on_updates()],
        curves=_curves(),
        memorised=[memorised(number, distance=number / 40) for number in range(6)],
        warnings=["The run has three clients: each sees the sum of two others."],
    )


def calm_audit() -> AuditResults:
    """Gives results of a run that holds on to the base model's predictions, in which nothing was found."""
    return audit(
        run=facts(name="clinics-kl", utility={"held-out loss": 1.9127, "base held-out loss": 2.9105}),
        measures=[
            measure("final", excess=estimate(0.03)),
            measure("client", excess=estimate(0.03)),
            measure(
                "client",
                "membership",
                attack="ez",
                code="M7",
                population="records",
                metric="auc",
                members=estimate(0.532, 0.09, 64),
                controls={"blind": estimate(0.513, 0.09, 64)},
                excess=estimate(0.019, 0.11, 64),
            ),
            measure("sealed-server", "updates", attack="cosine", code="M15", metric="auc", population="records"),
        ],
        curves=[roc("ez", 0.95), roc("blind", 1.0, series="blind"), *_rounds(0.005)],
    )


def passive_audit() -> AuditResults:
    """Gives results of an audit of plain adapters, without coins."""
    few = [too_few("client", attack=attack) for attack in ("loss", "ez")]
    return audit(
        run=facts(name="adapters", num_clients=None, scheme=None),
        measures=[unexplained(), unexplained(attack="ez", code="M7"), *few, measure("client"), measure("final")],
        curves=[roc("wbc", 0.45, view="final"), roc("blind", 0.97, view="final", series="blind")],
        warnings=["No coins decided who was trained on."],
    )


def paired_audits(num: int = 20) -> tuple[AuditResults, AuditResults]:
    """Gives results of two runs that were asked about the same records: in the second far fewer of them come out.

    Args:
        num: members, and as many others.
    """
    asked = {"all": Asked(members=list(range(num)), others=list(range(num, 2 * num)))}
    found = []
    for name, share, scores in (("plain", 0.8, 3), ("kl", 0.2, 1)):
        flags: list[Number] = [int(place < share * num) for place in range(num)]
        ranks: list[Number] = [place % 7 + scores for place in range(num)]
        measures = [
            measure(members=estimate(share, num=num)).model_copy(
                update={
                    "outcomes": Outcomes(asked="all", kind="flag", members=flags, others=[0] * num, base=[0] * num),
                }
            ),
            measure("client", "membership", attack="ez", population="records", metric="auc").model_copy(
                update={
                    "outcomes": Outcomes(
                        asked="all", kind="rank", members=ranks, others=[place % 7 for place in range(num)]
                    ),
                }
            ),
        ]
        found.append(audit(run=facts(name=name), measures=measures, asked=asked))
    return found[0], found[1]


def ranked_audit(bits: float, ranks: Ranks | None, *, num: int = 20, **settings: Setting) -> AuditResults:
    """Gives results of a run in which every secret that went in has so many bits of exposure, and none of the others.

    Args:
        bits: of the members.
        ranks: among how many values they stand; None as in results of earlier versions.
        num: members, and as many others.
        **settings: of the audit.
    """
    members: list[Number] = [bits + place % 3 / 8 for place in range(num)]
    found = measure("client", "exposure", attack="rank", code="E10", metric="exposure", members=estimate(bits, num=num))
    outcomes = Outcomes(asked="all", kind="number", members=members, others=[0] * num, base=[0] * num, ranks=ranks)
    return audit(
        measures=[found.model_copy(update={"outcomes": outcomes})],
        asked={"all": Asked(members=list(range(num)), others=list(range(num, 2 * num)))},
        settings=settings,
    )


def paper_curves(power: float = 1.0) -> list[Curve]:
    """Gives the leakage paper's curves: four attacks with their enhanced forms, three metrics, two series."""
    return [
        line(
            "rounds",
            series,
            {step: (0.1 + 0.04 * step * power) * shift for step in range(11)},
            attack=f"{attack}{form}",
            metric=metric,
            population="records",
        )
        for place, attack in enumerate(("partial-80", "partial-30", "disturbed-80", "zero-input"))
        for form, gain in (("", 1.0), ("-two", 1.2))
        for metric in ("rouge_l", "rouge_l>0.9", "rouge_l_top_10")
        for series, shift in (("members", gain / (1 + place / 4)), ("held_out", 0.3))
    ]


def study_audits() -> list[AuditResults]:
    """Gives results of six runs of one study, the first two asked about the same records."""
    names = ("full fine-tuning", "lora", "lora-kl", "lora-prox", "lora-dropout-0.1", "lora-rank-4")
    plain, kl = paired_audits()
    found = []
    for place, name in enumerate(names):
        part = (plain, kl)[place % 2]
        full = calm_audit() if place else leaking_audit()
        found.append(
            full.model_copy(
                update={
                    "run": facts(name=name, utility={"held-out loss": 1.8 + place / 20, "base held-out loss": 2.91}),
                    "measures": [*part.measures, *full.measures],
                    "asked": part.asked,
                    "curves": paper_curves(1 / (1 + place)) if place < 2 else [],  # browsers take their time
                }
            )
        )
    return found


def _on_models() -> list[Measure]:
    return [
        measure("final", excess=estimate(0.03, 0.12, 46)),
        measure(
            "final",
            "membership",
            attack="best",
            code="",
            population="records",
            metric="auc",
            members=estimate(0.571, 0.07, 64),
            controls={"held_out": estimate(0.5, 0.07, 64), "blind": estimate(0.537, 0.07, 64)},
            excess=estimate(0.034, 0.1, 64),
        ),
        leak(),
        leak(attack="rounds", code="E6"),
        leak(metric="near"),
        leak(
            family="exposure",
            attack="rank",
            code="E10",
            population="ladder",
            metric="exposure",
            members=estimate(8.4, 1.6, 40),
            controls={"held_out": estimate(1.44, 0.4, 40)},
            excess=estimate(6.96, 1.7, 40),
        ),
        measure(
            "client",
            "membership",
            "leak",
            attack="ez",
            code="M7",
            population="records",
            metric="auc",
            members=estimate(0.742, 0.06, 64),
            controls={"blind": estimate(0.513, 0.07, 64)},
            excess=estimate(0.229, 0.09, 64),
            p=0.0001,
        ),
        measure(
            "client",
            "membership",
            attack="wbc",
            code="M8",
            population="records",
            metric="tpr@0.1",
            members=estimate(0.2, 0.09, 64),
            controls={"blind": estimate(0.11, 0.08, 64)},
            excess=estimate(0.09, 0.12, 64),
        ),
        too_few(),
    ]


def _on_updates() -> list[Measure]:
    by_view: list[tuple[ViewKind, Verdict, float]] = [
        ("server", "leak", 0.89),
        ("coalition", "too few records", 0.72),
        ("client", "no evidence", 0.61),
        ("sealed-server", "no evidence", 0.49),
    ]
    return [
        measure(
            view,
            "updates",
            verdict,
            attack=attack,
            code="M15",
            population="records",
            metric="auc",
            members=estimate(value - shift, 0.06, 62),
            controls={"blind": estimate(0.513, 0.07, 63)},
            excess=estimate(value - shift - 0.513, 0.09, 62),
            p=0.0002 if verdict == "leak" else 0.21,
            note="needs 400 records" if verdict == "too few records" else "",
            is_hypothetical=view == "server",
        )
        for view, verdict, value in by_view
        for attack, shift in (("cosine", 0.0), ("gradient-difference", 0.04))
    ]


def _curves() -> list[Curve]:
    return [
        roc("ez", 0.45),
        roc("wbc", 0.6),
        roc("loss", 0.8),
        roc("min-k", 0.9),
        roc("blind", 0.97, series="blind"),
        roc("best", 0.85, view="final", num=64),
        roc("blind", 1.0, view="final", series="blind", num=64),
        *_rounds(0.045),
        line("samples", "members", {1: 0.12, 10: 0.31, 100: 0.44, 1000: 0.52}),
        line("samples", "held_out", {1: 0.01, 10: 0.02, 100: 0.04, 1000: 0.05}),
        *(
            line(
                "copies",
                series,
                values,
                family="exposure",
                attack="rank",
                population="ladder",
                metric="exposure",
                half=1.1,
            )
            for series, values in (
                ("members", {1: 2.1, 2: 3.4, 4: 5.9, 8: 9.3, 16: 13.8}),
                ("held_out", {1: 1.4, 2: 1.5, 4: 1.4, 8: 1.3, 16: 1.5}),
            )
        ),
    ]


def _rounds(slope: float) -> list[Curve]:
    return [
        line("rounds", "members", {step: slope * step for step in range(11)}),
        line("rounds", "held_out", {step: 0.004 * step for step in range(11)}),
        line("rounds", "base", dict.fromkeys(range(11), 0.0)),
    ]


def hostile_audit() -> AuditResults:
    """Gives results in which every text that comes from elsewhere tries to run a script."""
    hostile: dict[str, Any] = {"attack": HOSTILE, "population": HOSTILE, "metric": HOSTILE}
    return audit(
        run=facts(
            name=HOSTILE,
            base_model=HOSTILE,
            scheme=HOSTILE,
            protection=[HOSTILE],
            guarantee=HOSTILE,
            utility={HOSTILE: 1.0, f"base {HOSTILE}": 2.0},
        ),
        command=HOSTILE,
        created=HOSTILE,
        versions={HOSTILE: HOSTILE},
        machine={HOSTILE: HOSTILE},
        settings={HOSTILE: HOSTILE, "list": [HOSTILE]},
        counts={HOSTILE: 1},
        warnings=[HOSTILE],
        measures=[
            leak(code=HOSTILE, note=HOSTILE, controls={HOSTILE: estimate(0.1)}, **hostile),
            too_few(note=HOSTILE, **hostile),
            measure("server", "updates", code=HOSTILE, note=HOSTILE, **hostile),
        ],
        curves=[
            *(line(name, HOSTILE, {1: 0.1, 2: 0.3}, **hostile) for name in ("rounds", "samples", "copies")),
            roc(HOSTILE, 0.5, series=HOSTILE, num=20),
        ],
        memorised=[
            memorised(0).model_copy(
                update=dict.fromkeys(("attack", "population", "candidate_id", "owner", "sha256", "text"), HOSTILE)
            )
        ],
    )
