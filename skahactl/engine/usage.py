"""Compare what a run used with what it requested, and advise what to request next time. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.text import count_noun, format_amount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skahactl.ledger.records import Usage
    from skahactl.model import Resources

#: Used parts of a request: below the first, the request is too large; above the second, it is nearly too small.
_TOO_LARGE, _TOO_SMALL = 0.5, 0.9
_RESERVE = 1.25  # advised request, as a multiple of the peak


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The usage of all attempts of a run that a poll measured: RAM in GB (2**30 bytes), CPU in cores.

    ``ram`` and ``cpu`` contain a value for each measured attempt. A request is None for flexible sessions, and if
    attempts requested different amounts.
    """

    ram: tuple[float, ...]
    cpu: tuple[float, ...]
    ram_requested: float | None
    cpu_requested: float | None
    samples: int
    was_killed: bool = False  # something was killed, perhaps for its memory: a peak between two polls is not known

    @property
    def ram_peak(self) -> float | None:
        return max(self.ram, default=None)

    @property
    def cpu_mean(self) -> float | None:
        return sum(self.cpu) / len(self.cpu) if self.cpu else None

    @property
    def text(self) -> str | None:
        """``memory peak 3.1 of 32 GB, cpu 0.9 of 8 cores (41 measurements)``; None if nothing was measured."""
        if self.ram_peak is None and self.cpu_mean is None:
            return None
        parts = []
        if self.ram_peak is not None:
            parts.append(f"memory peak {_share(self.ram_peak, self.ram_requested)} GB")
        if self.cpu_mean is not None:
            parts.append(f"cpu {_share(self.cpu_mean, self.cpu_requested)} core{'s' * (self.cpu_requested != 1)}")
        return f"{', '.join(parts)} ({count_noun(self.samples, 'measurement')})"

    @property
    def advice(self) -> str | None:
        """What to request next time, if the highest peak is below half or above nine tenths of the request."""
        if self.ram_peak is None or not self.ram_requested:
            return None
        share = self.ram_peak / self.ram_requested
        wanted = max(1, math.ceil(self.ram_peak * _RESERVE))
        if share < _TOO_LARGE and wanted < self.ram_requested and not self.was_killed:
            percent = "less than 1 %" if share < 0.01 else f"{share * 100:.0f} %"
            return f"the highest peak is {percent} of the requested memory; request ram = {wanted} next time"
        if share > _TOO_SMALL:
            larger = max(wanted, math.floor(self.ram_requested) + 1)
            return f"the highest peak is {share * 100:.0f} % of the requested memory; request ram = {larger} next time"
        return None


def run_usage(
    measured: Mapping[tuple[int, int], Usage],
    requested: Mapping[tuple[int, int], Resources],
    *,
    was_killed: bool = False,
) -> RunUsage:
    """Return the usage of a run. Both tables are by (replica, attempt); attempts that ``requested`` lacks are left
    out."""
    kept = {key: usage for key, usage in measured.items() if key in requested}
    amounts = [requested[key] for key in kept]
    return RunUsage(
        ram=tuple(usage.ram_peak for usage in kept.values() if usage.ram_peak is not None),
        cpu=tuple(usage.cpu_mean for usage in kept.values() if usage.cpu_mean is not None),
        ram_requested=_common([one.ram for one in amounts]),
        cpu_requested=_common([one.cores for one in amounts]),
        samples=sum(usage.samples for usage in kept.values()),
        was_killed=was_killed,
    )


def _common(amounts: Sequence[float | None]) -> float | None:
    return amounts[0] if amounts and len(set(amounts)) == 1 else None


def _share(used: float, requested: float | None) -> str:
    text = format_amount(used)
    return text if requested is None else f"{text} of {requested:g}"
