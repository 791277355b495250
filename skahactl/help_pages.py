"""Help pages: the docstring of a verb as its text, paragraphs flowing, examples a line each as they were written."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

_PARAMETERS = "\nParameters\n----------\n"


def complete_page(verb: App) -> None:
    """Gives a verb, and the words below it, its whole text; the line that is its help among others goes."""
    if verb.default_command is not None:
        verb.help = text(verb.default_command.__doc__ or "")
    for name in verb.resolved_commands():
        if not name.startswith("-"):
            complete_page(verb[name])


def text(docstring: str) -> str:
    """The short line, the paragraphs, and the examples below a line of their own."""
    prose, _, _ = inspect.cleandoc(docstring).partition(_PARAMETERS)
    before, _, after = prose.partition("Examples:")
    parts = [_flowing(paragraph) for paragraph in before.split("\n\n") if paragraph.strip()]
    found = _lines(after)
    if found:
        parts.append("Examples")
        parts.append("\n".join(f"  {line}" for line in found))
    return "\n\n".join(parts)


def examples(docstring: str) -> list[str]:
    """The command lines below ``Examples:``."""
    return _lines(inspect.cleandoc(docstring).partition(_PARAMETERS)[0].partition("Examples:")[2])


def _lines(after: str) -> list[str]:
    return [line.strip() for line in after.splitlines() if line.strip()]


def _flowing(paragraph: str) -> str:
    """One line; a paragraph with indented lines stays as it is."""
    lines = paragraph.strip("\n").split("\n")
    return "\n".join(lines) if any(line.startswith(" ") for line in lines) else " ".join(lines)
