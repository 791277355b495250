"""Every verb, where it lives, and the line that ``--help`` shows for it."""

from __future__ import annotations

from typing import Annotated, Literal, get_type_hints

from cyclopts import App, Group, Parameter

from skahactl import __version__, completers

#: verb: (import string, one line, group)
VERBS = {
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
        from skahactl.help_pages import complete_page

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
