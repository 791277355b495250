"""Show long text on a terminal with a pager."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from typing import TextIO

from skahactl.invocation import clean_text

_DEFAULT = "less -FRX"


def show(text: str, stdout: TextIO, environ: Mapping[str, str], *, lines: int | None = None) -> None:
    """Write ``text``, with a pager if ``stdout`` is a terminal and the text has more lines than it.

    ``text`` can contain escape sequences for colours. The pager is SKAHACTL_PAGER, else PAGER, else ``less -FRX``; an
    empty value, ``cat``, or a program that does not exist means none. ``lines`` is the height of the terminal,
    measured if it is None.
    """
    text = clean_text(text, stdout, environ)
    command = _pager(environ)
    if not command or not stdout.isatty() or text.count("\n") < (lines or shutil.get_terminal_size().lines):
        stdout.write(text)
        return
    stdout.flush()
    _run(command, text)


def _pager(environ: Mapping[str, str]) -> list[str]:
    """Return the words of the pager's command; empty without a pager."""
    setting = next((environ[name] for name in ("SKAHACTL_PAGER", "PAGER") if name in environ), _DEFAULT)
    try:
        words = shlex.split(setting)
    except ValueError:
        return []
    usable = words and words[0] != "cat" and shutil.which(words[0], path=environ.get("PATH"))
    return words if usable else []


def _run(command: list[str], text: str) -> None:
    """Run the pager until the user leaves it. Only the pager handles Ctrl-C; leaving it early is not an error."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8", errors="replace") as pager:
            try:
                pager.communicate(text)
            except BrokenPipeError:
                pager.wait()
    finally:
        signal.signal(signal.SIGINT, before)
