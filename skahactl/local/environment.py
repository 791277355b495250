"""A session's environment: built, not inherited (skaha-api 9; here without the containers' own)."""

from __future__ import annotations

import os
import pwd
import sys
import sysconfig
from collections.abc import Mapping


def local_user() -> str:
    """Whom the platform says we are: the local user's name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def base_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What stands in for the image's own environment: PATH with skahactl's directory first, language, TZ, TMPDIR."""
    kept = [(name, value) for name, value in environ.items() if _kept(name)]
    return (("PATH", session_path(environ)), *kept)


def _kept(name: str) -> bool:
    return name in ("LANG", "LANGUAGE", "TZ", "TMPDIR") or name.startswith("LC_")


def session_path(environ: Mapping[str, str]) -> str:
    """The search path: where skahactl and its Python are, then the creator's, then the usual places."""
    program = os.path.abspath(sys.argv[0])
    scripts = os.path.dirname(program) if os.path.basename(program) == "skahactl" else sysconfig.get_path("scripts")
    wanted = [
        scripts,
        os.path.dirname(sys.executable),
        *environ.get("PATH", "").split(os.pathsep),
        *os.defpath.split(":"),
    ]
    return os.pathsep.join(dict.fromkeys(place for place in wanted if place))


def platform_environment(
    session: str, cores: float | None, directory: str, environ: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """What the platform sets after the user's own entries, in the server's order."""
    home = environ.get("HOME") or os.path.expanduser("~")
    threads = 1 if cores is None else max(1, int(cores))
    return (
        ("skaha_hostname", "localhost"),
        ("skaha_username", local_user()),
        ("skaha_sessionid", session),
        ("HOME", home),
        ("PWD", directory),
        ("OMP_NUM_THREADS", str(threads)),
    )
