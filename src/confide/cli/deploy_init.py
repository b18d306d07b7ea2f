"""`confide deploy init`, `join` and `renew`: the folders of a server and of a member, before the first run."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

SERVER_DAYS = 365

Days = Annotated[int, typer.Option(help="Days for which the server's certificate is valid.")]


def init_command(
    folder: Annotated[Path, typer.Argument(help="The server's folder to make; it must not be there.")],
    host: Annotated[
        list[str], typer.Option(help="A DNS name or IP address by which members reach the server; once for each.")
    ],
    port: Annotated[int, typer.Option(help="Where Flower's SuperLink listens, on this machine alone.")] = 9191,
    proxy_port: Annotated[int, typer.Option(help="Where members connect: the reverse proxy listens there.")] = 9443,
    members: Annotated[str, typer.Option(help="Names of the expected members, with commas between them.")] = "",
    days: Days = SERVER_DAYS,
    try_out: Annotated[
        bool,
        typer.Option(
            "--try-out", help="Make a folder for every member here as well, with its secret keys, and the roster."
        ),
    ] = False,
) -> None:
    """Makes a server's folder: an own authority, the server's certificate, a reverse proxy's configuration.

    It holds no key that opens anything of a run. With --try-out all parties are in one place, so nobody is protected
    from anybody: to see how it works before the first real run.

    Examples:
        confide deploy init server --host federation.example.org --members north,south,west

        confide deploy init server --host localhost --try-out
    """
    from confide.deploy.certificates import check_authority
    from confide.deploy.folder_settings import ServerFile
    from confide.deploy.new_folders import TRY_OUT_MEMBERS, checked_settings, make_server_folder

    named = [name.strip() for name in members.split(",")] if members else []
    settings = checked_settings(
        ServerFile,
        "server",
        {
            "hosts": host,
            "port": port,
            "proxy_port": proxy_port,
            "members": named or (list(TRY_OUT_MEMBERS) if try_out else []),
            "try_out": try_out,
        },
    ).server
    made = make_server_folder(folder, settings=settings, server_days=days)
    typer.echo(f"{folder}: a server's folder for {', '.join(made.hosts)}; its certificate is valid for {days} days")
    typer.echo(f"fingerprint of its authority (ca.pem): {check_authority(made.ca)}")
    quoted = shlex.quote(str(folder))
    if try_out:
        typer.echo("FOR TRYING OUT ONLY: the secret keys of all members are in this folder, so nobody is protected.")
        typer.echo("Next, in a terminal of its own:")
        typer.echo(f"  confide deploy server {quoted}")
        typer.echo("then, so that the members' nodes are let in:")
        typer.echo(f"  confide deploy register {quoted}")
        typer.echo("then, each in a terminal of its own:")
        for member in sorted(made.try_out.iterdir()):
            typer.echo(f"  confide deploy client {shlex.quote(str(folder / 'try-out' / member.name))}")
        typer.echo("and then:")
        typer.echo(f"  confide deploy run {quoted} {quoted}/config.toml")
        return
    typer.echo("Next:")
    typer.echo("  1. send ca.pem to every member; read its fingerprint to each of them by telephone")
    typer.echo(f"  2. each member: confide deploy join FOLDER --name NAME --server {made.public_address} --ca ca.pem")
    typer.echo(f"  3. put the two files that each member sends back into {quoted}/nodes")
    typer.echo(f"  4. confide keys roster {quoted}/nodes/*.public.json --out {quoted}/roster.json")
    typer.echo("  5. send roster.json to every member; all compare by telephone: confide keys show roster.json")
    typer.echo(f"  6. confide deploy server {quoted}, and nginx in front of it: see docs/deployment.md")


def join_command(
    folder: Annotated[Path, typer.Argument(help="The member's folder to make; it must not be there.")],
    name: Annotated[str, typer.Option(help="The member's name, as the others will see it.")],
    server: Annotated[str, typer.Option(help="Where the server is reached, as HOST:PORT.")],
    ca: Annotated[Path, typer.Option(help="The authority's certificate that the server sent: ca.pem.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Encrypt the identity under what is in this file (one line end is left out).")
    ] = None,
    ask_passphrase: Annotated[
        bool, typer.Option("--ask-passphrase", help="Encrypt the identity under a passphrase that you type.")
    ] = False,
) -> None:
    """Makes a member's folder: its identity and its node's key are made here and never leave it.

    It also writes policy.toml, what this member accepts of a run: read it before the first one.

    Examples:
        confide deploy join north --name north --server federation.example.org:9443 --ca ca.pem --ask-passphrase
    """
    from confide.cli.keys import passphrase_in, protection, typed_passphrase
    from confide.deploy.folder_settings import NodeFile
    from confide.deploy.new_folders import checked_settings, make_node_folder
    from confide.deploy.policy import Policy
    from confide.errors import UsageError

    if passphrase_file is not None and ask_passphrase:
        raise UsageError("--passphrase-file and --ask-passphrase were both given: choose one")
    settings = checked_settings(NodeFile, "node", {"name": name, "server": server}).node
    passphrase = typed_passphrase() if ask_passphrase else passphrase_in(passphrase_file)
    joined = make_node_folder(folder, settings=settings, authority=ca, passphrase=passphrase)
    made = joined.folder
    typer.echo(f"{folder}: the folder of {name}; its identity is {protection(is_encrypted=passphrase is not None)}")
    typer.echo("Hand these two files to the server, and nothing else:")
    for path in (made.public, made.node_public):
        typer.echo(f"  {folder / path.name}")
    typer.echo("Compare by telephone, with a number that you know already:")
    typer.echo(f"  the server's authority: {joined.authority_fingerprint}")
    typer.echo(f"  your identity:          {joined.public.fingerprint}")
    typer.echo(f"  your node key:          {joined.node_fingerprint}")
    typer.echo("Next:")
    typer.echo(f"  1. say where your data is: {folder / 'node.toml'}")
    typer.echo(f"  2. read and change what you accept: {made.policy.relative_to(made.path.parent)}")
    roster = folder / "roster.json"
    typer.echo(f"  3. put the roster that the server sends into {roster}, and compare all fingerprints that")
    typer.echo(f"     confide keys show {shlex.quote(str(roster))} prints with the other members, by telephone")
    typer.echo(f"  4. confide deploy client {shlex.quote(str(folder))}")
    for caution in Policy.load(made.policy).cautions:
        typer.echo(f"Caution: {caution}")


def renew_command(
    folder: Annotated[Path, typer.Argument(help="The server's folder.")], days: Days = SERVER_DAYS
) -> None:
    """Gives the server a new key and certificate of the same authority; members need nothing new.

    The old ones are kept beside them. Restart the SuperLink and reload the proxy afterwards.

    Examples:
        confide deploy renew server
    """
    from confide.deploy.certificates import renew_server_certificate
    from confide.deploy.folders import ServerFolder

    found = ServerFolder.load(folder, is_certificate_checked=False)
    kept = renew_server_certificate(found.authority, found.key_places, hosts=found.hosts, days=days)
    typer.echo(f"{found.certificate}: a new certificate for {', '.join(found.hosts)}, valid for {days} days")
    typer.echo(f"the old one is kept as {kept.certificate.name} and {kept.key.name}: remove them when all is well")
    typer.echo("Next: stop and start `confide deploy server`, and reload the proxy (nginx -s reload)")
