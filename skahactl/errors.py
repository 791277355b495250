"""The tree of errors, and the table of exit codes.

SkahactlError
├── UsageError            2  wrong usage, unknown target; nothing was sent
│   ├── ProblemsError     2  all problems of all files at once
│   │   ├── ManifestError
│   │   └── ProfileFileError, which is also a ProfileError
│   ├── ProfileError      2
│   └── LedgerError       2  the state directory or the ledger cannot be used
├── AuthError             3  not logged in, or access refused
├── UnreachableError      4  the platform is unreachable or returns errors; run the command again later
├── TimedOut              5
├── BusyError             6  another command is driving this job
├── InternalError        70  a mistake in skahactl itself
├── CreateError           1  from Python: not every replica could be created
└── NegativeResult        1  finished with a negative result
    └── Declined          1  the user answered a question with no
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, as the manual lists them."""

    DONE = 0
    NO = 1
    USAGE = 2
    AUTH = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    BUSY = 6
    INTERNAL = 70
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


def exit_of_signal(number: int) -> Exit:
    """Return the exit code for a signal (INT, TERM or HUP): 128 plus its number."""
    return Exit(128 + number)


#: If several exit codes apply, the first of these wins.
PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.TERMINATED,
    Exit.HANGUP,
    Exit.PIPE,
    Exit.INTERNAL,
    Exit.AUTH,
    Exit.UNREACHABLE,
    Exit.TIMEOUT,
    Exit.BUSY,
    Exit.USAGE,
    Exit.NO,
    Exit.DONE,
)


def worst(codes: list[Exit]) -> Exit:
    """Return the exit code of a command with parts that ended with ``codes``: the first of PRECEDENCE among them."""
    return next((code for code in PRECEDENCE if code in codes), Exit.DONE)


class SkahactlError(Exception):
    """An error for the user: what is wrong (``message``), where, and what to do (``hint``). ``code`` is stable."""

    exit = Exit.NO
    code = "error"

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None, code: str | None = None):
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        if code is not None:
            self.code = code

    def data(self) -> dict[str, object]:
        """Return the error as one JSON object, for ``-o json``."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "exit": int(self.exit),
        }


STDOUT = "standard output"


def output_error(error: OSError) -> SkahactlError:
    """Return the error of a failure to write to stdout."""
    return SkahactlError(f"cannot write: {error.strerror}", where=STDOUT, code="output")


class UsageError(SkahactlError):
    exit = Exit.USAGE
    code = "usage"


class Guess(str):
    """A hint that only suggests the word that was probably meant. It is shown beside the message if it fits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file.

    Attributes:
        file: The file as it was given, ``-`` for standard input, or an option such as ``--set``.
        message: What is wrong.
        line: The line, from 1, if it is known.
        key: The dotted key.
        hint: What to do.
        column: The first character of the line that is wrong, from 1, if it is known.
        width: How many characters of the line are wrong, for carets below them.
        source: The line as it is in the file.
        manifest: The manifest that names the file, if the file is a list of items.
    """

    file: str
    message: str
    line: int | None = None
    key: str | None = None
    hint: str | None = None
    column: int | None = None
    width: int = 1
    source: str | None = None
    manifest: str | None = None

    @property
    def owner(self) -> str:
        """``key: `` before the message; for a line of a list, ``key of MANIFEST: ``."""
        of_manifest = f" of {self.manifest}" if self.manifest else ""
        return f"{self.key}{of_manifest}: " if self.key else ""

    def text(self) -> str:
        """Return ``file:line:column: key: message (hint)`` on one line."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.owner}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def data(self) -> dict[str, object]:
        """Return the mistake for ``-o json``."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "width": None if self.column is None else self.width,
            "key": self.key,
            "message": self.message,
            "hint": self.hint,
            "manifest": self.manifest,
        }


class ProblemsError(UsageError):
    """Every mistake in some files, at once."""

    def __init__(self, problems: tuple[Problem, ...]):
        super().__init__("\n".join(problem.text() for problem in problems))
        self.problems = problems

    def data(self) -> dict[str, object]:
        return {**super().data(), "problems": [problem.data() for problem in self.problems]}


class ManifestError(ProblemsError):
    code = "manifest"


class ProfileError(UsageError):
    code = "profile"


class ProfileFileError(ProblemsError, ProfileError):
    """Mistakes in the file of a profile."""


class LedgerError(UsageError):
    code = "ledger"


class AuthError(SkahactlError):
    exit = Exit.AUTH
    code = "auth"


class UnreachableError(SkahactlError):
    """The platform gave no usable reply. ``is_permanent``: waiting does not help, because the address is wrong or the
    server cannot be trusted. ``answered``: something answered, but not with what was requested."""

    exit = Exit.UNREACHABLE
    code = "unreachable"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        code: str | None = None,
        is_permanent: bool = False,
        answered: bool = False,
    ):
        super().__init__(message, where=where, hint=hint, code=code)
        self.is_permanent = is_permanent
        self.answered = answered


class TimedOut(SkahactlError):
    exit = Exit.TIMEOUT
    code = "timeout"


class BusyError(SkahactlError):
    exit = Exit.BUSY
    code = "busy"


class InternalError(SkahactlError):
    """A mistake in skahactl itself."""

    exit = Exit.INTERNAL
    code = "internal"


class NegativeResult(SkahactlError):
    exit = Exit.NO
    code = "no"


class Declined(NegativeResult):
    """The user answered a question with no. It is shown without ``error:``."""


class CreateError(SkahactlError):
    """Not every replica could be created.

    ``ids`` are the sessions of the replicas in order, with None for a missing one; ``failures`` maps replica numbers to
    reasons. The created sessions keep running.
    """

    code = "create"

    def __init__(self, name: str, ids: list[str | None], failures: dict[int, str]):
        from skahactl.text import count_noun

        first = min(failures)
        super().__init__(
            f"{len(failures)} of {count_noun(len(ids), 'replica')} of {name} could not be created; replica {first}: "
            f"{failures[first]}",
            hint="ids and failures are attributes of this error",
        )
        self.ids = ids
        self.failures = failures
