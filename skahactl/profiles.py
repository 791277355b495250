"""Select the profile: by name or path, from the environment, by ``profile use``, else the local platform.

A user with an account must select one: 600 replicas must not run on a laptop by mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skahactl.errors import ProfileError
from skahactl.spelling import did_you_mean
from skahactl.system import config_dir, home, write_atomically

if TYPE_CHECKING:
    from skahactl.profile import Profile

BUILT_IN = ("local", "canfar")
ENVIRONMENT = "environment"  # the name of a profile that only SKAHACTL_SERVER describes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def names(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the names of the built-in profiles and of those with a file."""
    environ = os.environ if environ is None else environ
    return tuple(dict.fromkeys((*BUILT_IN, *written_profiles(environ))))


def written_profiles(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of profiles with a file."""
    folder = config_dir(environ) / "profiles"
    return tuple(sorted(path.stem for path in folder.glob("*.toml") if _NAME.fullmatch(path.stem)))


def default_name(environ: Mapping[str, str]) -> str | None:
    """Return the default profile that ``profile use`` or ``login`` set; None if there is none."""
    try:
        text = _default_file(environ).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return text or None


def set_default(name: str, environ: Mapping[str, str]) -> None:
    """Set the default profile."""
    write_atomically(_default_file(environ), f"{name}\n".encode(), 0o644)


def forget_default(environ: Mapping[str, str]) -> None:
    """Remove the default profile."""
    _default_file(environ).unlink(missing_ok=True)


def file_of(name: str, environ: Mapping[str, str]) -> Path:
    """Return the path of a profile's file, which may not exist. Raises ProfileError for an invalid name."""
    if not _NAME.fullmatch(name):
        raise ProfileError(f"invalid profile name '{name}'", hint="use letters, digits, '-', '_' and '.'")
    return config_dir(environ) / "profiles" / f"{name}.toml"


def is_path(text: str) -> bool:
    return "/" in text or text.endswith(".toml")


def _default_file(environ: Mapping[str, str]) -> Path:
    return config_dir(environ) / "default-profile"


def choose(name: str | None, environ: Mapping[str, str]) -> Profile:
    """Return the profile of a command: ``-p`` (a name or a path), SKAHACTL_PROFILE, ``profile use``, local.

    SKAHACTL_SERVER, SKAHACTL_TOKEN and SKAHACTL_CERTIFICATE override its values. Raises ProfileError if the profile is
    unknown or invalid, or if the user has an account and selected none.
    """
    from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Profile

    chosen = name or environ.get("SKAHACTL_PROFILE") or None
    server = environ.get("SKAHACTL_SERVER")
    if server and chosen in (None, ENVIRONMENT):
        return _overridden(Profile(ENVIRONMENT, LOCAL_SERVER, client=LOCAL_CLIENT), environ)
    chosen = chosen or default_name(environ)
    if chosen is None:
        _require_no_account(environ)
        chosen = "local"
    return _overridden(load(chosen, environ), environ)


def override_warning(name: str, environ: Mapping[str, str]) -> str | None:
    """Return a warning if SKAHACTL_SERVER replaces the server of the profile that ``-p`` names, else None."""
    if name == ENVIRONMENT:
        return None
    profile = load(name, environ)
    used = _overridden(profile, environ)
    if used.server == profile.server:
        return None
    means, own = ("this machine" if one.is_local else one.server for one in (used, profile))
    return f"SKAHACTL_SERVER is set, so {name} means {means}; unset it to use {own}"


def shown_name(name: str) -> str:
    """Return the name of a profile for a table; for jobs without a profile, the variable that named their server."""
    return "(SKAHACTL_SERVER)" if name == ENVIRONMENT else name


def load(name_or_path: str, environ: Mapping[str, str] | None = None) -> Profile:
    """Return the profile with this name or in this file; with a slash or a final ``.toml``, it is a path.

    The name of a profile by path is its absolute path, so that it is found from every directory.
    """
    environ = os.environ if environ is None else environ
    if is_path(name_or_path):
        path = Path(os.path.abspath(os.path.expanduser(name_or_path)))
        return read(path, str(path), environ)
    path = file_of(name_or_path, environ)
    if path.exists():
        return read(path, name_or_path, environ)
    if (built_in := _built_in(name_or_path, environ)) is not None:
        return built_in
    if name_or_path == ENVIRONMENT:
        raise ProfileError(
            f"'{ENVIRONMENT}' is not a profile, but a server that SKAHACTL_SERVER named",
            hint="set SKAHACTL_SERVER again; no -p is needed",
        )
    known = names(environ)
    raise ProfileError(
        f"unknown profile '{name_or_path}'",
        hint=did_you_mean(name_or_path, known)
        or f"known profiles: {', '.join(known)}; to create one: skahactl profile add",
    )


def read(path: Path, name: str, environ: Mapping[str, str]) -> Profile:
    """Return the profile ``name`` from the file at ``path``, which can be a draft elsewhere."""
    from skahactl.profile_file import read_profile

    return read_profile(path, name, environ, _built_in(name, environ))


def _built_in(name: str, environ: Mapping[str, str]) -> Profile | None:
    from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Auth, Profile, Registry, StorageSettings

    if name == "local":
        return Profile("local", LOCAL_SERVER, client=LOCAL_CLIENT)
    if name == "canfar":
        return Profile(
            "canfar",
            "https://ws-uv.canfar.net/skaha/v1",
            auth=Auth("x509", certificate=str(home(environ) / ".ssl" / "cadcproxy.pem")),
            registry=Registry("images.canfar.net"),
            storage=StorageSettings("/arc", "https://ws-uv.canfar.net/arc"),
        )
    return None


def _overridden(profile: Profile, environ: Mapping[str, str]) -> Profile:
    """Return the profile with the overrides of the environment."""
    from skahactl.profile import Auth, server_address

    server, token, certificate = (environ.get(f"SKAHACTL_{key}") for key in ("SERVER", "TOKEN", "CERTIFICATE"))
    if server:
        try:
            profile = profile.at(server_address(server))
        except ValueError as error:
            raise ProfileError(f"SKAHACTL_SERVER: {error}") from None
    if profile.is_local:
        return profile
    if token and certificate:
        raise ProfileError("SKAHACTL_TOKEN and SKAHACTL_CERTIFICATE are both set; unset one of them")
    if token:
        return replace(profile, auth=Auth("token", token_env="SKAHACTL_TOKEN"))
    if certificate:
        path = os.path.abspath(os.path.expanduser(certificate))
        return replace(profile, auth=Auth("x509", certificate=path))
    return profile


def _require_no_account(environ: Mapping[str, str]) -> None:
    """Raise ProfileError if the user has an account (certificate, credentials, own profiles), and must select a
    profile."""
    certificate = home(environ) / ".ssl" / "cadcproxy.pem"
    own = [name for name in written_profiles(environ) if name != "local"]
    if certificate.exists():
        reason = f"found a certificate at {certificate}"
    elif (config := home(environ) / ".canfar" / "config.yaml").exists():
        reason = f"found {config}"
    elif any(environ.get(name) for name in ("SKAHACTL_TOKEN", "SKAHACTL_CERTIFICATE", "CANFAR_TOKEN")):
        reason = "found credentials in the environment"
    elif own:
        reason = f"found {'the profile' if len(own) == 1 else 'the profiles'} {', '.join(own)}"
    else:
        return
    others = own or ["canfar"]
    options, other = ", ".join(f"-p {name}" for name in others), others[0] if len(others) == 1 else "NAME"
    raise ProfileError(
        f"no profile selected ({reason})",
        hint=f"add {options}, or -p local for this machine; to set the default: skahactl profile use {other}",
        code="no-profile",
    )
