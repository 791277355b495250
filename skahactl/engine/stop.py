"""INT, TERM and HUP while a driver works: the loop is told, and ends in its own time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

from skahactl.clock import Clock
from skahactl.errors import Exit, SkahactlError


class Interrupted(SkahactlError):
    """A signal arrived."""

    code = "interrupted"

    def __init__(self, number: int):
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")
        self.exit = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED


class Stop:
    """Whether a signal arrived; sleeps that end when one does."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._arrived = asyncio.Event()

    @contextlib.contextmanager
    def handling(self) -> Iterator[Stop]:
        """Takes INT, TERM and HUP while it lasts; a second INT is the system's again."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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

    async def arrived(self) -> None:
        """Returns when a signal has arrived."""
        await self._arrived.wait()

    async def sleep(self, clock: Clock, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Sleeps, at most until ``wake`` or a signal; raises Interrupted for a signal."""
        self.check()
        waiting = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(self._arrived.wait())]
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
        self._arrived.set()
        if number == signal.SIGINT:
            asyncio.get_running_loop().remove_signal_handler(number)
