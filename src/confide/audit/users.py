"""M18, user inference, scored: does the final model tell which clients took part, by records that it never saw?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from confide.attacks.membership.seen import Seen
from confide.attacks.membership.user import user_scores
from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.areas import area, blind_control
from confide.audit.judging import Findings, Subject
from confide.audit.truth import Population, Truth, too_few

ATTACK = "user"
_FEWEST = 2
NOT_DRAWN = "No coins decided which clients took part, so other differences between them may explain it."


def audit_users(
    view: View,
    passes: Passes,
    population: Population,
    took_part: Mapping[str, bool],
    *,
    is_randomised: bool,
    final_round: int,
    seed: int,
) -> Findings:
    """Tells clients that took part from clients that did not, by fresh records of each.

    Args:
        view: of the attacker; clients of its own are left out.
        passes: runs the models.
        population: fresh records: nobody trained on one of them, and their owners are clients that took part and
            others of the same kind. Records that were trained on would measure records, not clients.
        took_part: the truth, by owner.
        is_randomised: whether coins decided which clients took part. Without them nothing is called a leak: clients
            that were asked to take part may differ from others.
        final_round: whose model is under attack.
        seed: of the run.

    Returns:
        The AUC over clients, beside chance and beside a blind baseline that reads each client's records as one text.
        Numbers count clients: a few dozen of them are needed, see the shortage. With fewer than two of either kind, a
        warning and nothing else.

    Raises:
        KeyError: `took_part` does not say of an owner whether it did.
    """
    asked = population.of_others(view.own_clients)
    owners = tuple(dict.fromkeys(candidate.owner for candidate in asked.candidates))
    labels = np.array([took_part[owner] for owner in owners], np.bool_)
    if few := too_few(f"{asked.name}, {ATTACK}", labels, _FEWEST):
        return Findings.too_few(view.name, "membership", asked.name, few, attack=ATTACK, metrics=["auc"])
    examples = [candidate.example for candidate in asked.candidates]
    found = user_scores(
        Seen(
            final=passes.stats(view.adapters[final_round](), examples),
            base=passes.stats(None, examples),
            texts=[candidate.text for candidate in asked.candidates],
            owners=[candidate.owner for candidate in asked.candidates],
        )
    )
    clients = _as_texts(asked, owners)
    blind = blind_control(
        clients,
        clients.candidates,
        Truth(members={owner: took_part[owner] for owner in owners}, is_randomised=True),
        seed=seed,
    )
    subject = Subject(
        view=view.name,
        family="membership",
        attack=ATTACK,
        code="M18",
        population=asked.name,
        labels=labels,
        note=f"Numbers count clients, each with {min(found.num_records)} to {max(found.num_records)} fresh records.",
        records=owners,
    )
    one = area(subject, found.scores, blind)
    return Findings(found=[one if is_randomised else replace(one, barred=NOT_DRAWN)])


def _as_texts(asked: Population, owners: Sequence[str]) -> Population:
    """Each client as one candidate, whose text is all that its records say."""
    by_owner = {owner: [one for one in asked.candidates if one.owner == owner] for owner in owners}
    return Population(
        name=asked.name,
        candidates=tuple(
            replace(own[0], candidate_id=owner, text="\n".join(one.text for one in own))
            for owner, own in by_owner.items()
        ),
    )
