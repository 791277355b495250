"""How often to look, and whether the machine slept in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from skahactl.clock import Clock
from skahactl.profile import ClientSettings

#: A jump of wall time against monotonic time, in seconds, from which on the machine must have slept.
JUMP = 30.0


@dataclass
class PollPace:
    """The interval between looks: short at first, longer as the job ages, never above ``poll_max`` nor a quarter of
    the time that the platform remembers an ended session."""

    clock: Clock
    settings: ClientSettings
    begun: float = field(init=False)
    _wall: float = field(init=False)
    _mono: float = field(init=False)
    _failures: int = 0

    def __post_init__(self) -> None:
        self.begun = self._mono = self.clock.monotonic()
        self._wall = self.clock.now()

    def interval(self, doubtful: bool = False) -> float:
        """Seconds until the next look; ``doubtful``: something waits for looks to settle."""
        settings = self.settings
        age = self.clock.monotonic() - self.begun
        longest = min(settings.poll_max, settings.memory / 4)
        if self._failures:
            return min(longest, max(settings.poll_min, 1.0) * float(2 ** min(self._failures, 6)))
        if doubtful:
            return min(longest, max(settings.poll_min, settings.settle / 20))
        return min(longest, max(settings.poll_min, age / 30))

    def failed(self) -> None:
        self._failures += 1

    def looked(self) -> None:
        self._failures = 0

    def slept(self) -> bool:
        """True once after each jump of the clock since the last call."""
        wall, mono = self.clock.now(), self.clock.monotonic()
        jumped = (wall - self._wall) - (mono - self._mono)
        self._wall, self._mono = wall, mono
        return abs(jumped) > JUMP
