"""A driver's progress (engine.runtime.Reporter): a picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TextIO

from skahactl.engine.runtime import FailedReplica, Reporter, RunProgress, SilentReporter
from skahactl.invocation import Invocation, is_screen, one_line
from skahactl.model import ENDED, State
from skahactl.render.outcomes import head_of, standing
from skahactl.text import count_noun, format_ranges, without_numbers

if TYPE_CHECKING:
    from skahactl.render.terminal import RepaintedDisplay, Size


Monotonic = Callable[[], float]


def reporter(context: Invocation) -> Reporter:
    """Return the reporter for stderr: LiveReporter on a terminal, PlainReporter elsewhere and with TERM=dumb,
    QuietReporter with ``-q``."""
    if context.quiet:
        return QuietReporter(context)
    if is_screen(context.stderr, context.environ):
        return LiveReporter(context.stderr, context.environ)
    return PlainReporter(context.stderr)


class QuietReporter(SilentReporter):
    """Prints only warnings."""

    def __init__(self, context: Invocation):
        self._context = context

    def warn(self, text: str) -> None:
        self._context.warn(one_line(text))


class PlainReporter:
    """Prints a line when a job's counts change, at most one every ``interval`` seconds for each job. A closed stream
    does not stop the work."""

    def __init__(self, stream: TextIO, *, monotonic: Monotonic = time.monotonic, interval: float = 5.0):
        self._stream = stream
        self._monotonic = monotonic
        self._interval = interval
        self._written: dict[int, tuple[float, str]] = {}
        self._due: dict[int, str] = {}
        self._reasons: dict[tuple[int, str], _Alike] = {}

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(one_line(text) + "\n")
            self._stream.flush()

    def warn(self, text: str) -> None:
        self.say(text)

    def progress(self, runs: Sequence[RunProgress]) -> None:
        for run in runs:
            key = run.summary.run.id
            line = f"{head_of(run.summary.run)}: {_line(run)}"
            at, before = self._written.get(key, (float("-inf"), ""))
            if line == before:
                self._due.pop(key, None)
            elif self._monotonic() - at >= self._interval:
                self._write(key, line)
            else:
                self._due[key] = line
            self._say_why(run)

    def close(self, *, has_result: bool = False) -> None:
        """Write the delayed lines, unless the command prints the result itself (``has_result``)."""
        for key, line in list(self._due.items()):
            if not has_result:
                self._write(key, line)
        self._due.clear()
        self._count_alike(float("inf"))

    def _say_why(self, run: RunProgress) -> None:
        """Print why replicas are Pending and why replicas failed, each reason once."""
        key, where = run.summary.run.id, head_of(run.summary.run)
        news = [(number, words, f"replica {number} is Pending: {words}", False) for number, words in run.why]
        news += [(one.replica, *_failure(one), not (one.running or one.retried)) for one in run.failures]
        for number, words, line, is_lost in news:
            alike = self._reasons.get((key, words))
            if alike is not None and is_lost:
                alike.more |= {number} - alike.said
            elif alike is None and words and len(self._reasons) < _MOST_REASONS:
                self._reasons[key, words] = _Alike(number, where, self._monotonic(), {number})
                self.say(f"{where}: {line}")
        self._count_alike(self._monotonic() - self._interval)

    def _count_alike(self, until: float) -> None:
        """Print how many more replicas failed like one that was reported, for the reasons of which the last line was
        printed no later than ``until``."""
        for alike in self._reasons.values():
            if alike.more and alike.at <= until:
                others = count_noun(len(alike.more), "more replica")
                self.say(f"{alike.where}: {others} failed like replica {alike.first}: {format_ranges(alike.more)}")
                alike.at, alike.said, alike.more = self._monotonic(), alike.said | alike.more, set()

    def _write(self, key: int, line: str) -> None:
        self._due.pop(key, None)
        self._written[key] = (self._monotonic(), line)
        self.say(line)


@dataclass
class _Alike:
    """Failures with the same reason: the replica and the job of the first, when the last line was printed, the replicas
    that were named, and those that are not named yet."""

    first: int
    where: str
    at: float
    said: set[int]
    more: set[int] = field(default_factory=set)


_MOST_REASONS = 50  # maximum number of lines with reasons


def _line(run: RunProgress) -> str:
    """Return the status with counts; before the job has ended, also the items, of which some logs are read only at the
    end."""
    items, status = run.summary.items, run.summary.status
    done = f"; {items['completed']}/{items['total']} items" if items.get("total") and status not in ENDED else ""
    return standing(run.summary.status, run.summary.counts) + done


def _failure(failure: FailedReplica) -> tuple[str, str]:
    """Return the reason without its numbers, to recognise similar failures, and the line that names the replica."""
    code = "" if failure.exit_code is None else f"exit {failure.exit_code}"
    words = failure.words
    if failure.line is None and code and failure.hint:
        code, words = f"{code}: {failure.hint}", failure.reason or ""
    details = ", ".join(filter(None, (f"item {failure.item}" if failure.item else "", code)))
    reason = f"{failure.exit_code} {without_numbers(words or code)}" if words or failure.hint else ""
    what = f"{'an item of ' * failure.running}replica {failure.replica} failed" + f" ({details})" * bool(details)
    what += " and will be retried" * failure.retried
    source = "; last line of its log" if failure.line is not None else ""
    return reason, f"{what}{source}: {words}" if words else what


class LiveReporter:
    """A picture of every job, painted at each poll, and every ``tick`` seconds for the spinner, the clock and a new
    terminal size. The title of the terminal names the first job. A closed terminal does not stop the work.

    Only one thread writes to the terminal, and only the main thread is interrupted, so that the recorded state of the
    terminal is always correct.
    """

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        *,
        monotonic: Monotonic = time.monotonic,
        tick: float = 0.2,
        size: Callable[[], Size] | None = None,
    ):
        from skahactl.invocation import shows_unicode
        from skahactl.render.terminal import RepaintedDisplay

        self._stream = stream
        self._picture: RepaintedDisplay = RepaintedDisplay(stream, environ, size)
        self._unicode = shows_unicode(stream)
        self._monotonic = monotonic
        self._tick = self._pause = tick
        self._changed = threading.Condition()
        self._said: list[str] = []
        self._runs: tuple[RunProgress, ...] = ()
        self._at = 0.0
        self._ticks = 0
        self._news = self._closed = False
        self._thread = threading.Thread(target=self._keep_painting, name="progress", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        with self._changed:
            self._said.append(one_line(text))
            self._tell()

    def warn(self, text: str) -> None:
        self.say(text)

    def progress(self, runs: Sequence[RunProgress]) -> None:
        with self._changed:
            self._runs, self._at = tuple(runs), self._monotonic()
            self._tell()

    def close(self, *, has_result: bool = False) -> None:
        """Write all messages, and remove the picture. Later messages are plain lines."""
        del has_result
        with self._changed:
            self._closed = True
            self._tell()
        self._thread.join()

    def _tell(self) -> None:
        if not self._thread.is_alive():
            self._write_said()
        self._news = True
        self._changed.notify()

    def _keep_painting(self) -> None:
        closed = False
        while not closed:
            with self._changed:
                self._changed.wait_for(lambda: self._news, self._pause)
                said, runs, at, closed = self._said, self._runs, self._at, self._closed
                self._said, self._news = [], False
            with contextlib.suppress(OSError):
                for line in said:
                    self._picture.above(line)
                if not closed:
                    self._paint(runs, at)
        with contextlib.suppress(OSError):
            self._picture.close()

    def _write_said(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.write("".join(f"{line}\n" for line in self._said))
            self._stream.flush()
        self._said = []

    def _paint(self, runs: Sequence[RunProgress], at: float) -> None:
        from skahactl.render.cells import draw

        if not runs:
            return
        passed = self._monotonic() - at
        later = [_after(run, passed) for run in runs]
        self._ticks += 1
        began = time.thread_time()
        self._picture.title(_title(runs, self._unicode))
        self._picture.paint(lambda size: draw(later, size, self._unicode, self._ticks))
        self._pause = max(self._tick, _SHARE * (time.thread_time() - began))


_OVERDUE = 10.0  # seconds after which an estimate that was exceeded is no longer shown
_SHARE = 25  # pause at least this many times as long as painting took


def _after(run: RunProgress, passed: float) -> RunProgress:
    """Return the progress some seconds later: only times change."""
    longest = tuple((number, seconds + passed) for number, seconds in run.longest)
    left = None if run.left is None or passed > run.left + _OVERDUE else max(1.0, run.left - passed)
    return replace(run, now=run.now + passed, longest=longest, left=left)


def _title(runs: Sequence[RunProgress], unicode: bool) -> str:
    """Return ``survey 68 % ✗3`` for the first job that has not ended."""
    from skahactl.render.cells import percent

    run = next((run for run in runs if run.summary.run.ended is None), runs[0])
    failed = run.summary.counts[State.FAILED] - len(run.retrying)
    lost = f" {'✗' if unicode else 'x'}{failed}" if failed > 0 else ""
    return one_line(f"{run.summary.run.key.name} {percent(run)} %{lost}")
