"""Waits that signals and deadlines end, and an event loop on its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from skahactl.errors import SkahactlError, TimedOut, exit_of_signal
from skahactl.system import Clock, handled_signals
from skahactl.text import suggest

#: Seconds for a last poll at the end of ``--timeout``: a condition that is met by then counts.
_LAST_LOOK = 1.0
T = TypeVar("T")


class OwnLoop:
    """Runs coroutines on its own thread. It also works if the caller's thread runs a loop already."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="skahactl", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work`` and return its result. If the wait is interrupted (stop button of a notebook), cancel
        ``work``."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Wait at most 10 s for interrupted work, run ``last``, then end the thread."""
        try:
            self.run(_others_ended())
            if last is not None:
                self.run(last)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10.0)


class Interrupted(SkahactlError):
    """A signal arrived."""

    code = "interrupted"

    def __init__(self, number: int):
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")
        self.exit = exit_of_signal(number)

    def leaving(self, jobs: Sequence[str], becomes: str, again: str) -> Interrupted:
        """Add to this error what happens to the jobs (``becomes``), and how to continue (``again``), inspect and stop
        them; return it."""
        if not jobs:
            return self
        names = " ".join(jobs)
        one = len(jobs) == 1
        look = suggest("get", "replicas", names) if one else suggest("get", "jobs")
        self.message += f"; {becomes}"
        self.hint = f"to continue: {again}\nto inspect: {look}\nto stop: {suggest('delete', *jobs)}"
        self.args = (self.message,)
        return self


class Stop:
    """The signal that ends a command (``arrived``), and waits that it interrupts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.arrived = asyncio.Event()

    @contextlib.contextmanager
    def handling(self) -> Iterator[Stop]:
        """Handle INT, TERM and HUP inside the block, except ignored ones. A second INT gets the previous handler."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in handled_signals()}

        def arrive(number: int, _: object) -> None:  # called even while the loop is blocked by the ledger
            self.signal = number
            loop.call_soon_threadsafe(self.arrived.set)
            if number == signal.SIGINT:
                signal.signal(number, before[signal.SIGINT])

        for number in before:
            signal.signal(number, arrive)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        if self.signal is not None:
            raise Interrupted(self.signal)

    async def guard(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """Wait for ``work`` and return its result. Raises Interrupted if a signal arrives, or TimedOut after
        ``seconds``."""
        task = asyncio.ensure_future(work)
        async with _first_of(task, self.arrived.wait(), seconds=seconds):
            if task.done():
                return task.result()
        self.check()
        raise TimedOut("timed out; the platform did not respond", hint="run the same command again to continue")

    async def sleep(self, clock: Clock, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Sleep for ``seconds``, or until ``wake`` is set. Raises Interrupted if a signal arrives."""
        self.check()
        woken = () if wake is None else (wake.wait(),)
        async with _first_of(clock.sleep(seconds), self.arrived.wait(), *woken):
            pass
        self.check()


@contextlib.asynccontextmanager
async def _first_of(*work: Awaitable[Any], seconds: float | None = None) -> AsyncIterator[None]:
    """Wait until one of these is done or ``seconds`` have passed; cancel the others at the end of the block."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def seconds_left(deadline: float | None, clock: Clock) -> float | None:
    """Return the timeout, in seconds, of a request that begins now: until ``deadline`` (monotonic time), but at least 1
    s. None without a deadline."""
    return None if deadline is None else max(_LAST_LOOK, deadline - clock.monotonic())
