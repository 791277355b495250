"""``skahactl create``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import EXECUTION, RESOURCES, Timeout
from skahactl.commands.runtime import check_timeout
from skahactl.errors import Exit, UsageError
from skahactl.invocation import CREATE_VALUED, current
from skahactl.model import tidy_number
from skahactl.text import suggest

if TYPE_CHECKING:
    from skahactl.model import Job
    from skahactl.profile import Profile

KINDS = ("headless", "notebook", "desktop", "carta", "firefly", "contributed")

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[KINDS] | str  # completion offers these; create rejects others itself


#: The option or argument that sets each key of the manifest.
_OPTIONS = {
    "name": "-n",
    "image": "IMAGE",
    "command": "COMMAND",
    "replicas": "-r",
    "env": "-e",
    "resources.cores": "-c",
    "resources.ram": "-m",
    "resources.gpus": "-g",
}


def create(
    kind: Annotated[
        Kind,
        Parameter(
            name="KIND",
            show_choices=False,
            help="headless (runs a command), notebook, desktop, carta, firefly or contributed.",
        ),
    ],
    image: Annotated[
        str,
        Parameter(
            name="IMAGE",
            completer=completers.images,
            help="Container image; the profile supplies the registry if you leave it out.",
        ),
    ],
    /,
    *command: Annotated[
        str, Parameter(name="COMMAND", show=False, help="Command to run (default: that of the image).")
    ],
    name: Annotated[
        str | None,
        Parameter(
            name=["--name", "-n"],
            metavar="NAME",
            help="Name of the job (default: made from the image). -n of an existing job starts its next run.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        Parameter(
            name=["--env", "-e"],
            metavar="K=V",
            negative=(),
            help="Variable for the replicas; K alone takes the value from your environment and never stores it.",
        ),
    ] = None,
    replicas: Annotated[
        int,
        Parameter(
            name=["--replicas", "-r"],
            metavar="N",
            help="Number of replicas; each gets REPLICA_ID and REPLICA_COUNT (default: 1).",
        ),
    ] = 1,
    cores: Annotated[
        float | None,
        Parameter(
            name=["--cores", "--cpu", "-c"],
            metavar="N",
            group=RESOURCES,
            help="Cores of each replica (default: flexible).",
        ),
    ] = None,
    ram: Annotated[
        float | None,
        Parameter(
            name=["--ram", "--memory", "-m"],
            metavar="GB",
            group=RESOURCES,
            help="Memory of each replica (default: flexible).",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        Parameter(
            name=["--gpus", "--gpu", "-g"], metavar="N", group=RESOURCES, help="GPUs of each replica (default: 0)."
        ),
    ] = None,
    wait: Annotated[
        bool,
        Parameter(
            name=["--wait", "-w"],
            group=EXECUTION,
            help="Wait until the job ends and drive it: create queued replicas, save logs. Wait for an interactive "
            "session until it is Running.",
        ),
    ] = False,
    timeout: Timeout = None,
    dry_run: Annotated[
        bool,
        Parameter(
            group=EXECUTION,
            help="Show the plan without changing anything; with -o toml, print the manifest.",
        ),
    ] = False,
) -> int:
    """Run a job without a file: replicas of one command, or an interactive session.

    Put the command after --. Without --, it begins at the first word after IMAGE that is not an option, and every word
    from there on belongs to it.

    Examples:
      skahactl create headless skaha/astronomy:latest -r 5 -- python3 work.py
      skahactl create headless skaha/astronomy:latest -c 8 -m 32 -n fits --wait
      skahactl create notebook skaha/astroml:latest --wait
      skahactl create headless skaha/astronomy:latest --dry-run -o toml > job.toml
    """
    from skahactl.commands.apply import ApplyOptions, apply_jobs

    _check_kind(kind)
    if image.endswith(".toml") and os.path.isfile(os.path.join(current().cwd, image)):
        raise UsageError(
            f"{image} is a file, not an image", hint=f"to run the jobs of a manifest: {suggest('apply', image)}"
        )
    check_timeout(timeout, wait, "create", kind, image, "...")
    _warn_of_options_in_command()
    words = list(command)
    if len(words) == 1 and len(words[0].split()) > 1:
        current().warn(f"the command is one word, '{words[0]}': write -- {words[0]} without the quotes")
    table = _table(kind.lower(), image, words, name or _made_name(image), replicas)
    resources = {"cores": cores, "ram": ram, "gpus": gpus}
    table["resources"] = {key: tidy_number(value) for key, value in resources.items() if value is not None}
    table["env"] = _env(env or [])
    table = {key: value for key, value in table.items() if value not in ({}, None, [])}
    context = current()
    if name is None:
        context.say(f"the job is named {table['name']}")
    if dry_run and context.output == "toml":
        return _print_manifest(table)
    asked = ApplyOptions(dry_run=dry_run, wait=wait, timeout=timeout, rerun=True, creating=True)
    return Exit(apply_jobs(lambda profile: _jobs(table, profile), asked))


def _warn_of_options_in_command() -> None:
    """Print a warning for a long option of create in a command without ``--`` before it."""
    context = current()
    for word in context.command or ():
        option = word.partition("=")[0]
        if option.startswith("--") and option in (*CREATE_VALUED, "--wait", "--dry-run"):
            context.warn(
                f"warning: {option} is part of the command; to give it to skahactl, write it before the command"
            )


def _check_kind(kind: str) -> None:
    from skahactl.spelling import did_you_mean

    if kind.lower() not in KINDS:
        hint = did_you_mean(kind, KINDS) or "create KIND IMAGE [options] -- COMMAND; the kinds are " + ", ".join(KINDS)
        raise UsageError(f"'{kind}' is not a kind of session", hint=hint)


def _table(kind: str, image: str, command: list[str], name: str, replicas: int) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name, "image": image}
    if kind != "headless":
        table["kind"] = kind
    table["command"] = command
    if replicas != 1 or kind == "headless":
        table["replicas"] = replicas
    return table


def _made_name(image: str) -> str:
    """Return a job name from the image's name, made unique by five random characters."""
    import secrets

    last = image.rsplit("/", 1)[-1].split("@")[0].split(":")[0].lower()
    stem = re.sub(r"[^a-z0-9]+", "-", last).strip("-")
    stem = stem if re.match(r"[a-z]", stem) else f"job-{stem}".rstrip("-")
    return f"{stem[:40]}-" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(5))


def _env(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise UsageError(
                f"'{word}' does not name a variable", hint="-e NAME=VALUE, or -e NAME for the value in your environment"
            )
        found[key] = value if equals else {"from-env": key}
    return found


def _jobs(table: dict[str, Any], profile: Profile) -> tuple[Job, ...]:
    from skahactl.manifest.load import draft
    from skahactl.manifest.resolve import resolve
    from skahactl.skaha.encoding import problems

    made = draft(table, directory=current().cwd, options=_OPTIONS)
    return resolve([made], profile, check=lambda request: problems(request))


def _print_manifest(table: dict[str, Any]) -> int:
    """Print the manifest that is equivalent to this call, after validation."""
    import tomli_w

    from skahactl.manifest.load import draft

    draft(table, directory=current().cwd, options=_OPTIONS)
    current().out(tomli_w.dumps(table).rstrip("\n"))
    return Exit.DONE
