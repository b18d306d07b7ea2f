"""Stands in for a command: hands its arguments to the process that has the command loaded already.

`python -IS hand_over.py SOCKET COMMAND ARGUMENT ...`: ends at once where the process of `confide.deploy.warm_command`
takes the arguments, and becomes the command itself where it does not. It is run by its path and imports nothing but
the standard library, as it has to start within milliseconds.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence

END = b"\n"
"""Ends the arguments, a line of JSON."""
TAKEN = b"1"
"""The answer of a process that is ready to run the command."""
GO = b"2"
"""What it waits for then: so the command runs at most once, whoever gives up waiting and when."""

_SECONDS = 5.0


def is_taken(address: str, arguments: Sequence[str]) -> bool:
    """Whether the process at a Unix socket runs its command with these arguments."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(address)
            connection.sendall(json.dumps(list(arguments)).encode() + END)
            if connection.recv(1) != TAKEN:
                return False
            connection.sendall(GO)
            return True
    except OSError:
        return False


if __name__ == "__main__":
    _, place, command, *given = sys.argv
    if not is_taken(place, given):
        os.execv(command, [command, *given])
