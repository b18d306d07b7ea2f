"""From what attacks found to the results that are written: corrected over attacks, judged, with all that made them."""

import math
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from confide.attacks.passes import Passes
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.membership import BEST
from confide.audit.outcomes import keep_outcomes
from confide.audit.results import AuditResults, Measure, Setting
from confide.audit.statistics import holm
from confide.auditor.audited import Audited
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
    """
    config, case = audited.config, audited.case
    adapter = audited.adapters.read(audited.adapters.last)
    asked, outcomes = keep_outcomes([one.outcomes for one in findings.found], case.fingerprint)
    measures = _judged(findings.found, is_randomised=case.truth.is_randomised)
    return AuditResults(
        run=audited.facts.model_copy(update={"utility": _utility(passes, adapter, case.unseen)}),
        command=shlex.join(["confide", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=dict(installed_versions(_VERSIONED)),
        machine={name: str(value) for name, value in describe_machine().items()},
        seconds=seconds,
        settings={
            "attackers": ", ".join(audited.attackers.everyone),
            **settings_of(config),
            "rounds looked at": [float(number) for number in audited.adapters.looked_at],
        },
        counts=dict(case.counts),
        warnings=list(warnings),
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
    )


def settings_of(config: Config) -> dict[str, Setting]:
    """How a configuration has a run audited, as results hold it."""
    audit = config.audit
    return {
        "views": [str(view) for view in audit.views],
        "attacks": [str(family) for family in audit.attacks],
        "canaries": [str(kind) for kind in audit.canaries],
        "records_per_attack": audit.records_per_attack,
        "max_new_tokens": audit.max_new_tokens,
        "samples": audit.samples,
        "alternatives": audit.alternatives,
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
    for places in groups.values():
        p_values = [raw_p_value(found[place]) or 0.0 for place in places]
        adjusted |= dict(zip(places, holm(p_values).tolist(), strict=True))
    return judge(found, adjusted, is_randomised=is_randomised)


def _utility(passes: Passes, adapter: Vector, unseen: Sequence[TokenizedExample]) -> dict[str, float]:
    """Loss on records that nobody trained on, in nats per learnt token, of the final model and of the base."""
    if not unseen:
        return {}
    return {
        "held-out loss": _mean_loss(passes, adapter, unseen),
        "base held-out loss": _mean_loss(passes, None, unseen),
    }


def _mean_loss(passes: Passes, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> float:
    stats = passes.stats(adapter, examples)
    total = math.fsum(float(one.logp[one.is_target].sum()) for one in stats)
    return -total / sum(int(one.is_target.sum()) for one in stats)
