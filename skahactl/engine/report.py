"""What a driver tells while it works, as values; how it looks is render's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from skahactl.ledger.records import RunSummary


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run as it stands: its summary, the state of each replica in order, and who runs longest.

    ``longest``: up to five (replica number, seconds Running so far), the longest first.
    ``why``: what Pending replicas wait for, from their events, when known: (replica number, words).
    """

    summary: RunSummary
    states: tuple[str, ...]
    longest: tuple[tuple[int, float], ...] = ()
    why: tuple[tuple[int, str], ...] = ()
    started: float | None = None  # when this driver began
    now: float = 0.0


class Reporter(Protocol):
    def say(self, text: str) -> None:
        """One line that a person should see, once."""

    def progress(self, runs: Sequence[RunProgress]) -> None:
        """Where things stand; called once a poll, cheap to ignore."""

    def close(self, *, told: bool = False) -> None:
        """Leaves the screen and the cursor clean. ``told``: how things stand is said by the command itself now."""


class SilentReporter:
    """Says nothing."""

    def say(self, text: str) -> None:
        del text

    def progress(self, runs: Sequence[RunProgress]) -> None:
        del runs

    def close(self, *, told: bool = False) -> None:
        del told
