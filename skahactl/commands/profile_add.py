"""What ``profile add`` asks, checks and writes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl.context import Invocation
from skahactl.errors import ProfileError, UsageError
from skahactl.paths import home

if TYPE_CHECKING:
    from skahactl.profile import Profile


@dataclass(frozen=True, slots=True)
class ProfileAnswers:
    """What the options say; None: not said."""

    server: str | None
    auth: str | None
    certificate: str | None
    token_file: str | None
    token_env: str | None
    registry: str | None
    ca_file: str | None


def write_profile(name: str, given: ProfileAnswers, context: Invocation, check: bool) -> Profile:
    """Writes the file of the profile and reads it back; nothing is left behind if the server does not answer."""
    from skahactl import profiles
    from skahactl.paths import write_atomically
    from skahactl.profile_keys import server_address
    from skahactl.profile_text import new_file

    path = profiles.file_of(name, context.environ)
    if path.exists():
        raise ProfileError(
            f"there is a profile '{name}' already", where=str(path), hint="edit the file, or remove it first"
        )
    answers = _answers(given, context)
    try:
        server = server_address(answers.server or "")
    except ValueError as error:
        raise UsageError(f"{error}", where="--server") from None
    text = new_file(_tables(answers, context), server, answers.registry)
    draft = path.with_name(f"{path.stem}.draft")
    write_atomically(draft, text.encode(), 0o644)
    try:
        profile = profiles.load_file(draft, name, context.environ)
        if check and not profile.is_local:
            _require_answer(profile, context)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return replace(profile, path=str(path))


def _answers(given: ProfileAnswers, context: Invocation) -> ProfileAnswers:
    """Completed on a terminal; elsewhere what is missing is an error."""
    at_terminal = context.stdin.isatty() and context.stderr.isatty()
    if given.auth == "token" and given.token_file is None and given.token_env is None and not at_terminal:
        raise UsageError("--auth token needs --token-file FILE or --token-env NAME")
    if given.server is not None and (given.auth is not None or _implied(given) is not None):
        return replace(given, auth=given.auth or _implied(given))
    if not at_terminal:
        missing = "--server" if given.server is None else "--auth x509, token or none"
        raise UsageError(f"profile add needs {missing}", hint="skahactl profile add NAME --server URL --auth METHOD")
    server = given.server or _prompt(context, "Server (https://HOST/skaha/v1)", None)
    auth = given.auth or _implied(given) or _prompt(context, "Log in with: x509, token or none", "x509")
    if auth not in ("x509", "token", "none"):
        raise UsageError(f"'{auth}' is none of x509, token, none")
    token_file = given.token_file
    if auth == "token" and token_file is None and given.token_env is None:
        token_file = _prompt(context, "File that holds the token", None)
    registry = given.registry or _prompt(context, "Registry of images that name none", "none")
    return replace(
        given, server=server, auth=auth, token_file=token_file, registry=None if registry == "none" else registry
    )


def _implied(given: ProfileAnswers) -> str | None:
    if given.token_file is not None or given.token_env is not None:
        return "token"
    return "x509" if given.certificate is not None else None


def _prompt(context: Invocation, question: str, default: str | None) -> str:
    context.stderr.write(question + (f" [{default}]" if default else "") + ": ")
    context.stderr.flush()
    line = context.stdin.readline()
    if not line:
        raise UsageError("nothing was answered")
    answer = line.decode("utf-8", "replace").strip() or default
    if not answer:
        raise UsageError(f"{question}: an answer is needed")
    return answer


def _tables(answers: ProfileAnswers, context: Invocation) -> dict[str, dict[str, str]]:
    def whole(path: str | None) -> str | None:
        return None if path is None else _as_written(path, context)

    certificate = answers.certificate or ("~/.ssl/cadcproxy.pem" if answers.auth == "x509" else None)
    auth = {
        "method": answers.auth,
        "certificate": whole(certificate),
        "token-file": whole(answers.token_file),
        "token-env": answers.token_env,
    }
    tables = {"auth": {key: text for key, text in auth.items() if text is not None}}
    if answers.ca_file is not None:
        tables["client"] = {"ca-file": _as_written(answers.ca_file, context)}
    return tables


def _as_written(path: str, context: Invocation) -> str:
    """A path of the command line as a person writes it into a profile, where it would mean the profile's folder."""
    if path.startswith("~"):
        return path
    full = os.path.abspath(os.path.join(context.cwd, path))
    below = str(home(context.environ)).rstrip("/") + "/"
    return f"~/{full.removeprefix(below)}" if full.startswith(below) else full


def _require_answer(profile: Profile, context: Invocation) -> None:
    """UnreachableError unless a Skaha server answers there; no credentials are shown to it yet."""
    from skahactl.platforms import open_client
    from skahactl.profile import Auth

    stranger = replace(profile, auth=Auth(), registry=replace(profile.registry, secret_env=None, secret_file=None))

    async def ask() -> str:
        async with open_client(stranger, environ=context.environ, report=context.debug) as client:
            return await client.available()

    from skahactl.errors import UnreachableError

    try:
        asyncio.run(ask())
    except UnreachableError as error:
        raise UnreachableError(
            f"no Skaha server answers at {profile.server}: {error.message}",
            hint="nothing was written; write it all the same with --no-check",
        ) from None
