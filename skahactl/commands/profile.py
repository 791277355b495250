"""``skahactl profile``: list, show, add, check and select profiles."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from skahactl import completers
from skahactl.commands.runtime import run
from skahactl.completers import FileName
from skahactl.errors import (
    AuthError,
    Exit,
    NegativeResult,
    Problem,
    ProfileError,
    ProfileFileError,
    UnreachableError,
    UsageError,
)
from skahactl.invocation import Invocation, ask, current
from skahactl.system import SystemClock, home
from skahactl.text import count_noun, format_duration, iso_time, parse_duration, suggest
from skahactl.toml import toml_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Options
    from skahactl.system import Clock


app = App(
    name="profile",
    help="List, show, add, check and select profiles: where to run, and with which credentials.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)
Name = Annotated[
    str | None,
    Parameter(
        name="PROFILE", help="Profile name or file (default: the selected profile).", completer=completers.profiles
    ),
]


@app.command(name="list")
def list_profiles() -> int:
    """List profiles; * marks the selected one.

    Examples:
      skahactl profile list
      skahactl profile list -o json
    """
    from skahactl import profiles
    from skahactl.render.tables import data_text

    context = current()
    used = _used(context)
    names = dict.fromkeys((*profiles.names(context.environ), *([used] if used else [])))
    rows = [_row(name, used, context.environ) for name in names]
    if context.output == "name":
        for row in rows:
            context.out(str(row["name"]))
    elif context.machine_readable:
        context.data(data_text(context.output, rows if context.output == "jsonl" else {"profiles": rows}))
    else:
        _table(rows, context)
    return Exit.DONE


@app.command
def show(name: Name = None, /) -> int:
    """Show a profile with its defaults and the overrides from the environment.

    Examples:
      skahactl profile show canfar
    """
    from skahactl import profiles
    from skahactl.profile import profile_data, profile_toml
    from skahactl.render.tables import data_text

    context = current()
    profile = profiles.choose(name or context.profile, context.environ)
    if context.machine_readable and context.output != "toml":
        context.data(data_text(context.output, profile_data(profile)))
    else:
        context.out(profile_toml(profile).rstrip("\n"))
    return Exit.DONE


@app.command
def use(
    name: Annotated[str, Parameter(name="PROFILE", help="Profile name or file.", completer=completers.profiles)],
    /,
) -> int:
    """Set the default profile.

    Examples:
      skahactl profile use canfar
    """
    from skahactl import profiles

    context = current()
    profile = profiles.load(name, context.environ)
    profiles.set_default(profile.name, context.environ)
    context.say(f"{profile.name} ({profile.host}) is now the default profile")
    variable = next((one for one in ("SKAHACTL_SERVER", "SKAHACTL_PROFILE") if context.environ.get(one)), None)
    if variable is not None:
        value = context.environ[variable]
        context.warn(f"warning: {variable} is set, so commands go to {value} until you unset it")
    return Exit.DONE


@app.command(name="current")
def show_current() -> int:
    """Print the name of the selected profile.

    Examples:
      skahactl profile current
    """
    from skahactl import profiles

    context = current()
    context.out(profiles.choose(context.profile, context.environ).name)
    return Exit.DONE


@app.command
def add(
    name: Annotated[str, Parameter(name="NAME", help="Name of the new profile.")],
    /,
    *,
    server: Annotated[
        str | None, Parameter(metavar="URL", help="Address with the version: https://HOST/skaha/v1.")
    ] = None,
    auth: Annotated[
        Literal["x509", "token", "none"] | None,
        Parameter(metavar="x509|token|none", show_choices=False, help="How to log in."),
    ] = None,
    certificate: Annotated[FileName | None, Parameter(metavar="FILE", help="Certificate, for x509.")] = None,
    token_file: Annotated[FileName | None, Parameter(metavar="FILE", help="File that holds the token.")] = None,
    token_env: Annotated[str | None, Parameter(metavar="NAME", help="Variable that holds the token.")] = None,
    registry: Annotated[
        str | None, Parameter(metavar="HOST", help="Registry of images that name none (default: none).")
    ] = None,
    ca_file: Annotated[
        FileName | None, Parameter(metavar="FILE", help="Additional certificate authorities to trust.")
    ] = None,
    storage_root: Annotated[
        str | None,
        Parameter(metavar="DIR", help="Where sessions see the shared storage, such as /arc (default: none)."),
    ] = None,
    storage_url: Annotated[
        str | None, Parameter(metavar="URL", help="Address of the storage service: https://HOST/arc.")
    ] = None,
    shared: Annotated[
        str | None, Parameter(metavar="DIR", help="Default of [logs] shared in manifests (default: none).")
    ] = None,
    check: Annotated[
        bool, Parameter(negative="--no-check", help="Write the profile even if the server does not answer.")
    ] = True,
) -> int:
    """Write a new profile. On a terminal, it asks for what you leave out.

    Examples:
      skahactl profile add mine --server https://skaha.example.org/skaha/v1 --auth x509
    """
    from skahactl import profiles

    context = current()
    path = profiles.file_of(name, context.environ)
    if path.exists():
        raise ProfileError(
            f"there is a profile '{name}' already", where=str(path), hint="edit the file, or remove it first"
        )
    files = {"auth.certificate": certificate, "auth.token-file": token_file, "client.ca-file": ca_file}
    settings = {
        "server": server,
        "registry": registry,
        "auth.method": auth,
        **{key: None if file is None else _as_written(file, context) for key, file in files.items()},
        "auth.token-env": token_env,
        "storage.root": storage_root,
        "storage.url": storage_url,
        "defaults.logs.shared": shared,
    }
    given = {key: text for key, text in settings.items() if text is not None}
    _write(path, name, _file_text(_complete(given, context)), context, check)
    context.say(f"{path}: written; use it with -p {name}; to make it the default: skahactl profile use {name}")
    if name in profiles.BUILT_IN:
        context.say(f"note: it takes the place of the built-in profile {name}")
    return Exit.DONE


@app.command
def remove(
    name: Annotated[str, Parameter(name="PROFILE", help="Profile name.", completer=completers.profiles)], /
) -> int:
    """Delete a profile. Jobs and their records remain.

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
        profiles.load(name, context.environ)  # raises the error with the names of all profiles
    path.unlink()
    context.say(f"{path}: deleted")
    if profiles.default_name(context.environ) == name and name not in profiles.BUILT_IN:
        profiles.forget_default(context.environ)
        context.say("there is no default profile now; to choose one: skahactl profile use NAME")
    return Exit.DONE


@app.command
def check(
    name: Name = None,
    /,
    *,
    canary: Annotated[
        str | None,
        Parameter(
            metavar="IMAGE",
            completer=completers.images,
            help="Start one small session of this image to verify that commands arrive unchanged.",
        ),
    ] = None,
    timeout: Annotated[
        str, Parameter(metavar="DURATION", help="Time limit of the canary session (default: 10m).")
    ] = "10m",
) -> int:
    """Check a profile: whether the server answers, who you are there, and what it offers.

    Examples:
      skahactl profile check
      skahactl profile check canfar --canary images.canfar.net/skaha/terminal:1.1.1
    """
    from skahactl import profiles

    context = current()
    profile = profiles.choose(name or context.profile, context.environ)
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise UsageError(str(error), where="--timeout") from None
    report = CheckReport(context)
    try:
        run(lambda: _check_server(profile, canary, seconds, context, report))
    finally:
        report.close()
    return Exit.DONE


def _used(context: Invocation) -> str | None:
    """Return the name of the selected profile; None if none is selected."""
    from skahactl import profiles

    try:
        return profiles.choose(context.profile, context.environ).name
    except ProfileError:
        return None


def _row(name: str, used: str | None, environ: Mapping[str, str]) -> dict[str, object]:
    from skahactl import profiles

    try:
        profile: Profile | None = (profiles.choose if name == used else profiles.load)(name, environ)
        error = None
    except ProfileFileError as problem:
        first = problem.problems[0]
        profile, error = None, f"{first.owner}{first.message}"
    except ProfileError as problem:
        profile, error = None, problem.message
    return {
        "name": name,
        "used": name == used,
        "server": profile.server if profile else None,
        "auth": profile.auth.method if profile else None,
        "path": profile.path if profile else str(profiles.file_of(name, environ)),
        "error": error,
    }


def _table(rows: list[dict[str, object]], context: Invocation) -> None:
    from skahactl.profiles import ENVIRONMENT

    cells = [("", "NAME", "SERVER", "AUTH", "FILE")]
    for row in rows:
        server = row["error"] or ("this machine" if row["server"] == "local" else row["server"])
        mark = "*" if row["used"] else ""
        file = row["path"] or ("SKAHACTL_SERVER" if row["name"] == ENVIRONMENT else "built in")
        cells.append((mark, str(row["name"]), str(server), str(row["auth"] or "-"), str(file)))
    widths = [max(len(line[at]) for line in cells) for at in range(5)]
    for line in cells:
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        context.out((padded[0].ljust(1) + " " + "  ".join(padded[1:])).rstrip())


def _complete(given: dict[str, str], context: Invocation) -> dict[str, str]:
    """Return the settings by dotted key. Missing ones are requested on a terminal; elsewhere they are a UsageError."""
    from skahactl.profile import server_address

    has_token = "auth.token-file" in given or "auth.token-env" in given
    implied = "token" if has_token else "x509" if "auth.certificate" in given else None
    server, method = given.get("server"), given.get("auth.method") or implied
    lacks_token = method == "token" and not has_token
    if context.stdin.isatty() and context.stderr.isatty():
        asks_all = server is None or method is None
        server = server or ask(context, "Server (https://HOST/skaha/v1)", check=server_address)
        method = method or ask(context, "Log in with: x509, token or none", "x509", _check_method)
        if method == "token" and not has_token:
            given["auth.token-file"] = _as_written(ask(context, "File that holds the token"), context)
        if asks_all:
            _ask_optional(given, server, context)
    elif lacks_token:
        raise UsageError("--auth token needs --token-file FILE or --token-env NAME")
    elif server is None or method is None:
        missing = "--server" if server is None else "--auth x509, token or none"
        raise UsageError(f"profile add needs {missing}", hint="skahactl profile add NAME --server URL --auth METHOD")
    if method == "x509":
        given.setdefault("auth.certificate", "~/.ssl/cadcproxy.pem")
    try:
        return {**given, "server": server_address(server), "auth.method": method}
    except ValueError as error:
        raise UsageError(f"{error}", where="--server") from None


def _check_method(answer: str) -> None:
    if answer not in ("x509", "token", "none"):
        raise ValueError(f"'{answer}' is none of x509, token, none")


def _ask_optional(given: dict[str, str], server: str, context: Invocation) -> None:
    """Ask for the registry, and for the shared storage to which replicas write logs and exit codes."""

    def asked(key: str, question: str, default: str = "none") -> str:
        if key not in given and (answer := ask(context, question, default)) != "none":
            given[key] = answer
        return given.get(key, "")

    asked("registry", "Registry of images that name none")
    root = asked("storage.root", "Shared storage as sessions see it, such as /arc")
    if root:
        beside = server.split("/skaha", 1)[0] + "/" + root.strip("/").rpartition("/")[2]
        asked("storage.url", "Address of its service", beside)
        asked("defaults.logs.shared", f"Directory for logs of every job, such as {root}/logs")


def _file_text(settings: Mapping[str, str]) -> str:
    """Return the text of a new profile: settings by dotted key, and other keys as comments."""
    tables: dict[str, list[str]] = {"": ["# A profile of skahactl: where to run, and defaults for manifests."]}
    for dotted, value in settings.items():
        table, _, key = dotted.rpartition(".")
        tables.setdefault(table, ["", f"[{table}]"]).append(f"{key} = {toml_value(value)}")
    return "\n".join([*(line for lines in tables.values() for line in lines), "", _SUGGESTIONS])


_SUGGESTIONS = """\
# For manifests without [resources] (default: flexible allocation).
# [defaults.resources]
# cores = 2
# ram = 8

# [defaults.limits]
# alive = 512
# pending = 50

# Shared storage: replicas write logs and exit codes there (skahactl help shared-logs).
# [defaults.logs]
# shared = "/arc/home/{user}/logs"
"""


def _write(path: Path, name: str, text: str, context: Invocation, check: bool) -> None:
    """Write the file of the profile. If it is invalid or the server does not answer, no file remains."""
    from skahactl import profiles
    from skahactl.system import write_atomically

    draft = path.with_name(f"{path.stem}.draft")
    write_atomically(draft, text.encode(), 0o644)
    try:
        try:
            profile = profiles.read(draft, name, context.environ)
        except ProfileFileError as error:
            raise ProfileFileError(tuple(_at_option(problem, name) for problem in error.problems)) from None
        if check and not profile.is_local:
            _require_answer(profile, context)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


#: The options of ``add`` by the key that they set.
_OPTIONS = {
    "server": "--server",
    "registry": "--registry",
    "auth.method": "--auth",
    "auth.certificate": "--certificate",
    "auth.token-file": "--token-file",
    "auth.token-env": "--token-env",
    "client.ca-file": "--ca-file",
    "storage.root": "--storage-root",
    "storage.url": "--storage-url",
    "defaults.logs.shared": "--shared",
}


def _at_option(problem: Problem, name: str) -> Problem:
    """Return a mistake in the draft of a profile with the option that sets its key, or else with the key."""
    option = _OPTIONS.get(problem.key or "")
    if option is not None:
        return Problem(option, problem.message, hint=problem.hint)
    return Problem(f"profile {name}", f"{problem.owner}{problem.message}", hint=problem.hint)


def _as_written(path: str, context: Invocation) -> str:
    """Return a path of the command line as a profile contains it: absolute or below ``~``, because a relative path in a
    profile starts at its folder."""
    if path.startswith("~"):
        return path
    full = os.path.abspath(os.path.join(context.cwd, path))
    below = str(home(context.environ)).rstrip("/") + "/"
    return f"~/{full.removeprefix(below)}" if full.startswith(below) else full


def _require_answer(profile: Profile, context: Invocation) -> None:
    """Raise UnreachableError unless a Skaha server answers. Credentials are sent only if the server demands them."""
    from skahactl.platforms import open_client
    from skahactl.profile import Auth

    stranger = replace(profile, auth=Auth(), registry=replace(profile.registry, secret_env=None, secret_file=None))

    async def probe(as_whom: Profile) -> str:
        async with open_client(as_whom, environ=context.environ, report=context.debug) as client:
            return await client.available()

    try:
        try:
            run(lambda: probe(stranger))
        except AuthError:
            if profile.auth.method == "none":
                raise
            run(lambda: probe(profile))
    except UnreachableError as error:
        raise UnreachableError(
            f"no Skaha server answers at {profile.server}: {error.message}",
            hint="nothing was written; add --no-check to write it anyway",
        ) from None
    except AuthError as error:  # its hint is for a profile that exists
        ways = {
            "none": "use --auth token or x509, or add --no-check",
            "x509": f"add --no-check, then log in with: {suggest('login', profile.name)}",
        }
        error.hint = f"nothing was written; {ways.get(profile.auth.method, f'{error.hint}, or add --no-check')}"
        raise


class CheckReport:
    """The results of a check: printed as lines at once, or with ``-o json`` as one object at the end."""

    NAMES = ("profile", "server", "availability", "credentials", "user", "sessions", "resources", "storage", "encoding")

    def __init__(self, context: Invocation):
        self._context = context
        self._data: dict[str, object] = dict.fromkeys(self.NAMES)

    def add(self, line: str | None = None, **found: object) -> None:
        """Record results by name, and print the last one: as ``line``, if given, else its value."""
        self._data |= found
        *_, (name, value) = found.items()
        if not self._context.machine_readable:
            self._context.out(f"{name:<12}  {value if line is None else line}")

    def close(self) -> None:
        if self._context.machine_readable:
            self._context.out(json.dumps(self._data, ensure_ascii=False))


async def _check_server(
    profile: Profile, image: str | None, timeout: float, context: Invocation, report: CheckReport
) -> None:
    """Check the profile step by step and print each result. Raises the error of the first step that fails."""
    from skahactl.platforms import open_client
    from skahactl.skaha import credentials

    clock = SystemClock()
    report.add(f"{profile.name} ({profile.path or 'built in'})", profile=profile.name)
    report.add("this machine" if profile.is_local else None, server=profile.server)
    directory = profile.local.directory or context.cwd
    async with open_client(
        profile, environ=context.environ, directory=directory, report=context.debug, verbose=context.verbose
    ) as client:
        report.add(availability=await client.available())
        credentials.check(profile, clock.now(), context.environ)
        report.add(credentials=_credentials(profile, clock.now()))
        listing = await client.sessions()
        count = len(listing.sessions)
        report.add(
            f"{listing.user or 'unknown'}, {count_noun(count, 'session')}", sessions=count, user=listing.user or None
        )
        report.add(resources=_resources(await client.options()))
        await client.storage.check()
        report.add(storage=profile.storage.url or "none")
        if image is not None:
            await _canary(client, profile, image, timeout, context, clock, report)
        else:
            report.add(encoding=_remembered_canary(profile, context, clock.now()))


async def _canary(
    client: Client,
    profile: Profile,
    image: str,
    timeout: float,
    context: Invocation,
    clock: Clock,
    report: CheckReport,
) -> None:
    from skahactl.skaha import canary
    from skahactl.system import state_dir

    image = profile.registry.full_name(image)
    context.say(f"starting one small session of {image}, which is deleted afterwards")
    verdict = await canary.run_canary(client, image, clock, timeout=timeout, patience=profile.client.log_patience)
    canary.remember_result(state_dir(context.environ), profile.server, verdict.arrived, clock.now())
    if verdict.arrived:
        report.add(encoding="proven: command and environment arrived byte for byte; remembered for 30 days")
        return
    report.add(encoding="different: command or environment arrived changed; remembered for 30 days")
    context.warn("what the canary printed:")
    for line in verdict.log[:2000].decode("utf-8", "replace").splitlines()[:12]:
        context.warn("  " + "".join(char if char.isprintable() else "?" for char in line))
    raise NegativeResult(
        f"{profile.host} does not decode commands as Skaha servers up to 1.4.0 do",
        hint="manifests with blanks, quotes, $ or backslashes in command or [env] are rejected there",
        code="canary",
    )


def _credentials(profile: Profile, now: float) -> str:
    from skahactl.skaha.credentials import ends_at

    auth = profile.auth
    if auth.method == "none":
        return "none"
    if auth.method == "token":
        source = f"${auth.token_env}" if auth.token_env else "token-command" if auth.token_command else auth.token_file
        return f"token from {source}"
    ends = ends_at(profile)
    left = "" if ends is None else f", valid until {iso_time(ends)} ({format_duration(ends - now)})"
    return f"certificate {auth.certificate}{left}"


def _resources(options: Options) -> str:
    parts = [
        f"{name} {min(offered)} to {max(offered)}{unit}" if offered else f"no {name}"
        for name, offered, unit in (
            ("cores", options.cores, ""),
            ("ram", options.ram, " GB"),
            ("gpus", options.gpus, ""),
        )
    ]
    return ", ".join(parts)


def _remembered_canary(profile: Profile, context: Invocation, now: float) -> str:
    from skahactl.skaha.canary import remembered_result
    from skahactl.system import state_dir

    known = remembered_result(state_dir(context.environ), profile.server, now)
    if known is None:
        check = f"skahactl profile check {profile.name} --canary IMAGE"
        return f"not verified that commands arrive unchanged; to verify it: {check}"
    return "a canary showed that commands arrive unchanged" if known else "a canary showed that commands are changed"
