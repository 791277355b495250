"""Time as a parameter: what waits or dates anything takes a Clock, so that tests can pass a simulated one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from skahactl.errors import Exit, LedgerError, SkahactlError, TimedOut


class Clock(Protocol):
    def now(self) -> float:
        """Wall time, seconds since the epoch; jumps when the machine slept."""

    def monotonic(self) -> float:
        """Seconds that only go forward; stands still while the machine sleeps."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or os.path.expanduser("~"))


def config_dir(environ: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/skahactl``; not created."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home(environ) / ".config") / "skahactl"


def state_dir(environ: Mapping[str, str]) -> Path:
    """``SKAHACTL_STATE_DIR`` or ``$XDG_STATE_HOME/skahactl``; not created."""
    own = environ.get("SKAHACTL_STATE_DIR")
    if own:
        return Path(own).absolute()
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else home(environ) / ".local" / "state") / "skahactl"


def make_private(path: Path) -> Path:
    """``path`` as a directory of mode 0700, made if need be; LedgerError if it cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise LedgerError(
            f"the state directory cannot be used: {error.strerror}",
            where=str(path),
            hint="set SKAHACTL_STATE_DIR to a directory that you may write to",
        ) from error
    return path


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces ``path`` by ``data`` in one step; the temporary file stands beside it and never outlives a failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handled_signals() -> list[signal.Signals]:
    """Those to act upon: what the caller ignores (nohup, the ``&`` of a script) stays ignored."""
    return [number for number in INTERRUPTIONS if signal.getsignal(number) != signal.SIG_IGN]


T = TypeVar("T")


class OwnLoop:
    """Runs coroutines on one thread of its own; works whether or not the caller's thread runs a loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="skahactl", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for ``work``; an interruption here, as by the stop button of a notebook, ends it there too."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Waits for what was interrupted to end, runs ``last``, then ends the thread."""
        try:
            self.run(_others_ended())
            if last is not None:
                self.run(last)
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10.0)


#: Seconds that a look at the very end of ``--timeout`` has: what has come true by then counts.
_LAST_LOOK = 1.0


class Interrupted(SkahactlError):
    """A signal arrived."""

    code = "interrupted"

    def __init__(self, number: int):
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")
        self.exit = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED

    def leaving(self, jobs: Sequence[str]) -> Interrupted:
        """The same, with how to go on with these jobs, look, and stop."""
        if not jobs:
            return self
        names = " ".join(jobs)
        one = len(jobs) == 1
        on = f"skahactl resume {names}" if one else "the same command again"
        look = f"skahactl get replicas {names}" if one else "skahactl get jobs"
        self.message += f"; {names} {'goes' if one else 'go'} on without being watched"
        self.hint = f"to go on: {on}; to look: {look}; to stop: skahactl delete {names}"
        self.args = (self.message,)
        return self


class Stop:
    """Whether a signal ``arrived``; sleeps that end when one does."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.arrived = asyncio.Event()

    @contextlib.contextmanager
    def handling(self) -> Iterator[Stop]:
        """Takes the signals that are heard while it lasts; a second INT is the system's again."""
        loop = asyncio.get_running_loop()
        numbers = handled_signals()
        for number in numbers:
            loop.add_signal_handler(number, self._arrive, number)
        try:
            yield self
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def check(self) -> None:
        if self.signal is not None:
            raise Interrupted(self.signal)

    async def guard(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """``work``, given up with Interrupted when a signal arrives, with TimedOut when it takes so many seconds."""
        task = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self.arrived.wait())
        try:
            await asyncio.wait([task, watch], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            for one in (task, watch):
                one.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)
        self.check()
        raise TimedOut("timed out; the platform did not answer", hint="the same command goes on from here")

    async def sleep(self, clock: Clock, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Sleeps, at most until ``wake`` or a signal; raises Interrupted for a signal."""
        self.check()
        waiting = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(self.arrived.wait())]
        if wake is not None:
            waiting.append(asyncio.ensure_future(wake.wait()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        self.check()

    def _arrive(self, number: int) -> None:
        self.signal = number
        self.arrived.set()
        if number == signal.SIGINT:
            asyncio.get_running_loop().remove_signal_handler(number)


def seconds_left(deadline: float | None, clock: Clock) -> float | None:
    """How long a look may take that begins now; None without a ``deadline``, which is wall time."""
    return None if deadline is None else max(_LAST_LOOK, deadline - clock.now())
