"""`confide train` and `confide resume`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from confide.config.schema import Config
    from confide.data.examples import ClientRecords, TokenizedClient
    from confide.model.lora import AdaptedModel
    from confide.records import RoundRecord
    from confide.run import RunDirectory

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a key of the configuration; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print each round's record as a line of JSON.")]


def train_command(
    config: Annotated[Path, typer.Argument(help="The configuration file.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Trains an adapter in a federation of clients in this process.

    Writes a run directory (run.folder/run.name) with the global adapter of every round in PEFT's format, and a record
    of each round. A run that was stopped or killed goes on with `confide resume`.

    Examples:
      confide train confide.toml
      confide train examples/medquad.toml --set data.path=medquad.jsonl.gz --set federation.rounds=2
    """
    from confide.config.load import load_config, read_toml

    asked = load_config(config, overrides or [])
    if "study" in read_toml(config):
        typer.echo(
            f"note: {config} has a table [study], which `confide train` leaves alone: this trains the configuration "
            f"without any variant. All variants: confide study {config}",
            err=True,
        )
    train(asked, as_json=as_json)


def resume_command(
    run: Annotated[Path, typer.Argument(help="The run directory, e.g. runs/clinics.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A configuration file to check against the run's own.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Goes on with a run that was interrupted, killed or failed, from its last complete round.

    The result is the same, bit for bit on the same machine, as that of a run that was never stopped. So its
    configuration cannot change on the way, it keeps the number of CPU threads it was started with, and the device and
    the number type have to be what they were.

    Examples:
      confide resume runs/clinics
    """
    from confide.config.load import load_config, load_resolved, parse_resolved
    from confide.errors import RunDirectoryError
    from confide.run import RunDirectory

    directory = RunDirectory.open(run)
    started = parse_resolved(directory.config_values, where=str(run / "run.json"))
    check_unchanged(directory, started, load_resolved(directory.config_path), advice=f"Undo them in {run}/config.toml")
    words = overrides or []
    asked = load_resolved(directory.config_path, words) if config is None else load_config(config, words)
    check_unchanged(directory, started, asked, advice="Resume it without these changes")
    console = Console(stderr=True)
    if directory.status == "finished":
        raise RunDirectoryError(
            f"the run {run} is finished: there is nothing to resume. Its adapter is {run / 'final'}"
        )
    console.print(f"resuming {run} after round {directory.last_round() if directory.rounds() else 0}", markup=False)
    with directory.locked():
        _run(asked, directory, console, as_json=as_json)


def check_unchanged(
    directory: "RunDirectory",
    started: "Config",
    now: "Config",
    *,
    advice: str,
    ignoring: "frozenset[str]" = frozenset(),
) -> None:
    """Refuses to resume a run with another configuration than it was started with.

    To ask for the number of threads that the run found at its start is no change.

    Args:
        directory: of the run.
        started: what it was started with.
        now: what is asked for.
        advice: what to do instead, for the user.
        ignoring: keys that make no difference, besides those of a resume.

    Raises:
        ConfigError: names every key that differs, with both values.
    """
    from confide.config.load import RESUMABLE_KEYS, config_differences
    from confide.errors import ConfigError

    if now.run.threads != started.run.threads:
        run = started.run.model_copy(update={"threads": directory.threads or started.run.threads})
        started = started.model_copy(update={"run": run})
    differences = config_differences(started, now, ignoring=RESUMABLE_KEYS | ignoring)
    if differences:
        listed = "\n".join(f"    {difference}" for difference in differences)
        raise ConfigError(
            f"the run {directory.path} was started with another configuration:\n{listed}\n"
            f"{advice}, or start a new run with `confide train` and another run.name."
        )


def train(config: "Config", *, as_json: bool = False, model: "AdaptedModel | None" = None) -> Path:
    """Starts a new run and runs it to its end; gives the run directory.

    Args:
        config: of the run.
        as_json: whether each round's record is printed as JSON.
        model: as `build_model` has just made it for this configuration; None to do that here. Overwritten.
    """
    from uuid import uuid4

    from confide.config.load import dump_toml
    from confide.run import RunDirectory

    directory = RunDirectory.create(
        Path(config.run.folder) / config.run.name,
        config_toml=dump_toml(config),
        name=config.run.name,
        seed=config.run.seed,
        notes={"id": uuid4().hex},
    )
    console = Console(stderr=True)
    with directory.locked():
        try:
            _run(config, directory, console, as_json=as_json, model=model)
        except BaseException:
            if not directory.rounds():
                directory.discard()  # nothing was trained: leave no half-made run in the way of the next try
            raise
    return directory.path


def _run(
    config: "Config",
    directory: "RunDirectory",
    console: Console,
    *,
    as_json: bool,
    model: "AdaptedModel | None" = None,
) -> None:
    from confide.build import (
        apply_threads,
        build_examples,
        build_federation,
        build_model,
        build_records,
        build_template,
        describe_protection,
    )
    from confide.cli.progress import RunDisplay, StopSwitch, print_line, print_round, timed
    from confide.errors import RunInterrupted
    from confide.federate import restore, run, start
    from confide.tracking.choose import finish_trackers, start_trackers
    from confide.tracking.tracker import TrackedRun

    stop = StopSwitch()
    threads = apply_threads(config, kept=directory.threads)
    records = build_records(config)
    if model is None:
        with timed(console, f"loading {config.model.base}"):
            model = build_model(config)
    examples = build_examples(config, records, build_template(config, model.tokenizer))
    note_run(directory, model, records, examples, threads=threads)
    display = RunDisplay(console, print_record if as_json else print_round, stop)
    federation = build_federation(
        config,
        model,
        examples,
        run=directory.run_id,
        on_step=display.step,
        private=directory.path / "clients",
        transcript=directory.path / "transcript" if config.audit.record else None,
    )
    protection = describe_protection(config, federation)
    directory.set_status("running", protection=protection)  # what a reader of the run must know of it
    for line in [*describe_data(examples), *describe_model(model), *protection]:
        print_line(console, line)
    with stop.listening(console), display.live():
        state = restore(federation, directory) if directory.rounds() else start(federation, directory)
        trackers = start_trackers(
            config.run.loggers,
            TrackedRun(
                name=config.run.name,
                run_id=directory.run_id,
                folder=directory.path,
                settings=flat_settings(config),
                first_step=state.round_number + 1,
            ),
        )
        try:
            run(federation, directory, state, observer=display, trackers=trackers)
        except RunInterrupted as error:
            raise RunInterrupted(f"{error}. Go on with: confide resume {directory.path}") from error
        finally:
            finish_trackers(trackers)
    print_line(console, f"adapter: {directory.path / 'final'}")


def print_record(record: "RoundRecord", num_rounds: int) -> None:
    """Prints a round's record as a line of JSON."""
    del num_rounds
    typer.echo(record.to_json())


def describe_data(examples: "Sequence[TokenizedClient]") -> list[str]:
    """Who takes part with how much, and what tokenisation cut away: a few lines for the user."""
    trained = sum(len(client.train) for client in examples)
    held_out = sum(len(client.held_out) for client in examples)
    lines = [f"data: {len(examples)} clients, {trained} examples to train on, {held_out} held out"]
    cut = sum(sum(client.num_truncated.values()) for client in examples)
    dropped = sum(sum(client.num_dropped.values()) for client in examples)
    if cut or dropped:
        lines.append(f"    cut to train.max_tokens: {cut} examples; dropped because no response was left: {dropped}")
    return lines


def describe_model(model: "AdaptedModel") -> list[str]:
    """Which model, where, and how large the adapter is."""
    base = model.base
    return [
        f"model: {base.name} on {base.device}, {str(base.dtype).removeprefix('torch.')}; "
        f"adapter of {model.layout.num_values:,} values"
    ]


def note_run(
    directory: "RunDirectory",
    model: "AdaptedModel",
    records: "Sequence[ClientRecords]",
    examples: "Sequence[TokenizedClient]",
    *,
    threads: int,
) -> None:
    """Writes into run.json what a reader and a resume need to know; refuses what is not as it was before.

    Raises:
        RunDirectoryError: the run was started with other base weights or data, or on another device or number type.
    """
    device, dtype = str(model.base.device), str(model.base.dtype)
    digests = {client.name: client.digest for client in records}
    directory.check_base(model.base.name, model.base.digest)
    directory.check_data(digests)
    directory.check_device(device, dtype)
    directory.set_status(
        "running",
        base=model.base.name,
        base_digest=model.base.digest,
        layout_digest=model.layout.digest,
        device=device,
        dtype=dtype,
        threads=threads,
        data_digests=digests,
        contents=sorted({type(record.content).__name__.lower() for client in records for record in client.train}),
        data=[
            {
                "client": client.name,
                "num_train": len(client.train),
                "num_held_out": len(client.held_out),
                "num_truncated": dict(client.num_truncated),
                "num_dropped": dict(client.num_dropped),
            }
            for client in examples
        ],
    )


def flat_settings(config: "Config") -> dict[str, object]:
    """The configuration as "section.key": value, for trackers."""
    sections = json.loads(config.model_dump_json())
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
