"""The command line: argv in, exit code out; the only place that handles errors."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from skahactl import __version__
from skahactl.errors import STDOUT, Exit, InternalError, ProfileError, SkahactlError, exit_of_signal, output_error
from skahactl.invocation import Invocation, asked_page, asks_for_help, enter, take_globals, use_aliases
from skahactl.system import handled_signals

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def _choose_encoding(context: Invocation) -> None:
    """Set the encoding and the error handler of stdout. Data is UTF-8 in any locale, with escapes for bytes that are
    not text; other output keeps its encoding and replaces what it cannot encode."""
    reconfigure = getattr(context.stdout, "reconfigure", None)
    if reconfigure is None:
        return
    if context.machine_readable:
        # JSON has escapes for bytes; TOML has none, so it gets the original bytes of the command line
        reconfigure(encoding="utf-8", errors="surrogateescape" if context.output == "toml" else "backslashreplace")
    else:
        reconfigure(errors="replace")


def main(argv: Sequence[str]) -> int:
    """Run one call of ``skahactl`` with these words and return the exit code. Errors are printed without a
    traceback."""
    context = Invocation()
    arrived: list[int] = []
    try:
        _take_signals(arrived)
        options, words = take_globals(argv)
        context = Invocation(**options)
        _choose_encoding(context)
        enter(context)
        if context.log_file is not None:
            context.log_file.open()
        code = _call(words, context)
        context.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Terminated as error:
        return exit_of_signal(error.number)
    except BrokenPipeError:
        return Exit.PIPE
    except SystemExit as error:  # rich exits this way if the reader of a pipe is gone
        if isinstance(error.__context__, BrokenPipeError):
            return Exit.PIPE
        raise
    except SkahactlError as error:
        return _tell(context, error)
    except OSError as error:
        if error.errno == errno.EIO and error.filename in (None, STDOUT):
            return Exit.HANGUP  # the terminal is gone, and its SIGHUP has not arrived yet
        return _tell(context, _from_system(error))
    except Exception as error:
        if arrived:  # pydantic replaces the exception of a signal with its own
            return exit_of_signal(arrived[0])
        return _tell(context, _unexpected(error, context))
    finally:
        if context.log_file is not None:
            context.log_file.close()
    return code


def _take_signals(arrived: list[int]) -> None:
    """Make signals that interrupt raise an exception: KeyboardInterrupt for INT, Terminated for TERM and HUP. Their
    numbers are added to ``arrived``."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        arrived.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    for number in handled_signals():
        signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # so that we can wait for our children
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _call(words: list[str], context: Invocation) -> int:
    """Run the verb and return the exit code. The module of a verb is imported only when the verb is called."""
    words = use_aliases(words)
    if words == ["--version"]:
        print_version(context)
        return Exit.DONE
    if words in ([], ["--help"], ["-h"]):
        from skahactl.app import front_page

        live = _live_jobs(context) if not words else []
        context.out("\n".join([*live, "", "skahactl --help lists the commands"]) if live else front_page())
        return Exit.DONE
    from cyclopts import CycloptsError

    from skahactl.app import app

    if words[:1] == ["__complete"]:
        app(completing=True)(words)
        return Exit.DONE
    if asks_for_help(words):
        return _help(words, context)
    _warn_of_override(context)
    try:
        result = app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        from skahactl.suggestions import explain_argument_error

        raise explain_argument_error(error, words) from error
    except ProfileError as error:
        if error.code == "no-profile" and words[0] not in ("apply", "create"):
            return _call_where_recorded(words, context, error)
        raise
    return int(result) if isinstance(result, int) else Exit.DONE


#: Verbs that only read.
_READERS = ("get", "describe", "logs", "events", "wait", "report", "open")


def _call_where_recorded(words: list[str], context: Invocation, error: ProfileError) -> int:
    """Run a verb that only reads with the profile of the jobs that it names, if they have a record on one platform.
    Else raise the error, with such a profile in its hint."""
    from dataclasses import replace

    from skahactl.targets import profile_of, record_hint, recorded_runs

    runs = recorded_runs(words, context.environ)
    profile = profile_of(runs[0]) if len({run.key.server for run in runs}) == 1 else None
    if words[0] in _READERS and profile is not None:
        context = replace(context, profile=profile)
        enter(context)
        return _call(words, context)
    if runs:
        error.hint = record_hint(words, runs[0])
    raise error


def _warn_of_override(context: Invocation) -> None:
    """Print a warning if SKAHACTL_SERVER replaces the server of the profile that ``-p`` names."""
    if context.profile is None or not context.environ.get("SKAHACTL_SERVER"):
        return
    from skahactl.profiles import override_warning

    with contextlib.suppress(ProfileError):  # the command reports it, if it uses the profile
        if warning := override_warning(context.profile, context.environ):
            context.warn(f"warning: {warning}")


def _live_jobs(context: Invocation) -> list[str]:
    """Return a line for each unfinished job; empty without a readable local record."""
    from skahactl.errors import LedgerError
    from skahactl.system import state_dir

    if not os.path.exists(state_dir(context.environ) / "ledger.sqlite3"):
        return []
    from skahactl.commands.every_profile import live_jobs

    try:
        return live_jobs()
    except LedgerError as error:
        context.warn(f"warning: {error.message}")
        return []


def _help(words: list[str], context: Invocation) -> int:
    """Print the page of a verb, through a pager if it is longer than the terminal."""
    from skahactl.app import VERBS, help_page
    from skahactl.suggestions import unknown_verb

    verb = asked_page(words)
    if verb not in VERBS:
        raise unknown_verb(words)
    text = help_page(verb, words, context.stdout.isatty())
    if not context.stdout.isatty():
        context.stdout.write(text)
        return Exit.DONE
    from skahactl.render import pager

    pager.show(text, context.stdout, context.environ)
    return Exit.DONE


def _tell(context: Invocation, error: SkahactlError) -> int:
    """Print the error on stderr, with ``-o json`` as one JSON object, and return the exit code."""
    if context.output in ("json", "jsonl"):
        import json

        context.tell(json.dumps(error.data(), ensure_ascii=False))
    else:
        from skahactl.render.errors import error_lines

        for line in error_lines(context, error):
            context.warn(line)
    return int(error.exit)


def _from_system(error: OSError) -> SkahactlError:
    if error.filename == STDOUT:
        return output_error(error)
    if error.errno == errno.ENOENT and error.filename is None:  # os.getcwd raises this
        return SkahactlError("the working directory is gone", hint="cd to one that is there", code="system")
    name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return SkahactlError(error.strerror or str(error), where=str(name) if name else None, code="system")


def _unexpected(error: Exception, context: Invocation) -> SkahactlError:
    """Return an internal error with the place of ``error``; with SKAHACTL_DEBUG, print the traceback too."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    if context.environ.get("SKAHACTL_DEBUG"):
        context.warn("".join(traceback.format_exception(error)))
    return InternalError(
        f"internal error: {type(error).__name__}: {error}",
        where=f"{os.path.basename(frame.filename)}:{frame.lineno}",
        hint="please report it with the output of the same command under SKAHACTL_DEBUG=1",
    )


def run() -> NoReturn:
    """Run ``skahactl`` as a command. The system's handler of Ctrl-C is in place before ``main`` starts (see
    ``__main__``) and after it ends."""
    import gc
    import sys

    gc.set_threshold(100_000)  # starting makes many objects and no garbage
    # httpx runs without its own command line, and importing it, with click and pygments, took a sixth of `get jobs`
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    _open_missing_streams()
    sys.stdout = _named_stdout(sys.stdout)
    code = main(sys.argv[1:])
    _restore_default_sigint()
    for stream in (sys.stdout, sys.stderr):
        _flush_quietly(stream)
    _die_by_signal(code)
    gc.freeze()  # the process ends here; a last search for cycles took a fifth of every command's time
    sys.exit(code)


def _die_by_signal(code: int) -> None:
    """End by the signal that ended the command, so that loops and command lists of a shell stop too."""
    if code not in (Exit.INTERRUPTED, Exit.TERMINATED, Exit.HANGUP):
        return
    number = code - 128
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def _restore_default_sigint() -> None:
    if signal.SIGINT in handled_signals():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_missing_streams() -> None:
    """Replace standard streams that the caller closed (``<&-``): stdin is empty, writes to stdout fail, and writes to
    stderr are discarded."""
    import sys

    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            stream = open(os.open(os.devnull, flags), mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


class _NamedStdout(io.FileIO):
    """Puts the name of stdout into errors of writing, which have none otherwise."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


def _named_stdout(stdout: TextIO) -> TextIO:
    binary = io.BufferedWriter(_NamedStdout(stdout.fileno(), "w", closefd=False))
    return io.TextIOWrapper(binary, stdout.encoding, stdout.errors, line_buffering=bool(stdout.line_buffering))


def _flush_quietly(stream: TextIO) -> None:
    """Flush a stream. If that fails, redirect it to /dev/null, so that the interpreter's final flush prints no
    error."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_version(context: Invocation) -> None:
    """Print the version; with ``-v`` or ``-o json`` also the environment, without secrets."""
    if context.machine_readable:
        import json

        rows = [(name.replace(" ", "_"), value) for name, value in version_rows(context)]
        context.out(json.dumps({"version": __version__, **dict(rows)}, ensure_ascii=False))
    elif context.verbose:
        rows = version_rows(context)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            context.out(f"{name:<{width}}  {value}")
    else:
        context.out(__version__)


def version_rows(context: Invocation) -> list[tuple[str, str]]:
    """Return names and values: versions, directories, the profile, and which SKAHACTL variables are set."""
    import platform
    import re
    import sqlite3
    from importlib.metadata import PackageNotFoundError, requires, version

    from skahactl.system import config_dir, state_dir

    rows = [
        ("skahactl", f"{__version__} in {os.path.dirname(__file__)}"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", platform.platform()),
        ("sqlite", sqlite3.sqlite_version),
    ]
    with contextlib.suppress(PackageNotFoundError):  # in a source tree that is not installed
        needed = [one for one in requires("skahactl") or () if "extra ==" not in one]
        rows += [(name, version(name)) for name in sorted(re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in needed)]
    rows.append(("state", str(state_dir(context.environ))))
    rows.append(("configuration", str(config_dir(context.environ))))
    rows.append(("profile", _profile(context)))
    rows += [(name, "set") for name in sorted(context.environ) if name.startswith("SKAHACTL_")]
    return rows


def _profile(context: Invocation) -> str:
    from skahactl.profiles import choose

    try:
        profile = choose(context.profile, context.environ)
    except SkahactlError as error:
        return error.message.splitlines()[0]
    return f"{profile.name} ({profile.host}, {profile.auth.method})"
