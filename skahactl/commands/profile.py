"""``skahactl profile``: where to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from skahactl import completers
from skahactl.completers import FileName
from skahactl.context import Invocation, current
from skahactl.errors import Exit, ProfileError, UsageError

if TYPE_CHECKING:
    from skahactl.profile import Profile

app = App(
    name="profile",
    help="List, show, add, check and choose profiles: where to run, and with which credentials.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)
Name = Annotated[
    str | None,
    Parameter(help="A profile, or the path of one; the current one if it is left out.", completer=completers.profiles),
]


@app.command(name="list")
def list_profiles() -> int:
    """List the profiles; * marks the one that is used when nothing else is said.

    Examples:

    skahactl profile list

    skahactl profile list -o json
    """
    from skahactl import profiles

    context = current()
    used = _used(context)
    rows = [_row(name, used, context.environ) for name in profiles.names(context.environ)]
    if context.output == "json":
        context.out(json.dumps({"profiles": rows}, ensure_ascii=False, indent=2))
    elif context.output == "jsonl":
        for row in rows:
            context.out(json.dumps(row, ensure_ascii=False))
    elif context.output == "toml":
        import tomli_w

        known = [{key: value for key, value in row.items() if value is not None} for row in rows]
        context.out(tomli_w.dumps({"profiles": known}).rstrip("\n"))
    elif context.output == "name":
        for row in rows:
            context.out(str(row["name"]))
    else:
        _table(rows, context)
    return Exit.DONE


@app.command
def show(name: Name = None, /) -> int:
    """Show a profile as it is used, defaults and the environment's overrides included.

    Examples:

    skahactl profile show canfar
    """
    from skahactl import profiles
    from skahactl.profile_text import profile_data, profile_toml

    context = current()
    profile = profiles.choose(name or context.profile, context.environ)
    if context.output in ("json", "jsonl"):
        context.out(
            json.dumps(profile_data(profile), ensure_ascii=False, indent=2 if context.output == "json" else None)
        )
    else:
        context.out(profile_toml(profile).rstrip("\n"))
    return Exit.DONE


@app.command
def use(
    name: Annotated[str, Parameter(help="A profile, or the path of one.", completer=completers.profiles)], /
) -> int:
    """Choose the profile of commands that name none.

    Examples:

    skahactl profile use canfar
    """
    from skahactl import profiles

    context = current()
    profile = profiles.load(name, context.environ)
    profiles.set_default(profile.name, context.environ)
    context.say(f"{profile.name} ({profile.host}) is used from now on")
    if context.environ.get("SKAHACTL_PROFILE"):
        context.warn("note: SKAHACTL_PROFILE is set, and goes before it")
    return Exit.DONE


@app.command
def add(
    name: Annotated[str, Parameter(help="What it is called.")],
    /,
    *,
    server: Annotated[str | None, Parameter(help="Its address, version included: https://HOST/skaha/v1.")] = None,
    auth: Annotated[Literal["x509", "token", "none"] | None, Parameter(help="How to log in.")] = None,
    certificate: Annotated[FileName | None, Parameter(metavar="FILE", help="The certificate, for x509.")] = None,
    token_file: Annotated[FileName | None, Parameter(metavar="FILE", help="The file that holds the token.")] = None,
    token_env: Annotated[str | None, Parameter(help="The variable that holds the token.")] = None,
    registry: Annotated[str | None, Parameter(help="The registry of images that name none.")] = None,
    ca_file: Annotated[
        FileName | None, Parameter(metavar="FILE", help="Certificate authorities to trust besides the usual ones.")
    ] = None,
    check: Annotated[bool, Parameter(negative="--no-check", help="See that the server answers first.")] = True,
) -> int:
    """Write the file of a new profile; what is left out is asked for on a terminal.

    Examples:

    skahactl profile add mine --server https://skaha.example.org/skaha/v1
    """
    from skahactl import profiles
    from skahactl.commands.profile_add import ProfileAnswers, write_profile

    context = current()
    given = ProfileAnswers(server, auth, certificate, token_file, token_env, registry, ca_file)
    profile = write_profile(name, given, context, check)
    context.say(f"{profile.path}: written; use it with -p {name}, or for good with: skahactl profile use {name}")
    if name in profiles.BUILT_IN:
        context.say(f"note: it takes the place of the built-in profile {name}")
    return Exit.DONE


@app.command
def remove(name: Annotated[str, Parameter(help="The profile.", completer=completers.profiles)], /) -> int:
    """Delete the file of a profile; jobs and their records stay.

    Examples:

    skahactl profile remove mine
    """
    from skahactl import profiles

    context = current()
    if profiles.is_path(name):
        raise UsageError(f"{name} is a file of yours, not a profile by name; delete it with rm")
    path = profiles.file_of(name, context.environ)
    if not path.exists():
        if name in profiles.BUILT_IN:
            raise ProfileError(f"{name} is built in, and has no file to delete")
        profiles.load(name, context.environ)  # says that there is none, and which there are
    path.unlink()
    context.say(f"{path}: deleted")
    if profiles.default_name(context.environ) == name and name not in profiles.BUILT_IN:
        profiles.forget_default(context.environ)
        context.say("no profile is chosen any more; choose one with: skahactl profile use NAME")
    return Exit.DONE


@app.command
def check(
    name: Name = None,
    /,
    *,
    canary: Annotated[
        str | None, Parameter(help="Start one small session of this image, to prove that commands arrive unchanged.")
    ] = None,
    timeout: Annotated[str, Parameter(help="How long the canary may take.")] = "10m",
) -> int:
    """Check a profile: does the server answer, who are you there, what does it offer?

    Examples:

    skahactl profile check

    skahactl profile check canfar --canary images.canfar.net/skaha/terminal:1.1.1
    """
    from skahactl import profiles
    from skahactl.commands.profile_check import run_check

    context = current()
    profile = profiles.choose(name or context.profile, context.environ)
    return run_check(profile, canary, timeout, context)


def _used(context: Invocation) -> str | None:
    """The name of the profile that a command would use now; None if none is chosen."""
    from skahactl import profiles

    try:
        return profiles.choose(context.profile, context.environ).name
    except ProfileError:
        return None


def _row(name: str, used: str | None, environ: Mapping[str, str]) -> dict[str, object]:
    from skahactl import profiles

    try:
        profile: Profile | None = profiles.load(name, environ)
        error = None
    except ProfileError as problem:
        profile, error = None, problem.message.splitlines()[0]
    return {
        "name": name,
        "used": name == used,
        "server": profile.server if profile else None,
        "auth": profile.auth.method if profile else None,
        "path": profile.path if profile else str(profiles.file_of(name, environ)),
        "error": error,
    }


def _table(rows: list[dict[str, object]], context: Invocation) -> None:
    cells = [("", "NAME", "SERVER", "AUTH", "FILE")]
    for row in rows:
        server = row["error"] or ("this machine" if row["server"] == "local" else row["server"])
        mark = "*" if row["used"] else ""
        cells.append((mark, str(row["name"]), str(server), str(row["auth"] or "-"), str(row["path"] or "built in")))
    widths = [max(len(line[at]) for line in cells) for at in range(5)]
    for line in cells:
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        context.out((padded[0].ljust(1) + " " + "  ".join(padded[1:])).rstrip())
