"""What one party of a federation sees: all that an attack gets.

Made from a run's transcript or from a folder of adapters. Nothing in here leads to what attacks are scored against:
adapters come as vectors, not as paths, and no object holds the coins that decided who is a member. What an attack gets
beside a view, model passes above all, holds no path either: see `confide.attacks.pass_store`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from confide.data.examples import TokenizedExample
from confide.update import Layout, Vector

ViewName = Literal["final", "client", "coalition", "server", "sealed-server"]
"""V2 the holder of the final weights, V3 a client, V3c clients together, V4 a server that reads updates, V4h one that
holds sealed ones."""


@dataclass(frozen=True, kw_only=True)
class SeenUpdate:
    """An update that a party saw, or the mean of several.

    Attributes:
        layout: of the slots that moved in that round.
        vector: flat float32 over `layout`; zeros where a value did not travel.
        share: its weight in the round's mean, in (0, 1]; 1 for the mean itself.
    """

    layout: Layout
    vector: Vector = field(repr=False)
    share: float


@dataclass(frozen=True, kw_only=True)
class KnownRound:
    """What every party of a federation knows of a round, sealed or not.

    Attributes:
        layout: of the slots that moved.
        members: names of the clients whose updates are in the mean.
    """

    layout: Layout
    members: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class View:
    """What one party sees. Fields that its kind does not see are empty.

    Attributes:
        name: which kind of party.
        party: who, in words for a report: "a client (north)".
        layout: of the whole adapter.
        adapters: global adapters by the number of rounds done, each read when called: the last round's in "final",
            every round's for clients and for a server that reads updates. Attacks over rounds may look at fewer, but
            the model before one that they look at is here. 0 is the start: it changes nothing, so it is the base model,
            which everybody has.
        own_examples: training data of the attacker's own.
        own_clients: names of the clients that attack.
        known: the rounds whose updates are looked at.
        starts: the global adapter that each of those rounds started from, as far as this party has it.
        mean_updates: each round's opened mean.
        others_means: by round, all rounds, what is left of the opened mean without the attacking clients' own updates;
            only where canary clients took part, who are looked for in it.
        own_updates: of the attacking clients, by round and name.
        client_updates: single updates by round and client: only a server without sealing sees them.
        uploads: sealed updates as they came, by round and client.
        figures: what clients told the server about themselves, by round and client: their weight in the mean, losses,
            counts and seconds.
    """

    name: ViewName
    party: str
    layout: Layout
    adapters: Mapping[int, Callable[[], Vector]] = field(default_factory=dict, repr=False)
    own_examples: tuple[TokenizedExample, ...] = field(default=(), repr=False)
    own_clients: frozenset[str] = frozenset()
    known: Mapping[int, KnownRound] = field(default_factory=dict, repr=False)
    starts: Mapping[int, Callable[[], Vector]] = field(default_factory=dict, repr=False)
    mean_updates: Mapping[int, SeenUpdate] = field(default_factory=dict, repr=False)
    others_means: Mapping[int, SeenUpdate] = field(default_factory=dict, repr=False)
    own_updates: Mapping[int, Mapping[str, SeenUpdate]] = field(default_factory=dict, repr=False)
    client_updates: Mapping[int, Mapping[str, SeenUpdate]] = field(default_factory=dict, repr=False)
    uploads: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    figures: Mapping[int, Mapping[str, Mapping[str, float]]] = field(default_factory=dict, repr=False)

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds whose adapter this party has, ascending."""
        return tuple(sorted(self.adapters))
