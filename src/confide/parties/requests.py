"""Requests that are made one at a time: a round's largest are never all in memory at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence


class Requests(Mapping[str, bytes]):
    """Each client's request, made when it is asked for and not kept.

    Args:
        clients: who is asked.
        make: gives a client's request; the same bytes each time.
    """

    def __init__(self, clients: Sequence[str], make: Callable[[str], bytes]) -> None:
        self._clients = dict.fromkeys(clients)
        self._make = make

    def __getitem__(self, client: str) -> bytes:
        if client not in self._clients:
            raise KeyError(client)
        return self._make(client)

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)
