"""Makes each party's view: adapters for those who get them, of the transcript what only this party saw.

A view holds vectors and bytes, and what reads an adapter when it is asked for; none leads back to the run.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from confide.attacks.updates.what_if import without_own
from confide.attacks.view import KnownRound, SeenUpdate, View
from confide.auditor.adapters import Adapters, spread_evenly
from confide.data.examples import TokenizedClient
from confide.messages import unpack_parts
from confide.transcript.reader import KeptUpdate, Transcript
from confide.update import Layout, Vector

MOST_UPDATE_ROUNDS = 3
"""Rounds of which a view holds updates: attacks on them take a backward pass over every record for each."""

_Starts = dict[int, Callable[[], Vector]]


class ViewMaker:
    """Makes views of one run, or of a folder of adapters.

    Args:
        layout: of the whole adapter.
        adapters: every round's.
        clients: who takes part, with their data as tokens, canary clients included.
        members: by round, the clients whose updates are in its sum.
        transcript: what was recorded; None if nothing was.
        hands_over: whether the clients of a sealed run give the server every global adapter.
        keeps_others: whether clients' views hold what the others' updates come to in every single round.
    """

    def __init__(
        self,
        layout: Layout,
        adapters: Adapters,
        *,
        clients: Sequence[TokenizedClient] = (),
        members: Mapping[int, frozenset[str]] | None = None,
        transcript: Transcript | None = None,
        hands_over: bool = False,
        keeps_others: bool = False,
    ) -> None:
        self._layout = layout
        self._adapters = adapters
        self._clients = sorted(clients, key=lambda client: client.name)  # as the roster orders its members
        self._members = members or {}
        self._transcript = transcript
        self._hands_over = hands_over
        self._keeps_others = keeps_others

    def final(self) -> View:
        """V2: who gets the final model."""
        return View(
            name="final",
            party="whoever gets the final adapter",
            layout=self._layout,
            adapters=self._global_adapters([self._adapters.last]),
        )

    def client(self, attackers: Sequence[str]) -> View:
        """V3 and V3c: one client, or several together, which see every round's global adapter.

        Without a name it is a client of which nothing else is known.
        """
        names = sorted(attackers)
        own = [client for client in self._clients if client.name in names]
        return View(
            name="client" if len(names) < 2 else "coalition",
            party=f"clients {' and '.join(names)}" if len(names) > 1 else f"client {names[0]}" if names else "a client",
            layout=self._layout,
            adapters=self._global_adapters(self._adapters.rounds),
            own_examples=tuple(example for client in own for example in client.train),
            own_clients=frozenset(names),
            known=self._known(),
            starts=self._starts(),
            mean_updates=self._means(),
            others_means=self._others_means(names) if self._keeps_others else {},
            own_updates={
                number: {name: seen for name, seen in updates.items() if name in names}
                for number, updates in self._single_updates().items()
            },
        )

    def server(self) -> View:
        """V4: a server that reads every client's update, and so computes every global adapter as the clients do."""
        return View(
            name="server",
            party="a server that reads updates",
            layout=self._layout,
            adapters=self._global_adapters(self._adapters.rounds),
            known=self._known(),
            starts=self._starts(),
            mean_updates=self._means(),
            client_updates=self._single_updates(),
            figures=self._figures(),
        )

    def sealed_server(self) -> View:
        """V4h: the server, with what it got: sealed uploads, what clients told about themselves, and global adapters
        where the clients hand them over. From two in a row it computes the mean between them. Of the adapters there
        are those that attacks look at, and those of the rounds before.
        """
        held = self._handed_over()
        starts = self._starts()
        # Everybody has the start: it follows from the base model and the configuration.
        own = {number: held.get(number - 1, start) for number, start in starts.items() if number - 1 in {0, *held}}
        return View(
            name="sealed-server",
            party="the server",
            layout=self._layout,
            adapters={number: held[number] for number in self._compared if number in held},
            known=self._known(),
            starts=own,
            mean_updates={number: mean for number, mean in self._means().items() if number in held and number in own},
            uploads={
                number: {name: unpack_parts(reply.body)["frames"] for name, reply in transcript.uploads(number).items()}
                for number in self._opened
                if (transcript := self._transcript) is not None
            },
            figures=self._figures(),
        )

    def holes(self) -> list[str]:
        """What should be in the transcript and is not, one thing each; none without a transcript."""
        if self._transcript is None:
            return []
        found = [
            f"of round {number} the mean that was opened"
            for number in self._adapters.rounds
            if self._adapters.has(number - 1) and self._members.get(number) and not self._was_opened(number)
        ]
        for number, known in self._known().items():
            for what, whose in (
                ("the update of", self._single_updates()[number].keys()),
                ("the upload of", self._transcript.uploads(number).keys()),
            ):
                if missing := sorted(known.members - whose):
                    found.append(f"of round {number} {what} {', '.join(missing)}")
        if self._hands_over:
            missing_states = [number for number in self._compared if number not in self._handed_over()]
            found += [f"of round {number} the adapter that the server was given" for number in missing_states]
        return found

    def _global_adapters(self, rounds: Sequence[int]) -> _Starts:
        return {number: self._adapters.reader(number) for number in rounds}

    @property
    def _compared(self) -> list[int]:
        """The rounds that attacks look at, and of each the one before."""
        before = dict(pairwise(reversed(self._adapters.rounds)))
        looked_at = self._adapters.looked_at
        return sorted({*looked_at, *(before[number] for number in looked_at if number in before)})

    def _handed_over(self) -> _Starts:
        """Adapters that the clients gave to the server: those that views need, by the number of rounds done."""
        if not self._hands_over:
            return {}
        beside = {one for number in self._opened for one in (number - 1, number)} - {0}
        found = {}
        for number in sorted({*self._compared, *beside}):
            if self._transcript is None:
                found[number] = self._adapters.reader(number)
            elif (state := self._transcript.handed_over(number)) is not None:
                found[number] = _giving(state)
        return found

    def _known(self) -> dict[int, KnownRound]:
        return {
            number: KnownRound(layout=mean.layout, members=self._members.get(number, frozenset()))
            for number, mean in self._opened.items()
        }

    def _starts(self) -> _Starts:
        return {number: self._adapters.reader(number - 1) for number in self._opened}

    def _means(self) -> dict[int, SeenUpdate]:
        return {
            number: SeenUpdate(layout=kept.layout, vector=kept.vector, share=1.0)
            for number, kept in self._opened.items()
        }

    @cached_property
    def _opened(self) -> dict[int, KeptUpdate]:
        """The opened mean, which is the same at every client, of some rounds, evenly spread, the last among them.

        Only of rounds whose start is there: without it an update says nothing.
        """
        there = [
            number for number in self._adapters.rounds if self._adapters.has(number - 1) and self._was_opened(number)
        ]
        means = {number: self._mean(number) for number in spread_evenly(there, MOST_UPDATE_ROUNDS)}
        return {number: mean for number, mean in means.items() if mean is not None}

    def _was_opened(self, number: int) -> bool:
        transcript, points = self._transcript, range(1, 1 + len(self._clients))
        return transcript is not None and any(transcript.has_opened(point, number) for point in points)

    def _mean(self, number: int) -> KeptUpdate | None:
        if self._transcript is None:
            return None
        kept = (self._transcript.opened(point, number) for point, _ in enumerate(self._clients, start=1))
        return next((one for one in kept if one is not None), None)

    def _single_updates(self) -> dict[int, dict[str, SeenUpdate]]:
        """The updates that are in each round's mean. What a client kept of one that was left out is not in it."""
        everyone = [client.name for client in self._clients]
        return {number: self._updates_of(everyone, number, mean) for number, mean in self._opened.items()}

    def _updates_of(self, names: Sequence[str], number: int, mean: KeptUpdate) -> dict[str, SeenUpdate]:
        """The updates of these clients that are in a round's mean."""
        found = {}
        for point, client in enumerate(self._clients, start=1):
            if client.name not in names or client.name not in self._members.get(number, frozenset()):
                continue
            kept = None if self._transcript is None else self._transcript.sent(point, number)
            if kept is not None:
                share = kept.weight / mean.weight
                found[client.name] = SeenUpdate(layout=kept.layout, vector=kept.vector, share=share)
        return found

    def _others_means(self, names: Sequence[str]) -> dict[int, SeenUpdate]:
        """Every round's mean without these clients' own updates, each with the noise that its owner knows."""
        found = {}
        for number in self._adapters.rounds:
            mean = self._mean(number)
            if mean is None:
                continue
            vector, left = mean.vector, 1.0
            for own in self._updates_of(names, number, mean).values():
                vector = without_own(vector, own.vector, own.share / left)
                left -= own.share
            found[number] = SeenUpdate(layout=mean.layout, vector=vector, share=1.0)
        return found

    def _figures(self) -> dict[int, dict[str, Mapping[str, float]]]:
        """What clients told: with their upload, and after opening the sum."""
        found: dict[int, dict[str, Mapping[str, float]]] = {}
        if self._transcript is None:
            return found
        for number in self._opened:
            reports = self._transcript.reports(number)
            found[number] = {
                name: {"weight": reply.weight, **reply.metrics, **(reports[name].metrics if name in reports else {})}
                for name, reply in self._transcript.uploads(number).items()
            }
        return found


def _giving(vector: Vector) -> Callable[[], Vector]:
    return lambda: vector
