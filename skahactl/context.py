"""What every command may know of how it was called: streams, environment, and the options that go everywhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

OUTPUTS = ("table", "wide", "name", "json", "jsonl", "toml")


@dataclass(frozen=True, slots=True)
class Context:
    """One call of the command line. Data goes to ``stdout``, everything else to ``stderr``."""

    profile: str | None = None
    output: str = "table"
    quiet: bool = False
    verbose: int = 0
    log_file: str | None = None
    command: tuple[str, ...] | None = None  # of split: the words after ``--``
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: str = field(default_factory=lambda: _here())
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def machine_readable(self) -> bool:
        return self.output in ("json", "jsonl", "toml")

    def out(self, text: str) -> None:
        """One line of data."""
        self.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """What a person may like to know; silent with ``-q``."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """What a person must know. A stderr that is full or gone is no reason to stop, nor to fail."""
        with contextlib.suppress(OSError):
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def debug(self, text: str) -> None:
        """A line of ``-v``, to stderr and to the log file if one was asked for."""
        if self.log_file is not None:
            with open(self.log_file, "a", encoding="utf-8") as stream:
                stream.write(text + "\n")
        if self.verbose:
            self.warn(text)


def _here() -> str:
    """The working directory; where it was deleted meanwhile, as the shell last knew it."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD", os.sep)


_current: ContextVar[Context] = ContextVar("skahactl_context")


def current() -> Context:
    """The context of this call; a plain one outside the command line."""
    try:
        return _current.get()
    except LookupError:
        return Context()


def enter(context: Context) -> None:
    """Makes ``context`` the current one; for cli.main alone."""
    _current.set(context)
