"""Deletes, verified: a DELETE that is answered proves nothing, so the list is read until the session is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from skahactl.clock import Clock
from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.skaha.client import Client

#: Seconds before a session that stays is asked to go again.
REPEAT = 5.0


@dataclass
class DeleteQueue:
    """Sends DELETEs, bounded; ``tries`` counts them by session id, ``errors`` is what the last one failed with."""

    client: Client
    clock: Clock
    concurrency: int
    on_end: Callable[[], None]  # after a DELETE that was answered well
    say: Callable[[str], None]
    repeat: float = REPEAT
    tries: dict[str, int] = field(default_factory=dict)
    errors: dict[str, SkahactlError] = field(default_factory=dict)
    failure: BaseException | None = None  # a mistake of ours, to be raised by the driver
    _last: dict[str, float] = field(default_factory=dict)  # when a DELETE ended
    _good: float | None = None  # when a DELETE was answered well, or the first of all was sent
    _told: set[str] = field(default_factory=set)
    _asking: set[str] = field(default_factory=set)  # whose DELETE waits for its turn, or is on its way
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore | None = None

    def remove(self, sessions: Iterable[str]) -> None:
        """Asks these sessions to go, those asked a moment ago excepted. To be called after every look that still
        shows them."""
        now = self.clock.now()
        self._good = now if self._good is None or not (self._tasks or self.errors) else self._good
        for session in sessions:
            if session in self._asking or now - self._last.get(session, float("-inf")) < self.repeat:
                continue
            self._asking.add(session)
            task = asyncio.create_task(self._delete(session))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    @property
    def idle(self) -> bool:
        return not self._tasks

    def check(self, patience: float) -> None:
        """Raises AuthError where one was refused, and UnreachableError where they have only failed for ``patience``
        seconds."""
        for error in self.errors.values():
            if isinstance(error, AuthError) or self.clock.now() - (self._good or 0.0) > patience:
                raise error

    async def stop(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5.0)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*set(self._tasks), return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.on_end()

    async def _delete(self, session: str) -> None:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.concurrency)
        async with self._slots:
            self.tries[session] = self.tries.get(session, 0) + 1
            try:
                await self.client.delete(session)
            except (UnreachableError, AuthError) as error:
                self._failed(session, error)  # the next look tries again
            else:
                self._good = self.clock.now()
                self.errors.pop(session, None)
                self.on_end()
            finally:
                self._last[session] = self.clock.now()
                self._asking.discard(session)

    def _failed(self, session: str, error: SkahactlError) -> None:
        self.errors[session] = error
        if error.message not in self._told:
            self._told.add(error.message)
            self.say(f"a delete failed: {error.message}")
