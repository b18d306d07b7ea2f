"""What an audit was asked for and does not do because of what is audited: said, so that it does not pass for safe."""

from collections.abc import Iterator

from confide.attacks.membership import MEMBERSHIP_ATTACKS
from confide.attacks.membership.seen import Need
from confide.auditor.audited import Audited
from confide.auditor.parties import Parties

_FEWEST_HELD_OUT = 2


def left_out(audited: Audited, parties: Parties) -> list[str]:
    """Gives a sentence for each thing that is missing, with the attacks that do not run, or look at less, for it.

    Args:
        audited: what is attacked; `config.audit` says what was asked for.
        parties: from whose points of view.
    """
    wanted = set(audited.config.audit.attacks)
    found = [*_rounds(audited, parties)] if wanted & {"membership", "extraction"} else []
    if "membership" in wanted:
        found += [*_held_out(audited, parties), *_participation(audited)]
    if wanted & {"extraction", "exposure"}:
        found += _secrets(audited)
    return found


def _rounds(audited: Audited, parties: Parties) -> Iterator[str]:
    rounds, looked_at = audited.adapters.rounds, audited.adapters.looked_at
    if len(rounds) == 1:
        yield (
            "There is one round's adapter, so attacks that compare rounds did not run: the two-model attack against "
            f"the round before (E6), the union over rounds (E7), and of membership {_needing('rounds')}."
        )
    elif len(looked_at) < len(rounds) and any(view.name != "final" for view in parties.with_adapters):
        alone = " Attacks on membership and E7 over rounds did not run." if len(looked_at) == 1 else ""
        yield (
            f"Of {len(rounds)} rounds, attacks over rounds looked at {len(looked_at)} (audit.rounds_per_attack): "
            f"{', '.join(map(str, looked_at))}. What came out in others alone is not counted.{alone}"
        )


def _held_out(audited: Audited, parties: Parties) -> Iterator[str]:
    sees_rounds = any(len(parties.rounds(view)) > 1 for view in parties.with_adapters)
    if sees_rounds and len(audited.case.held_out) < _FEWEST_HELD_OUT:
        yield (
            f"Of membership, {_needing('rounds', 'population')} did not run: it needs records that nobody trained on "
            "and no coin decided about, which a run with audit.canaries keeps aside by data.held_out."
        )


def _participation(audited: Audited) -> Iterator[str]:
    if audited.participation is not None:
        return
    why = "every client's update is in some round's sum, so there is nobody to compare clients with"
    if audited.is_claimed:
        why = "which clients took part is not known of adapters alone"
    elif len(audited.adapters.rounds) < audited.adapters.last:
        why = "who took part in the rounds that are missing is not known"
    yield f"Membership of clients (M18) was not asked about: {why}."


def _secrets(audited: Audited) -> Iterator[str]:
    if audited.case.truth.secrets:
        return
    why = 'audit.canaries has none of "personal", "random", "reserved" and "ladder"'
    if audited.is_claimed:
        why = "of adapters alone none are known"
    yield (
        f"There are no planted secrets ({why}), so what asks for them did not run: exposure (E10), the union over "
        "rounds (E7) and the harvest by own personal data (E8)."
    )


def _needing(*needs: Need) -> str:
    """The attacks on membership that need just these, with their code."""
    found = [attack for attack in MEMBERSHIP_ATTACKS.values() if attack.needs >= set(needs)]
    return f"{', '.join(attack.name for attack in found)} ({', '.join(sorted({attack.code for attack in found}))})"
