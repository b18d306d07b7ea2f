import shlex
import subprocess
from pathlib import Path

import pytest

from confide.config.schema import Config
from confide.deploy.certificates import make_node_key
from confide.deploy.folder_settings import NodeSection, ServerSection, check_address
from confide.deploy.folders import NodeFolder, ServerFolder
from confide.deploy.new_folders import JoinedNode, make_node_folder, make_server_folder
from confide.deploy.policy import Policy
from confide.deploy.run_config import load_run_config, node_config
from confide.errors import ConfideError, ConfigError, DeployFolderError, KeyFileError, UsageError
from confide.membership.identity import Identity
from confide.membership.roster import Roster


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def test_a_servers_folder_holds_what_it_should(server: ServerFolder) -> None:
    assert modes(server.path) == {
        "server.toml": 0o644,
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "server.pem": 0o644,
        "server.key": 0o600,
        "nginx.conf": 0o644,
        "config.toml": 0o644,
        "nodes": 0o700,
        "flower": 0o700,
        "runs": 0o700,
    }
    assert server.path.stat().st_mode & 0o777 == 0o700
    assert (server.address, server.public_address) == ("127.0.0.1:9191", "federation.example.org:9443")
    assert server.members == ("north", "south", "west")
    assert not server.is_for_trying_out
    with pytest.raises(DeployFolderError, match=r"there is no roster .*: confide keys roster .*nodes/.*--out"):
        server.require_roster()


def test_a_members_folder_holds_what_it_should(joined: JoinedNode) -> None:
    folder = joined.folder
    assert modes(folder.path) == {
        "node.toml": 0o644,
        "ca.pem": 0o644,
        "identity.key": 0o600,
        "node.key": 0o600,
        "north.pub": 0o644,
        "north.public.json": 0o644,
        "policy.toml": 0o644,
        "flower": 0o700,
        "runs": 0o700,
    }
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert Identity.load(folder.identity, None).public == joined.public
    assert folder.overrides == {"run.device": "auto", "run.threads": 0}
    assert Policy.load(folder.policy) == Policy()
    with pytest.raises(DeployFolderError, match=r"there is no roster .*: take the file that the server made"):
        folder.require_roster()


def test_a_name_that_is_no_file_name_gets_one(tmp_path: Path, server: ServerFolder) -> None:
    settings = NodeSection(name="Klinik Süd/West", server="localhost:9443")
    made = make_node_folder(tmp_path / "n", settings=settings, authority=server.ca, passphrase=b"correct").folder
    assert made.name == "Klinik Süd/West"
    assert made.public.exists()
    assert made.node_public.exists()
    assert Identity.load(made.identity, b"correct").public.name == made.name


def test_a_folder_is_never_written_over_and_appears_whole(tmp_path: Path, server: ServerFolder) -> None:
    before = modes(server.path)
    with pytest.raises(DeployFolderError, match="server is there already, and keys are never overwritten"):
        make_server_folder(server.path, settings=server.settings)
    assert modes(server.path) == before
    with pytest.raises(UsageError, match="'a b' is no DNS name"):
        make_server_folder(tmp_path / "other", settings=ServerSection(hosts=("a b",)))
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"members": ("north", "north", "west")}, "a member is named twice"),
        ({"members": (" north",)}, "' north' is not printable text without space at either end"),
        ({"members": ("north", "south"), "try_out": True}, "has 2 members, expected 3 or more"),
        ({"port": 9443}, "cannot both listen on port 9443"),
    ],
)
def test_a_server_that_makes_no_sense_is_refused(tmp_path: Path, settings: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make_server_folder(tmp_path / "s", settings=ServerSection.model_validate({"hosts": ("localhost",), **settings}))


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key", "nodes", "runs"])
def test_what_a_servers_folder_lacks_is_named(server: ServerFolder, name: str) -> None:
    (server.path / name).rename(server.path / "elsewhere")
    with pytest.raises(DeployFolderError, match=rf"lacks {name}: put back what was there"):
        ServerFolder.load(server.path)


@pytest.mark.parametrize("name", ["ca.pem", "identity.key", "north.public.json", "node.key", "policy.toml"])
def test_what_a_members_folder_lacks_is_named(joined: JoinedNode, name: str) -> None:
    (joined.folder.path / name).rename(joined.folder.path / "elsewhere")
    with pytest.raises(DeployFolderError, match=rf"lacks {name}: put back what was there"):
        NodeFolder.load(joined.folder.path)


def test_what_no_backup_has_is_made_anew_as_the_message_says(server: ServerFolder, joined: JoinedNode) -> None:
    """The release ledger among it: an old copy would let a second list of one round open."""
    nothing, ledger = "Nothing of a run was in it", "Do so only if it is lost"
    cases: list[tuple[type[ServerFolder | NodeFolder], Path, str]] = [
        (ServerFolder, server.flower, nothing),
        (NodeFolder, joined.folder.flower, nothing),
        (NodeFolder, joined.folder.runs, ledger),
    ]
    for kind, place, told in cases:
        place.rename(place.parent / "elsewhere")
        with pytest.raises(DeployFolderError, match=rf"lacks the folder {place.name}: .*{told}") as refused:
            kind.load(place.parent)
        command = str(refused.value).partition("make it anew with ")[2].partition(f". {told}")[0]
        subprocess.run(shlex.split(command), check=True)
        assert kind.load(place.parent).path == place.parent
        (place.parent / "elsewhere").rename(place.parent / f"{place.name}-before")


def test_the_authoritys_key_may_be_kept_elsewhere(server: ServerFolder) -> None:
    server.authority.key.unlink()
    assert ServerFolder.load(server.path) == server


@pytest.mark.parametrize("name", ["server.key", "ca.key", "flower", "nodes"])
def test_a_secret_of_a_server_that_is_open_is_refused(server: ServerFolder, name: str) -> None:
    (server.path / name).chmod(0o750)
    with pytest.raises(KeyFileError, match=rf"{name} can be read or written by others \(mode 0750\)\. Close it with"):
        ServerFolder.load(server.path)


@pytest.mark.parametrize("name", ["identity.key", "node.key", "flower", "runs"])
def test_a_secret_of_a_member_that_is_open_is_refused(joined: JoinedNode, name: str) -> None:
    (joined.folder.path / name).chmod(0o604)
    with pytest.raises(KeyFileError, match=rf"{name} can be read or written by others \(mode 0604\)\. Close it with"):
        NodeFolder.load(joined.folder.path)


def test_an_open_folder_is_refused(server: ServerFolder, joined: JoinedNode) -> None:
    for path, load in ((server.path, ServerFolder.load), (joined.folder.path, NodeFolder.load)):
        path.chmod(0o755)
        with pytest.raises(DeployFolderError, match=r"is open to others \(mode 0755\)\. Close it with: chmod 700"):
            load(path)


def test_one_folder_in_place_of_the_other_is_named(tmp_path: Path, server: ServerFolder, joined: JoinedNode) -> None:
    with pytest.raises(DeployFolderError, match=r"is not a member's folder: it is a server's folder \(server.toml\)"):
        NodeFolder.load(server.path)
    with pytest.raises(DeployFolderError, match=r"is not a server's folder: it is a member's folder \(node.toml\)"):
        ServerFolder.load(joined.folder.path)
    with pytest.raises(DeployFolderError, match=r"there is no folder .*none. Make one with: confide deploy join"):
        NodeFolder.load(tmp_path / "none")
    with pytest.raises(DeployFolderError, match=r"is not a server's folder: it has no server.toml"):
        ServerFolder.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"the section \[node\] is missing"),
        ("node = 3\n", r"node is 3, expected a table of keys under \[node\]"),
        ('[node]\nname = "north"\n', "node.server is missing, expected text of the form"),
        ('[node]\nname = "north"\nserver = "nowhere"\n', "node.server: 'nowhere' is not of the form host:port"),
        ('[node]\nname = 3\nserver = "a:1"\n', "node.name is 3, expected text. Text stands in quotes"),
        ('[node]\nname = " x"\nserver = "a:1"\n', "the member name ' x' is not printable text without space"),
        ('[node]\nname = "x"\nserver = "a:1"\nserve = 1\n', "'serve' is no key of .node.. The nearest is node.server"),
        ("[node\n", "not valid TOML"),
        ("x = " + "[" * 5000 + "]" * 5000, "not valid TOML"),
        ("\x00", "not valid TOML"),
        ("x = 1\n" * 200_000, "is longer than 1048576 bytes"),
    ],
)
def test_a_node_file_that_is_wrong_is_refused(joined: JoinedNode, text: str, match: str) -> None:
    (joined.folder.path / "node.toml").write_text(text)
    with pytest.raises(DeployFolderError, match=match):
        NodeFolder.load(joined.folder.path)


def test_a_member_sets_its_own_keys_and_no_others(joined: JoinedNode) -> None:
    path = joined.folder.path / "node.toml"
    head = '[node]\nname = "north"\nserver = "localhost:9443"\n'
    path.write_text(head + '[data]\nsource = "jsonl"\npath = "/rows.jsonl"\n[model]\nbase = "/models/base"\n')
    found = NodeFolder.load(joined.folder.path).overrides
    assert found == {"data.source": "jsonl", "data.path": "/rows.jsonl", "model.base": "/models/base"}
    path.write_text(head + "[seal]\nthreshold = 1\n[federation]\nrounds = 2\n")
    with pytest.raises(ConfigError, match=r"node\.toml sets federation\.rounds, seal\.threshold, which all members"):
        NodeFolder.load(joined.folder.path)


@pytest.mark.parametrize("address", ["localhost:9443", "192.0.2.7:1", "[2001:db8::7]:65535", "a-b.example.org:80"])
def test_an_address_is_taken(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["localhost", "a:0", "a:65536", "2001:db8::7:80", "a b:1", ":1", "a:x", "[a]:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(DeployFolderError, match="--server: "):
        check_address(address)


class TestNodeKeys:
    @pytest.fixture
    def handed(self, server: ServerFolder, joined: JoinedNode) -> ServerFolder:
        for path in (joined.folder.public, joined.folder.node_public):
            (server.nodes / path.name).write_bytes(path.read_bytes())
        return server

    def test_they_are_found_by_name(self, handed: ServerFolder) -> None:
        assert handed.node_keys() == {"north": handed.nodes / "north.pub"}

    def test_one_file_of_a_pair_is_not_enough(self, handed: ServerFolder) -> None:
        (handed.nodes / "north.pub").rename(handed.nodes / "south.pub")
        with pytest.raises(DeployFolderError, match=r"north\.public\.json is there, but not .*north\.pub"):
            handed.node_keys()
        (handed.nodes / "north.public.json").unlink()
        with pytest.raises(DeployFolderError, match=r"has south\.pub without the \.public\.json of the same member"):
            handed.node_keys()

    def test_a_secret_key_handed_over_by_mistake_is_refused(self, handed: ServerFolder, joined: JoinedNode) -> None:
        (handed.nodes / "north.pub").write_bytes(joined.folder.node_key.read_bytes())
        with pytest.raises(DeployFolderError, match=r"north\.pub is no public node key"):
            handed.node_keys()

    def test_two_members_with_one_node_key_are_refused(self, handed: ServerFolder) -> None:
        (handed.nodes / "south.public.json").write_text(Identity.generate("south").public.to_json())
        (handed.nodes / "south.pub").write_bytes((handed.nodes / "north.pub").read_bytes())
        with pytest.raises(DeployFolderError, match="south and north have the same node key"):
            handed.node_keys()
        (handed.nodes / "south.pub").unlink()
        make_node_key(private=handed.path / "k", public=handed.nodes / "south.pub", comment="south")
        assert set(handed.node_keys()) == {"north", "south"}


def test_a_damaged_servers_certificate_is_found(server: ServerFolder) -> None:
    server.certificate.write_bytes(server.ca.read_bytes())
    with pytest.raises(KeyFileError, match=r"server\.key is not the key of .*server\.pem"):
        ServerFolder.load(server.path)
    assert ServerFolder.load(server.path, is_certificate_checked=False) == server


def test_a_folder_for_trying_out_is_ready_to_run(tmp_path: Path) -> None:
    settings = ServerSection(hosts=("localhost",), members=("a", "b", "c"), try_out=True)
    server = make_server_folder(tmp_path / "s", settings=settings)
    nodes = [NodeFolder.load(path) for path in sorted(server.try_out.iterdir())]
    assert [node.name for node in nodes] == ["a", "b", "c"]
    assert {node.server for node in nodes} == {server.address}
    assert server.is_for_trying_out
    assert all(node.is_for_trying_out for node in nodes)
    roster = Roster.load(server.require_roster())
    assert [Roster.load(node.require_roster()) for node in nodes] == [roster] * 3
    assert [Identity.load(node.identity, None).public for node in nodes] == list(roster.members)
    assert list(server.node_keys()) == ["a", "b", "c"]
    config = load_run_config(server.config)
    for node in nodes:
        Policy.load(node.policy).check(config, num_members=3, base_digest=None)
        assert isinstance(node_config(config, node.overrides), Config)


def test_the_template_of_a_run_is_accepted_by_the_default_policy(server: ServerFolder) -> None:
    Policy().check(load_run_config(server.config), num_members=3, base_digest=None)


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("confide.deploy.new_folders.nginx_conf", full)
    with pytest.raises(ConfideError, match=r"cannot write .*server: No space left on device"):
        make_server_folder(tmp_path / "server", settings=ServerSection(hosts=("localhost",)))
    assert list(tmp_path.iterdir()) == []
