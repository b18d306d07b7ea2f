"""`confide keys`: a member's identity and the roster of all members, before the first run."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from confide.membership.roster import PublicIdentity, Roster

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a text.")]


def new_command(
    name: Annotated[str, typer.Argument(help="The member's name, as the others will see it.")],
    out: Annotated[Path | None, typer.Option(help="The key file to make; without it NAME.key in this folder.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Encrypt the keys under what is in this file (one line end is left out).")
    ] = None,
    ask_passphrase: Annotated[
        bool, typer.Option("--ask-passphrase", help="Encrypt the keys under a passphrase that you type.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Makes a member's identity: a key to sign with, and a key to open what others send it.

    The key file is readable by you alone and never overwrites one; lose it, and you leave the federation. What the
    others need of it is public: `confide keys show FILE --json`.

    Examples:
        confide keys new north --ask-passphrase

        confide keys new north --out secrets/north.key --passphrase-file secrets/passphrase
    """
    from confide.errors import UsageError
    from confide.membership.identity import Identity
    from confide.names import file_name

    if passphrase_file is not None and ask_passphrase:
        raise UsageError("--passphrase-file and --ask-passphrase were both given: choose one")
    identity = Identity.generate(name)
    path = out or Path(f"{file_name(name)}.key")
    passphrase = typed_passphrase() if ask_passphrase else passphrase_in(passphrase_file)
    identity.save(path, passphrase)
    if as_json:
        public = json.loads(identity.public.to_json())
        made = {"file": str(path), "is_encrypted": passphrase is not None, "public": public}
        typer.echo(json.dumps(made, indent=2))
        return
    typer.echo(f"{path}: the secret keys of {name}, {protection(is_encrypted=passphrase is not None)}")
    typer.echo(f"fingerprint: {identity.public.fingerprint}")
    shown = [shlex.quote(str(place)) for place in (path, path.with_name(f"{path.stem}.public.json"))]
    typer.echo(f"For the others: confide keys show {shown[0]} --json > {shown[1]}")


def show_command(
    file: Annotated[Path, typer.Argument(help="A key file, the public half of one, or a roster.")],
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the public half, as `confide keys roster` takes it; of a roster, its members."
        ),
    ] = False,
) -> None:
    """Shows the public half of an identity, or who is in a roster; never a secret, and needs no passphrase.

    Read the fingerprints to each other by telephone: if all digits are the same, so are the keys.

    Examples:
        confide keys show north.key

        confide keys show north.key --json > north.public.json

        confide keys show roster.json
    """
    from confide.errors import KeyFileError
    from confide.membership.identity import is_key_file, read_public_half
    from confide.membership.roster import PublicIdentity, Roster, is_roster, read_bounded

    content = read_bounded(file, KeyFileError)
    if is_roster(content):
        _show_roster(file, Roster.from_json(content, what=str(file)), as_json=as_json)
        return
    if is_key_file(content):
        identity, is_encrypted = read_public_half(file)
        kind = f"key file, {protection(is_encrypted=is_encrypted)}"
    else:
        identity, kind = PublicIdentity.from_json(content, what=str(file)), "public half"
    if as_json:
        typer.echo(identity.to_json(), nl=False)
        return
    typer.echo(f"name:         {identity.name}")
    typer.echo(f"signing key:  {identity.signing_key.hex()} (Ed25519)")
    typer.echo(f"envelope key: {identity.envelope_key.hex()} (X25519)")
    typer.echo(f"fingerprint:  {identity.fingerprint}")
    typer.echo(f"file:         {kind}")


def roster_command(
    public: Annotated[list[Path], typer.Argument(help="The public half of every member, from `confide keys show`.")],
    out: Annotated[Path, typer.Option(help="The roster to write; never overwrites one.")],
    as_json: AsJson = False,
) -> None:
    """Makes the roster: who takes part, with which public keys. All members and the server hold the same one.

    Every member checks the fingerprint of the file that it was sent (`confide keys show roster.json`) with the others,
    by telephone or in person: who changes the roster on its way could put a key of his own in another's place.

    Examples:
        confide keys roster north.public.json south.public.json --out roster.json
    """
    from confide.errors import RosterError
    from confide.membership.roster import Roster

    roster = Roster([_read_public(path) for path in public])
    if out.exists():
        raise RosterError(f"{out} is there already, and a roster is never overwritten: choose another --out")
    roster.save(out)
    _show_roster(out, roster, as_json=as_json)


def typed_passphrase() -> bytes:
    """Asks for a new passphrase, twice."""
    passphrase: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return passphrase.encode()


def passphrase_in(path: Path | None) -> bytes | None:
    """Gives what a file holds, without the line end that editors add; None without a file."""
    from confide.errors import KeyFileError
    from confide.membership.roster import read_bounded

    if path is None:
        return None
    content = read_bounded(path, KeyFileError)
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _show_roster(path: Path, roster: "Roster", *, as_json: bool) -> None:
    if as_json:
        members = [{"name": member.name, "fingerprint": member.fingerprint} for member in roster.members]
        shown = {
            "file": str(path),
            "digest": roster.digest.hex(),
            "fingerprint": roster.fingerprint,
            "members": members,
        }
        typer.echo(json.dumps(shown, indent=2))
        return
    for member in roster.members:
        typer.echo(f"{roster.point_of(member.name):4d}  {member.fingerprint}  {member.name}")
    typer.echo(f"{path}: {len(roster.members)} members, digest {roster.digest.hex()}")
    typer.echo(f"fingerprint: {roster.fingerprint}")


def _read_public(path: Path) -> "PublicIdentity":
    from confide.errors import RosterError
    from confide.membership.identity import is_key_file
    from confide.membership.roster import PublicIdentity, read_bounded

    content = read_bounded(path, RosterError)
    if is_key_file(content):
        raise RosterError(
            f"{path} holds secret keys, which nobody but their owner should have. A roster is made of public halves: "
            f"confide keys show {path} --json"
        )
    return PublicIdentity.from_json(content, what=str(path))


def protection(*, is_encrypted: bool) -> str:
    """Says what protects the secret keys of a file."""
    return "encrypted under a passphrase" if is_encrypted else "not encrypted: whoever reads the file can act as it"
