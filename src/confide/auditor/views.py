"""Makes each party's view: adapters for those who get them, of the transcript what only this party saw.

A view holds vectors and bytes, and nothing that leads back to where they were read.
"""

from collections.abc import Callable, Mapping, Sequence

from confide.attacks.view import SeenUpdate, Training, View
from confide.auditor.adapters import Adapters, spread_evenly
from confide.data.examples import TokenizedClient
from confide.messages import unpack_parts
from confide.transcript.reader import KeptUpdate, Transcript
from confide.update import Layout, Vector

MOST_UPDATE_ROUNDS = 3
"""Rounds of which a view holds updates: attacks on them take a backward pass over every record for each."""


class ViewMaker:
    """Makes views of one run, or of a folder of adapters.

    Args:
        layout: of the whole adapter.
        adapters: every round's.
        clients: who takes part, with their data as tokens.
        members: by round, the clients whose updates are in its sum.
        transcript: what was recorded; None if nothing was.
        training: as agreed by all; None where that is not known.
    """

    def __init__(
        self,
        layout: Layout,
        adapters: Adapters,
        *,
        clients: Sequence[TokenizedClient] = (),
        members: Mapping[int, frozenset[str]] | None = None,
        transcript: Transcript | None = None,
        training: Training | None = None,
    ) -> None:
        self._layout = layout
        self._adapters = adapters
        self._clients = sorted(clients, key=lambda client: client.name)  # as the roster orders its members
        self._members = members or {}
        self._transcript = transcript
        self._training = training

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
            adapters=self._global_adapters(self._adapters.looked_at),
            own_examples=tuple(example for client in own for example in client.train),
            own_clients=frozenset(names),
            mean_updates={
                number: SeenUpdate(layout=kept.layout, vector=kept.vector, share=1.0)
                for number, kept in self._opened().items()
            },
            own_updates={
                number: {name: seen for name, seen in updates.items() if name in names}
                for number, updates in self._single_updates().items()
            },
            training=self._training,
        )

    def server(self) -> View:
        """V4: a server that reads every client's update."""
        return View(
            name="server",
            party="a server that reads updates",
            layout=self._layout,
            client_updates=self._single_updates(),
            training=self._training,
        )

    def sealed_server(self) -> View:
        """V4h: the server, with what it got: sealed uploads, and what clients told about themselves."""
        uploads: dict[int, dict[str, bytes]] = {}
        figures: dict[int, dict[str, Mapping[str, float]]] = {}
        for number in self._opened():
            replies = {} if self._transcript is None else self._transcript.uploads(number)
            uploads[number] = {name: unpack_parts(reply.body)["frames"] for name, reply in replies.items()}
            figures[number] = {name: dict(reply.metrics) for name, reply in replies.items()}
        return View(
            name="sealed-server",
            party="the server",
            layout=self._layout,
            uploads=uploads,
            figures=figures,
            training=self._training,
        )

    def _global_adapters(self, rounds: Sequence[int]) -> dict[int, Callable[[], Vector]]:
        return {number: _giving(self._adapters.read(number)) for number in rounds}

    def _opened(self) -> dict[int, KeptUpdate]:
        """The opened mean, which is the same at every client, of some rounds, evenly spread, the last among them.

        Only of rounds whose start is there: without it an update says nothing.
        """
        kept = {number: mean for number in self._adapters.rounds if (mean := self._mean(number)) is not None}
        return {number: kept[number] for number in spread_evenly(sorted(kept), MOST_UPDATE_ROUNDS)}

    def _mean(self, number: int) -> KeptUpdate | None:
        if self._transcript is None or not self._adapters.has(number - 1):
            return None
        kept = (self._transcript.opened(point, number) for point, _ in enumerate(self._clients, start=1))
        return next((one for one in kept if one is not None), None)

    def _single_updates(self) -> dict[int, dict[str, SeenUpdate]]:
        """The updates that are in each round's mean. What a client kept of one that was left out is not in it."""
        found: dict[int, dict[str, SeenUpdate]] = {}
        for number, mean in self._opened().items():
            found[number] = {}
            for point, client in enumerate(self._clients, start=1):
                kept = None if self._transcript is None else self._transcript.sent(point, number)
                if kept is not None and client.name in self._members.get(number, frozenset()):
                    share = kept.weight / mean.weight
                    found[number][client.name] = SeenUpdate(layout=kept.layout, vector=kept.vector, share=share)
        return found


def _giving(vector: Vector) -> Callable[[], Vector]:
    return lambda: vector
