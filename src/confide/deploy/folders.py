"""The two folders of a deployment, as they lie on the disk: a server's and a member's.

Reading one checks that it is whole, that no secret in it is open to others, and that it is what it should be.
`confide.deploy.new_folders` makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from confide.deploy.certificates import (
    KeyPlaces,
    check_authority,
    check_server_certificate,
    host_problem,
    node_key_fingerprint,
)
from confide.deploy.documents import check_tables, read_tables
from confide.deploy.folder_checks import existing_folder, refuse_open, require_files, require_folder, required_roster
from confide.deploy.folder_settings import (
    NODE_FILE,
    SERVER_FILE,
    NodeFile,
    NodeSection,
    ServerFile,
    ServerSection,
    check_address,
)
from confide.deploy.processes import LOOPBACK, address
from confide.deploy.run_config import check_settings
from confide.errors import DeployFolderError
from confide.membership.roster import PublicIdentity, read_bounded
from confide.names import file_name, name_problem

_SERVER_FLOWER = "Nothing of a run was in it; tell the server the node keys again with `confide deploy register`."
_NODE_FLOWER = "Nothing of a run was in it."
_LEDGER = (
    "Do so only if it is lost, and not moved or on a disk that is not mounted. It held the release ledger, and no old "
    "copy of that may be put back: take part in new runs only."
)


@dataclass(frozen=True, kw_only=True)
class ServerFolder:
    """A server's folder.

    Attributes:
        path: of the folder, absolute.
        settings: from its server.toml.
    """

    path: Path
    settings: ServerSection

    @classmethod
    def load(cls, path: Path, *, is_certificate_checked: bool = True) -> Self:
        """Reads and checks a server's folder.

        Args:
            path: of the folder.
            is_certificate_checked: False before a renewal, when the certificate may be old or another authority's.

        Raises:
            DeployFolderError: it is no server's folder, it lacks something, or it is open to others.
            KeyFileError: a secret key is open to others, or belongs to another certificate.
        """
        folder = existing_folder(path, SERVER_FILE, other=NODE_FILE, command="confide deploy init FOLDER --host NAME")
        values = read_tables(folder / SERVER_FILE, error=DeployFolderError)
        settings = check_tables(values, ServerFile, where=str(folder / SERVER_FILE), error=DeployFolderError).server
        for host in settings.hosts:
            if problem := host_problem(host):
                raise DeployFolderError(f"{folder / SERVER_FILE}: the host {host!r} {problem}")
        found = cls(path=folder, settings=settings)
        require_files(found.ca, found.certificate, found.key_places.key, found.nodes, found.runs)
        require_folder(found.flower, _SERVER_FLOWER)
        refuse_open(found.key_places.key, found.nodes, found.flower)
        if found.authority.key.exists():  # it may be kept elsewhere: only a renewal needs it
            refuse_open(found.authority.key)
        if is_certificate_checked:
            check_server_certificate(found.ca, found.key_places)
        return found

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names and addresses by which members reach the server."""
        return self.settings.hosts

    @property
    def port(self) -> int:
        """Where the SuperLink listens, on this machine alone."""
        return self.settings.port

    @property
    def proxy_port(self) -> int:
        """Where members connect."""
        return self.settings.proxy_port

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the expected members."""
        return self.settings.members

    @property
    def is_for_trying_out(self) -> bool:
        """Whether the members' secret keys were made here as well."""
        return self.settings.try_out

    @property
    def address(self) -> str:
        """Of the SuperLink, from this machine, unless it was told to listen elsewhere."""
        return address(LOOPBACK, self.port)

    @property
    def public_address(self) -> str:
        """What members connect to."""
        return address(self.hosts[0], self.proxy_port)

    @property
    def ca(self) -> Path:
        """The authority's certificate, for every member."""
        return self.path / "ca.pem"

    @property
    def authority(self) -> KeyPlaces:
        """The authority; its key is needed for renewals only."""
        return KeyPlaces(certificate=self.ca, key=self.path / "ca.key")

    @property
    def key_places(self) -> KeyPlaces:
        """The server's certificate and key."""
        return KeyPlaces(certificate=self.certificate, key=self.path / "server.key")

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.path / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """The server's key."""
        return self.key_places.key

    @property
    def roster(self) -> Path:
        """Who takes part; made when all public halves are there."""
        return self.path / "roster.json"

    @property
    def config(self) -> Path:
        """A configuration to start from."""
        return self.path / "config.toml"

    @property
    def nginx(self) -> Path:
        """The reverse proxy's configuration."""
        return self.path / "nginx.conf"

    @property
    def nodes(self) -> Path:
        """Public files of members: NAME.pub and NAME.public.json."""
        return self.path / "nodes"

    @property
    def flower(self) -> Path:
        """Flower's own folder (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def database(self) -> Path:
        """The SuperLink's state."""
        return self.flower / "state.db"

    @property
    def runs(self) -> Path:
        """Run directories."""
        return self.path / "runs"

    @property
    def try_out(self) -> Path:
        """Members' folders, where they were made here."""
        return self.path / "try-out"

    def require_roster(self) -> Path:
        """The roster's file.

        Raises:
            DeployFolderError: there is none yet.
        """
        return required_roster(self.roster, f"confide keys roster {self.nodes}/*.public.json --out {self.roster}")

    def node_keys(self) -> dict[str, Path]:
        """The public node key of every member whose identity is there as well, by name.

        Raises:
            DeployFolderError: a file is damaged, one of a pair is missing, or two members share a node key.
        """
        found: dict[str, Path] = {}
        owners: dict[str, str] = {}
        for identity in sorted(self.nodes.glob("*.public.json")):
            name = PublicIdentity.from_json(read_bounded(identity, DeployFolderError), what=str(identity)).name
            key = self.nodes / f"{file_name(name)}.pub"
            if not key.exists():
                raise DeployFolderError(f"{identity} is there, but not {key}: ask {name} for both files")
            other = owners.setdefault(node_key_fingerprint(key), name)
            if other != name:
                raise DeployFolderError(f"{name} and {other} have the same node key: ask both for their own .pub file")
            found[name] = key
        lone = sorted(path.name for path in self.nodes.glob("*.pub") if path not in found.values())
        if lone:
            raise DeployFolderError(
                f"{self.nodes} has {', '.join(lone)} without the .public.json of the same member: ask for both files"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class NodeFolder:
    """A member's folder.

    Attributes:
        path: of the folder, absolute.
        settings: from its node.toml.
        overrides: the member's own settings from there, "section.key" to value.
    """

    path: Path
    settings: NodeSection
    overrides: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads and checks a member's folder.

        Raises:
            DeployFolderError: it is no member's folder, it lacks something, or it is open to others.
            KeyFileError: a secret key is open to others.
            ConfigError: node.toml sets a key that is not the member's to set.
        """
        command = "confide deploy join FOLDER --name NAME --server HOST:PORT --ca ca.pem"
        folder = existing_folder(path, NODE_FILE, other=SERVER_FILE, command=command)
        where = folder / NODE_FILE
        values = read_tables(where, error=DeployFolderError)
        own = {name: table for name, table in values.items() if name == "node"}
        settings = check_tables(own, NodeFile, where=str(where), error=DeployFolderError).node
        overrides = _overrides({name: table for name, table in values.items() if name != "node"}, where)
        if problem := name_problem(settings.name):
            raise DeployFolderError(f"{where}: the member name {settings.name!r} {problem}")
        check_address(settings.server, where=f"{where}: node.server")
        found = cls(path=folder, settings=settings, overrides=overrides)
        require_files(found.ca, found.identity, found.public, found.node_key, found.policy)
        require_folder(found.flower, _NODE_FLOWER)
        require_folder(found.runs, _LEDGER)
        refuse_open(found.identity, found.node_key, found.flower, found.runs)
        check_authority(found.ca)
        return found

    @property
    def name(self) -> str:
        """The member's name, as in the roster."""
        return self.settings.name

    @property
    def server(self) -> str:
        """Where the server is reached, as "host:port"."""
        return self.settings.server

    @property
    def is_for_trying_out(self) -> bool:
        """Whether the folder, with its keys, was made beside the server's."""
        return self.settings.try_out

    @property
    def ca(self) -> Path:
        """The certificate of the server's authority."""
        return self.path / "ca.pem"

    @property
    def identity(self) -> Path:
        """The member's identity: two secret keys, perhaps under a passphrase."""
        return self.path / "identity.key"

    @property
    def public(self) -> Path:
        """Its public half, for everybody."""
        return self.path / f"{file_name(self.name)}.public.json"

    @property
    def node_key(self) -> Path:
        """Flower's secret key of this node."""
        return self.path / "node.key"

    @property
    def node_public(self) -> Path:
        """Its public half, for the server."""
        return self.path / f"{file_name(self.name)}.pub"

    @property
    def roster(self) -> Path:
        """The member's own copy of the roster."""
        return self.path / "roster.json"

    @property
    def policy(self) -> Path:
        """The least that the member accepts."""
        return self.path / "policy.toml"

    @property
    def flower(self) -> Path:
        """Flower's own folder (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def runs(self) -> Path:
        """What the member keeps of its runs: the release ledger, states, adapters."""
        return self.path / "runs"

    @property
    def answers(self) -> Path:
        """The answers that the node gave last, while its process runs."""
        return self.flower / "answers"

    @property
    def log(self) -> Path:
        """What the node did and refused."""
        return self.path / "node.log"

    def require_roster(self) -> Path:
        """The roster's file.

        Raises:
            DeployFolderError: there is none yet.
        """
        return required_roster(
            self.roster,
            "take the file that the server made, and compare what `confide keys show` prints of it by telephone",
        )


def _overrides(tables: Mapping[str, object], where: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for section, table in tables.items():
        if not isinstance(table, Mapping):
            raise DeployFolderError(f"{where}: {section!r} stands outside a [section]")
        found |= {f"{section}.{key}": value for key, value in table.items()}
    check_settings(found, where=str(where))
    return found
