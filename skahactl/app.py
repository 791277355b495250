"""Every verb, where it lives, and the line that ``--help`` shows for it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from cyclopts import App, Group, Parameter

from skahactl import __version__, completers

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions


#: verb: (import string, one line, group)
VERBS = {
    "init": ("skahactl.commands.init:init", "Write a manifest to begin with.", "Run"),
    "apply": ("skahactl.commands.apply:apply", "Make the platform match a manifest.", "Run"),
    "create": ("skahactl.commands.create:create", "Run a job without a file.", "Run"),
    "validate": ("skahactl.commands.manifest:validate", "Check manifests, without network or secrets.", "Run"),
    "diff": ("skahactl.commands.apply:diff", "Show what apply would change.", "Run"),
    "resume": ("skahactl.commands.retry:resume", "Drive a run again, from the ledger.", "Run"),
    "retry": ("skahactl.commands.retry:retry", "Start new attempts of failed replicas.", "Run"),
    "get": ("skahactl.commands.get:get", "Show jobs, replicas, items, sessions, images and more.", "Look"),
    "describe": ("skahactl.commands.describe:describe", "Show a job with its replicas, times and logs.", "Look"),
    "logs": ("skahactl.commands.logs:logs", "Show, follow or save every replica's log.", "Look"),
    "events": ("skahactl.commands.get:events", "Show scheduling events: why is it Pending?", "Look"),
    "report": ("skahactl.commands.report:report", "Write a page with charts of a job.", "Look"),
    "wait": ("skahactl.commands.wait:wait", "Wait until it is so, or cannot be.", "Look"),
    "delete": ("skahactl.commands.delete:delete", "Delete sessions, and verify it.", "End"),
    "mark": ("skahactl.commands.retry:mark", "Record what a person found out.", "End"),
    "renew": ("skahactl.commands.renew:renew", "Extend deadlines.", "End"),
    "prune": ("skahactl.commands.prune:prune", "Forget old records and logs.", "End"),
    "split": ("skahactl.commands.split:split", "Print this replica's share of a list.", "Inside a replica"),
    "profile": ("skahactl.commands.profile:app", "List, show, add, check and choose where to run.", "Set up"),
    "login": ("skahactl.commands.login:login", "Get a certificate.", "Set up"),
    "serve": ("skahactl.commands.serve:serve", "Offer the local platform over HTTP.", "Set up"),
    "schema": ("skahactl.commands.manifest:schema", "Print the JSON Schema of manifests.", "Set up"),
    "explain": ("skahactl.commands.manifest:explain", "Explain a key of the manifest.", "Set up"),
    "help": ("skahactl.commands.help:help_page", "Show pages of the manual.", "Set up"),
    "completion": ("skahactl.commands.completion:completion", "Print or install shell completion.", "Set up"),
}

GROUPS = ("Run", "Look", "End", "Inside a replica", "Set up")


def app(page: str | None = None) -> App:
    """The cyclopts app. With ``page`` the verb of this name has its whole help page, and is imported for it."""
    groups = {name: Group(name, sort_key=place) for place, name in enumerate(GROUPS)}
    root = App(
        name="skahactl",
        help="Declarative batch work on the CANFAR Science Platform: one file says what should run.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False),
        group_commands=Group("This program", sort_key=len(GROUPS)),
    )
    for verb, (place, line, group) in VERBS.items():
        root.command(place, name=verb, help=line, group=groups[group])
    root.meta.group_parameters = Group("Everywhere, before or after the verb", sort_key=len(GROUPS) + 1)
    everywhere.__annotations__ = get_type_hints(everywhere, include_extras=True)  # read once, not at each look
    root.meta.default(everywhere)
    if page in VERBS:
        complete_page(root[page])
    return root


def everywhere(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    profile: Annotated[
        str | None,
        Parameter(
            name=["--profile", "-p"],
            metavar="NAME",
            help="Where to run: a profile, or its file.",
            completer=completers.profiles,
        ),
    ] = None,
    output: Annotated[
        Literal["table", "wide", "name", "json", "jsonl", "toml"],
        Parameter(
            name=["--output", "-o"],
            metavar="FORMAT",
            help="How data is shown: table (if nothing is said), wide, name, json, jsonl, toml.",
            show_choices=False,
        ),
    ] = "table",
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say only what must be known.")] = False,
    verbose: Annotated[
        int, Parameter(name=["--verbose", "-v"], count=True, help="A line for each request; -vv with its parameters.")
    ] = 0,
    log_file: Annotated[
        completers.FileName | None, Parameter(metavar="FILE", help="Write the lines of -v to the end of this file.")
    ] = None,
) -> None:
    """The options that go everywhere, as help and completion tell them; ``options.take_globals`` takes them."""


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
