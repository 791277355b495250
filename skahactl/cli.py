"""The command line: argv in, exit code out. The one ladder of errors stands here."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from skahactl.context import Invocation, enter
from skahactl.errors import Exit, SkahactlError
from skahactl.signals import handled_signals


def main(argv: Sequence[str]) -> int:
    """One call of ``skahactl`` with these words; never raises, never prints a traceback."""
    context = Invocation()
    try:
        _take_signals()
        from skahactl.options import take_globals

        options, words = take_globals(argv)
        context = Invocation(**options)
        enter(context)
        if context.log_file is not None:
            context.log_file.open()
        code = _call(words, context)
        context.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Terminated:
        return Exit.TERMINATED
    except BrokenPipeError:
        return Exit.PIPE
    except SkahactlError as error:
        return _tell(context, error)
    except OSError as error:
        if error.errno == errno.EIO and error.filename is None:
            return Exit.TERMINATED  # the terminal is gone, and its SIGHUP not here yet
        return _tell(context, _from_system(error))
    except Exception as error:
        return _tell(context, _unexpected(error, context))
    finally:
        if context.log_file is not None:
            context.log_file.close()
    return code


def _take_signals() -> None:
    """What interrupts is an exception from now on."""
    for number in handled_signals():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _terminated)
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # so that children of ours can be waited for
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived."""


def _call(words: list[str], context: Invocation) -> int:
    """Nothing of a verb is imported before it is called."""
    if words == ["--version"]:
        from skahactl.version import format_version

        context.out(format_version(context))
        return Exit.DONE
    from cyclopts import CycloptsError

    from skahactl.options import asked_page, asks_for_help
    from skahactl.verbs import app

    root = app(asked_page(words))
    if asks_for_help(words) and not context.stdout.isatty():
        from skahactl.help_pages import without_boxes

        without_boxes(root)
    if words[:1] == ["__complete"]:
        root(words)
        return Exit.DONE
    try:
        result = root(words or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        from skahactl.complaints import explain_argument_error

        raise explain_argument_error(error, words) from error
    return int(result) if isinstance(result, int) else Exit.DONE


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _tell(context: Invocation, error: SkahactlError) -> int:
    """The error in words on stderr, or as one JSON object with ``-o json``."""
    if error.hint:
        error.hint = context.pasteable(error.hint)
    if context.output in ("json", "jsonl"):
        import json

        context.tell(json.dumps(error.data(), ensure_ascii=False))
    else:
        where = f"{error.where}: " if error.where else ""
        context.warn(f"skahactl: {where}{error.message}")
        if error.hint:
            context.warn(f"  {error.hint}")
    return int(error.exit)


def _from_system(error: OSError) -> SkahactlError:
    if error.errno == errno.ENOENT and error.filename is None:  # as os.getcwd says it
        return SkahactlError("the working directory is gone", hint="cd to one that is there", code="system")
    name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return SkahactlError(error.strerror or str(error), where=str(name) if name else None, code="system")


def _unexpected(error: Exception, context: Invocation) -> SkahactlError:
    """A mistake of ours: the place in a word, the rest on demand."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    if context.environ.get("SKAHACTL_DEBUG"):
        context.warn("".join(traceback.format_exception(error)))
    return SkahactlError(
        f"this should not have happened: {type(error).__name__}: {error}",
        where=f"{os.path.basename(frame.filename)}:{frame.lineno}",
        hint="please report it with the output of the same command under SKAHACTL_DEBUG=1",
        code="internal",
    )
