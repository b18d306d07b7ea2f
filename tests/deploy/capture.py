"""Hears what crosses the loopback interface, and puts the bytes of each TCP connection in order again."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_ALL_PROTOCOLS = 3
_TCP = 6
_IPV4, _IPV6 = 0x0800, 0x86DD
_OUTGOING = 4
_ETHERNET_BYTES, _IPV6_BYTES = 14, 40
_BUFFER_BYTES = 256 << 20
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_LARGEST_PACKET = 1 << 17
_LOOK_SECONDS = 0.5
_HALF = 1 << 31


@dataclass(frozen=True, kw_only=True, order=True)
class Direction:
    """One direction of one connection, by its ports."""

    source: int
    destination: int


class Capture:
    """Listens to all of TCP on `lo` from a thread, from `with` to its end; needs root.

    Attributes:
        num_lost: packets that the kernel could not hand over; known after the end.
    """

    def __init__(self) -> None:
        self._packets: dict[Direction, list[tuple[int, bytes]]] = defaultdict(list)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(_LOOK_SECONDS)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.num_lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        _, self.num_lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()

    def streams(self) -> Mapping[Direction, bytes]:
        """What was sent in each direction, in order; ports that were used again are one direction."""
        return {direction: _in_order(packets) for direction, packets in sorted(self._packets.items())}

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                packet, address = self._socket.recvfrom(_LARGEST_PACKET)
            except TimeoutError:
                continue
            if address[2] != _OUTGOING:  # on this interface every packet is seen going out and coming in
                self._keep(packet, address[1])

    def _keep(self, packet: bytes, protocol: int) -> None:
        if protocol == _IPV4 and packet[_ETHERNET_BYTES + 9] == _TCP:
            start = _ETHERNET_BYTES + (packet[_ETHERNET_BYTES] & 15) * 4
            end = _ETHERNET_BYTES + int.from_bytes(packet[_ETHERNET_BYTES + 2 : _ETHERNET_BYTES + 4])
        elif protocol == _IPV6 and packet[_ETHERNET_BYTES + 6] == _TCP:
            start, end = _ETHERNET_BYTES + _IPV6_BYTES, len(packet)
        else:
            return
        end = end if end > start else len(packet)  # a packet larger than its own field says: 0 there
        source, destination, sequence = struct.unpack_from(">HHI", packet, start)
        payload = packet[start + (packet[start + 12] >> 4) * 4 : end]
        if payload:
            self._packets[Direction(source=source, destination=destination)].append((sequence, payload))


def _in_order(packets: list[tuple[int, bytes]]) -> bytes:
    """Joins segments in the order of their numbers; what was sent twice is there once."""
    parts: list[bytes] = []
    expected: int | None = None
    held: dict[int, bytes] = {}
    for sequence, payload in packets:
        if expected is None or not _is_near(sequence, expected):
            expected = sequence
        held[sequence] = payload
        while expected in held:
            part = held.pop(expected)
            parts.append(part)
            expected = (expected + len(part)) & 0xFFFFFFFF
    return b"".join([*parts, *held.values()])  # what is left over is searched as well


def _is_near(sequence: int, expected: int) -> bool:
    distance = (sequence - expected) & 0xFFFFFFFF
    return min(distance, (1 << 32) - distance) < _HALF >> 4
