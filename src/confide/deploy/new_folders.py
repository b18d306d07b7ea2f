"""Makes the two folders of a deployment, each in one step: all of it is there or nothing."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from confide.config.keys import toml_value
from confide.deploy.certificates import (
    PUBLIC_MODE,
    certificate_pem,
    check_authority,
    issue_server_certificate,
    make_authority,
    make_node_key,
    node_key_fingerprint,
)
from confide.deploy.documents import AnyModel, check_tables
from confide.deploy.folder_settings import NODE_FILE, SERVER_FILE, NodeSection, ServerSection, check_address
from confide.deploy.folders import NodeFolder, ServerFolder
from confide.deploy.policy import default_policy_toml
from confide.deploy.policy_sections import SealingPolicy
from confide.deploy.proxy import nginx_conf
from confide.errors import DeployFolderError, UsageError
from confide.files import storage_error, write_new
from confide.membership.identity import Identity
from confide.membership.roster import PublicIdentity, Roster
from confide.names import file_name, name_problem

FOLDER_MODE = 0o700
AUTHORITY_DAYS = 1825
SERVER_DAYS = 365

TRY_OUT_MEMBERS = ("clinic-harbour", "clinic-hill", "clinic-north")
"""Members of a folder for trying out that names none: those of the generated data `clinics`."""

_FEWEST_TO_TRY = SealingPolicy().least_members

_TRY_OUT_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "data": {"source": "clinics"},
    "run": {"device": "cpu", "threads": 1},
}

_SETTINGS = """
# What this member sets for itself: where its data is, and the machine. Everything else comes from the server's offer,
# as far as policy.toml accepts it. Paths are relative to where the node is started: better to give them in full.

[data]
# source = "jsonl"
# path = "/data/rows.jsonl"

[run]
device = "auto"
threads = 0
"""


@dataclass(frozen=True, kw_only=True)
class JoinedNode:
    """What a member has to hand on and to compare.

    Attributes:
        folder: as made.
        public: its public identity.
        node_fingerprint: of its node key.
        authority_fingerprint: of the server's authority, as it came.
    """

    folder: NodeFolder
    public: PublicIdentity
    node_fingerprint: str
    authority_fingerprint: str


def make_server_folder(
    path: Path, *, settings: ServerSection, authority_days: int = AUTHORITY_DAYS, server_days: int = SERVER_DAYS
) -> ServerFolder:
    """Makes a server's folder: authority, certificate, proxy, a configuration to start from.

    With `settings.try_out` a folder for every member is made in it too, with all their keys, and the roster is ready.

    Raises:
        DeployFolderError: there is something at `path` already.
        UsageError: a host, a number of days or a member's name makes no sense.
        StorageError: it cannot be written.
    """
    _check_members(settings)
    with _new_folder(path) as folder:
        made = ServerFolder(path=folder, settings=settings)
        for inner in (made.nodes, made.flower, made.runs):
            _make_private(inner)
        make_authority(made.authority, days=authority_days)
        issue_server_certificate(made.authority, made.key_places, hosts=settings.hosts, days=server_days)
        _write(folder / SERVER_FILE, tomli_w.dumps({"server": settings.model_dump()}))
        is_ipv6 = any(":" in host for host in settings.hosts)
        _write(made.nginx, nginx_conf(port=settings.port, proxy_port=settings.proxy_port, is_ipv6=is_ipv6))
        _write(made.config, starter_config(is_for_trying_out=settings.try_out))
        if settings.try_out:
            _make_members(made)
    return ServerFolder.load(path)


def make_node_folder(path: Path, *, settings: NodeSection, authority: Path, passphrase: bytes | None) -> JoinedNode:
    """Makes a member's folder: identity, node key, policy, and where to set its data.

    Args:
        path: of the folder.
        settings: for its node.toml.
        authority: the ca.pem that came from the server.
        passphrase: for the identity; None leaves it readable to whoever reads the folder.

    Raises:
        DeployFolderError: there is something at `path` already, the address is none, or `authority` is no authority.
        RosterError: the name is none that a roster takes.
        StorageError: it cannot be written.
    """
    check_address(settings.server)
    fingerprint = check_authority(authority)
    identity = Identity.generate(settings.name)
    with _new_folder(path) as folder:
        made = NodeFolder(path=folder, settings=settings)
        for inner in (made.flower, made.runs):
            _make_private(inner)
        identity.save(made.identity, passphrase)
        _write(made.public, identity.public.to_json())
        make_node_key(private=made.node_key, public=made.node_public, comment=file_name(settings.name))
        _write(made.ca, certificate_pem(authority))
        _write(made.policy, default_policy_toml())
        tables: dict[str, object] = {"node": settings.model_dump()}
        own = _SETTINGS if not settings.try_out else "\n" + tomli_w.dumps(_TRY_OUT_SETTINGS)
        _write(folder / NODE_FILE, tomli_w.dumps(tables) + own)
    loaded = NodeFolder.load(path)
    return JoinedNode(
        folder=loaded,
        public=identity.public,
        node_fingerprint=node_key_fingerprint(loaded.node_public),
        authority_fingerprint=fingerprint,
    )


def checked_settings(model: type[AnyModel], section: str, values: Mapping[str, object]) -> AnyModel:
    """Checks what was given on the command line for a folder's own file.

    Raises:
        UsageError: it names every value that is wrong.
    """
    return check_tables({section: dict(values)}, model, where="given", error=UsageError)


def starter_config(*, is_for_trying_out: bool) -> str:
    """Writes a run's configuration to start from: what all members have alike."""
    base = "tiny-llama" if is_for_trying_out else "smollm2-135m-instruct"
    values: dict[str, dict[str, object]] = {
        "run": {"name": "first"},
        "model": {"base": base},
        "lora": {"rank": 8, "alpha": 16.0},
        "train": {"local_steps": 2 if is_for_trying_out else 10, "batch_size": 4, "max_tokens": 256},
        "federation": {"rounds": 2 if is_for_trying_out else 5, "min_clients": _FEWEST_TO_TRY},
        "seal": {"scheme": "onetime", "release": "clients"},
    }
    tables = "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items())
        for section, table in values.items()
    )
    return f"{_CONFIG_HEAD}\n{tables}"


_CONFIG_HEAD = """\
# A run across organisations: what all members have alike. Every key: docs/configuration.md, or confide train --help.
#
#   confide deploy run FOLDER config.toml
#
# Where the data is and which device trains, each member sets in its node.toml; such keys are refused here.
"""


def _check_members(settings: ServerSection) -> None:
    for name in settings.members:
        if problem := name_problem(name):
            raise UsageError(f"the member name {name!r} {problem}")
    if len(set(settings.members)) != len(settings.members):
        raise UsageError(f"a member is named twice: {', '.join(settings.members)}")
    if settings.try_out and len(settings.members) < _FEWEST_TO_TRY:
        raise UsageError(
            f"a federation for trying out has {len(settings.members)} members, expected {_FEWEST_TO_TRY} or more: of a "
            "sum of two each knows the other's update, so no default policy accepts one"
        )
    if settings.port == settings.proxy_port:
        raise UsageError(f"the SuperLink and the proxy cannot both listen on port {settings.port}: choose two")


def _make_members(server: ServerFolder) -> None:
    """Makes every member's folder beside the server's, hands its public files over and gives all the roster."""
    _make_private(server.try_out)
    joined = [
        make_node_folder(
            server.try_out / file_name(name),
            settings=NodeSection(name=name, server=server.address, try_out=True),
            authority=server.ca,
            passphrase=None,
        )
        for name in server.members
    ]
    roster = Roster([one.public for one in joined])
    for one in joined:
        for public in (one.folder.public, one.folder.node_public):
            _write(server.nodes / public.name, public.read_text())
    for place in (server.roster, *(one.folder.roster for one in joined)):
        _write(place, roster.to_json())


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yields a private folder beside `path` that becomes it when the body ends without an error."""
    if path.exists() or path.is_symlink():
        raise DeployFolderError(
            f"{path} is there already, and keys are never overwritten: choose another folder, or move it away"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-deploy-", dir=path.parent))  # made with mode 0700
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=FOLDER_MODE)


def _write(path: Path, content: str | bytes) -> None:
    write_new(path, content.encode() if isinstance(content, str) else content, mode=PUBLIC_MODE)
