"""Which profiles there are, by name, and which one is chosen for good; of their content nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from skahactl.errors import ProfileError
from skahactl.paths import config_dir, write_atomically

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
