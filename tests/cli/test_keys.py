import json
import re
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from confide.cli.keys import new_command, roster_command, show_command
from confide.errors import ConfideError, KeyFileError, RosterError, StorageError, UsageError
from confide.membership import identity as identity_module
from confide.membership.identity import Identity
from confide.membership.roster import Roster

app = typer.Typer()
app.command("new")(new_command)
app.command("show")(show_command)
app.command("roster")(roster_command)


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
    assert re.search(match, str(result.exception))
    assert result.stdout == ""


def secret_lines(path: Path) -> list[str]:
    """The lines of base64 in a key file."""
    fields = json.loads(path.read_text())
    pems = fields["signing_private_key"] + fields["envelope_private_key"]
    return [line for line in pems.splitlines() if "PRIVATE KEY" not in line]


def test_new_makes_a_key_file_and_says_what_to_do_with_it(folder: Path) -> None:
    shown = run("new", "north")
    identity = Identity.load(folder / "north.key", None)
    assert (folder / "north.key").stat().st_mode & 0o777 == 0o600
    assert "north.key: the secret keys of north, not encrypted" in shown
    assert f"fingerprint: {identity.public.fingerprint}\n" in shown
    assert "confide keys show north.key --json > north.public.json" in shown
    assert not any(line in shown for line in secret_lines(folder / "north.key"))


def test_new_never_overwrites(folder: Path) -> None:
    run("new", "north", "--out", "a.key")
    before = (folder / "a.key").read_bytes()
    refused(KeyFileError, "a.key is there already, and keys are never overwritten", "new", "south", "--out", "a.key")
    assert (folder / "a.key").read_bytes() == before
    refused(StorageError, "cannot write no/a.key", "new", "north", "--out", "no/a.key")


def test_new_encrypts_under_a_passphrase_from_a_file_or_typed(folder: Path) -> None:
    (folder / "passphrase").write_bytes(b"correct horse\r\n")
    shown = run("new", "north", "--passphrase-file", "passphrase")
    assert "encrypted under a passphrase" in shown
    assert Identity.load(folder / "north.key", b"correct horse").public.name == "north"
    result = invoke("new", "south", "--ask-passphrase", typed="bättery\nbättery\n")
    assert result.exit_code == 0
    assert Identity.load(folder / "south.key", "bättery".encode()).public.name == "south"
    assert "bättery" not in result.output + shown
    assert "Passphrase" not in result.stdout
    refused(UsageError, "were both given", "new", "x", "--passphrase-file", "passphrase", "--ask-passphrase")
    refused(KeyFileError, "no such cannot be read: No such file", "new", "x", "--passphrase-file", "no such")
    (folder / "empty").write_text("\n")
    refused(KeyFileError, "the passphrase is empty", "new", "x", "--passphrase-file", "empty")
    assert not (folder / "x.key").exists()


def test_a_name_that_no_roster_takes_is_refused_and_any_other_gives_a_file_here(folder: Path) -> None:
    refused(RosterError, "the member name", "new", " north")
    for name in ("a/b", ".hidden", "../up"):
        assert f"the secret keys of {name}" in run("new", name)
    files = list(folder.iterdir())
    assert {Identity.load(file, None).public.name for file in files} == {"a/b", ".hidden", "../up"}
    assert all(file.suffix == ".key" for file in files)


def test_new_as_json_has_the_public_half_only(folder: Path) -> None:
    made = json.loads(run("new", "north", "--json"))
    assert (made["file"], made["is_encrypted"]) == ("north.key", False)
    assert made["public"] == json.loads(run("show", "north.key", "--json"))
    assert not any(line in json.dumps(made) for line in secret_lines(folder / "north.key"))


@pytest.mark.parametrize("protection", [[], ["--passphrase-file", "passphrase"]])
def test_show_prints_the_public_half_without_a_passphrase(folder: Path, protection: list[str]) -> None:
    (folder / "passphrase").write_text("correct horse")
    run("new", "north", *protection)
    public = Identity.load(folder / "north.key", b"correct horse" if protection else None).public
    shown = run("show", "north.key")
    for text in ("north", public.signing_key.hex(), public.envelope_key.hex(), public.fingerprint):
        assert text in shown
    assert f"key file, {'' if protection else 'not '}encrypted" in shown
    as_json = run("show", "north.key", "--json")
    assert as_json == public.to_json()
    for text in (shown, as_json):
        assert not any(line in text for line in secret_lines(folder / "north.key"))
    (folder / "north.public.json").write_text(as_json)
    assert run("show", "north.public.json") == re.sub("key file,.*", "public half", shown)


def test_show_refuses_what_it_cannot_trust(folder: Path) -> None:
    run("new", "north")
    refused(KeyFileError, "nowhere cannot be read: No such file", "show", "nowhere")
    (folder / "north.key").chmod(0o644)
    refused(KeyFileError, r"\(mode 0644\). Close it with: chmod 600 north.key", "show", "north.key")
    (folder / "text").write_text("hello")
    refused(RosterError, "text is not the JSON object that was expected", "show", "text")
    edited = json.loads((folder / "north.key").read_text())["public"] | {"name": "south"}
    (folder / "edited.json").write_text(json.dumps(edited))
    refused(RosterError, "edited.json: fingerprint must be", "show", "edited.json")


@pytest.fixture
def public_files(folder: Path) -> list[str]:
    for name in ("south", "north", "wést"):
        run("new", name, "--out", f"{name}.key")
        (folder / f"{name}.json").write_text(run("show", f"{name}.key", "--json"))
    return ["south.json", "north.json", "wést.json"]


def test_roster_names_every_member_and_prints_what_to_compare(folder: Path, public_files: list[str]) -> None:
    shown = run("roster", *public_files, "--out", "roster.json")
    roster = Roster.load(folder / "roster.json")
    assert roster.names == ("north", "south", "wést")
    for member in roster.members:
        assert f"   {roster.point_of(member.name)}  {member.fingerprint}  {member.name}\n" in shown
    assert f"roster.json: 3 members, digest {roster.digest.hex()}\nfingerprint: {roster.fingerprint}\n" in shown


def test_a_member_sees_what_is_in_the_roster_that_it_was_sent(folder: Path, public_files: list[str]) -> None:
    made = run("roster", *public_files, "--out", "roster.json")
    assert run("show", "roster.json") == made
    assert (
        json.loads(run("show", "roster.json", "--json"))["fingerprint"]
        == Roster.load(folder / "roster.json").fingerprint
    )
    edited = json.loads((folder / "roster.json").read_text())
    edited["members"][0]["name"] = "somebody"
    (folder / "edited.json").write_text(json.dumps(edited))
    refused(RosterError, "edited.json: digest must be", "show", "edited.json")


def test_roster_as_json(folder: Path, public_files: list[str]) -> None:
    shown = json.loads(run("roster", *public_files, "--out", "roster.json", "--json"))
    roster = Roster.load(folder / "roster.json")
    assert (shown["file"], shown["digest"]) == ("roster.json", roster.digest.hex())
    assert shown["fingerprint"] == roster.fingerprint
    assert [member["name"] for member in shown["members"]] == ["north", "south", "wést"]


def test_roster_is_never_overwritten_and_the_order_changes_nothing(folder: Path, public_files: list[str]) -> None:
    run("roster", *public_files, "--out", "a.json")
    run("roster", *public_files[::-1], "--out", "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    refused(RosterError, "a.json is there already", "roster", public_files[0], "--out", "a.json")


def test_roster_refuses_secret_keys_and_twins(public_files: list[str]) -> None:
    refused(RosterError, "north.key holds secret keys, which nobody", "roster", "north.key", "--out", "r.json")
    refused(RosterError, "the same name: north, north", "roster", "north.json", "north.json", "--out", "r.json")
    refused(RosterError, "gone.json cannot be read", "roster", "gone.json", "--out", "r.json")
    assert not Path("r.json").exists()


@pytest.mark.parametrize("command", ["new", "show", "roster"])
def test_the_command_line_knows_the_commands_and_shows_examples(command: str) -> None:
    from confide.cli.main import app as whole

    result = CliRunner().invoke(whole, ["keys", command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert f"confide keys {command} " in result.stdout.partition("Examples:")[2]
