"""`confide privacy`: what noise costs and what epsilon needs, for one's own data, before anything is trained."""

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from confide.cli.train import Overrides
from confide.errors import UsageError
from confide.plural import plural

if TYPE_CHECKING:
    from rich.table import Table

    from confide.build.privacy import Choice
    from confide.config.schema import Config

_TARGETS = (8.0, 4.0, 2.0, 1.0)
_PAPERS_NOISE = (0.01, 0.2, 0.5, 0.8)  # arXiv 2509.20680, which gives no epsilon for them
_NOT_POSSIBLE = "not possible"


class PrivateUnit(Enum):
    """Whose presence is hidden."""

    example = "example"
    client = "client"


def privacy_command(
    config: Annotated[Path, typer.Argument(help="The configuration file.")],
    overrides: Overrides = None,
    unit: Annotated[
        PrivateUnit | None, typer.Option(help="Whose presence is hidden; the configuration's, or example.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Delta of the guarantee; the configuration's if not given.")
    ] = None,
    targets: Annotated[
        list[float] | None, typer.Option("--epsilon", help="A target to find the noise for; repeatable.")
    ] = None,
    noises: Annotated[
        list[float] | None, typer.Option("--noise", help="A noise multiplier to find epsilon for; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as one JSON object.")] = False,
) -> None:
    """Says which noise keeps an epsilon, and which epsilon a noise gives, for the data of a configuration.

    Reads and tokenises the data exactly as training does, and trains nothing. Without --epsilon or --noise it shows
    targets 8, 4, 2 and 1, and the noise multipliers of the leakage paper (arXiv 2509.20680), which names no epsilon
    for them.

    Examples:
      confide privacy examples/clinics.toml

      confide privacy examples/clinics.toml --unit client --epsilon 8

      confide privacy examples/medquad.toml --set data.path=medquad.jsonl.gz --noise 1.1 --json
    """
    from rich.console import Console

    from confide.build import build_examples, build_records, build_template, build_tokenizer
    from confide.build.canary_clients import build_canary_clients
    from confide.build.privacy import choices
    from confide.config.load import load_config

    if delta is not None and not 0 < delta < 1:
        raise UsageError(f"--delta is {delta:g}, expected a number between 0 and 1.")
    if any(not value > 0 for value in (*(targets or ()), *(noises or ()))):
        raise UsageError("--epsilon and --noise take numbers above 0: without noise there is no finite epsilon.")
    settings = load_config(config, overrides or [])
    if unit is None:
        unit = PrivateUnit.client if settings.privacy.unit == "client" else PrivateUnit.example
    if delta is not None:
        settings = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"delta": delta})})
    template = build_template(settings, build_tokenizer(settings))
    sizes = {client.name: len(client.train) for client in build_examples(settings, build_records(settings), template)}
    canaries = {client.name: len(client.train) for client in build_canary_clients(settings, list(sizes))}
    # A canary client is a client as any other, and has no row.
    hidden = sizes | canaries if unit is PrivateUnit.client else sizes
    num_values = _num_values(settings) if unit is PrivateUnit.client else 0
    asked = (tuple(targets or ()), tuple(noises or ())) if targets or noises else (_TARGETS, _PAPERS_NOISE)
    found = choices(settings, hidden, unit=unit.value, num_values=num_values, targets=asked[0], noises=asked[1])
    if as_json:
        about = {
            "unit": unit.value,
            "delta": settings.privacy.delta,
            "seeded_noise": settings.privacy.seeded_noise,
            "rounds": settings.federation.rounds,
            "rows": sizes,
            "canary_clients": len(canaries),
        }
        print(json.dumps(about | {"choices": [asdict(one) for one in found]}, indent=2))  # noqa: T201 (machine output)
        return
    output = Console()
    rows = " to ".join(f"{count:,}" for count in sorted({min(sizes.values()), max(sizes.values())}))
    beside = f" and {plural(len(canaries), 'canary client')}" if canaries else ""
    output.print(
        f'privacy.unit = "{unit.value}", delta {settings.privacy.delta:g}, {settings.federation.rounds} rounds, '
        f"{len(sizes)} clients with {rows} rows each{beside}; epsilon is the most over clients.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    output.print(_table(found))
    for line in remarks(found, seeded_noise=settings.privacy.seeded_noise):
        output.print(line, markup=False, highlight=False, soft_wrap=True)


def _num_values(settings: "Config") -> int:
    """How many of the adapter's values travel in a round, at most."""
    from confide.agreed import most_values_sent
    from confide.build import build_model

    return most_values_sent(settings, build_model(settings).layout)


def _table(found: "list[Choice]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in ("asked for", "noise multiplier", "epsilon, one round", "epsilon, the run"):
        table.add_column(name, justify="right")
    for one in found:
        if one.not_possible:
            table.add_row(one.asked, _NOT_POSSIBLE)
        else:
            numbers = (one.noise_multiplier, one.epsilon_round, one.epsilon_run)
            table.add_row(one.asked, *(f"{number:,.4g}" for number in numbers))
    return table


def remarks(found: "list[Choice]", *, seeded_noise: bool) -> list[str]:
    """What stands below the table, a line each, with the choices that it is about."""
    from confide.privacy.randomness import SEEDED_MEANS

    said: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one.not_possible:
            said.setdefault((_NOT_POSSIBLE, one.not_possible), []).append(one.asked)
        for warning in one.warnings:
            said.setdefault(("caution", warning), []).append(one.asked)
    lines = [f"{kind}, {', '.join(names)}: {sentence}" for (kind, sentence), names in said.items()]
    return ([f"{SEEDED_MEANS} (privacy.randomness)"] if seeded_noise else []) + lines
