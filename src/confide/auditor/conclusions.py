"""From what attacks found to the results that are written: corrected over attacks, judged, with all that made them."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args

import numpy as np

from confide.attacks.passes import Passes
from confide.audit.canary_clients import SHARE
from confide.audit.epsilon_bounds import beyond_coalition
from confide.audit.epsilons import epsilon_bounds
from confide.audit.judging import Findings, Found, estimate_of, judge, raw_p_value
from confide.audit.membership import BEST
from confide.audit.outcomes import keep_outcomes
from confide.audit.results import AuditResults, Measure, Setting, ViewKind
from confide.audit.statistics import Floats, holm, mean_interval
from confide.auditor.audited import Audited
from confide.auditor.fixed_settings import fixed_settings
from confide.config.schema import Config
from confide.data.examples import TokenizedExample
from confide.machine import describe_machine, installed_versions
from confide.update import Vector

_VERSIONED = ("confide", "torch", "transformers", "peft", "numpy", "scipy", "scikit-learn")


def conclude(
    audited: Audited, findings: Findings, warnings: Sequence[str], passes: Passes, seconds: float
) -> AuditResults:
    """Puts the results together.

    Args:
        audited: what was attacked.
        findings: of all attacks.
        warnings: what weakens them.
        passes: to measure usefulness with.
        seconds: that it took.

    Guarantees:
        - Over all bounds on epsilon, of records and of canary clients, some verdict is "above the claim" for a claim
          that is true with a chance of at most `SIGNIFICANCE`, as far as what the bounds' notes say holds.
    """
    config, case = audited.config, audited.case
    adapter = audited.adapters.read(audited.adapters.last)
    asked, outcomes = keep_outcomes([one.outcomes for one in findings.found], case.fingerprint)
    measures = _judged(findings.found, is_randomised=case.truth.is_randomised)
    claim = audited.facts.claim
    bounds = epsilon_bounds(
        findings.told,
        claim,
        delta=config.privacy.delta if claim is None else claim.delta,
        share=_share(audited),
        not_covered=_not_covered(audited),
    )
    return AuditResults(
        run=audited.facts.model_copy(update=_utility(passes, adapter, case.unseen)),
        command=shlex.join(audited.command),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=dict(installed_versions(_VERSIONED)),
        machine={name: str(value) for name, value in describe_machine().items()},
        seconds=seconds,
        settings={
            "attackers": ", ".join(audited.attackers.everyone),
            **settings_of(config),
            **fixed_settings(config),
            "rounds looked at": list(audited.adapters.looked_at),
        },
        counts=dict(case.counts),
        warnings=list(warnings),
        doubts=findings.doubts,
        measures=[
            measure.model_copy(update={"outcomes": one}) for measure, one in zip(measures, outcomes, strict=True)
        ],
        curves=findings.curves,
        memorised=[
            one.model_copy(update={"candidate_id": case.names.get(one.candidate_id, one.candidate_id)})
            for one in findings.memorised
        ],
        asked=asked,
        unmeasured=findings.unmeasured,
        epsilons=[*bounds, *findings.epsilons],
        epsilon_gaps=findings.epsilon_gaps,
    )


def _share(audited: Audited) -> float:
    """Of the significance towards claims, what is left to bounds on records; it is settled before any score is seen."""
    canaries = audited.canary_clients
    return 1.0 if canaries is None or canaries.claim.epsilon is None else 1 - SHARE


def _not_covered(audited: Audited) -> Mapping[ViewKind, str]:
    """Against whom the claim does not hold, and why: one about clients holds against so many of them and no more."""
    claim, together = audited.facts.claim, len(audited.attackers.together)
    if claim is None:
        return {}
    found = {view: gap for view in get_args(ViewKind) if (gap := claim.gap_against(view))}
    if claim.unit == "client" and together > audited.config.privacy.coalition:
        found["coalition"] = beyond_coalition(together, audited.config.privacy.coalition)
    return found


def settings_of(config: Config) -> dict[str, Setting]:
    """How a configuration has a run audited, as results hold it."""
    audit = config.audit
    return {
        "views": [str(view) for view in audit.views],
        "attacks": [str(family) for family in audit.attacks],
        "canaries": [str(kind) for kind in audit.canaries],
        "records_per_attack": audit.records_per_attack,
        "rounds_per_attack": audit.rounds_per_attack,
        "max_new_tokens": audit.max_new_tokens,
        "taus": list(audit.taus),
        "top_ps": list(audit.top_ps),
        "samples": audit.samples,
        "alternatives": audit.alternatives,
        "full_ranking": audit.full_ranking,
        "protocol": audit.protocol,
        "shadows": audit.shadows,
    }


def _judged(found: Sequence[Found], *, is_randomised: bool) -> list[Measure]:
    """Judges findings after Holm's correction over the attacks of one view, family, population and metric."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    adjusted: dict[int, float] = {}
    for place, one in enumerate(found):
        p_value = raw_p_value(one)
        if p_value is None:
            continue
        if one.attack == BEST:  # chosen on other records: nothing to correct for
            adjusted[place] = p_value
        else:
            groups.setdefault((one.view, one.family, one.population, one.metric), []).append(place)
    num_attacks = {place: len(places) for places in groups.values() for place in places}
    for places in groups.values():
        p_values = [raw_p_value(found[place]) or 0.0 for place in places]
        adjusted |= dict(zip(places, holm(p_values).tolist(), strict=True))
    return judge(found, adjusted, is_randomised=is_randomised, num_attacks=num_attacks)


def _utility(passes: Passes, adapter: Vector, unseen: Sequence[TokenizedExample]) -> dict[str, object]:
    """The facts about loss on records that nobody trained on, in nats per learnt token, of both models."""
    if not unseen:
        return {}
    final, base = (_losses(passes, one, unseen) for one in (adapter, None))
    sizes = np.array([int(example.loss_mask[1:].sum()) for example in unseen])
    names = {"held-out loss": final, "base held-out loss": base}
    utility = {name: float((losses * sizes).sum() / sizes.sum()) for name, losses in names.items()}
    change = estimate_of(mean_interval(final - base, name="losses")) if len(unseen) > 1 else None
    return {"utility": utility, "utility_change": change}


def _losses(passes: Passes, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> Floats:
    """Each record's mean loss."""
    stats = passes.stats(adapter, examples)
    return np.array([-float(one.logp[one.is_target].mean(dtype=np.float64)) for one in stats])
