"""The rows of the table on updates: what an attacker is given in each, made from one run's views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from confide.attacks.updates.sealed import guess_values
from confide.attacks.updates.what_if import mean_of, noised, pruned, without_own
from confide.attacks.view import SeenUpdate, View
from confide.audit.results import ViewKind
from confide.seeds import stream
from confide.update import Layout, Vector

_ByRound = Mapping[int, Mapping[str, SeenUpdate]]
_Change = Callable[[SeenUpdate, int, str], Vector]  # an update, its round, its client


@dataclass(frozen=True, kw_only=True)
class Row:
    """What an attacker is given in one row of the table.

    Attributes:
        name: of the row: what was seen.
        view: whose view that is in this run, or would be.
        targets: by round and by the candidates' owner: the update that is held against that owner's records.
        note: what a reader must know, e.g. that the run was sealed and this row is what if it were not.
    """

    name: str
    view: ViewKind
    targets: _ByRound
    note: str = ""


def rows_of(
    single: View, sealed: View | None, client: View, *, is_sealed: bool, seed: int, most_rounds: int
) -> list[Row]:
    """The rows of the table for one run.

    Args:
        single: with every client's own updates, as a server without sealing would see them.
        sealed: with the sealed uploads, where the run was sealed.
        client: of the attacking client, with its own updates and the means.
        is_sealed: whether the rows on single updates are a what-if.
        seed: for the noise.
        most_rounds: how many rounds are looked at, evenly spread.

    Returns:
        Rows that have anything in them, single updates first.
    """
    rounds = _spread(sorted(single.client_updates), most_rounds)
    alone = {number: single.client_updates[number] for number in rounds}
    what_if = "What if the run were not sealed." if is_sealed else ""
    rows = [
        Row(name="one client's update", view="server", targets=alone, note=what_if),
        *(
            Row(
                name=f"one client's update, {sparsity:.0%} pruned",
                view="server",
                targets=_changed(alone, partial(_pruned, sparsity)),
                note=what_if,
            )
            for sparsity in (0.5, 0.9)
        ),
        Row(
            name="one client's update and noise of its own norm",
            view="server",
            targets=_changed(alone, partial(_noised, seed)),
            note=what_if,
        ),
        Row(name="mean of 2 clients", view="server", targets={n: _pairs(alone[n]) for n in rounds}, note=what_if),
        Row(
            name="mean of all clients",
            view="client",
            targets={
                number: dict.fromkeys(alone[number], client.mean_updates[number])
                for number in rounds
                if number in client.mean_updates and len(alone[number]) > 1
            },
            note="Each client's records as any other client sees them: all have the same mean.",
        ),
        Row(name="mean without one's own part", view="client", targets=_without_own(client, rounds, alone)),
    ]
    if sealed is not None:
        rows.append(Row(name="sealed updates", view="sealed-server", targets=_guessed(sealed, rounds, alone)))
    return [row for row in rows if any(row.targets.values())]


def _changed(updates: _ByRound, change: _Change) -> dict[int, dict[str, SeenUpdate]]:
    return {
        number: {
            name: SeenUpdate(layout=seen.layout, vector=change(seen, number, name), share=seen.share)
            for name, seen in by_client.items()
        }
        for number, by_client in updates.items()
    }


def _pruned(sparsity: float, seen: SeenUpdate, _number: int, _name: str) -> Vector:
    return pruned(seen.vector, sparsity)


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


def _without_own(client: View, rounds: Sequence[int], alone: _ByRound) -> dict[int, dict[str, SeenUpdate]]:
    """The mean of all others, for the records of all others; nothing for rounds without others."""
    found: dict[int, dict[str, SeenUpdate]] = {}
    for number in rounds:
        mean = client.mean_updates.get(number)
        own = client.own_updates.get(number, {})
        others = [name for name in alone[number] if name not in client.own_clients]
        if mean is None or not own or not others:
            continue
        vector, left = mean.vector, 1.0
        for seen in own.values():
            vector = without_own(vector, seen.vector, seen.share / left)
            left -= seen.share
        found[number] = dict.fromkeys(others, SeenUpdate(layout=mean.layout, vector=vector, share=1.0))
    return found


def _guessed(sealed: View, rounds: Sequence[int], alone: _ByRound) -> dict[int, dict[str, SeenUpdate]]:
    """What a server without a key reads into sealed bytes, put where values would stand if nothing was pruned."""
    found: dict[int, dict[str, SeenUpdate]] = {}
    for number in rounds:
        uploads = sealed.uploads.get(number, {})
        found[number] = {
            name: SeenUpdate(
                layout=seen.layout, vector=_fill(guess_values(uploads[name]), seen.layout), share=seen.share
            )
            for name, seen in alone[number].items()
            if name in uploads
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
