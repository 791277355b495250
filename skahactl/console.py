"""The console script: the process around one call of the command line."""

from __future__ import annotations

import signal
from typing import NoReturn, TextIO


def run() -> NoReturn:
    """``skahactl`` as a command. Ctrl-C before there is anything to tell, or after all is told, is the system's."""
    _restore_default_sigint()
    import gc
    import sys

    gc.set_threshold(100_000)  # starting makes many objects and no garbage
    for unused in ("httpx._main", "h2"):  # a command line of its own, with click and rich; HTTP/2, if it is there
        sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
    from skahactl.cli import main

    _open_missing_streams()
    code = main(sys.argv[1:])
    _restore_default_sigint()
    for stream in (sys.stdout, sys.stderr):
        _flush_quietly(stream)
    gc.freeze()  # all goes with the process; to look it through for cycles first took a fifth of every command's time
    sys.exit(code)


def _restore_default_sigint() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_missing_streams() -> None:
    """A stream that the caller closed (``<&-``): nothing to read, and an error to write, but for stderr."""
    import os
    import sys

    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: SIM115


def _flush_quietly(stream: TextIO) -> None:
    """Flushes what is left; where that cannot be, the interpreter's own last flush is not to complain of it."""
    import contextlib
    import os

    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
