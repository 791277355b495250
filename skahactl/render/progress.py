"""What a driver tells, as a person sees it: a picture on a terminal, plain lines elsewhere (engine.report.Reporter)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from skahactl.engine.runtime import Reporter, RunProgress, SilentReporter
from skahactl.invocation import Invocation, is_screen, one_line
from skahactl.render.outcomes import head_of, standing

if TYPE_CHECKING:
    from skahactl.render.terminal import RepaintedDisplay, Size


Monotonic = Callable[[], float]


def reporter(context: Invocation) -> Reporter:
    """For stderr as it is: LiveReporter on a terminal, PlainReporter elsewhere and with TERM=dumb; with ``-q``
    neither."""
    if context.quiet:
        return SilentReporter()
    if is_screen(context.stderr, context.environ):
        return LiveReporter(context.stderr, context.environ)
    return PlainReporter(context.stderr)


class PlainReporter:
    """A line when a job's counts change, at most one every ``interval`` seconds a job. A stream that is gone is no
    reason to stop working: what cannot be told is not told."""

    def __init__(self, stream: TextIO, *, monotonic: Monotonic = time.monotonic, interval: float = 5.0):
        self._stream = stream
        self._monotonic = monotonic
        self._interval = interval
        self._told: dict[int, tuple[float, str]] = {}
        self._due: dict[int, str] = {}
        self._reasons: set[tuple[int, str]] = set()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(one_line(text) + "\n")
            self._stream.flush()

    def progress(self, runs: Sequence[RunProgress]) -> None:
        for run in runs:
            key = run.summary.run.id
            line = f"{head_of(run.summary.run)}: {standing(run.summary.status, run.summary.counts)}"
            at, before = self._told.get(key, (float("-inf"), ""))
            if line == before:
                self._due.pop(key, None)
            elif self._monotonic() - at >= self._interval:
                self._tell(key, line)
            else:
                self._due[key] = line
            self._say_why(run)

    def close(self, *, told: bool = False) -> None:
        """Tells what was held back, unless it is ``told`` already."""
        for key, line in list(self._due.items()):
            if not told:
                self._tell(key, line)
        self._due.clear()

    def _say_why(self, run: RunProgress) -> None:
        """What Pending replicas wait for, each reason once."""
        key = run.summary.run.id
        for number, words in run.why:
            if (key, words) not in self._reasons:
                self._reasons.add((key, words))
                self.say(f"{head_of(run.summary.run)}: replica {number} is Pending: {words}")

    def _tell(self, key: int, line: str) -> None:
        self._due.pop(key, None)
        self._told[key] = (self._monotonic(), line)
        self.say(line)


class LiveReporter:
    """A picture of every job, painted at each poll and, for its clock and for a resize, every ``tick`` seconds. The
    terminal may be closed meanwhile; the work goes on.

    One thread alone writes to the terminal: an interrupt reaches the main thread only, so it can come between what
    was written and what is remembered of it nowhere.
    """

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        *,
        monotonic: Monotonic = time.monotonic,
        tick: float = 1.0,
        size: Callable[[], Size] | None = None,
    ):
        from skahactl.invocation import shows_unicode
        from skahactl.render.terminal import RepaintedDisplay

        self._stream = stream
        self._picture: RepaintedDisplay = RepaintedDisplay(stream, environ, size)
        self._unicode = shows_unicode(stream)
        self._monotonic = monotonic
        self._tick = tick
        self._changed = threading.Condition()
        self._said: list[str] = []
        self._runs: tuple[RunProgress, ...] = ()
        self._at = 0.0
        self._news = self._closed = False
        self._thread = threading.Thread(target=self._keep_painting, name="progress", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        with self._changed:
            self._said.append(one_line(text))
            self._tell()

    def progress(self, runs: Sequence[RunProgress]) -> None:
        with self._changed:
            self._runs, self._at = tuple(runs), self._monotonic()
            self._tell()

    def close(self, *, told: bool = False) -> None:
        """Everything said is on the terminal then, and the picture is gone. What is said later is a plain line."""
        del told
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
                self._changed.wait_for(lambda: self._news, self._tick)
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

        if not runs:
            return
        passed = self._monotonic() - at
        later = [replace(run, now=run.now + passed, longest=_later(run, passed)) for run in runs]
        from skahactl.render.cells import draw

        self._picture.paint(lambda size: draw(later, size, self._unicode))


def _later(run: RunProgress, passed: float) -> tuple[tuple[int, float], ...]:
    return tuple((number, seconds + passed) for number, seconds in run.longest)
