"""Help pages: the docstring of a verb as its text, paragraphs flowing, examples a line each as they were written."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

_WIDE = 100_000
_PARAMETERS = "\nParameters\n----------\n"


def complete_page(verb: App) -> None:
    """Gives a verb, and the words below it, its whole text; the line that is its help among others goes."""
    if verb.default_command is not None:
        verb.help = page_text(verb.default_command.__doc__ or "")
    for name in verb.resolved_commands():
        if not name.startswith("-"):
            complete_page(verb[name])


def without_boxes(root: App) -> None:
    """Pages for what is no terminal: one row a line, columns two blanks apart, nothing wrapped."""
    from rich.console import Console

    root.console = Console(width=_WIDE, no_color=True, highlight=False, markup=False, emoji=False)
    root.help_formatter = _HelpRows()


def page_text(docstring: str) -> str:
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


class _HelpRows:
    """What would be a box as its title and rows."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        if not panel.entries:
            return
        rows = [
            (" ".join(entry.display_labels_with_metavar), _description_lines(entry, console)) for entry in panel.entries
        ]
        width = max(len(label) for label, _ in rows)
        console.out(f"{panel.title}\n", highlight=False)
        for label, description in rows:
            console.out(f"  {label:<{width}}  {description}".rstrip(), highlight=False)
        console.out("", highlight=False)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: object) -> None:
        console.out(f"Usage: {usage}".rstrip() + "\n", highlight=False)


def _description_lines(entry: HelpEntry, console: Console) -> str:
    with console.capture() as captured:
        console.print(entry.description, end="")
    choices = f"[choices: {', '.join(entry.choices)}]" if entry.choices else ""
    return " ".join(part for part in (captured.get().strip(), choices, "[required]" if entry.required else "") if part)


def _lines(after: str) -> list[str]:
    return [line.strip() for line in after.splitlines() if line.strip()]


def _flowing(paragraph: str) -> str:
    """One line; a paragraph with indented lines stays as it is."""
    lines = paragraph.strip("\n").split("\n")
    return "\n".join(lines) if any(line.startswith(" ") for line in lines) else " ".join(lines)
