"""`confide merge`: an adapter and its base model become one model that stands alone."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_DTYPES = ("float32", "bfloat16", "float16")


def merge_command(
    adapter: Annotated[str, typer.Argument(help="A run directory or a folder with a PEFT adapter.")],
    out: Annotated[Path, typer.Argument(help="The folder to write the model to.")],
    base: Annotated[
        str | None, typer.Option(help="The base model, in place of the one that the run or the adapter names.")
    ] = None,
    round_number: Annotated[
        int | None, typer.Option("--round", min=0, help="Of a run: this round instead of the last one.")
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="What the weights are stored in: float32, bfloat16 or float16. The sum is always float32."),
    ] = "float32",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder if it holds a saved model and nothing else.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a line.")] = False,
) -> None:
    """Merges an adapter into its base model and writes a model that loads without Confide and without PEFT.

    The folder has the weights and the tokenizer; AutoModelForCausalLM.from_pretrained of transformers loads it.

    Examples:
      confide merge runs/clinics clinics-model

      confide merge runs/clinics clinics-model --dtype bfloat16 --round 3
    """
    from dataclasses import replace

    from confide.errors import ModelError, UsageError
    from confide.locate import locate_model, open_model
    from confide.model.load import choose_dtype
    from confide.model.merge import check_apart, check_free, merge_adapter, save_model

    if dtype not in _DTYPES:
        raise UsageError(f"--dtype is {dtype!r}, expected one of: {', '.join(_DTYPES)}")
    place = locate_model(adapter, base=base, round_number=round_number)
    if place.adapter is None:
        raise ModelError(f"{adapter} is neither a run directory nor a folder with a PEFT adapter: nothing to merge.")
    check_apart(out, place.sources)
    check_free(out, replace=force)
    if place.is_quantized:
        raise ModelError(
            f"the run {adapter} trained on {place.base} in 8 or 4 bits, and an adapter cannot be merged into that. "
            f"Merge it into the full-precision model with --base {place.base}; its answers may differ a little."
        )
    with Console(stderr=True).status(f"merging into {place.base}"):
        opened = open_model(replace(place, device="cpu", dtype="float32"))
        merged = merge_adapter(opened.module).to(choose_dtype(dtype, opened.base.device))
        save_model(merged, opened.base.tokenizer, out, replace=force)
    if as_json:
        merged_model = {"folder": str(out), "base": place.base, "adapter": str(place.adapter), "dtype": dtype}
        typer.echo(json.dumps(merged_model, indent=2))
    else:
        typer.echo(f"{out}: {place.base} with the adapter of {place.adapter}, {dtype}")
