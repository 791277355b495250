"""``skahactl login``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from skahactl import completers
from skahactl.errors import AuthError, Exit, UsageError
from skahactl.invocation import Invocation, current

if TYPE_CHECKING:
    from skahactl.profile import Profile
    from skahactl.skaha.login import Account


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
    from skahactl.skaha.login import fetch_certificate, require_https, require_known_host
    from skahactl.system import SystemClock
    from skahactl.text import iso_time

    context = current()
    chosen = _choose_profile(profile or context.profile, context)
    if chosen.auth.method != "x509" or chosen.auth.certificate is None:
        return _without_certificate(chosen, context)
    _require_name(chosen)
    require_https(chosen.login_url)
    require_known_host(chosen, context.environ)
    account = _account(chosen, user, context)
    chain = fetch_certificate(chosen, account, SystemClock(), context.environ, context.debug)
    context.say(f"{chosen.auth.certificate}: valid until {iso_time(chain.ends)}")
    if profiles.default_name(context.environ) != chosen.name:
        profiles.set_default(chosen.name, context.environ)
        context.say(
            f"{chosen.name} ({chosen.host}) is now the default profile; to change it: skahactl profile use NAME"
        )
    return Exit.DONE


def _choose_profile(name: str | None, context: Invocation) -> Profile:
    """Return the profile that is named or in use; canfar where that would be none, or this machine."""
    from skahactl import profiles

    wanted = name or context.environ.get("SKAHACTL_PROFILE") or profiles.default_name(context.environ)
    if wanted is None or (name is None and wanted == "local"):
        wanted = "canfar"
    return profiles.choose(wanted, context.environ)


def _require_name(profile: Profile) -> None:
    """Reject a profile that only the environment describes: it has no login-url, and cannot become the default."""
    from skahactl.profiles import ENVIRONMENT

    if profile.name == ENVIRONMENT:
        raise UsageError(
            f"SKAHACTL_SERVER names {profile.host}, and no profile says how to log in there",
            hint="put a certificate where SKAHACTL_CERTIFICATE says, or write a profile: "
            f"skahactl profile add NAME --server {profile.server} --auth x509",
        )


def _without_certificate(profile: Profile, context: Invocation) -> int:
    """Return what to do instead, for a profile that has no certificate to get."""
    if profile.auth.method == "token":
        place = profile.auth.token_file or f"the variable {profile.auth.token_env}"
        if profile.auth.token_command is not None:
            raise UsageError(f"profile {profile.name} gets its token from its token-command; no login is needed")
        raise UsageError(
            f"profile {profile.name} uses a token, which skahactl cannot get for you",
            hint=f"get one where the server's operators say, and put it into {place}"
            + (" (mode 0600)" if profile.auth.token_file else ""),
        )
    context.say(f"profile {profile.name} needs no login")
    return Exit.DONE


def _account(profile: Profile, user: str | None, context: Invocation) -> Account:
    """Return the user name and password: from netrc, else from a prompt on the terminal."""
    from skahactl.skaha.login import Account, netrc_account

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
