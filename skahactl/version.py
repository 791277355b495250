"""What ``--version`` says; with ``-v`` all that a report of a bug needs."""

from __future__ import annotations

from skahactl import __version__
from skahactl.context import Invocation

_DEPENDENCIES = (
    "certifi",
    "cryptography",
    "cyclopts",
    "httpcore",
    "httpx",
    "pydantic",
    "rich",
    "sniffio",
    "tomli-w",
    "uvicorn",
)


def format_version(context: Invocation) -> str:
    """The version alone, or with ``-v`` lines of name and value; no secret is among them."""
    if not context.verbose:
        return __version__
    rows = _rows(context)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _rows(context: Invocation) -> list[tuple[str, str]]:
    import os
    import platform
    import sqlite3
    from importlib.metadata import PackageNotFoundError, version

    from skahactl.paths import config_dir, state_dir

    rows = [
        ("skahactl", f"{__version__} in {os.path.dirname(__file__)}"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", platform.platform()),
        ("sqlite", sqlite3.sqlite_version),
    ]
    for name in _DEPENDENCIES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "missing"))
    rows.append(("state", str(state_dir(context.environ))))
    rows.append(("configuration", str(config_dir(context.environ))))
    rows.append(("profile", _profile(context)))
    rows += [(name, "set") for name in sorted(context.environ) if name.startswith("SKAHACTL_")]
    return rows


def _profile(context: Invocation) -> str:
    from skahactl.errors import SkahactlError
    from skahactl.profiles import choose

    try:
        profile = choose(context.profile, context.environ)
    except SkahactlError as error:
        return error.message.splitlines()[0]
    return f"{profile.name} ({profile.host}, {profile.auth.method})"
