"""`confide demo`: three synthetic clinics fine-tune a real model together, and one sees what came of it."""

import json
import shlex
import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from confide.cli.audit import REPORT_FILE, audit, print_results
from confide.cli.evaluate import assess, notes, print_comparison
from confide.cli.progress import print_line, timed
from confide.cli.train import Overrides
from confide.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confide.config.schema import Config
    from confide.data.examples import ClientRecords, Instruction, Record
    from confide.model.lora import AdaptedModel

DEMO_OVERRIDES = (
    'model.base="smollm2-135m-instruct"',
    'data.source="clinics"',
    "data.clinic_letters=40",
    "data.clinic_instructions=10",
    "data.held_out=0.15",
    "lora.rank=16",
    "train.local_steps=4",
    "train.batch_size=2",
    "train.max_tokens=256",
    "train.learning_rate=3e-3",
    "federation.rounds=3",
    "federation.server_learning_rate=2.0",
    "evaluate.every_rounds=1",
    "evaluate.max_examples=4",
    "evaluate.max_new_tokens=32",
    "evaluate.batch_size=32",
    'audit.canaries=["ladder"]',
    "audit.canaries_per_client=8",
    "audit.records_per_attack=6",
    'audit.views=["final", "client"]',
    'audit.attacks=["membership", "extraction", "exposure"]',
    "audit.max_new_tokens=16",
    "audit.alternatives=10",
    "audit.full_ranking=0",
    "audit.samples=3",
)
"""What the demo sets: sized for six minutes on two CPU cores, baselines and audit and all."""


def demo_command(
    folder: Annotated[Path, typer.Option(help="Where the demo's run directory goes.")] = Path("runs"),
    overrides: Overrides = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what came of it as one JSON object at the end, all else to stderr.")
    ] = False,
) -> None:
    """Shows a federation from start to end, on this machine, in about six minutes on two CPU cores.

    Three synthetic clinics fine-tune SmolLM2-135M-Instruct together on invented patient letters. Shown are the loss
    falling, one answer before and after, whether federating was worth it (the federation beside the base model, each
    clinic alone, and all data pooled), and what the result gives away: attacks look for invented numbers that coins
    put into the data or left out, and a page reports what they found.

    Examples:
      confide demo

      confide demo --set federation.rounds=5 --set train.local_steps=8
    """
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        found = _show(folder, overrides or [])
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


def _show(folder: Path, overrides: "Sequence[str]") -> dict[str, object]:
    """Shows everything, and gives what came of it as plain JSON values."""
    from confide.build import build_model, build_records
    from confide.cli.train import train
    from confide.config.load import parse_config
    from confide.run import RunDirectory

    began = time.monotonic()
    config = parse_config(
        {"run": {"folder": str(folder), "name": _free_name(folder)}}, [*DEMO_OVERRIDES, *overrides], where="demo"
    )
    console = Console()
    clients = build_records(config)
    if not any(client.held_out for client in clients):
        raise DataError(
            "the demo measures on records that nobody trained on, and no client keeps any aside. Set data.held_out "
            "above 0."
        )
    _heading(console, "Three clinics, each with its own letters; nobody hands over any data")
    for client in clients:
        print_line(
            console, f"  {client.name}: {len(client.train)} records to train on, {len(client.held_out)} kept aside"
        )
    _heading(console, "They train together: only sealed updates travel, and only their sum opens")
    with timed(Console(stderr=True), f"loading {config.model.base}"):
        model = build_model(config)  # once: the run, the answers and the comparison all use it
    run = train(config, model=model)
    _heading(console, "One record that nobody trained on, answered before and after")
    texts = _before_and_after(config, run, clients, model)
    if texts is None:
        print_line(console, "  left out: no record that was kept aside is an instruction with its response")
    else:
        _print_texts(console, texts)
    _heading(console, "Was it worth it? Training the comparison: each clinic alone, and all data pooled")
    assessment = assess(run, Console(stderr=True), baselines=True, model=model)
    if assessment.comparison is not None:
        print_comparison(console, assessment.comparison)
    for note in notes(assessment):
        print_line(console, note)
    _heading(console, "What does it give away? Attacks by who gets the model, and by a client")
    results = audit(run, Console(stderr=True), model=model)
    print_results(console, results)
    _heading(console, "Where everything lies")
    for path, what in [
        (run / "final", "the adapter, in PEFT's format"),
        (run / "config.toml", "the configuration as it ran"),
        (run / "rounds.jsonl", "a record of each round"),
        (run / "comparison.json", "the comparison above"),
        (run / REPORT_FILE, "the report on what leaks: open it in a browser"),
    ]:
        print_line(console, f"  {path}: {what}")
    print_line(
        console, f'  ask it: confide generate {shlex.quote(str(run))} "Which symptoms call for a doctor at once?"'
    )
    seconds = time.monotonic() - began
    print_line(console, f"the demo took {seconds:.0f} s")
    return {
        "run": str(run),
        "rounds": [json.loads(record.to_json()) for record in RunDirectory.open(run).records()],
        "record": texts,
        "comparison": assessment.to_json(),
        "audit": json.loads(results.model_dump_json()),
        "seconds": seconds,
    }


def _free_name(folder: Path) -> str:
    """The first of demo, demo-2, demo-3, ... that is not taken."""
    names = ["demo", *(f"demo-{number}" for number in range(2, 1000))]
    return next(name for name in names if not (folder / name).exists())


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(text, style="bold", markup=False, highlight=False)


def _before_and_after(
    config: "Config", run: Path, clients: "list[ClientRecords]", model: "AdaptedModel"
) -> dict[str, str] | None:
    """An instruction that nobody trained on, what was expected, and the answers of the model before and after.

    None where no record that was kept aside is an instruction.
    """
    from confide.build import build_template
    from confide.evaluate.generation import end_token_ids, generate_answers
    from confide.model.adapter_files import read_adapter

    template = build_template(config, model.tokenizer)
    shown = _shown_record(clients)
    if shown is None:
        return None
    record, content = shown
    prompt = template.prompt(record)

    def answer(adapter: Path) -> str:
        model.write(read_adapter(adapter, model.layout, model.base.name))
        found = generate_answers(
            model.module,
            [prompt],
            max_new_tokens=config.evaluate.max_new_tokens,
            end_token_ids=end_token_ids(model.module, template.stop_ids),
            pad_token_id=int(model.tokenizer.pad_token_id),
        )[0]
        return str(model.tokenizer.decode(found.token_ids, skip_special_tokens=True)) + (
            "" if found.is_finished else " ..."
        )

    return {
        "instruction": f"{content.instruction}\n{content.input}".strip(),
        "expected": content.response,
        "before": answer(run / "rounds" / "0000"),
        "after": answer(run / "final"),
    }


def _print_texts(console: Console, texts: dict[str, str]) -> None:
    for title, text in texts.items():
        print_line(console, f"  {title}:")
        for line in text.splitlines():
            print_line(console, f"    {line}")


def _shown_record(clients: "list[ClientRecords]") -> "tuple[Record, Instruction] | None":
    """The first letter that was kept aside, else the first instruction, and its content."""
    from confide.data.examples import Instruction

    held_out = [record for client in clients for record in client.held_out]
    found = [(record, record.content) for record in held_out if isinstance(record.content, Instruction)]
    return next((pair for pair in found if pair[0].spans), found[0] if found else None)
