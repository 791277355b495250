"""The system: a clock, directories, files and signals.

Code that waits or needs the time takes a Clock as a parameter, so that tests can pass a simulated one.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from skahactl.errors import LedgerError


class Clock(Protocol):
    def now(self) -> float:
        """Return epoch seconds, which advance while the machine sleeps and do not jump when its clock is set."""

    def monotonic(self) -> float:
        """Return monotonic seconds; they do not advance while the machine sleeps."""

    async def sleep(self, seconds: float) -> None: ...


#: The wall clock is read once, and ``now`` advances with this one, which also counts the time that the machine sleeps:
#: a clock that is set while a command runs changes no duration.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: The wall clock of this machine may differ from the server's by so many seconds before ``now`` follows the server.
SKEW = 30.0
_start = time.time() - time.clock_gettime(_STEADY)


class SystemClock:
    def now(self) -> float:
        return _start + time.clock_gettime(_STEADY)

    def correct(self, server: float) -> None:
        """Set this clock to the server's (``server``: epoch seconds) if they differ by more than SKEW seconds. All
        times of a job are server times."""
        global _start
        skew = server - self.now()
        if abs(skew) > SKEW:
            _start += skew

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)


def home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or os.path.expanduser("~")).absolute()


def xdg_dir(environ: Mapping[str, str], name: str, default: str) -> Path:
    """Return the directory that the variable ``name`` contains, or ``default`` below HOME. A relative one is ignored,
    as the XDG specification demands."""
    given = environ.get(name, "")
    return Path(given) if os.path.isabs(given) else home(environ) / default


def config_dir(environ: Mapping[str, str]) -> Path:
    """Return ``$XDG_CONFIG_HOME/skahactl``; it is not created."""
    return xdg_dir(environ, "XDG_CONFIG_HOME", ".config") / "skahactl"


def state_dir(environ: Mapping[str, str]) -> Path:
    """Return ``SKAHACTL_STATE_DIR`` or ``$XDG_STATE_HOME/skahactl``; it is not created."""
    own = environ.get("SKAHACTL_STATE_DIR")
    if own:
        return Path(own).absolute()
    return xdg_dir(environ, "XDG_STATE_HOME", ".local/state") / "skahactl"


def read_limited(path: str, limit: int) -> bytes:
    """Return the content of a file, pipe or device, at most ``limit`` + 1 bytes. Raises OSError, or ValueError for an
    invalid path."""
    with open(path, "rb") as stream:
        return read_stream(stream, limit)


def read_stream(stream: BinaryIO, limit: int) -> bytes:
    """Return the rest of ``stream``, at most ``limit`` + 1 bytes."""
    pieces: list[bytes] = []
    left = limit + 1
    while left and (piece := stream.read(min(left, PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def make_private(path: Path) -> Path:
    """Create the directory ``path`` with mode 0700 if necessary. Raises LedgerError if that fails."""
    try:
        existed = path.is_dir()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not existed:  # an existing directory keeps its mode
            path.chmod(0o700)
    except OSError as error:
        raise unusable_state(path, error) from error
    return path


def unusable_state(path: Path, error: OSError) -> LedgerError:
    """Return the error for a state directory, or a file in it, that cannot be used."""
    return LedgerError(
        f"the state directory cannot be used: {error.strerror}",
        where=str(path),
        hint="set SKAHACTL_STATE_DIR to a directory that you can write to",
    )


def replaceable(path: Path) -> Path:
    """Return the file that writing to ``path`` replaces: the target of a symbolic link, else ``path``. Raises OSError
    if it exists and is not a regular file."""
    path = path.resolve() if path.is_symlink() else path
    check_regular(path)
    return path


def check_regular(path: Path) -> None:
    """Raise OSError if ``path`` exists and is not a regular file: a device may have no end, and a FIFO no writer."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def write_atomically(path: Path, data: bytes, mode: int = 0o600, *, parents: bool = True) -> None:
    """Replace ``path``, or the target of a symbolic link, with ``data`` in one step, using a temporary file in the same
    directory. ``parents``: create missing directories. Raises OSError, also if it exists and is not a regular file."""
    path = replaceable(path)
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handled_signals() -> list[signal.Signals]:
    """Return the signals to handle. A signal that the caller ignores (nohup, the ``&`` of a script) stays ignored."""
    return [number for number in INTERRUPTIONS if signal.getsignal(number) != signal.SIG_IGN]


PIECE = 1 << 20  # bytes that are read at once


def new_manifest(script: str, folder: str) -> str:
    """Return a file name in ``folder`` for the manifest of a batch script that does not exist yet, so that ``>``
    overwrites nothing."""
    stem = os.path.splitext(os.path.basename(script))[0]
    names = ("job.toml", f"{stem}.toml", *(f"{stem}-{number}.toml" for number in range(2, 100)))
    return next((name for name in names if not os.path.exists(os.path.join(folder, name))), "NEW.toml")
