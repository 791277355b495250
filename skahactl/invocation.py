"""One call of the command line: its streams, its environment and the global options."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from skahactl.errors import UsageError
from skahactl.spelling import distance, nearest
from skahactl.text import call_options, join_words, suggest, wrapped

OUTPUTS = ("table", "wide", "name", "json", "jsonl", "yaml", "csv", "toml")
COLOURS = ("auto", "always", "never")


class LogFile:
    """The file of ``--log-file``. It is opened before the command starts, so that a wrong path is reported before any
    work."""

    def __init__(self, path: str):
        self._path = path
        self._stream: TextIO | None = None
        self._reported = False

    def open(self) -> None:
        """Open the file to append to it. Raises UsageError with its path if that fails."""
        try:
            self._stream = open(self._path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"the log file cannot be opened: {error.strerror}", where=self._path) from error

    def write(self, line: str) -> str | None:
        """Append a line. If a write fails, return a warning once, and write nothing more."""
        if self._stream is None or self._reported:
            return None
        try:
            self._stream.write(line + "\n")
        except OSError as error:
            self._reported = True
            return f"{self._path}: the log file cannot be written: {error.strerror}"
        return None

    def close(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the command line. Data goes to ``stdout``, everything else to ``stderr``."""

    profile: str | None = None
    output: str = "table"
    quiet: bool = False
    verbose: int = 0
    log_file: LogFile | None = None
    command: tuple[str, ...] | None = None  # of split: after ``--``; of create: without ``--`` before it
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: str = field(default_factory=lambda: _working_directory())
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def machine_readable(self) -> bool:
        return self.output in ("json", "jsonl", "yaml", "csv", "toml")

    def out(self, text: str) -> None:
        """Write one line of data to stdout."""
        self.data(text + "\n")

    def out_wrapped(self, text: str) -> None:
        """Write a sentence to stdout as a line; on a terminal, wrap it at blanks."""
        self.out(self._wrapped(text, self.stdout))

    def data(self, text: str) -> None:
        """Write data to stdout; on a terminal, replace control characters."""
        self.stdout.write(clean_text(text, self.stdout, self.environ))

    def say(self, text: str) -> None:
        """Print a message on stderr, unless ``-q`` was given."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a warning or an error on stderr; on a terminal, wrap it at blanks."""
        self.tell(self._wrapped(text, self.stderr))

    def _wrapped(self, text: str, stream: TextIO) -> str:
        if not is_screen(stream, self.environ):
            return text
        columns = size_of(stream)[0]
        return "\n".join(part for line in text.split("\n") for part in wrapped(line, columns))

    def tell(self, text: str) -> None:
        """Write a line to stderr. Errors are ignored, for example if stderr is closed or full."""
        with contextlib.suppress(OSError):
            self.stderr.write(clean_text(text, self.stderr, self.environ) + "\n")
            self.stderr.flush()

    def debug(self, text: str) -> None:
        """Write a line to the log file, if there is one, and with ``-v`` to stderr."""
        if self.log_file is not None:
            failure = self.log_file.write(text)
            if failure is not None:
                self.warn(f"skahactl: {failure}")
        if self.verbose:
            self.tell(text)


def _working_directory() -> str:
    """Return the working directory; if it was deleted, the one in PWD."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD", os.sep)


_current: ContextVar[Invocation] = ContextVar("skahactl_context")


def current() -> Invocation:
    """Return the invocation of this call; a default one outside the command line."""
    try:
        return _current.get()
    except LookupError:
        return Invocation()


def enter(context: Invocation) -> None:
    """Make ``context`` the current invocation; only cli.main calls this."""
    _current.set(context)
    call_options.set(() if context.profile is None else ("-p", context.profile))


def ask(
    context: Invocation, question: str, default: str | None = None, check: Callable[[str], object] | None = None
) -> str:
    """Ask on the terminal until ``check`` accepts the answer, and return it. ``check`` raises ValueError for an invalid
    answer.

    An empty answer selects ``default``; without a default, the question is repeated. Raises UsageError if the input
    ends.
    """
    while True:
        context.stderr.write(f"{question} [{default}]: " if default else f"{question}: ")
        context.stderr.flush()
        line = context.stdin.readline()
        if not line:
            raise UsageError("no answer: the input ended")
        answer = line.decode("utf-8", "replace").strip() or default
        try:
            if answer and check is not None:
                check(answer)
        except ValueError as error:
            context.stderr.write(f"{error}\n")
        else:
            if answer:
                return answer


def is_screen(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether ``stream`` is a terminal with a movable cursor; with TERM=dumb, as for screen readers, it has
    none."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return the columns and lines of the terminal; 80 and 24 if they are unknown."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, lines or 24


def has_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to write colours. SKAHACTL_COLOR (which ``--color`` sets) comes first, then NO_COLOR, then the
    terminal or FORCE_COLOR."""
    choice = environ.get("SKAHACTL_COLOR") or "auto"
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    return is_screen(stream, environ) or environ.get("FORCE_COLOR", "0") not in ("", "0")


def shows_unicode(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether ``stream`` can show more than ASCII: its encoding is UTF-8, and the locale is not C or POSIX
    (Python writes UTF-8 in the C locale, but a terminal may not show it). A missing locale is accepted."""
    environ = os.environ if environ is None else environ
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    return locale not in ("C", "POSIX") and (stream.encoding or "").lower().replace("-", "") == "utf8"


#: Escape sequences for colours (kept if colours are shown), control characters, and changes of the text direction.
_UNSAFE = re.compile(
    r"(?P<colour>\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


#: Marks of shortened texts and upper bounds, of the same width in ASCII.
_ASCII = str.maketrans("…≤", ".<")


def make_displayable(text: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return ``text`` with marks that ``stream`` can show."""
    return text if text.isascii() or shows_unicode(stream, environ) else text.translate(_ASCII)


def clean_text(text: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return ``text`` for ``stream``. On a terminal, control characters become ``?``, so that a name, note or message
    from elsewhere cannot send commands to it. All output except logs and repainted displays passes through this
    function."""
    if not stream.isatty():
        return text
    text = make_displayable(text, stream, environ)
    keeps_colour = has_colour(stream, environ)
    colour = r"\g<colour>" if keeps_colour else ""
    return _UNSAFE.sub(lambda found: found.expand(colour) if found["colour"] else "?", text)


def one_line(text: str) -> str:
    """Return ``text`` as one line for a terminal, without control characters and line breaks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


#: Global options that take a value, and what each one sets.
_VALUED = {
    "-p": "profile",
    "--profile": "profile",
    "-o": "output",
    "--output": "output",
    "--color": "color",
    "--colour": "color",
    "--log-file": "log_file",
}

_FLAGS = {
    "-q": ("quiet", 1),
    "--quiet": ("quiet", 1),
    "-v": ("verbose", 1),
    "--verbose": ("verbose", 1),
    "-vv": ("verbose", 2),
    "-vvv": ("verbose", 2),
    "--no-pager": ("no_pager", 1),
}

_GLOBAL_OPTIONS = (*(name for name in (*_VALUED, *_FLAGS) if name.startswith("--")), "--help")

#: The verbs that take manifests: after ``--`` each word is a file, whatever it begins with.
_OF_FILES = ("apply", "diff", "validate")

#: The options of ``create`` that take a value; a test compares them with its signature.
CREATE_VALUED = frozenset(
    {
        *("--name", "-n", "--cores", "--cpu", "-c", "--ram", "--memory", "-m", "--gpus", "--gpu", "-g"),
        *("--env", "-e", "--replicas", "-r", "--timeout", "--image"),
    }
)


def take_globals(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of Invocation that argv and the environment set, and the remaining words.

    Words after ``--`` and in the command of ``create`` are not options. Raises UsageError for an invalid value.
    """
    environ = os.environ if environ is None else environ
    taken: dict[str, Any] = {}
    words: list[str] = []
    at = 0
    if argv[:1] == ["__complete"]:
        return taken, list(argv)
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--" or _starts_command([*words, word]):
            if word == "--" and _lacks_image(words):
                profile = ("-p", taken["profile"]) if "profile" in taken else ()
                if _lacks_kind(words):
                    raise UsageError(
                        "create: KIND is missing before IMAGE",
                        hint=f"write {suggest(*profile, 'create', 'headless', *words[1:], '--', *argv[at:])}",
                    )
                raise UsageError(
                    "create: IMAGE is missing before --",
                    hint=f"write {suggest(*profile, *words, 'IMAGE', '--', *argv[at:])}",
                )
            rest = list(argv[at:] if word == "--" else argv[at - 1 :])
            if word != "--":
                taken["command"] = tuple(rest)
            if words[:1] == ["split"]:  # any number of lists can precede --
                taken["command"] = tuple(rest)
                break
            if words[:1] and words[0] in _OF_FILES:
                rest = [f"./{one}" if one.startswith("-") and one != "-" else one for one in rest]
            words += ["--", *rest]
            break
        name, equals, value = _parts(word)
        if word in _FLAGS:
            field, amount = _FLAGS[word]
            taken[field] = taken.get(field, 0) + amount if field == "verbose" else True
        elif name in _VALUED and (equals or word == name):
            if not equals:
                if at == len(argv):
                    raise UsageError(f"{word} needs a value")
                value = argv[at]
                at += 1
            taken[_VALUED[name]] = LogFile(value) if name == "--log-file" else value
        else:
            words.append(word)
    if words[:1] == ["report"] and "output" in taken:  # -o of report names a file, not a format
        words.append(f"--output={taken.pop('output')}")
    return _settings(taken, words, environ), words


def _starts_command(words: Sequence[str]) -> bool:
    """Return whether the last of these words begins the command of ``create``: it is the third positional word, after
    KIND and IMAGE."""
    positional = _positional(words)
    return words[0] == "create" and len(positional) == 3 and positional[-1] == len(words) - 1


def _lacks_kind(words: Sequence[str]) -> bool:
    """Return whether the only argument of ``create`` before ``--`` looks like an image and not like a kind."""
    return any(mark in words[at] for at in _positional(words) for mark in ":/")


def _lacks_image(words: Sequence[str]) -> bool:
    """Return whether these words before ``--`` are ``create KIND`` without an image."""
    return words[:1] == ["create"] and len(_positional(words)) == 1


def _positional(words: Sequence[str]) -> list[int]:
    """Return the positions of the words of ``create`` that are neither options nor values of options."""
    found, valued = [], False
    for at, word in enumerate(words[1:], 1):
        is_option = word.startswith("-") and not valued
        if not is_option and not valued:
            found.append(at)
        valued = is_option and word in CREATE_VALUED
    return found


def _settings(taken: dict[str, Any], words: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return ``taken`` with checked values. ``--color`` and ``--no-pager`` become variables in the environment of this
    call."""
    overrides = {}
    color = taken.pop("color", None)
    for place, choice in (("--color", color), ("SKAHACTL_COLOR", environ.get("SKAHACTL_COLOR"))):
        if choice and choice not in COLOURS:
            raise _not_one_of(place, choice, COLOURS)
    if color:
        overrides["SKAHACTL_COLOR"] = color
    if taken.pop("no_pager", False):
        overrides["SKAHACTL_PAGER"] = ""
    if overrides:
        taken["environ"] = {**environ, **overrides}
    if "output" in taken:
        if taken["output"] not in OUTPUTS:
            raise _not_one_of("-o", taken["output"], OUTPUTS)
        _refuse_format(taken["output"], words)
    elif (usual := environ.get("SKAHACTL_OUTPUT")) and words[:1] != ["split"]:  # other programs read its lines
        if usual not in OUTPUTS:
            raise _not_one_of("SKAHACTL_OUTPUT", usual, OUTPUTS)
        with contextlib.suppress(UsageError):  # verbs that lack this format ignore the setting
            _refuse_format(usual, words)
            taken["output"] = usual
    return taken


#: The formats of verbs that have only these, and a hint.
_FORMATS = {
    "init": (("table", "toml"), "it prints a manifest, which is TOML"),
    "logs": (("table", "wide", "name", "jsonl"), "use -o jsonl: an object per line"),
    "split": (("table", "json", "jsonl"), "use -o json or -o jsonl, or leave out -o for lines"),
}


def _refuse_format(output: str, words: Sequence[str]) -> None:
    """Raise UsageError for a format that the verb lacks: toml is for manifests and profiles, csv is for tables."""
    verb = words[0] if words else ""
    formats, hint = _FORMATS.get(verb, (OUTPUTS, None))
    if output not in formats:
        raise UsageError(f"{verb} has no -o {output}", hint=hint)
    writes_toml = words[:2] == ["profile", "show"] or words[:1] == ["init"]
    if output == "toml" and not writes_toml and not (words[:1] == ["create"] and "--dry-run" in words):
        raise UsageError(
            "-o toml is for create --dry-run and profile show", hint="use -o json, or -o csv for the tables of get"
        )
    if output == "csv" and words[:1] not in ([], ["get"], ["events"]):
        raise UsageError("-o csv is for get and events", hint="use -o json")


def _not_one_of(place: str, value: str, choices: Sequence[str]) -> UsageError:
    guess = nearest(value, choices)
    return UsageError(
        f"{place} is {join_words(choices, 'or')}, not '{value}'",
        hint=f"did you mean '{guess}'?" if guess else None,
    )


#: Verbs and options that start or end work. They are suggested for at most one typing error.
_HARMFUL = frozenset(
    {
        *("apply", "create", "retry", "resume", "delete", "prune", "mark", "renew", "remove", "serve"),
        *("--rerun", "--replace", "--forget", "--break-lock", "--yes", "--adopt", "--wait", "--unknown", "--sessions"),
        *("--no-logs", "--missing", "--all-profiles"),
    }
)


def similar(word: str, candidates: Iterable[str]) -> str | None:
    """Return ``did you mean 'apply'?`` with the nearest candidate, or None. Short words, and words in _HARMFUL, need at
    most one typing error."""
    short = len(word.strip("-")) <= 6
    likely = [one for one in candidates if not (short or one in _HARMFUL) or distance(word.lower(), one.lower()) <= 1]
    found = nearest(word, likely)
    return f"did you mean '{found}'?" if found else None


_BY_KIND = "filter -o json by the field type of sessions, or types of images"

#: Options of other tools, and what to use instead.
_OPTIONS = {
    ("resume", "--wait"): "resume always waits until the job ends: leave out --wait",
    ("resume", "-w"): "resume always waits until the job ends: leave out -w",
    ("logs", "--since"): "log lines have no times; for the last lines: --tail N",
    ("events", "--since"): "the server keeps events for about an hour; all of them are shown",
    ("apply", "--force"): "to delete the current run and start a new one: --replace",
    ("apply", "--prune"): "to end a job that is no longer in a file: skahactl delete JOB",
    ("delete", "--force"): "delete needs no --force; it repeats the request until the sessions are gone",
    ("delete", "--now"): "delete needs no --now; it repeats the request until the sessions are gone",
    ("delete", "--all"): "to delete every live job: skahactl get jobs --state Running,Pending,Queued -o name | "
    "xargs -r skahactl delete",
    ("get", "--all-namespaces"): "for the jobs of every server: -A",
    ("get", "--field-selector"): "to select rows by state: --state STATE",
    ("get", "-k"): _BY_KIND,
    ("get", "--kind"): _BY_KIND,
    ("login", "--force"): "login always gets a new certificate: leave out --force",
    ("login", "-f"): "login always gets a new certificate: leave out -f",
    ("skahactl", "--log-level"): "to log each HTTP request: -v; -vv also logs its parameters",
    ("create", "--ntasks"): "for N replicas: -r N",
    ("create", "--cmd"): "put the command at the end, after --",
    ("create", "--args"): "put the command and its arguments at the end, after --",
}


def unknown_option(verb: str, word: str, options: Iterable[str], otherwise: str) -> UsageError:
    """Return the error for an option that ``verb`` does not have. The hint is the equivalent, else the nearest of
    ``options`` and the global options, else ``otherwise``."""
    name = word.partition("=")[0]
    hint = _OPTIONS.get((verb, name)) or similar(name, [*options, *_GLOBAL_OPTIONS]) or otherwise
    return UsageError(f"{verb} has no option '{name}'", hint=hint)


def asked_page(words: Sequence[str]) -> str | None:
    """Return the verb for which help is requested, or None."""
    return next((word for word in words if not word.startswith("-")), None) if asks_for_help(words) else None


def asks_for_help(words: Sequence[str]) -> bool:
    """Return whether ``--help`` or ``-h`` is among the words before ``--``."""
    asked = words[: words.index("--")] if "--" in words else words
    return not {"--help", "-h"}.isdisjoint(asked)


def use_aliases(words: Sequence[str]) -> list[str]:
    """Return the words with verbs and options of other tools replaced by the exact equivalents here. Words without an
    exact equivalent stay, and lead to an error with a suggestion."""
    end = words.index("--") if "--" in words else len(words)
    before = [one for word in words[:end] if (one := _DRY_RUN.get(word, word)) is not None]
    first, rest = before[:1], before[1:]
    if first in (["version"], ["-V"]) and not rest:
        before = ["--version"]
    elif first == ["profile"] and rest and rest[0] in _PROFILE_WORDS:
        before[1] = _PROFILE_WORDS[rest[0]]
    elif before == ["profile"]:
        before = ["profile", "--help"]
    elif before[:2] == ["create", "job"]:
        before = _create_job(before)
    return [*before, *words[end:]]


#: kubectl's forms of ``--dry-run``; None means that the option is dropped.
_DRY_RUN = {f"--dry-run={value}": "--dry-run" for value in ("client", "server", "true")} | {
    f"--dry-run={value}": None for value in ("none", "false")
}
_PROFILE_WORDS = {"ls": "list", "rm": "remove", "delete": "remove", "get": "show", "current-context": "current"}


def _create_job(words: list[str]) -> list[str]:
    """Convert kubectl's ``create job NAME --image=I`` to ``create headless I -n NAME``."""
    image, left, at = None, [], 2
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if name == "--image":
            image = value if equals else next(iter(words[at + 1 :]), None)
            at += 1 if equals else 2
        else:
            left.append(words[at])
            at += 1
    if image is None or not left or left[0].startswith("-"):
        return ["create", "headless", *words[2:]]
    return ["create", "headless", image, "-n", *left]


def _parts(word: str) -> tuple[str, str, str]:
    """Split ``--output=json``, or ``-ojson`` as kubectl writes it, into the name, ``=`` and the value."""
    if word[:2] in ("-o", "-p") and len(word) > 2 and word[2] != "=":
        return word[:2], "=", word[2:]
    return word.partition("=")
