"""The one method of a transport, what comes back from it, and what a transport over a network can do besides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MISSING = "Missing"
"""The kind of error where a client did not answer."""

MAX_ERROR_CHARACTERS = 8000
"""The longest reason that is told for one reply: a refusal of every key of a policy has about 2,000, and more
where the policy lists many names."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one client answered: bytes, or the reason why there are none.

    Attributes:
        client: who was asked.
        body: the answer; empty if there is an error.
        error_kind: the class name of what went wrong, or "" if nothing did; `MISSING` if no answer came at all.
        error: the reason as one line, without any of the client's data.
    """

    client: str
    body: bytes = field(default=b"", repr=False)
    error_kind: str = ""
    error: str = ""


class Transport(Protocol):
    """Carries requests to clients and their answers back.

    Laws:
        - One reply per request, in any order, each as soon as it is there; never an exception for one client's failure.
        - Bytes arrive unchanged.
    """

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[Reply]:
        """Sends each client its request and yields the replies.

        Args:
            requests: by client name.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NodeReply:
    """What one node of the network answered; a `Reply` before it is known which client runs there.

    Attributes:
        node: who was asked, by its number in the network.
        body: as in `Reply`.
        error_kind: as in `Reply`.
        error: as in `Reply`.
    """

    node: int
    body: bytes = field(default=b"", repr=False)
    error_kind: str = ""
    error: str = ""


class Introducing(Transport, Protocol):
    """A transport that knows nodes before it knows clients: `exchange` asks those who were introduced.

    Laws:
        - Those of `Transport`; `ask_nodes` obeys them too, by node.
        - A client that was not introduced is answered for with "Missing".
    """

    def nodes(self) -> list[int]:
        """The nodes that can be reached now.

        Raises:
            DeployError: the network does not say.
        """
        ...

    def ask_nodes(self, requests: Mapping[int, bytes]) -> Iterator[NodeReply]:
        """Sends each node its request and yields the replies.

        Args:
            requests: by node.
        """
        ...

    def introduce(self, names: Mapping[str, int]) -> None:
        """Says at which node each client is, in place of what was said before.

        Args:
            names: the node, by client name.
        """
        ...
