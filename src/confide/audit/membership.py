"""Membership attacks from one party's view, scored: how well does each tell what was trained on?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from confide.attacks.membership import MEMBERSHIP_ATTACKS, Seen
from confide.attacks.membership.positions import Scores
from confide.attacks.membership.reference import difference_scores
from confide.attacks.membership.secret import secret_gains
from confide.attacks.membership.seen import Need, Shadows
from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.areas import area, blind_control, comparable, low_end, roc
from confide.audit.judging import Findings, Subject
from confide.audit.results import Unmeasured
from confide.audit.statistics import Flags, auc, choose_attack, non_members_for_fpr, smallest_fpr
from confide.audit.told import Told, coins_gap
from confide.audit.truth import Population, Truth, too_few
from confide.data.examples import TokenizedExample

BEST = "best"
EPSILON_SCORES = ("reference", "ez")
"""The attacks whose scores bound epsilon: fixed, and few, as they share the significance."""
SECRET_GAIN = "secret-gain"
"""Stands for the last of them where something was planted, whose own tokens tell most (D9)."""
FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
_FEWEST = 2  # of each label: one to choose an attack on, one to report
_CHANCE = 0.5
_SHADOW_NOTE = (
    "The strongest membership game: this attacker knows all records that are asked about, though not which of them "
    "were trained on, and trained models of its own on random halves of them, as the clients train."
)
_WANTING: Mapping[Need, str] = {
    "population": "at least two held-out records that no coin decided about (data.held_out, audit.canaries)",
    "shadows-spread": "at least four shadow models (audit.shadows)",
}


def audit_membership(
    view: View,
    passes: Passes,
    population: Population,
    truth: Truth,
    *,
    held_out: Sequence[TokenizedExample],
    rounds: Sequence[int],
    seed: int,
    shadows: Shadows | None = None,
) -> Findings:
    """Runs every membership attack that this view allows on one population.

    Args:
        view: of the attacker, with at least one adapter.
        passes: runs the models.
        population: whom to ask about; the attacker's own records are left out.
        truth: the answers.
        held_out: records that nobody trained on and that no coin decided about: what attacks compare with. They stand
            for text of the same kind, which every attacker is taken to have.
        rounds: which rounds' models to look at; the last one is the model under attack.
        seed: of the run, for folds and halves.
        shadows: models of the attacker's own on `population.of_others(view.own_clients)` and on `held_out`, in their
            order; None for attacks without. They are of an attacker that knows the records, members and others alike,
            and not the coins: what is found with them says so in its note.

    Returns:
        For every attack its AUC and its true-positive rates at the false-positive rates that so many records resolve;
        and the best attack, chosen on one half of the records and measured on the other, with its ROC on that half.
        Where coins decided about single copies, the scores that bound epsilon.
        With fewer than two members or two others, a warning and nothing else. Where there are shadows, a warning names
        the attacks with shadows that could not run. Without coins, a warning says where no trace of training is
        shown on members, and a doubt where it left more on the others: then it is not the members who were trained on.
    """
    asked = population.of_others(view.own_clients)
    rounds = sorted(rounds)
    labels = truth.labels(asked.candidates)
    if few := too_few(asked.name, labels, _FEWEST):
        return Findings.too_few(view.name, "membership", asked.name, few)
    seen = _see(view, passes, asked, held_out, rounds, shadows)
    scores = {
        attack.name: comparable(attack.scores(seen), seen.owners, is_randomised=truth.is_randomised)
        for attack in MEMBERSHIP_ATTACKS.values()
        if not attack.missing(seen)
    }
    blind = blind_control(population, asked.candidates, truth, seed=seed)
    findings = Findings(warnings=[] if shadows is None else _not_run(asked.name, seen))
    findings.unmeasured.extend(_unresolved(view, asked.name, int((~labels).sum())))
    for name, values in scores.items():
        subject = _subject(view, asked, name, labels, rounds)
        findings.found.append(area(subject, values, blind))
        findings.found.extend(
            low_end(subject, values, blind, max_fpr=max_fpr) for max_fpr in _resolved(int((~labels).sum()))
        )
    findings.add(_told(view, asked, truth, seen, scores))
    findings.add(_best(_subject(view, asked, BEST, labels, rounds), scores, blind, seen.owners, rounds, seed=seed))
    if not truth.is_randomised:
        findings.add(_without_trace(asked.name, seen, labels))
    return findings


def _told(view: View, asked: Population, truth: Truth, seen: Seen, scores: Mapping[str, Scores]) -> Findings:
    """The scores that bound epsilon, or why none do."""
    if gap := coins_gap(asked, asked.candidates, truth):
        return Findings(epsilon_gaps=[gap])
    chosen = {name: scores[name] for name in EPSILON_SCORES}
    ranges = [
        (one.secret_start, one.secret_stop)
        for one in asked.candidates
        if one.secret_start is not None and one.secret_stop is not None
    ]
    if len(ranges) == len(asked.candidates):
        del chosen[EPSILON_SCORES[-1]]
        chosen[SECRET_GAIN] = secret_gains(seen, ranges)
    coins = truth.labels(asked.candidates)
    return Findings(
        told=[
            Told(view=view.name, population=asked.name, attack=name, scores=values, coins=coins)
            for name, values in chosen.items()
        ]
    )


def _best(
    subject: Subject,
    scores: Mapping[str, Scores],
    blind: Scores | None,
    owners: Sequence[str],
    rounds: Sequence[int],
    *,
    seed: int,
) -> Findings:
    """The attack that is best on one half of the records, on the other half."""
    chosen = choose_attack(scores, subject.labels, owners, seed=seed)
    half = chosen.halves.reporting
    least = smallest_fpr(int((~subject.labels[half]).sum()))
    note = (
        f"Chosen on the other half of the records: {chosen.attack}. So many records resolve false-positive rates from "
        f"{least:.2g} up; one of 0.01 needs {non_members_for_fpr(0.01):,} records that were not trained on."
    )
    note = f"{note} {_note(chosen.attack, rounds)}".rstrip()
    found = area(replace(subject, note=note), scores[chosen.attack], blind, part=half)
    curves = [roc(replace(subject, attack=chosen.attack), "members", scores[chosen.attack], part=half)]
    if blind is not None:
        curves.append(roc(replace(subject, attack="blind"), "blind", blind, part=half))
    return Findings(found=[found], curves=curves)


def _see(
    view: View,
    passes: Passes,
    asked: Population,
    held_out: Sequence[TokenizedExample],
    rounds: Sequence[int],
    shadows: Shadows | None,
) -> Seen:
    examples = [candidate.example for candidate in asked.candidates]
    adapters = {number: view.adapters[number]() for number in rounds}
    last = max(rounds)
    # One round alone shows no more than the final and the base model do.
    looked_at = {0: None, **adapters} if len(rounds) > 1 else {}
    beside = looked_at if looked_at or shadows is None else {last: adapters[last]}
    lower = None if asked.lower is None else [twin.example for twin in asked.lower]
    return Seen(
        final=passes.stats(adapters[last], examples),
        base=passes.stats(None, examples),
        rounds={number: passes.stats(adapter, examples) for number, adapter in looked_at.items()},
        population_rounds={number: passes.stats(adapter, held_out) for number, adapter in beside.items()}
        if len(held_out) > 1
        else {},
        lower=None if lower is None else passes.stats(adapters[last], lower),
        texts=[candidate.text for candidate in asked.candidates],
        owners=[candidate.owner for candidate in asked.candidates],
        shadows=shadows,
    )


def _subject(view: View, asked: Population, attack: str, labels: Flags, rounds: Sequence[int]) -> Subject:
    return Subject(
        view=view.name,
        family="membership",
        attack=attack,
        code="" if attack == BEST else MEMBERSHIP_ATTACKS[attack].code,
        population=asked.name,
        labels=labels,
        records=asked.ids,
        note="" if attack == BEST else _note(attack, rounds),
    )


def _note(attack: str, rounds: Sequence[int]) -> str:
    """What a reader must know: where the attacker knows more than its view, and which rounds were looked at."""
    needs = MEMBERSHIP_ATTACKS[attack].needs
    if "shadows" in needs:
        return _SHADOW_NOTE
    return f"From the base model over the rounds {', '.join(map(str, rounds))}." if "rounds" in needs else ""


def _not_run(name: str, seen: Seen) -> list[str]:
    """Which attacks with shadows did not run, and what they would have needed."""
    return [
        f"{attack.title} did not run on {name}: it needs {', '.join(_WANTING.get(need, need) for need in missing)}."
        for attack in MEMBERSHIP_ATTACKS.values()
        if "shadows" in attack.needs and (missing := sorted(attack.missing(seen)))
    ]


def _resolved(num_others: int) -> list[float]:
    return [max_fpr for max_fpr in FALSE_POSITIVE_RATES if max_fpr >= smallest_fpr(num_others)]


def _unresolved(view: View, name: str, num_others: int) -> list[Unmeasured]:
    resolved = _resolved(num_others)
    return [
        Unmeasured(
            view=view.name,
            family="membership",
            population=name,
            metrics=[f"tpr@{max_fpr:g}"],
            reason=(
                f"{name}: {num_others} others resolve false-positive rates from {smallest_fpr(num_others):.2g} up; one "
                f"of {max_fpr:g} needs {non_members_for_fpr(max_fpr):,}."
            ),
        )
        for max_fpr in FALSE_POSITIVE_RATES
        if max_fpr not in resolved
    ]


def _without_trace(name: str, seen: Seen, labels: Flags) -> Findings:
    """Says so if members look as if they had never been trained on: without coins the list may simply be wrong.

    Where the interval covers chance, a trace may be there and too small for so many records: that is a warning and no
    doubt. A model with a good defence shows none on its members either, and a gate has to pass on it. An interval
    wholly below chance is explained by no defence: the others were learnt better than the members, so that the list is
    wrong, or its sides are swapped, or the others are of an easier kind; and then a small number is no sign of safety.
    """
    falls = difference_scores(seen, "targets")
    found = auc(falls[labels], falls[~labels]).interval
    if found.low > _CHANCE:
        return Findings()
    is_contradicted = found.high < _CHANCE
    begin = "Training left less trace on" if is_contradicted else "No trace of training is shown on"
    than = " than on others" if is_contradicted else ""
    sentence = (
        f"{begin} the members of {name}{than}: from the base to the final model the loss of members fell "
        f"by {falls[labels].mean():.3f} nats a token and that of others by {falls[~labels].mean():.3f} (AUC "
        f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f}). Were they trained on? If the list of members is "
        "wrong, this audit says nothing."
    )
    return Findings(warnings=[sentence], doubts=[sentence] if is_contradicted else [])
