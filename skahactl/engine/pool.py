"""A bounded pool of background requests, one per key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class TaskPool(Generic[Key, Result]):
    """Runs at most ``limit`` coroutines at once, in the order of submission.

    ``on_idle`` is called whenever the last one ends. ``events`` returns their results that are not None, each once. A
    coroutine handles expected errors itself: any exception that it raises is stored in ``failure`` and stops the pool.
    """

    def __init__(self, limit: int, on_idle: Callable[[], None]) -> None:
        self._limit = max(1, limit)
        self._on_idle = on_idle
        self._waiting: deque[tuple[Key, Callable[[], Coroutine[object, object, Result]]]] = deque()
        self._keys: set[Key] = set()  # waiting or running
        self._tasks: dict[Key, asyncio.Task[Result]] = {}
        self._released: set[Key] = set()  # running, but not counted towards the limit
        self._events: list[tuple[Key, Result]] = []
        self.failure: BaseException | None = None
        self.stopping = False

    def submit(self, key: Key, work: Callable[[], Coroutine[object, object, Result]]) -> bool:
        """Start ``work()`` as soon as there is room. Return False if the pool contains the key already, or is
        stopping."""
        if key in self._keys or self.stopping:
            return False
        self._keys.add(key)
        self._waiting.append((key, work))
        self._start()
        return True

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    @property
    def keys(self) -> frozenset[Key]:
        """The keys that wait or run."""
        return frozenset(self._keys)

    @property
    def running(self) -> frozenset[Key]:
        """The keys that have started and not ended."""
        return frozenset(self._tasks)

    @property
    def idle(self) -> bool:
        return not self._keys

    def events(self) -> list[tuple[Key, Result]]:
        """Return the keys of tasks that ended since the last call, with their results other than None, in order."""
        ended, self._events = self._events, []
        return ended

    def release(self, key: Key) -> None:
        """Let the next task start although the task of ``key`` is not finished: only its local work is left."""
        if key in self._tasks:
            self._released.add(key)
            self._start()

    def clear(self) -> None:
        """Remove the tasks that have not started."""
        self._keys.difference_update(key for key, _ in self._waiting)
        self._waiting.clear()

    async def stop(self, patience: float = 0.0, until: asyncio.Event | None = None, longest: float = 0.0) -> None:
        """Start no more tasks, give the running ones ``patience`` seconds, then cancel them.

        With ``until``, the seconds count from the moment that it is set, but at the latest from ``longest`` seconds
        from now.
        """
        self.stopping = True
        self.clear()
        tasks = tuple(self._tasks.values())
        if not tasks:
            return
        try:
            if until is not None:
                await _first(asyncio.wait(tasks, timeout=longest), until.wait())
        finally:
            if patience > 0:
                await asyncio.wait(tasks, timeout=patience)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        while self._waiting and len(self._tasks) - len(self._released) < self._limit and not self.stopping:
            key, work = self._waiting.popleft()
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: Key, task: asyncio.Task[Result]) -> None:
        del self._tasks[key]
        self._keys.discard(key)
        self._released.discard(key)
        if not task.cancelled():
            error = task.exception()
            if error is None:
                if task.result() is not None:
                    self._events.append((key, task.result()))
            elif self.failure is None:
                self.failure = error
                self.stopping = True
                self.clear()
        self._start()
        if self.idle:
            self._on_idle()


async def _first(*coroutines: Coroutine[object, object, object]) -> None:
    """Wait until one of the coroutines ends, and cancel the others."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
