"""Time as a parameter: what waits or dates anything takes a Clock, so that tests can pass a simulated one."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


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
