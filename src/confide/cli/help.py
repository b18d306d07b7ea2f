"""The help text of a command, from its docstring: what stands under "Examples:" is shown line by line, as it is."""

import inspect
from collections.abc import Callable, Iterable

_HEADING = "Examples:"


def command_help(command: Callable[..., None], *, more: str = "") -> str:
    """Turns a command's docstring into the Markdown that typer shows.

    Args:
        command: whose docstring ends with "Examples:" and one command a line.
        more: preformatted text to show behind it.
    """
    text, heading, examples = inspect.cleandoc(command.__doc__ or "").partition(_HEADING)
    if not heading:
        raise AssertionError(f"the docstring of {command.__name__} has no examples")
    shown = with_examples(text.strip(), *(line.strip() for line in examples.splitlines() if line.strip()))
    return f"{shown}\n\n{_as_it_is(more.splitlines())}" if more else shown


def with_examples(text: str, *commands: str) -> str:
    """Puts examples behind a help text, as Markdown."""
    return "\n\n".join([text, _HEADING, _as_it_is(commands)])


def _as_it_is(lines: Iterable[str]) -> str:
    return "```text\n" + "\n".join(lines) + "\n```"
