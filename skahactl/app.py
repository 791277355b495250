"""The command line parser: every verb with its place and its line of help, the front page, and the pages of verbs."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from skahactl import __version__, completers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from cyclopts import App, Parameter
    from cyclopts.argument import Argument
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

#: verb: (import string, one line, group of the front page)
VERBS = {
    "init": ("skahactl.commands.init:init", "Write a job file to begin with", "Start"),
    "apply": ("skahactl.commands.apply:apply", "Run the jobs of a file: create, continue, retry", "Start"),
    "create": ("skahactl.commands.create:create", "Run one command without a file", "Start"),
    "get": ("skahactl.commands.get:get", "List jobs, replicas, items, sessions", "Watch"),
    "describe": ("skahactl.commands.describe:describe", "Show one job in full", "Watch"),
    "logs": ("skahactl.commands.logs:logs", "Show or follow logs", "Watch"),
    "wait": ("skahactl.commands.wait:wait", "Wait for a job to end", "Watch"),
    "events": ("skahactl.commands.events:events", "Explain why a session is pending", "Watch"),
    "report": ("skahactl.commands.report:report", "Write a page with charts of a job", "Watch"),
    "open": ("skahactl.commands.open:open_session", "Open an interactive session in the browser", "Watch"),
    "retry": ("skahactl.commands.retry:retry", "Retry failed replicas", "Change"),
    "delete": ("skahactl.commands.delete:delete", "Delete sessions and wait until they are gone", "Change"),
    "resume": ("skahactl.commands.retry:resume", "Drive the last run of a job until it ends", "Change"),
    "renew": ("skahactl.commands.renew:renew", "Extend the deadlines of sessions", "Change"),
    "mark": ("skahactl.commands.retry:mark", "Set the result of replicas that finished unobserved", "Change"),
    "prune": ("skahactl.commands.prune:prune", "Remove old records and saved logs", "Change"),
    "validate": ("skahactl.commands.manifest:validate", "Check manifests without network or secrets", "Check"),
    "diff": ("skahactl.commands.apply:diff", "Show what apply would change", "Check"),
    "explain": ("skahactl.commands.manifest:explain", "Explain a key of the manifest", "Check"),
    "schema": ("skahactl.commands.manifest:schema", "Print a JSON schema", "Check"),
    "login": ("skahactl.commands.login:login", "Get a certificate for a server", "Configure"),
    "profile": ("skahactl.commands.profile:app", "List, show, add, check and select profiles", "Configure"),
    "completion": ("skahactl.commands.completion:completion", "Print or install shell completion", "Configure"),
    "serve": ("skahactl.commands.serve:serve", "Serve the local platform over HTTP", "Configure"),
    "split": ("skahactl.commands.split:split", "Print this replica's share of a list", "In a replica"),
    "help": ("skahactl.commands.help:show_help", "Show a page of the manual", ""),
}

#: The groups with one line per verb; the others are lists of verbs.
_WITH_LINES = ("Start", "Watch", "In a replica")

_HEAD = """\
skahactl: batch jobs on the CANFAR Science Platform

Usage: skahactl COMMAND [OPTIONS]
"""

_TAIL = """
Options      -p PROFILE  -o FORMAT  -q  -v  -h
Try it       skahactl create headless demo:1 -p local --wait -- echo hello
More         skahactl help COMMAND, skahactl help TOPIC (manifest, states,
             split, output, exit-codes, python, migrating, troubleshooting, ...)"""


def front_page() -> str:
    """Return the page of all commands: at most 79 columns and 23 lines."""
    groups: dict[str, list[str]] = {}
    for verb, (_, _, group) in VERBS.items():
        if group:
            groups.setdefault(group, []).append(verb)
    lines = [_HEAD]
    for group, verbs in groups.items():
        rows = [f"{verb:<9} {VERBS[verb][1]}" for verb in verbs] if group in _WITH_LINES else [", ".join(verbs)]
        lines += [f"{title:<12} {row}" for title, row in zip([group, *[""] * (len(rows) - 1)], rows, strict=True)]
    return "\n".join([*lines, _TAIL])


#: The last line of the page of a verb.
GLOBAL_OPTIONS = "Global options  -p PROFILE  -o FORMAT  -q  -v  --color WHEN  --log-file FILE  -h"

#: Arguments that the parser does not see: what comes after ``--``.
_AFTER_DASHES = {"create": "[-- COMMAND...]", "split": "[-- COMMAND {}]"}


def app(page: str | None = None, *, completing: bool = False) -> App:
    """Return the cyclopts app.

    With ``page`` the verb of this name has its whole help page, and its module is imported. With ``completing`` the
    app also knows the global options, which ``invocation.take_globals`` takes out of a call before it is parsed.
    """
    from cyclopts import App, Group, Parameter

    root = App(
        suppress_keyboard_interrupt=False,  # otherwise cyclopts exits on Ctrl-C before main sees it
        name="skahactl",
        version=__version__,
        help_format="plaintext",
        help_epilogue=GLOBAL_OPTIONS,
        default_parameter=Parameter(negative=(), show_default=False),
        group_parameters=Group("Options", sort_key=1),
    )
    for verb, (place, line, _) in VERBS.items():
        root.command(place, name=verb, help=f"{line}.")
    if completing:
        names = {"Parameter": Parameter}
        global_options.__annotations__ = get_type_hints(global_options, localns=names, include_extras=True)
        root.meta.default(global_options)
    if page in VERBS:
        complete_page(root[page], page)
    return root


def global_options(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    profile: Annotated[
        str | None,
        Parameter(
            name=["--profile", "-p"],
            metavar="PROFILE",
            help="Profile name or file: where to run.",
            completer=completers.profiles,
        ),
    ] = None,
    output: Annotated[
        Literal["table", "wide", "name", "json", "jsonl", "yaml", "csv", "toml"],
        Parameter(
            name=["--output", "-o"], metavar="FORMAT", help="Output format (default: table).", show_choices=False
        ),
    ] = "table",
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Print only results, warnings and errors.")] = False,
    verbose: Annotated[
        int,
        Parameter(name=["--verbose", "-v"], count=True, help="Log each HTTP request; -vv also logs its parameters."),
    ] = 0,
    color: Annotated[
        Literal["auto", "always", "never"],
        Parameter(metavar="auto|always|never", help="When to use colour (default: auto).", show_choices=False),
    ] = "auto",
    no_pager: Annotated[bool, Parameter(help="Do not use a pager.")] = False,
    log_file: Annotated[
        completers.FileName | None, Parameter(metavar="FILE", help="Append the lines of -vv to this file.")
    ] = None,
) -> None:
    """Declare the options of every command, for completion."""


def complete_page(verb: App, chain: str) -> None:
    """Give a verb, and the commands below it, its usage line and the whole text of its docstring."""
    if verb.default_command is not None:
        verb.help = page_text(verb.default_command.__doc__ or "")
        verb.usage = f"skahactl {chain} {usage(verb, chain)}"
        if any("--output" in one.names for one in verb.assemble_argument_collection()):  # report -o names the file
            verb.help_epilogue = GLOBAL_OPTIONS.replace("  -o FORMAT", "")
    for name in verb.resolved_commands():
        if not name.startswith("-"):
            complete_page(verb[name], f"{chain} {name}")


def options_of(verb: str) -> list[str]:
    """Return the long names of the options that a verb has."""
    arguments = app()[verb].assemble_argument_collection()
    return ["--help", *(name for one in arguments for name in one.names if name.startswith("--"))]


def usage(verb: App, chain: str) -> str:
    """Return the arguments of a verb as its usage line names them: ``[OPTIONS] MANIFEST...``."""
    arguments = [one for one in verb.assemble_argument_collection() if one.show]
    positional = [one for one in arguments if one.index is not None]
    parts = ["[OPTIONS]"] if len(positional) < len(arguments) else []
    parts += [_placeholder(one) for one in positional]
    return " ".join([*parts, *([_AFTER_DASHES[chain]] if chain in _AFTER_DASHES else [])])


def _placeholder(argument: Argument) -> str:
    name = argument.name.lstrip("-").upper()
    if argument.field_info.kind is argument.field_info.VAR_POSITIONAL:
        name += "..."
    return name if argument.required or name == "MANIFEST..." else f"[{name}]"  # -f names manifests too


def help_page(verb: str, words: Sequence[str], on_terminal: bool) -> str:
    """Return the page of a verb, or of the command below it that the words name, as plain text: wrapped to fit a
    terminal, else with one line per paragraph and entry."""
    import io
    import shutil

    root = app(verb)
    text = io.StringIO()
    width = min(shutil.get_terminal_size().columns, _WIDEST_PAGE) if on_terminal else _UNLIMITED
    _use_plain_pages(root, width, text)
    chain = [word for word in words if not word.startswith("-")]
    root.help_print(chain[chain.index(verb) :][:2])
    return re.sub(r"\s*\n\n+", "\n\n", text.getvalue()).rstrip("\n") + "\n"


def _use_plain_pages(root: App, width: int, stream: TextIO) -> None:
    from cyclopts.help import PlainFormatter
    from rich.console import Console

    class HelpPage(PlainFormatter):
        """Cyclopts' plain pages with the entries in two columns, the short option first."""

        def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
            if not panel.entries:
                return
            labels = [label(entry) for entry in panel.entries]
            column = min(max(map(len, labels)), _WIDEST_LABEL)
            console.out(panel.title, highlight=False)
            for name, entry in zip(labels, panel.entries, strict=True):
                console.out(_row(name, _text_of(entry.description, console), column, width), highlight=False)
            console.out("", highlight=False)

    root.console = Console(file=stream, width=width, no_color=True, highlight=False, markup=False, emoji=False)
    root.help_formatter = HelpPage()


_UNLIMITED = 100_000
_WIDEST_PAGE = 100  # columns; longer lines are harder to read
_WIDEST_LABEL = 28


def label(entry: HelpEntry) -> str:
    """Return ``-r, --replicas RANGES``: the short option first, one long name, and the metavar."""
    if entry.positional_label:
        return entry.positional_label
    names = ", ".join([*entry.positive_shorts, *(entry.negative_names or entry.positive_names[:1])])
    return f"{names} {entry.metavar}" if entry.metavar else names


def _text_of(description: object, console: Console) -> str:
    with console.capture() as captured:
        console.print(description, end="", width=_UNLIMITED)
    return captured.get()


def _row(name: str, description: str, column: int, width: int) -> str:
    left, indent = f"  {name:<{column}}  ", " " * (column + 4)
    before = ""
    if len(left) > len(indent) and width < _UNLIMITED:
        before, left = f"  {name}\n", indent
    text = " ".join(description.split())
    return before + textwrap.fill(text, max(width, column + 34), initial_indent=left, subsequent_indent=indent)


def page_text(docstring: str) -> str:
    """Return the paragraphs of a docstring, with the examples indented below a title of their own."""
    before, _, after = _prose(docstring).partition("Examples:")
    parts = [_flowing(paragraph) for paragraph in before.split("\n\n") if paragraph.strip()]
    found = _lines(after)
    if found:
        parts.append("\n".join(["Examples", *(f"  {line}" for line in found)]))
    return "\n\n".join(parts)


def examples(docstring: str) -> list[str]:
    """Return the command lines below ``Examples:``."""
    return _lines(_prose(docstring).partition("Examples:")[2])


def _prose(docstring: str) -> str:
    """Return the text before the section of parameters, which the parser reads."""
    return inspect.cleandoc(docstring).partition("\nParameters\n----------\n")[0]


def _lines(after: str) -> list[str]:
    return [line.strip() for line in after.splitlines() if line.strip()]


def _flowing(paragraph: str) -> str:
    """Join the lines of a paragraph to one; a paragraph with indented lines stays as it is."""
    lines = paragraph.strip("\n").split("\n")
    return "\n".join(lines) if any(line.startswith(" ") for line in lines) else " ".join(lines)
