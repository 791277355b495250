"""Get a certificate from the login-url of a profile, with a user name and a password."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from skahactl.errors import AuthError, ProfileError, UnreachableError
from skahactl.skaha import credentials
from skahactl.skaha.credentials import LOOPBACK, CertificateChain
from skahactl.system import Clock, home, replaceable, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skahactl.profile import Profile


def require_https(url: str) -> None:
    """Check that a password is sent only over https or to this machine. Raises ProfileError."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise ProfileError(f"a password is sent only over https, but login-url is {url}")


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and password. ``file`` is their source; None if the user was asked."""

    user: str
    password: str = field(repr=False)
    file: str | None = None


def netrc_account(url: str, user: str | None, environ: Mapping[str, str]) -> Account | None:
    """Return user and password for the host of ``url`` from ``NETRC`` or ``~/.netrc``; None if there are none."""
    import netrc

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


def fetch_certificate(
    profile: Profile, account: Account, clock: Clock, environ: Mapping[str, str], report: Callable[[str], None]
) -> CertificateChain:
    """Get a certificate from the login-url of the profile and write it, with mode 0600, in place of the former one.

    Raises AuthError for a wrong password, and UnreachableError for a reply without a certificate; the former one stays.
    """
    assert profile.auth.certificate is not None
    status, content = _ask_account(profile, account, environ)
    report(f"GET {profile.login_url.split('?', 1)[0]} {status}")
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
        chain = credentials.current(draft, clock.now(), profile.name)
        draft.replace(path)
    except AuthError as error:
        raise UnreachableError(f"{_host(profile)} sent no usable certificate: {error.message}") from None
    finally:
        draft.unlink(missing_ok=True)
    return chain


def _ask_account(profile: Profile, account: Account, environ: Mapping[str, str]) -> tuple[int, bytes]:
    """Return status and body."""
    import httpx

    from skahactl.skaha import failures
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
            response = client.get(profile.login_url, auth=(account.user, account.password))
            return response.status_code, response.content
        except httpx.HTTPError as error:
            problem = failures.error_of_exception(error)
    problem.where = _host(profile)
    raise problem


def require_known_host(profile: Profile, environ: Mapping[str, str]) -> None:
    """Raise UnreachableError if the system cannot resolve the host of the login-url (a proxy resolves it itself)."""
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
