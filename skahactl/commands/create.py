"""``skahactl create``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from skahactl.errors import Exit, UsageError
from skahactl.invocation import current

if TYPE_CHECKING:
    from skahactl.model import Job
    from skahactl.profile import Profile

KINDS = ("headless", "notebook", "desktop", "carta", "firefly", "contributed")

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[KINDS] | str  # what Tab offers; others are refused in our words


def create(
    kind: Annotated[Kind, Parameter(show_choices=False)],
    image: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    name: Annotated[str | None, Parameter(name=["--name", "-n"])] = None,
    cores: Annotated[float | None, Parameter(name=["--cores", "--cpu", "-c"])] = None,
    ram: Annotated[float | None, Parameter(name=["--ram", "--memory", "-m"])] = None,
    gpus: Annotated[int | None, Parameter(name=["--gpus", "--gpu", "-g"])] = None,
    env: Annotated[list[str] | None, Parameter(name=["--env", "-e"], metavar="K=V", negative=())] = None,
    replicas: Annotated[int, Parameter(name=["--replicas", "-r"])] = 1,
    wait: bool = False,
    timeout: str | None = None,
    dry_run: bool = False,
) -> int:
    """Run a job without a file: N replicas of one command, or an interactive session.

    Examples:

      skahactl create headless skaha/astronomy:latest -r 5 -- python3 work.py
      skahactl create headless skaha/astronomy:latest -c 8 -m 32 -n fits --wait
      skahactl create headless skaha/astronomy:latest --dry-run -o toml > job.toml

    Parameters
    ----------
    kind
        headless, notebook, desktop, carta, firefly or contributed.
    image
        The container image; a registry that it does not name comes from the profile.
    command
        After --: what is run, each word as it stands. Left out: the image's own.
    name
        The job's name; one is made, and shown, if none is given.
    cores
        Cores of each replica; left out: flexible.
    ram
        GB of each replica; left out: flexible.
    gpus
        GPUs of each replica.
    env
        K=V for the replicas; K alone: taken from here when it is sent, never stored.
    replicas
        How many; each knows its REPLICA_ID (from 1) and REPLICA_COUNT.
    wait
        Drive the job to its end; an interactive one until it is Running.
    timeout
        Stop waiting after this long; the job goes on. Exit 5.
    dry_run
        Show what would be done; with -o toml the manifest of it.
    """
    from skahactl.commands.apply import ApplyOptions, apply_jobs

    _check_kind(kind)
    words = list(command[1:] if command[:1] == ("--",) else command)
    if len(words) == 1 and len(words[0].split()) > 1:
        current().warn(f"the command is one word, '{words[0]}': write -- {words[0]} without the quotes")
    table = _table(kind.lower(), image, words, name or _made_name(image), replicas)
    resources = {"cores": cores, "ram": ram, "gpus": gpus}
    table["resources"] = {key: _plain(value) for key, value in resources.items() if value is not None}
    table["env"] = _env(env or [])
    table = {key: value for key, value in table.items() if value not in ({}, None, [])}
    context = current()
    if name is None:
        context.say(f"the job is named {table['name']}")
    if dry_run and context.output == "toml":
        return _print_manifest(table)
    asked = ApplyOptions(dry_run=dry_run, wait=wait, timeout=timeout, rerun=True, creating=True)
    return Exit(apply_jobs(lambda profile: _jobs(table, profile), asked))


def _check_kind(kind: str) -> None:
    from skahactl.text import did_you_mean

    if kind.lower() not in KINDS:
        hint = did_you_mean(kind, KINDS) or "create KIND IMAGE [options] -- COMMAND; the kinds are " + ", ".join(KINDS)
        raise UsageError(f"there is no kind of session '{kind}'", hint=hint)


def _table(kind: str, image: str, command: list[str], name: str, replicas: int) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name, "image": image}
    if kind != "headless":
        table["kind"] = kind
    table["command"] = command
    if replicas != 1 or kind == "headless":
        table["replicas"] = replicas
    return table


def _made_name(image: str) -> str:
    """A name from the image's, with a few letters that make it this call's own."""
    import secrets

    last = image.rsplit("/", 1)[-1].split("@")[0].split(":")[0].lower()
    stem = re.sub(r"[^a-z0-9]+", "-", last).strip("-")
    stem = stem if re.match(r"[a-z]", stem) else f"job-{stem}".rstrip("-")
    return f"{stem[:40]}-" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(5))


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _env(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise UsageError(f"'{word}' is no variable: write -e NAME=VALUE, or -e NAME to take it from here")
        found[key] = value if equals else {"from-env": key}
    return found


def _jobs(table: dict[str, Any], profile: Profile) -> tuple[Job, ...]:
    from skahactl.manifest.load import draft
    from skahactl.manifest.resolve import resolve
    from skahactl.skaha.encoding import problems

    made = draft(table, directory=current().cwd)
    return resolve([made], profile, check=lambda request: problems(request))


def _print_manifest(table: dict[str, Any]) -> int:
    """The manifest that would do the same, checked before it is shown."""
    import tomli_w

    from skahactl.manifest.load import draft

    draft(table, directory=current().cwd)
    current().out(tomli_w.dumps(table).rstrip("\n"))
    return Exit.DONE
