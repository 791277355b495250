"""``skahactl login``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from skahactl import completers
from skahactl.errors import AuthError, Exit, ProfileError, UnreachableError, UsageError
from skahactl.invocation import Invocation, current

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from skahactl.profile import Profile
    from skahactl.skaha.credentials import CertificateChain

_LARGEST = 1 << 20  # bytes of a reply with a certificate


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and password. ``file`` is their source; None if they came from a prompt."""

    user: str
    password: str = field(repr=False)
    file: str | None = None


def login(
    profile: Annotated[
        str | None,
        Parameter(
            name="PROFILE",
            help="Profile to log in with (default: the selected profile, else canfar).",
            completer=completers.profiles,
        ),
    ] = None,
    /,
    *,
    user: Annotated[
        str | None, Parameter(name=["--user", "-u"], metavar="NAME", help="Username (default: from netrc or a prompt).")
    ] = None,
) -> int:
    """Get a certificate with your user name and password, and make its profile the default.

    The password comes from ~/.netrc or a prompt. It is sent only to the login-url of the profile, over https.

    Examples:
      skahactl login
      skahactl login canfar --user alice
    """
    from skahactl import profiles
    from skahactl.text import iso_time

    context = current()
    chosen = _choose_profile(profile or context.profile, context)
    if chosen.auth.method != "x509" or chosen.auth.certificate is None:
        return _without_certificate(chosen, context)
    _require_name(chosen)
    require_https(chosen.login_url)
    require_known_host(chosen, context.environ)
    account = _account(chosen, user, context)
    chain = fetch_certificate(chosen, account, context)
    context.say(f"{chosen.auth.certificate}: valid until {iso_time(chain.ends)}")
    if profiles.default_name(context.environ) != chosen.name:
        profiles.set_default(chosen.name, context.environ)
        context.say(
            f"{chosen.name} ({chosen.host}) is now the default profile; to change it: skahactl profile use NAME"
        )
    return Exit.DONE


def _choose_profile(name: str | None, context: Invocation) -> Profile:
    """Return the named or selected profile; ``canfar`` if none is selected, or ``local`` is."""
    from skahactl import profiles

    wanted = name or context.environ.get("SKAHACTL_PROFILE") or profiles.default_name(context.environ)
    if wanted is None or (name is None and wanted == "local"):
        wanted = "canfar"
    return profiles.choose(wanted, context.environ)


def _require_name(profile: Profile) -> None:
    """Raise UsageError for a profile that only the environment describes: it has no login-url and cannot be the
    default."""
    from skahactl.profiles import ENVIRONMENT

    if profile.name == ENVIRONMENT:
        raise UsageError(
            f"SKAHACTL_SERVER names {profile.host}, and no profile says how to log in there",
            hint="put a certificate where SKAHACTL_CERTIFICATE says, or write a profile: "
            f"skahactl profile add NAME --server {profile.server} --auth x509",
        )


def _without_certificate(profile: Profile, context: Invocation) -> int:
    """Print that no login is needed, or raise UsageError with the source of a token, for a profile without
    certificate."""
    from skahactl import profiles

    if profile.auth.method == "token":
        place = profile.auth.token_file or f"the variable {profile.auth.token_env}"
        if profile.auth.token_command is not None:
            raise UsageError(f"profile {profile.name} gets its token from its token-command; no login is needed")
        if profile.auth.token_env == "SKAHACTL_TOKEN" and profiles.load(profile.name, context.environ).auth.certificate:
            raise UsageError(
                f"SKAHACTL_TOKEN is set, and overrides the certificate of profile {profile.name}",
                hint=f"to log in with a certificate: unset SKAHACTL_TOKEN; skahactl login {profile.name}",
            )
        raise UsageError(
            f"profile {profile.name} uses a token, which skahactl cannot get for you",
            hint=f"get one where the server's operators say, and put it into {place}"
            + (" (mode 0600)" if profile.auth.token_file else ""),
        )
    context.say(f"profile {profile.name} needs no login")
    return Exit.DONE


def _account(profile: Profile, user: str | None, context: Invocation) -> Account:
    """Return the user name and password: from netrc, else from a prompt. Raises AuthError without a terminal or an
    answer."""
    found = netrc_account(profile.login_url, user, context.environ)
    if found is not None:
        return found
    if not (context.stdin.isatty() and context.stderr.isatty()):
        raise AuthError(
            "a password is needed, but there is no terminal to ask for it",
            hint="run it on a terminal, or add this line to ~/.netrc (mode 0600):\n"
            f"machine {urlsplit(profile.login_url).hostname} login {user or 'USER'} password PASSWORD",
        )
    import getpass

    if user is None:
        kind = "CADC username" if profile.name == "canfar" else "Username"
        context.stderr.write(f"{kind} for {profile.name} ({profile.host}): ")
        context.stderr.flush()
        user = context.stdin.readline().decode("utf-8", "replace").strip()
    if not user:
        raise AuthError("no username was given")
    password = getpass.getpass(f"Password of {user}: ", stream=context.stderr)
    if not password:
        raise AuthError("no password was given")
    return Account(user, password)


def require_https(url: str) -> None:
    """Raise ProfileError if a password would be sent to another machine without https."""
    from skahactl.skaha.credentials import LOOPBACK

    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise ProfileError(f"a password is sent only over https, but login-url is {url}")


def netrc_account(url: str, user: str | None, environ: Mapping[str, str]) -> Account | None:
    """Return user and password for the host of ``url`` from ``NETRC`` or ``~/.netrc``; None if there are none. Raises
    AuthError for a file that other users can read or that is invalid."""
    import netrc

    from skahactl.system import home

    path = Path(environ.get("NETRC") or home(environ) / ".netrc")
    if not path.exists() or path.is_char_device():  # NETRC=/dev/null means none
        return None
    if path.stat().st_mode & 0o077:
        raise AuthError(
            "the file with your passwords is readable by other users", where=str(path), hint=f"chmod 600 {path}"
        )
    try:
        found = netrc.netrc(str(path)).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):  # its message can contain a password
        raise AuthError("the file with your passwords cannot be read", where=str(path)) from None
    if found is None or not found[0] or not found[2] or (user is not None and found[0] != user):
        return None
    return Account(found[0], found[2], str(path))


def fetch_certificate(profile: Profile, account: Account, context: Invocation) -> CertificateChain:
    """Get a certificate from the login-url of the profile, and replace the former one with it (mode 0600).

    Raises AuthError for a wrong password and UnreachableError for a reply without a certificate; the former one then
    stays.
    """
    from skahactl.skaha import credentials
    from skahactl.system import SystemClock, replaceable, write_atomically

    assert profile.auth.certificate is not None
    status, content = _ask_account(profile, account, context.environ)
    context.debug(f"GET {profile.login_url.split('?', 1)[0]} {status}")
    if status in (401, 403):
        raise AuthError(
            f"wrong user name or password ({_host(profile)} replied {status})",
            where=account.file,
            hint=None if account.file is None else "the account comes from this file; use --user for another one",
        )
    if status != 200:
        raise UnreachableError(f"{_host(profile)} sent no certificate: it replied {status}")
    try:
        path = replaceable(Path(profile.auth.certificate))
    except OSError as error:
        raise ProfileError(f"the certificate cannot be written there: {error.strerror}", where=error.filename) from None
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(draft, content)
    try:
        chain = credentials.current(draft, SystemClock().now(), profile.name)
        draft.replace(path)
    except AuthError as error:
        raise UnreachableError(f"{_host(profile)} sent no usable certificate: {error.message}") from None
    finally:
        draft.unlink(missing_ok=True)
    return chain


def _ask_account(profile: Profile, account: Account, environ: Mapping[str, str]) -> tuple[int, bytes]:
    """Send the request for a certificate; return the status and the body of the reply."""
    import httpx

    from skahactl.skaha import credentials, failures
    from skahactl.skaha.transport import usable_proxy

    client = httpx.Client(
        verify=credentials.server_context(profile, environ),
        proxy=usable_proxy(profile.login_url, environ),
        timeout=profile.client.timeout,
        follow_redirects=False,
        trust_env=False,
    )
    with client:
        try:
            with client.stream("GET", profile.login_url, auth=(account.user, account.password)) as response:
                return response.status_code, _read_reply(response, profile)
        except httpx.HTTPError as error:
            problem = failures.error_of_exception(error)
    problem.where = _host(profile)
    raise problem


def _read_reply(response: httpx.Response, profile: Profile) -> bytes:
    """Return the body of the reply. Raises UnreachableError if it is too large or too slow."""
    latest = time.monotonic() + 2 * profile.client.timeout
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _LARGEST:
            raise UnreachableError(f"{_host(profile)} sent a large page instead of a certificate")
        if time.monotonic() > latest:
            raise UnreachableError(f"{_host(profile)} sent no certificate in time")
    return body


def require_known_host(profile: Profile, environ: Mapping[str, str]) -> None:
    """Raise UnreachableError if the system cannot resolve the host of the login-url. A proxy resolves it itself."""
    import socket

    from skahactl.skaha import failures
    from skahactl.skaha.transport import usable_proxy

    if usable_proxy(profile.login_url, environ) is not None:
        return
    try:
        socket.getaddrinfo(_host(profile), None)
    except (OSError, UnicodeError) as error:
        problem = failures.error_of_exception(error).message if isinstance(error, OSError) else failures.UNKNOWN_HOST
        hint = "check your network, and login-url in the profile"
        raise UnreachableError(problem, where=_host(profile), hint=hint) from None


def _host(profile: Profile) -> str:
    return urlsplit(profile.login_url).hostname or profile.login_url
