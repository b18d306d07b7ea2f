import re
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from confide.cli.deploy_init import init_command, join_command, renew_command
from confide.deploy.certificates import check_authority, load_certificate, node_key_fingerprint
from confide.deploy.folders import NodeFolder, ServerFolder
from confide.errors import ConfideError, DeployFolderError, RosterError, UsageError
from confide.membership import identity as identity_module
from confide.membership.identity import Identity

JOIN = ("join", "x", "--name", "n", "--server", "a:1", "--ca", "s/ca.pem")

app = typer.Typer()
app.command("init")(init_command)
app.command("join")(join_command)
app.command("renew")(renew_command)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(identity_module, "_SCRYPT_COST", 2)
    return tmp_path


def invoke(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=typed)


def run(*arguments: str, typed: str | None = None) -> str:
    result = invoke(*arguments, typed=typed)
    assert result.exception is None, result.exception
    return result.stdout


def refused(error: type[ConfideError], match: str, *arguments: str) -> None:
    result = invoke(*arguments)
    assert type(result.exception) is error
    assert result.exception.exit_code == 2
    assert re.search(match, str(result.exception))
    assert result.stdout == ""


def join(*more: str, typed: str | None = None) -> str:
    return run("join", "north", "--name", "north", "--server", "localhost:9443", "--ca", "s/ca.pem", *more, typed=typed)


def test_init_makes_a_servers_folder_and_says_what_comes_next(folder: Path) -> None:
    shown = run("init", "s", "--host", "federation.example.org", "--host", "192.0.2.7", "--members", "north, south")
    made = ServerFolder.load(folder / "s")
    assert made.hosts == ("federation.example.org", "192.0.2.7")
    assert made.members == ("north", "south")
    assert check_authority(made.ca) in shown
    assert "confide deploy join FOLDER --name NAME --server federation.example.org:9443 --ca ca.pem" in shown
    assert "confide keys roster s/nodes/*.public.json --out s/roster.json" in shown
    assert "PRIVATE" not in shown
    assert str(folder) not in shown


def test_init_for_trying_out_says_that_nobody_is_protected(folder: Path) -> None:
    shown = run("init", "s", "--host", "localhost", "--try-out", "--port", "19191")
    made = ServerFolder.load(folder / "s")
    assert made.is_for_trying_out
    assert made.port == 19191
    assert "FOR TRYING OUT ONLY" in shown
    for member in made.members:
        assert f"confide deploy client s/try-out/{member}\n" in shown
        assert NodeFolder.load(folder / "s" / "try-out" / member).name == member


def test_join_makes_a_members_folder_and_says_what_to_hand_over_and_to_compare(folder: Path) -> None:
    run("init", "s", "--host", "localhost")
    shown = join()
    made = NodeFolder.load(folder / "north")
    identity = Identity.load(made.identity, None).public
    assert (
        "Hand these two files to the server, and nothing else:\n  north/north.public.json\n  north/north.pub\n" in shown
    )
    assert identity.fingerprint in shown
    assert node_key_fingerprint(made.node_public) in shown
    assert check_authority(folder / "s" / "ca.pem") in shown
    assert "not encrypted" in shown
    assert "Caution: Any base model is taken" in shown
    assert "Caution: No differential privacy is required" in shown
    assert "PRIVATE" not in shown


def test_join_encrypts_the_identity_under_a_passphrase(folder: Path) -> None:
    run("init", "s", "--host", "localhost")
    shown = join("--ask-passphrase", typed="bättery\nbättery\n")
    assert "encrypted under a passphrase" in shown
    assert "bättery" not in shown
    assert Identity.load(folder / "north" / "identity.key", "bättery".encode()).public.name == "north"


def test_a_folder_that_is_there_is_left_alone(folder: Path) -> None:
    run("init", "s", "--host", "localhost")
    join()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused(DeployFolderError, "s is there already, and keys are never overwritten", "init", "s", "--host", "localhost")
    arguments = ("join", "north", "--name", "x", "--server", "localhost:9443", "--ca", "s/ca.pem")
    refused(DeployFolderError, "north is there already, and keys are never overwritten", *arguments)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (UsageError, "the host 'a b' is no DNS name", ("init", "x", "--host", "a b")),
        (UsageError, "server.port is 0, expected a whole number >= 1", ("init", "x", "--host", "a", "--port", "0")),
        (UsageError, "a certificate of 0 days was asked for", ("init", "x", "--host", "a", "--days", "0")),
        (UsageError, "after the authority that signs it", ("init", "x", "--host", "a", "--days", "5000")),
        (UsageError, "a member is named twice", ("init", "x", "--host", "a", "--members", "b,b")),
        (
            UsageError,
            r'server\.members is \["b", "", "c"\], expected a list of names',
            ("init", "x", "--host", "a", "--members", "b,,c"),
        ),
        (
            DeployFolderError,
            "none.pem cannot be read: No such file",
            ("join", "x", "--name", "n", "--server", "a:1", "--ca", "none.pem"),
        ),
        (
            DeployFolderError,
            "not an authority's: take ca.pem",
            ("join", "x", "--name", "n", "--server", "a:1", "--ca", "s/server.pem"),
        ),
        (
            DeployFolderError,
            "--server: 'a' is not of the form host:port",
            ("join", "x", "--name", "n", "--server", "a", "--ca", "s/ca.pem"),
        ),
        (
            RosterError,
            "the member name ' n' is not",
            ("join", "x", "--name", " n", "--server", "a:1", "--ca", "s/ca.pem"),
        ),
        (
            UsageError,
            "--passphrase-file and --ask-passphrase were both given",
            (*JOIN, "--ask-passphrase", "--passphrase-file", "p"),
        ),
    ],
)
def test_wrong_usage_is_refused_and_leaves_nothing(
    folder: Path, error: type[ConfideError], match: str, arguments: tuple[str, ...]
) -> None:
    run("init", "s", "--host", "localhost")
    refused(error, match, *arguments)
    assert [path.name for path in folder.iterdir()] == ["s"]


def test_renew_makes_a_new_certificate_and_keeps_the_old_one(folder: Path) -> None:
    run("init", "s", "--host", "localhost", "--days", "10")
    old = load_certificate(folder / "s" / "server.pem")
    shown = run("renew", "s", "--days", "20")
    new = ServerFolder.load(folder / "s").certificate
    assert load_certificate(new).serial_number != old.serial_number
    (kept,) = re.findall(r"kept as (\S+\.pem)", shown)
    assert load_certificate(folder / "s" / kept) == old
    refused(DeployFolderError, "there is no folder none", "renew", "none")
