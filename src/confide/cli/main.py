"""The command `confide`: registers the commands, and turns errors into one readable message and an exit code."""

import logging
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from confide import __version__
from confide.cli.audit import audit_command, report_command
from confide.cli.bench import bench_key_recovery_command, bench_sealing_command, bench_training_command
from confide.cli.bench_audit import bench_audit_command
from confide.cli.bench_deployment import bench_deployment_command
from confide.cli.bench_privacy import bench_privacy_command
from confide.cli.data import data_command
from confide.cli.demo import demo_command
from confide.cli.deploy_init import init_command as deploy_init_command
from confide.cli.deploy_init import join_command, renew_command
from confide.cli.deploy_processes import client_command, server_command
from confide.cli.deploy_run import register_command, run_command, status_command, stop_command
from confide.cli.evaluate import evaluate_command
from confide.cli.generate import generate_command
from confide.cli.help import command_help, with_examples
from confide.cli.init import init_command
from confide.cli.keys import new_command, roster_command, show_command
from confide.cli.merge import merge_command
from confide.cli.models import fetch_command, list_command
from confide.cli.privacy import privacy_command
from confide.cli.study import study_command
from confide.cli.train import resume_command, train_command
from confide.config.describe import help_text
from confide.errors import ConfideError

models_app = typer.Typer(
    help=with_examples("The built-in models: list them, fetch them.", "confide models list"), no_args_is_help=True
)
models_app.command("list", help=command_help(list_command))(list_command)
models_app.command("fetch", help=command_help(fetch_command))(fetch_command)

keys_app = typer.Typer(
    help=with_examples(
        "Identities and rosters: who takes part, with which keys.", "confide keys new north --ask-passphrase"
    ),
    no_args_is_help=True,
)
keys_app.command("new", help=command_help(new_command))(new_command)
keys_app.command("show", help=command_help(show_command))(show_command)
keys_app.command("roster", help=command_help(roster_command))(roster_command)

bench_app = typer.Typer(
    help=with_examples("Measure speed and memory on this machine.", "confide bench training"), no_args_is_help=True
)
bench_app.command("training", help=command_help(bench_training_command))(bench_training_command)
bench_app.command("sealing", help=command_help(bench_sealing_command))(bench_sealing_command)
bench_app.command("audit", help=command_help(bench_audit_command))(bench_audit_command)
bench_app.command("privacy", help=command_help(bench_privacy_command))(bench_privacy_command)
bench_app.command("deployment", help=command_help(bench_deployment_command))(bench_deployment_command)
bench_app.command("key-recovery", help=command_help(bench_key_recovery_command))(bench_key_recovery_command)

deploy_app = typer.Typer(
    help=with_examples(
        "Across organisations: a server and its members on machines of their own.",
        "confide deploy init server --host federation.example.org",
    ),
    no_args_is_help=True,
)
deploy_app.command("init", help=command_help(deploy_init_command))(deploy_init_command)
deploy_app.command("join", help=command_help(join_command))(join_command)
deploy_app.command("renew", help=command_help(renew_command))(renew_command)
deploy_app.command("server", help=command_help(server_command))(server_command)
deploy_app.command("client", help=command_help(client_command))(client_command)
deploy_app.command("register", help=command_help(register_command))(register_command)
deploy_app.command("run", help=command_help(run_command))(run_command)
deploy_app.command("status", help=command_help(status_command))(status_command)
deploy_app.command("stop", help=command_help(stop_command))(stop_command)

app = typer.Typer(
    name="confide",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"confide {__version__}")
        raise typer.Exit


def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and log details.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Fine-tune a language model together without showing anyone your data.

    `confide demo` shows it in a few minutes; `confide init` writes a configuration to start from.

    Examples:
      confide demo

      confide init confide.toml

      confide train confide.toml
    """
    del version
    _options.debug = debug
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=debug, show_time=debug)],
        force=True,
    )
    for library in ("httpx", "httpcore", "urllib3", "filelock", "matplotlib", "faker"):
        logging.getLogger(library).setLevel(logging.WARNING)


app.callback(help=command_help(main))(main)
for _name, _command in (
    ("demo", demo_command),
    ("init", init_command),
    ("data", data_command),
    ("privacy", privacy_command),
    ("train", train_command),
    ("resume", resume_command),
    ("evaluate", evaluate_command),
    ("audit", audit_command),
    ("report", report_command),
    ("study", study_command),
    ("generate", generate_command),
    ("merge", merge_command),
):
    _keys = f"Every key of the configuration, for the file or for --set:\n\n{help_text()}"
    app.command(_name, help=command_help(_command, more=_keys if _name == "train" else ""))(_command)
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.add_typer(bench_app, name="bench")
app.add_typer(deploy_app, name="deploy")


class _Options:
    debug = False


_options = _Options()


def run() -> None:
    """The entry point: exit code 0 for success, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        app()
    except ConfideError as error:
        _fail(f"{type(error).__name__}: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of ours must not look like the user's fault
        _fail(
            f"Internal error ({type(error).__name__}): {error}\n"
            "This is a fault in Confide. Run the command again as `confide --debug ...` and report what it prints.",
            1,
        )


def _fail(message: str, code: int) -> None:
    if _options.debug:
        traceback.print_exc()
    typer.echo(message, err=True)
    sys.exit(code)
