import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.generate import generate_command
from confide.cli.merge import merge_command
from confide.cli.train import train
from confide.config.schema import Config
from confide.errors import DataError, RunDirectoryError, UsageError
from confide.model.tiny import make_byte_tokenizer

PROMPTS = ["How many is 2 and 2?", "And then?"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("generate")(generate_command)
    app.command("merge")(merge_command)
    return app


def _run(app: typer.Typer, *words: str, stdin: str = "") -> str:
    result = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _answers(app: typer.Typer, model: str | Path, *words: str, stdin: str = "") -> list[dict[str, object]]:
    options = ["--json", "--max-new-tokens", "4", *words]
    answers: list[dict[str, object]] = json.loads(_run(app, "generate", str(model), *options, stdin=stdin))
    return answers


def test_prompts_come_from_arguments_a_file_or_standard_input(app: typer.Typer, tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n\n".join(PROMPTS) + "\n")
    expected = _answers(app, tiny_run, *PROMPTS)
    assert [answer["prompt"] for answer in expected] == PROMPTS
    assert _answers(app, tiny_run, "--file", str(file)) == expected
    assert _answers(app, tiny_run, stdin="\n".join(PROMPTS)) == expected


def test_a_run_its_adapter_and_the_merged_model_give_the_same_answers(
    app: typer.Typer, tiny_run: Path, tmp_path: Path
) -> None:
    expected = _answers(app, tiny_run, *PROMPTS)
    assert _answers(app, tiny_run / "final", *PROMPTS) == expected
    merged = tmp_path / "merged"
    assert "float32" in _run(app, "merge", str(tiny_run), str(merged))
    assert _answers(app, merged, *PROMPTS, "--template", "plain") == expected


def test_round_zero_answers_as_the_base_model(app: typer.Typer, tiny_run: Path) -> None:
    words = [*PROMPTS, "--template", "plain"]
    assert _answers(app, tiny_run, *words, "--round", "0") == _answers(app, "tiny-llama", *words)


def test_a_raw_prompt_is_continued_as_it_is(app: typer.Typer, tiny_run: Path) -> None:
    plain = "How many is 2 and 2?\n\n"  # what the template "plain" makes of the instruction
    (raw,) = _answers(app, tiny_run, plain, "--raw")
    (templated,) = _answers(app, tiny_run, plain.strip())
    assert raw["answer"] == templated["answer"]
    assert make_byte_tokenizer()(plain)["input_ids"][-1] != make_byte_tokenizer().eos_token_id


def test_a_temperature_draws_the_same_for_the_same_seed(app: typer.Typer, tiny_run: Path) -> None:
    hot = ["--temperature", "3", "--seed"]
    assert _answers(app, tiny_run, *PROMPTS, *hot, "1") == _answers(app, tiny_run, *PROMPTS, *hot, "1")
    assert _answers(app, tiny_run, *PROMPTS, *hot, "1") != _answers(app, tiny_run, *PROMPTS, *hot, "2")


def test_text_output_marks_prompts_and_answers_that_were_cut(app: typer.Typer, tiny_run: Path) -> None:
    shown = _run(app, "generate", str(tiny_run), *PROMPTS, "--max-new-tokens", "1")
    assert f"> {PROMPTS[0]}\n" in shown
    assert shown.count(" ...\n") == 2


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--top-p", "0.5"], UsageError, "--top-p changes nothing at temperature 0"),
        (["--top-p", "1.5", "--temperature", "1"], UsageError, "--top-p is 1.5, expected more than 0"),
        (["--temperature", "nan"], UsageError, r"--temperature is nan, expected 0 .* or 0\.01 to 100"),
        (["--temperature", "inf"], UsageError, "--temperature is inf, expected 0"),
        (["--temperature", "1e-30"], UsageError, "--temperature is 1e-30, expected 0"),
        (["--round", "9"], RunDirectoryError, "has no round 9: rounds 0 to 2 are there"),
        (["--file", "missing.txt"], UsageError, "both as arguments and with --file"),
    ],
)
def test_wrong_usage_of_generate_is_explained(
    words: list[str], error: type[Exception], message: str, app: typer.Typer, tiny_run: Path
) -> None:
    with pytest.raises(error, match=message):
        _run(app, "generate", str(tiny_run), "A prompt", *words)


def test_a_missing_prompt_file_and_no_prompt_are_refused(app: typer.Typer, tiny_run: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read prompts from nowhere\.txt"):
        _run(app, "generate", str(tiny_run), "--file", "nowhere.txt")
    with pytest.raises(UsageError, match="no prompt: give one as an argument"):
        _run(app, "generate", str(tiny_run), stdin="\n \n")


def test_an_unknown_template_is_refused_before_anything_is_looked_for(app: typer.Typer) -> None:
    with pytest.raises(UsageError, match=r"--template is 'foo', expected one of: auto, alpaca, vicuna, chat, plain"):
        _run(app, "generate", "no-such-model", "A prompt", "--template", "foo")


def test_a_prompt_beyond_the_models_positions_is_refused_naming_the_option(app: typer.Typer) -> None:
    with pytest.raises(UsageError, match=r"an answer of up to 1020 need \d+ positions, but .* Lower --max-new-tokens"):
        _run(app, "generate", "tiny-gpt2", "A prompt", "--max-new-tokens", "1020")


def test_a_run_that_learnt_plain_text_goes_on_with_the_prompt_as_it_is(
    app: typer.Typer, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"note {number} of {name}", "client": name} for name in ("a", "b", "c") for number in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = train(make_config(data__path=str(path), data__template="auto", federation__rounds=1))
    expected = _answers(app, run, *PROMPTS, "--raw")
    assert _answers(app, run, *PROMPTS) == expected
    assert _answers(app, run / "final", *PROMPTS) == expected
    assert _answers(app, run, *PROMPTS, "--template", "chat") != expected
