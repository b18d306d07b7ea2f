"""The rows of the table on updates: what an attacker is given in each, made from one run's views."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from confide.attacks.updates.sealed import guess_values
from confide.attacks.updates.what_if import (
    mean_of,
    noised,
    with_pruned_weights,
    without_own,
    without_smallest,
    without_zeroed,
)
from confide.attacks.view import SeenUpdate, View
from confide.audit.results import ViewKind
from confide.seeds import stream
from confide.update import Layout, Vector

_ByRound = Mapping[int, Mapping[str, SeenUpdate]]
_Change = Callable[[SeenUpdate, int, str], Vector]  # an update, its round, its client
_PRUNED_WEIGHTS = (
    "FedShield-LLM's published pruning: the smallest weights of every tensor are set to zero before they are sent. The "
    "zeros show which, and the attack leaves them out."
)
_GIVEN = (
    "A stronger attacker than this server: beside the sealed bytes it is given the global adapter that the updates "
    "started from, which the server does not have, of round"
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What an attacker is given in one row of the table.

    Attributes:
        name: of the row: what was seen.
        view: whose view that is in this run, or would be.
        targets: by round and by the candidates' owner: the update that is held against that owner's records.
        starts: the global adapter that each of those rounds started from, as the attacker has it or is given it.
        is_hypothetical: whether nobody in this run sees it: it was sealed, and this row is what if it were not.
        is_changed: whether the updates were changed here, to show what a protection would buy: nobody is given them so.
        note: what a reader must know.
    """

    name: str
    view: ViewKind
    targets: _ByRound
    starts: Mapping[int, Vector] = field(default_factory=dict, repr=False)
    is_hypothetical: bool = False
    is_changed: bool = False
    note: str = ""


def rows_of(
    single: View,
    sealed: View | None,
    clients: Sequence[View],
    *,
    is_sealed: bool,
    seed: int,
    most_rounds: int,
) -> list[Row]:
    """The rows of the table for one run.

    Args:
        single: with every client's own updates, as a server without sealing would see them.
        sealed: with the sealed uploads, where the run was sealed.
        clients: of the client that attacks, and of those that attack together: with their own updates and the means.
        is_sealed: whether the rows on single updates are a what-if.
        seed: for the noise.
        most_rounds: how many rounds are looked at, evenly spread.

    Returns:
        Rows that have anything in them, single updates first.
    """
    rounds = _spread(sorted(single.known), most_rounds)
    alone = {number: single.client_updates.get(number, {}) for number in rounds}
    starts = _starts(single, rounds)
    rows = [
        Row(name="one client's update", view="server", targets=alone),
        *(
            Row(
                name=f"one client's update, FedShield's pruning, {percent} %",
                view="server",
                targets=_changed(alone, partial(_with_pruned_weights, single.layout, starts, percent / 100)),
                is_changed=True,
                note=_PRUNED_WEIGHTS,
            )
            for percent in (20, 50)
        ),
        *(
            Row(
                name=f"one client's update, its smallest {percent} % dropped",
                view="server",
                targets=_changed(alone, partial(_without_smallest, percent / 100)),
                is_changed=True,
            )
            for percent in (50, 90)
        ),
        Row(
            name="one client's update and noise of its own norm",
            view="server",
            targets=_changed(alone, partial(_noised, seed)),
            is_changed=True,
        ),
        Row(name="mean of 2 clients", view="server", targets={n: _pairs(alone[n]) for n in rounds}, is_changed=True),
    ]
    rows = [replace(row, starts=starts, is_hypothetical=is_sealed) for row in rows]
    for client in clients:
        rows += _inside(client, [number for number in rounds if number in client.known])
    if sealed is not None:
        rows += _from_sealed(sealed, [number for number in rounds if number in sealed.known], given=starts)
    return [row for row in rows if any(row.targets.values())]


def _changed(updates: _ByRound, change: _Change) -> dict[int, dict[str, SeenUpdate]]:
    return {
        number: {
            name: SeenUpdate(layout=seen.layout, vector=change(seen, number, name), share=seen.share)
            for name, seen in by_client.items()
        }
        for number, by_client in updates.items()
    }


def _with_pruned_weights(
    layout: Layout, starts: Mapping[int, Vector], sparsity: float, seen: SeenUpdate, number: int, _name: str
) -> Vector:
    start = layout.gather(starts[number], seen.layout)
    return without_zeroed(start, with_pruned_weights(start, seen.vector, seen.layout, sparsity))


def _without_smallest(sparsity: float, seen: SeenUpdate, _number: int, _name: str) -> Vector:
    return without_smallest(seen.vector, sparsity)


def _noised(seed: int, seen: SeenUpdate, number: int, name: str) -> Vector:
    return noised(seen.vector, 1.0, stream(seed, "audit noise", number, name))


def _pairs(updates: Mapping[str, SeenUpdate]) -> dict[str, SeenUpdate]:
    """Each client's update averaged with the next one's; none of two clients, whose mean is that of all."""
    names = sorted(updates)
    if len(names) < 3:
        return {}
    paired = {}
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        both = [updates[name], updates[other]]
        vector = mean_of([one.vector for one in both], [one.share for one in both])
        paired[name] = SeenUpdate(layout=both[0].layout, vector=vector, share=1.0)
    return paired


def _inside(client: View, rounds: Sequence[int]) -> Iterator[Row]:
    """What one client sees, or several together, which see the same means and can take out more of them."""
    starts = _starts(client, rounds)
    if client.name == "client":
        yield replace(_mean(client, rounds), starts=starts)
    others = _without_own(client, rounds)
    yield Row(
        name="mean without one's own part" if client.name == "client" else "mean without their own parts",
        view=client.name,
        targets=others,
        starts=starts,
        note="Nobody else is left in it: this is the update of one client." if _is_one(others) else "",
    )


def _is_one(updates: _ByRound) -> bool:
    return any(updates.values()) and all(len(of_round) <= 1 for of_round in updates.values())


def _starts(view: View, rounds: Sequence[int]) -> dict[int, Vector]:
    return {number: view.starts[number]() for number in rounds if number in view.starts}


def _mean(view: View, rounds: Sequence[int]) -> Row:
    return Row(
        name="mean of all clients",
        view=view.name,
        targets={
            number: dict.fromkeys(view.known[number].members, view.mean_updates[number])
            for number in rounds
            if number in view.mean_updates and len(view.known[number].members) > 1
        },
        note="Each client's records as any other client sees them: all have the same mean.",
    )


def _without_own(client: View, rounds: Sequence[int]) -> dict[int, dict[str, SeenUpdate]]:
    """The mean of all others, for the records of all others.

    Nothing for rounds without others, or in which one's own updates are not all there.
    """
    found: dict[int, dict[str, SeenUpdate]] = {}
    for number in rounds:
        mean = client.mean_updates.get(number)
        own = client.own_updates.get(number, {})
        members = client.known[number].members
        others = members - client.own_clients
        if mean is None or not own or own.keys() != members & client.own_clients or not others:
            continue
        vector, left = mean.vector, 1.0
        for seen in own.values():
            vector = without_own(vector, seen.vector, seen.share / left)
            left -= seen.share
        found[number] = dict.fromkeys(others, SeenUpdate(layout=mean.layout, vector=vector, share=1.0))
    return found


def _from_sealed(sealed: View, rounds: Sequence[int], *, given: Mapping[int, Vector]) -> Iterator[Row]:
    """What a server holds under sealing, and the mean where it computes one from adapters that it gets.

    The attack needs the start of a round. Where this server has none it is given it, and the row says so.
    """
    own = _starts(sealed, rounds)
    if sealed.mean_updates:
        yield replace(_mean(sealed, rounds), starts=own, note="From two global adapters that clients handed over.")
    gifts = sorted(given.keys() - own.keys())
    yield Row(
        name="sealed updates",
        view="sealed-server",
        targets=_guessed(sealed, rounds),
        starts={**given, **own},
        note=f"{_GIVEN} {', '.join(map(str, gifts))}." if gifts else "",
    )


def _guessed(sealed: View, rounds: Sequence[int]) -> dict[int, dict[str, SeenUpdate]]:
    """What a server without a key reads into sealed bytes, put where values would stand if nothing was pruned."""
    found: dict[int, dict[str, SeenUpdate]] = {}
    for number in rounds:
        known, uploads = sealed.known[number], sealed.uploads.get(number, {})
        found[number] = {
            name: SeenUpdate(layout=known.layout, vector=_fill(guess_values(uploads[name]), known.layout), share=1.0)
            for name in sorted(known.members & uploads.keys())
        }
    return found


def _fill(values: Vector, layout: Layout) -> Vector:
    vector = np.zeros(layout.num_values, np.float32)
    count = min(values.size, layout.num_values)
    vector[:count] = values[:count]
    return vector


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of the numbers, evenly spread, the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    places = np.linspace(len(numbers) - 1, 0, most).round().astype(int)
    return [numbers[place] for place in sorted(set(places.tolist()))]
