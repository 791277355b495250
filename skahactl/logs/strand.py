"""What is followed: the logs of attempts, as they stand at one look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

WAITING, LIVE, ENDED, GONE = "waiting", "live", "ended", "gone"


@dataclass(frozen=True, slots=True)
class LogStream:
    """The log of one attempt, as it stands: ``waiting`` (no log yet), ``live``, ``ended`` (the platform still has it),
    or ``gone``. ``kept``: the copy on this machine, if it is whole or all there is."""

    key: tuple[int, int, int]  # place of the target among those named, replica, attempt
    label: str
    session: str | None
    state: str
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class StreamRead:
    """What there is to follow now; ``more``: other attempts may still appear."""

    strands: tuple[LogStream, ...]
    more: bool


class StreamWriter(Protocol):
    """Where the text of one log goes. ``release`` comes after its first reading, ``close`` after its last."""

    def __call__(self, data: bytes) -> None: ...

    def release(self) -> None: ...

    def close(self) -> None: ...
