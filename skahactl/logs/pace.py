"""How long to wait between two readings of a log that is followed.

Every reading moves the whole log again (skaha-api 5: no ranges), so the time between two grows with its size, and with
idleness; but no line shall come later than a minute.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadPace:
    """Seconds, and bytes per second that the readings of one log may move on the average."""

    least: float = 2.0
    most: float = 50.0
    most_idle: float = 50.0
    bytes_per_second: float = 8192.0
    look_least: float = 2.0  # between two list calls
    look_most: float = 30.0

    def reading(self, size: int, idle: int, took: float) -> float:
        """Until the next reading of a log of ``size`` bytes, ``idle`` readings without news, the last in ``took``."""
        by_size = min(self.most, max(self.least, size / self.bytes_per_second))
        by_idleness = min(self.most_idle, self.least * 1.5 ** min(idle, 20))
        return max(by_size, by_idleness, took)

    def look(self, age: float) -> float:
        """Until the next list call, ``age`` seconds after the first."""
        return min(self.look_most, self.look_least + age / 60)


REMOTE = ReadPace()
#: The embedded platform reads a file of this machine.
LOCAL = ReadPace(least=0.5, most=20.0, most_idle=2.0, bytes_per_second=16e6, look_least=0.5, look_most=2.0)
