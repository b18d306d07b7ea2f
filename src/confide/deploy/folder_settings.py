"""What a server's folder and a member's folder say of themselves: server.toml and the head of node.toml."""

import re
from typing import Annotated

from pydantic import Field

from confide.config.sections import Form, Section
from confide.deploy.certificates import host_problem
from confide.errors import DeployFolderError

SERVER_FILE = "server.toml"
NODE_FILE = "node.toml"

_MAX_PORT = 65535
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]|[^\[\]:\s]+):(?P<port>[0-9]{1,5})")

Port = Annotated[int, Field(ge=1, le=_MAX_PORT)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False), Form("a list of names")]


class ServerSection(Section):
    """What a server's folder says of it."""

    hosts: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=1, strict=False),
        Form("a list of DNS names and IP addresses"),
    ]
    """By which members reach the server; they stand in its certificate."""

    port: Port = 9191
    """Where the SuperLink listens, on this machine alone."""

    proxy_port: Port = 9443
    """Where members connect: the reverse proxy listens there."""

    members: Names = ()
    """Names of the members that were expected when the folder was made."""

    try_out: bool = False
    """Whether members' folders, with their secret keys, were made here as well."""


class ServerFile(Section):
    """server.toml."""

    server: ServerSection


class NodeSection(Section):
    """What a member's folder says of it."""

    name: Annotated[str, Field(min_length=1)]
    """The member's name, as in the roster."""

    server: Annotated[str, Field(min_length=1), Form('text of the form "host:port"')]
    """Where the server is reached."""

    try_out: bool = False
    """Whether this folder was made beside the server's."""


class NodeFile(Section):
    """node.toml, less the tables of settings."""

    node: NodeSection


def check_address(address: str, *, where: str = "--server") -> None:
    """Checks that an address is "host:port".

    Raises:
        DeployFolderError: it is not.
    """
    found = _ADDRESS.fullmatch(address)
    problem = None
    if found is None:
        problem = "is not of the form host:port (an IPv6 address stands in brackets)"
    elif not 1 <= int(found["port"]) <= _MAX_PORT:
        problem = f"has a port outside 1 to {_MAX_PORT}"
    elif host_problem(found["host"].strip("[]")):
        problem = "has a host that is no DNS name and no IP address"
    if problem:
        raise DeployFolderError(f"{where}: {address!r} {problem}")
