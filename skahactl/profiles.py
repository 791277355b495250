"""Which profile: by name or path, from the environment, by ``profile use``, else the local platform.

The last step ends once there is an account, so that nobody runs 600 replicas on a laptop by mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from skahactl.errors import ProfileError
from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Auth, Profile, Registry
from skahactl.system import config_dir, home, write_atomically
from skahactl.text import did_you_mean

BUILT_IN = ("local", "canfar")
ENVIRONMENT = "environment"  # the name of what SKAHACTL_SERVER alone describes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def names(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The profiles that can be named: the built-in ones, and those with a file."""
    environ = os.environ if environ is None else environ
    return tuple(dict.fromkeys((*BUILT_IN, *written_profiles(environ))))


def written_profiles(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of those that have a file."""
    folder = config_dir(environ) / "profiles"
    return tuple(sorted(path.stem for path in folder.glob("*.toml") if _NAME.fullmatch(path.stem)))


def default_name(environ: Mapping[str, str]) -> str | None:
    """What ``profile use`` or ``login`` set; None before."""
    try:
        text = _default_file(environ).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return text or None


def set_default(name: str, environ: Mapping[str, str]) -> None:
    """Makes ``name`` the profile of commands that name none."""
    write_atomically(_default_file(environ), f"{name}\n".encode(), 0o644)


def forget_default(environ: Mapping[str, str]) -> None:
    """No profile is chosen for good any more."""
    _default_file(environ).unlink(missing_ok=True)


def file_of(name: str, environ: Mapping[str, str]) -> Path:
    """Where the profile of this name has its file, if it has one; ProfileError for what cannot be a name."""
    if not _NAME.fullmatch(name):
        raise ProfileError(f"'{name}' cannot be the name of a profile", hint="use letters, digits, '-', '_' and '.'")
    return config_dir(environ) / "profiles" / f"{name}.toml"


def is_path(text: str) -> bool:
    return "/" in text or text.endswith(".toml")


def _default_file(environ: Mapping[str, str]) -> Path:
    return config_dir(environ) / "default-profile"


def choose(name: str | None, environ: Mapping[str, str]) -> Profile:
    """The profile of a command: ``-p`` (a name or a path), SKAHACTL_PROFILE, ``profile use``, local.

    SKAHACTL_SERVER, SKAHACTL_TOKEN and SKAHACTL_CERTIFICATE override it. Raises ProfileError.
    """
    chosen = name or environ.get("SKAHACTL_PROFILE") or None
    server = environ.get("SKAHACTL_SERVER")
    if server and chosen in (None, ENVIRONMENT):
        return _overridden(Profile(ENVIRONMENT, LOCAL_SERVER, client=LOCAL_CLIENT), environ)
    chosen = chosen or default_name(environ)
    if chosen is None:
        _require_no_account(environ)
        chosen = "local"
    return _overridden(load(chosen, environ), environ)


def load(name_or_path: str, environ: Mapping[str, str] | None = None) -> Profile:
    """The profile of this name, or in this file: with a slash in it, or ``.toml`` at its end, it is a path.

    The name of a profile by path is its absolute path, so that it is found again from anywhere.
    """
    environ = os.environ if environ is None else environ
    if is_path(name_or_path):
        path = Path(os.path.abspath(os.path.expanduser(name_or_path)))
        return _read(path, str(path), environ, None)
    path = file_of(name_or_path, environ)
    built_in = _built_in(name_or_path, environ)
    if path.exists():
        return _read(path, name_or_path, environ, built_in)
    if built_in is not None:
        return built_in
    known = names(environ)
    raise ProfileError(
        f"there is no profile '{name_or_path}'",
        hint=did_you_mean(name_or_path, known) or f"there are {', '.join(known)}; skahactl profile add makes one",
    )


def load_file(path: Path, name: str, environ: Mapping[str, str]) -> Profile:
    """The profile ``name`` from a file that is not at its place yet."""
    return _read(path, name, environ, _built_in(name, environ))


def _read(path: Path, name: str, environ: Mapping[str, str], built_in: Profile | None) -> Profile:
    from skahactl.profile_file import read

    return read(path, name, environ, built_in)


def _built_in(name: str, environ: Mapping[str, str]) -> Profile | None:
    if name == "local":
        return Profile("local", LOCAL_SERVER, client=LOCAL_CLIENT)
    if name == "canfar":
        return Profile(
            "canfar",
            "https://ws-uv.canfar.net/skaha/v1",
            auth=Auth("x509", certificate=str(home(environ) / ".ssl" / "cadcproxy.pem")),
            registry=Registry("images.canfar.net"),
        )
    return None


def _overridden(profile: Profile, environ: Mapping[str, str]) -> Profile:
    """The profile with what the environment says instead."""
    server, token, certificate = (environ.get(f"SKAHACTL_{key}") for key in ("SERVER", "TOKEN", "CERTIFICATE"))
    if server:
        from skahactl.profile_file import server_address

        try:
            profile = profile.at(server_address(server))
        except ValueError as error:
            raise ProfileError(f"SKAHACTL_SERVER: {error}") from None
    if profile.is_local:
        return profile
    if token and certificate:
        raise ProfileError("SKAHACTL_TOKEN and SKAHACTL_CERTIFICATE are both set; which of the two?")
    if token:
        return replace(profile, auth=Auth("token", token_env="SKAHACTL_TOKEN"))
    if certificate:
        path = os.path.abspath(os.path.expanduser(certificate))
        return replace(profile, auth=Auth("x509", certificate=path))
    return profile


def _require_no_account(environ: Mapping[str, str]) -> None:
    """Nothing was chosen: fine for whoever has no account, else a choice has to be made."""
    certificate = home(environ) / ".ssl" / "cadcproxy.pem"
    own = [name for name in written_profiles(environ) if name != "local"]
    if certificate.exists():
        reason = f"there is a certificate at {certificate}"
    elif environ.get("SKAHACTL_TOKEN") or environ.get("SKAHACTL_CERTIFICATE"):
        reason = "credentials are set in the environment"
    elif own:
        reason = f"there {'is a profile' if len(own) == 1 else 'are profiles'} {', '.join(own)}"
    else:
        return
    other = own[0] if own else "canfar"
    raise ProfileError(
        f"where to run? No profile is chosen, and {reason}",
        hint=f"once: -p {other}, or -p local for this machine; for good: skahactl profile use {other}",
        code="no-profile",
    )
