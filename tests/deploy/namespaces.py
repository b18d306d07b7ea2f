"""Two machines made of network namespaces, with a cable between them that can be pulled; needs root and `ip`."""

import os
import subprocess
from types import TracebackType
from typing import Self

SERVER_ADDRESS, NODE_ADDRESS = "10.213.77.1", "10.213.77.2"


class Cable:
    """Makes the two namespaces, from `with` to its end; nothing in them reaches this machine's networks.

    Attributes:
        server: words before a command that is to run on the server's machine.
        node: the same for the other machine.
    """

    def __init__(self) -> None:
        self._names = (f"confide-{os.getpid()}-s", f"confide-{os.getpid()}-n")
        self.server = ("ip", "netns", "exec", self._names[0])
        self.node = ("ip", "netns", "exec", self._names[1])

    def __enter__(self) -> Self:
        server, node = self._names
        try:
            for name in self._names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("link", "add", "cable", "netns", server, "type", "veth", "peer", "name", "cable", "netns", node)
            for name, address in ((server, SERVER_ADDRESS), (node, NODE_ADDRESS)):
                _ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
            self.plug()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def plug(self) -> None:
        """Connects the two; the node's end stays up, so that it only notices that nothing comes."""
        for name in self._names:
            _ip("-n", name, "link", "set", "cable", "up")

    def pull(self) -> None:
        """Packets are lost from here on, in both directions."""
        _ip("-n", self._names[0], "link", "set", "cable", "down")

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
