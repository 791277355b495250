"""What every command may know of how it was called: streams, environment, and the options that go everywhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from skahactl.errors import UsageError
from skahactl.text import nearest

OUTPUTS = ("table", "wide", "name", "json", "jsonl", "toml")

#: The verbs that look for jobs and sessions where the profile says.
_OF_JOBS = "apply|create|delete|describe|diff|events|get|logs|mark|prune|renew|resume|retry|wait"


class LogFile:
    """The file of ``--log-file``: opened once, before anything is done, so that nothing of it can fail later."""

    def __init__(self, path: str):
        self._path = path
        self._handle: int | None = None
        self._told = False

    def open(self) -> None:
        """Raises UsageError, which names it, where it cannot be opened."""
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise UsageError(f"the log file cannot be opened: {error.strerror}", where=self._path) from error

    def write(self, line: str) -> str | None:
        """Adds the line. Where that cannot be, what to say of it: once, and no reason to stop."""
        if self._handle is None:
            return None
        try:
            os.write(self._handle, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            told, self._told = self._told, True
            return None if told else f"{self._path}: the log file cannot be written: {error.strerror}"
        return None

    def close(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the command line. Data goes to ``stdout``, everything else to ``stderr``."""

    profile: str | None = None
    output: str = "table"
    quiet: bool = False
    verbose: int = 0
    log_file: LogFile | None = None
    command: tuple[str, ...] | None = None  # of split: the words after ``--``
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: str = field(default_factory=lambda: _working_directory())
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
        """What a person must know."""
        self.tell(self.pasteable(text))

    def tell(self, text: str) -> None:
        """A line of stderr as it stands. One that is full or gone is no reason to stop, nor to fail."""
        with contextlib.suppress(OSError):
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def debug(self, text: str) -> None:
        """A line of ``-v``, to stderr and to the log file if one was asked for."""
        if self.log_file is not None:
            failure = self.log_file.write(text)
            if failure is not None:
                self.warn(f"skahactl: {failure}")
        if self.verbose:
            self.tell(text)

    def pasteable(self, text: str) -> str:
        """The text, its commands with the ``-p`` of this call, if it had one: so that they mean the same jobs."""
        if self.profile is None or "skahactl " not in text:
            return text
        import re
        import shlex

        call = f"skahactl -p {shlex.quote(self.profile)} "
        return re.sub(rf"\bskahactl (?=(?:{_OF_JOBS})\b)", lambda found: call, text)


def _working_directory() -> str:
    """The working directory; where it was deleted meanwhile, as the shell last knew it."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD", os.sep)


_current: ContextVar[Invocation] = ContextVar("skahactl_context")


def current() -> Invocation:
    """The context of this call; a plain one outside the command line."""
    try:
        return _current.get()
    except LookupError:
        return Invocation()


def enter(context: Invocation) -> None:
    """Makes ``context`` the current one; for cli.main alone."""
    _current.set(context)


def is_screen(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """A terminal whose cursor can be moved; not one that calls itself dumb, as a screen reader's may."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


def has_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return is_screen(stream, environ) and not environ.get("NO_COLOR")


def shows_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def one_line(text: str) -> str:
    """``text`` as it may stand in one line of a terminal: no control characters, no line breaks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


_VALUED = {"-p": "profile", "--profile": "profile", "-o": "output", "--output": "output", "--log-file": "log_file"}


_FLAGS = {
    "-q": ("quiet", 1),
    "--quiet": ("quiet", 1),
    "-v": ("verbose", 1),
    "--verbose": ("verbose", 1),
    "-vv": ("verbose", 2),
    "-vvv": ("verbose", 2),
}


#: The verbs whose words are manifests: after ``--`` each is a file, whatever it begins with.
_OF_FILES = ("apply", "diff", "validate")


def take_globals(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields of Context that argv sets, and the words that remain. Nothing after ``--`` is an option."""
    taken: dict[str, Any] = {}
    words: list[str] = []
    at = 0
    if argv[:1] == ["__complete"]:
        return taken, list(argv)
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            if words[:1] == ["split"]:  # which has lists before it, of any number
                taken["command"] = tuple(argv[at:])
                break
            rest = argv[at:]
            if words[:1] and words[0] in _OF_FILES:
                rest = [f"./{one}" if one.startswith("-") and one != "-" else one for one in rest]
            words += [word, *rest]
            break
        name, equals, value = _parts(word)
        if word in _FLAGS:
            field, amount = _FLAGS[word]
            taken[field] = True if field == "quiet" else taken.get(field, 0) + amount
        elif name in _VALUED and (equals or word == name):
            if not equals:
                if at == len(argv):
                    raise UsageError(f"{word} needs a value")
                value = argv[at]
                at += 1
            taken[_VALUED[name]] = LogFile(value) if name == "--log-file" else value
        else:
            words.append(word)
    if words[:1] == ["report"] and "output" in taken:  # the file of the page, not a format
        words.append(f"--output={taken.pop('output')}")
    if taken.get("output", "table") not in OUTPUTS:
        guess = nearest(taken["output"], OUTPUTS)
        raise UsageError(
            f"there is no output format '{taken['output']}'",
            hint=(f"did you mean '{guess}'? " if guess else "") + "the formats are " + ", ".join(OUTPUTS),
        )
    return taken, words


def asked_page(words: Sequence[str]) -> str | None:
    """The verb whose help page is asked for."""
    return next((word for word in words if not word.startswith("-")), None) if asks_for_help(words) else None


def asks_for_help(words: Sequence[str]) -> bool:
    """Is it a help page that will be shown? Without any word it is that of all."""
    asked = words[: words.index("--")] if "--" in words else words
    return not words or not {"--help", "-h"}.isdisjoint(asked)


def _parts(word: str) -> tuple[str, str, str]:
    """``--output=json``, and ``-ojson`` as kubectl has it."""
    if word[:2] in ("-o", "-p") and len(word) > 2 and word[2] != "=":
        return word[:2], "=", word[2:]
    return word.partition("=")
