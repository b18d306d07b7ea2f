"""`confide generate`: answers prompts with a run's model, an adapter, or any model."""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confide.data.templates import Template
    from confide.evaluate.generation import Sampling
    from confide.locate import OpenedModel

# Below, logits divided by it can overflow, and the likeliest token is drawn anyway; above, any token is as good.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.01, 100.0


def generate_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A run directory, a folder with a PEFT adapter, a merged model, a hub id or built-in name."
        ),
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="Without any: a prompt per line of standard input."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A text file with a prompt per line.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="With a temperature: draw only from the likeliest tokens of this probability, (0, 1].")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws: the same seed gives the same answers.")] = 0,
    template: Annotated[
        str | None,
        typer.Option(help="alpaca, vicuna, chat, plain or auto.  [default: as the run was trained, else auto]"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without a template.")] = False,
    round_number: Annotated[
        int | None, typer.Option("--round", min=0, help="Of a run: this round instead of the last one; 0 is untrained.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model, in place of the one that the run or the adapter names.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N.  [default: the run's own, else auto]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as one JSON array.")] = False,
) -> None:
    """Answers prompts.

    A prompt is put into the template the model was trained with; a run that learnt plain text goes on with the prompt
    as it is. Answers are greedy unless a temperature is given.

    Examples:
      confide generate runs/clinics "What should I do about a mild fever?"

      confide generate runs/clinics --round 0 "The same question to the model before training"

      confide generate smollm2-135m-instruct --file questions.txt --temperature 0.7 --top-p 0.9 --json
    """
    from confide.locate import locate_model, open_model

    _check_template(template)
    sampling = _sampling(temperature, top_p, seed)
    wanted = _read_prompts(prompts or [], file)
    place = locate_model(model, base=base, round_number=round_number)
    if device is not None:
        place = replace(place, device=device)
    console = Console(stderr=True)
    with console.status(f"loading {model}"):
        opened = open_model(place)
    with console.status("answering"):
        answers = answer_prompts(
            opened,
            wanted,
            template=None if raw else template or place.template,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        )
    if as_json:
        typer.echo(json.dumps([asdict(answer) for answer in answers], indent=2, ensure_ascii=False))
        return
    for answer in answers:
        if len(answers) > 1:
            typer.echo(f"> {answer.prompt}")
        typer.echo(answer.answer + ("" if answer.is_finished else " ..."))
        if len(answers) > 1:
            typer.echo()


@dataclass(frozen=True, kw_only=True)
class PromptAnswer:
    """A prompt and its answer; `is_finished` is False where the longest length cut it off."""

    prompt: str
    answer: str
    is_finished: bool


def answer_prompts(
    opened: "OpenedModel",
    prompts: "Sequence[str]",
    *,
    template: str | None,
    max_new_tokens: int,
    sampling: "Sampling | None" = None,
) -> list[PromptAnswer]:
    """Answers each prompt, as the instruction of a template or, with no template, as a text to go on with."""
    from confide.data.templates import make_template
    from confide.evaluate.generation import end_token_ids, generate_answers

    tokenizer = opened.base.tokenizer
    wording = make_template(template or "plain", tokenizer)
    token_ids = [
        list(tokenizer(prompt)["input_ids"]) if template is None else _instruction_ids(wording, prompt)
        for prompt in prompts
    ]
    answers = generate_answers(
        opened.module,
        token_ids,
        max_new_tokens=max_new_tokens,
        end_token_ids=end_token_ids(opened.module, wording.stop_ids),
        pad_token_id=tokenizer.pad_token_id,
        sampling=sampling,
    )
    return [
        PromptAnswer(
            prompt=prompt,
            answer=tokenizer.decode(answer.token_ids, skip_special_tokens=True).strip(),
            is_finished=answer.is_finished,
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _instruction_ids(template: "Template", prompt: str) -> list[int]:
    from confide.data.examples import Instruction, Record

    return template.prompt(Record(record_id="prompt", content=Instruction(instruction=prompt, response="")))


def _check_template(template: str | None) -> None:
    from confide.data.templates import TEMPLATES
    from confide.errors import UsageError

    if template is not None and template not in TEMPLATES:
        raise UsageError(f"--template is {template!r}, expected one of: {', '.join(TEMPLATES)}")


def _sampling(temperature: float, top_p: float, seed: int) -> "Sampling | None":
    from confide.errors import UsageError
    from confide.evaluate.generation import Sampling

    if not 0.0 < top_p <= 1.0:
        raise UsageError(f"--top-p is {top_p}, expected more than 0 and at most 1")
    if temperature != 0.0 and not _MIN_TEMPERATURE <= temperature <= _MAX_TEMPERATURE:
        raise UsageError(
            f"--temperature is {temperature}, expected 0 for the likeliest token each time, or {_MIN_TEMPERATURE} to "
            f"{_MAX_TEMPERATURE:g}"
        )
    if temperature == 0.0:
        if top_p != 1.0:
            raise UsageError("--top-p changes nothing at temperature 0: give --temperature too, for example 0.7")
        return None
    return Sampling(temperature=temperature, top_p=top_p, seed=seed)


def _read_prompts(given: "Sequence[str]", file: Path | None) -> list[str]:
    from confide.errors import DataError, UsageError

    if given and file is not None:
        raise UsageError("prompts were given both as arguments and with --file: give them one way")
    lines = list(given)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read prompts from {file}: {error}. Give a text file with a prompt per line."
            ) from error
    elif not given and not sys.stdin.isatty():
        lines = sys.stdin.read().splitlines()
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise UsageError("no prompt: give one as an argument, a file with --file, or lines on standard input")
    return prompts
