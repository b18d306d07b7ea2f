"""All extraction attacks on one population from one view."""

from collections.abc import Sequence
from dataclasses import replace

from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.extraction.from_nothing import audit_texts_from_nothing
from confide.audit.extraction.planted import audit_planted
from confide.audit.extraction.prefixes import audit_prefixes
from confide.audit.extraction.probe import ExtractionSettings, Probe
from confide.audit.extraction.protocol import audit_protocol
from confide.audit.judging import Findings
from confide.audit.truth import Population, Truth, too_few


def audit_extraction(
    view: View,
    passes: Passes,
    population: Population,
    truth: Truth,
    *,
    rounds: Sequence[int],
    settings: ExtractionSettings,
) -> Findings:
    """Runs every extraction attack that this view allows on one population.

    Args:
        view: of the attacker, with at least one adapter.
        passes: runs the models; made with the scheme `TOP_K`.
        population: whose texts are looked for. The attacker's own are not, but attacks are tuned on those of them that
            it trained on.
        truth: the answers.
        rounds: which rounds' models to look at; the last one is the model under attack. It is set against the base
            model, that of the round before it in the view, and one of these that is chosen on own records.
        settings: how much is generated.

    Returns:
        Where secrets are planted: how many come out right behind the words before them (E1, E2, E6, E7, E8). Else: how
        much of a record comes out behind its beginning (E1, E2, E5, E6) and from nothing (E4), and with
        `settings.protocol` all of it again in each of the rounds. With fewer than two members or two others, a warning
        and nothing else.
    """
    asked = population.of_others(view.own_clients)
    probe = Probe(
        view=view,
        passes=passes,
        asked=asked,
        own=_own(view, population),
        truth=truth,
        rounds=tuple(sorted(rounds)),
        settings=settings,
    )
    if few := too_few(asked.name, truth.labels(asked.candidates), probe.fewest):
        return Findings.too_few(view.name, "extraction", asked.name, few)
    if truth.secrets.keys() & {candidate.candidate_id for candidate in asked.candidates}:
        return audit_planted(probe)
    findings = audit_prefixes(probe)
    findings.add(audit_texts_from_nothing(probe))
    if settings.protocol:
        findings.add(audit_protocol(probe))
    return findings


def _own(view: View, population: Population) -> Population:
    """The attacker's own candidates that stand in its own training data: those it knows the answer for."""
    trained = {tuple(example.input_ids.tolist()) for example in view.own_examples}
    return replace(
        population,
        candidates=tuple(
            one
            for one in population.candidates
            if one.owner in view.own_clients and tuple(one.example.input_ids.tolist()) in trained
        ),
        lower=None,
    )
