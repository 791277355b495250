"""An event loop in which time passes only when there is nothing to do, and a clock that can sleep like a laptop."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

Value = TypeVar("Value")
EPOCH = 1_790_000_000.0


class SimulatedLoop(asyncio.SelectorEventLoop):
    """``time()`` jumps to the next timer at once, unless a thread is still at work."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.threads = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.seconds

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Threads end in real time: a time limit in simulated seconds would be over at once."""
        del timeout
        await super().shutdown_default_executor()

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1


class _Selector(selectors.DefaultSelector):
    """Waits for sockets and threads in real time, for timers not at all."""

    def __init__(self, loop: SimulatedLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self._loop.threads:
            return super().select(timeout if timeout is None else 0.01)
        self._loop.seconds += timeout
        return []


class SimulatedClock:
    """Wall time is EPOCH and what has passed in the loop; ``naps``: from when (s), how long (s) the machine sleeps.

    While it sleeps wall time alone goes on: monotonic time and the loop stand still.
    """

    def __init__(self, loop: SimulatedLoop, *naps: tuple[float, float]):
        self._loop = loop
        self._naps = naps

    def now(self) -> float:
        return EPOCH + self._loop.seconds + self._slept()

    def monotonic(self) -> float:
        return self._loop.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _slept(self) -> float:
        return sum(length for at, length in self._naps if self._loop.seconds >= at)


def run(loop: SimulatedLoop, body: Coroutine[Any, Any, Value]) -> Value:
    """``asyncio.run`` in simulated time."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(body)
