"""Every verb, where it lives, and the line that ``--help`` shows for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

#: verb: (import string, one line, group)
VERBS = {
    "apply": ("skahactl.commands.apply:apply", "Make the platform match a manifest.", "Run"),
    "create": ("skahactl.commands.create:create", "Run a job without a file.", "Run"),
    "validate": ("skahactl.commands.validate:validate", "Check manifests, without network or secrets.", "Run"),
    "diff": ("skahactl.commands.diff:diff", "Show what apply would change.", "Run"),
    "resume": ("skahactl.commands.resume:resume", "Drive a run again, from the ledger.", "Run"),
    "retry": ("skahactl.commands.retry:retry", "Start new attempts of failed replicas.", "Run"),
    "get": ("skahactl.commands.get:get", "Show jobs, replicas, items, sessions, images and more.", "Look"),
    "describe": ("skahactl.commands.describe:describe", "Show a job with its replicas, times and logs.", "Look"),
    "logs": ("skahactl.commands.logs:logs", "Show, follow or save every replica's log.", "Look"),
    "events": ("skahactl.commands.events:events", "Show scheduling events: why is it Pending?", "Look"),
    "wait": ("skahactl.commands.wait:wait", "Wait until it is so, or cannot be.", "Look"),
    "delete": ("skahactl.commands.delete:delete", "Delete sessions, and verify it.", "End"),
    "mark": ("skahactl.commands.mark:mark", "Record what a person found out.", "End"),
    "renew": ("skahactl.commands.renew:renew", "Extend deadlines.", "End"),
    "prune": ("skahactl.commands.prune:prune", "Forget old records and logs.", "End"),
    "split": ("skahactl.commands.split:split", "Print this replica's share of a list.", "Inside a replica"),
    "profile": ("skahactl.commands.profile:app", "List, show, add, check and choose where to run.", "Set up"),
    "login": ("skahactl.commands.login:login", "Get a certificate.", "Set up"),
    "serve": ("skahactl.commands.serve:serve", "Offer the local platform over HTTP.", "Set up"),
    "schema": ("skahactl.commands.schema:schema", "Print the JSON Schema of manifests.", "Set up"),
    "explain": ("skahactl.commands.explain:explain", "Explain a key of the manifest.", "Set up"),
    "completion": ("skahactl.commands.completion:app", "Print or install shell completion.", "Set up"),
}

GROUPS = ("Run", "Look", "End", "Inside a replica", "Set up")


def app() -> App:
    """The cyclopts app; its ``meta`` carries the options that go everywhere, for help and completion."""
    from cyclopts import App, Group, Parameter

    from skahactl import __version__

    groups = {name: Group(name, sort_key=place) for place, name in enumerate(GROUPS)}
    root = App(
        name="skahactl",
        help="Declarative batch work on the CANFAR Science Platform: one file says what should run.",
        help_epilogue="Everywhere: -p PROFILE, -o table|wide|name|json|jsonl|toml, -q, -v, -vv, --log-file FILE.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
    )
    for verb, (place, line, group) in VERBS.items():
        root.command(place, name=verb, help=line, group=groups[group])
    return root
