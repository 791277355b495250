"""The table that a run of the benchmarks ends with: two things a row, measured in turn in the same run."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from dataclasses import dataclass, field

from tests.benchmarks.pairs import Pair

_HEAD = ("what", "compared with", "ratio", "medians; memory", "runs", "target", "remark")
COMMAND = "python -m pytest -m benchmark tests/benchmarks -s"


@dataclass
class Table:
    """Rows as texts, in the order in which they were measured."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def pair(self, what: str, against: str, pair: Pair, aim: str, remark: str = "") -> None:
        """Both commands' seconds and peak memory; ``aim``: the highest ratio, or memory of ours, or both
        (``1.5``, ``100 MB``, ``1.5, 100 MB``), or nothing."""
        medians = f"{number(pair.ours.seconds)}, {number(pair.theirs.seconds)} s"
        memory = f"{pair.ours.peak / 1e6:.0f}, {pair.theirs.peak / 1e6:.0f} MB"
        met = reached(aim, pair.ratio, pair.ours.peak) if aim else None
        self.add(what, against, pair.ratio, f"{medians}; {memory}", pair.pairs, _most(aim), met, remark)

    def add(
        self,
        what: str,
        against: str,
        ratio: float,
        medians: str,
        runs: int,
        aim: str,
        met: bool | None,
        remark: str = "",
    ) -> None:
        """``aim`` in words, empty for none; ``met`` None where there is none."""
        verdict = {True: f"{aim}: met", False: f"{aim}: **missed**", None: aim}[met]
        self.rows.append((what, against, f"{ratio:.2f}", medians, str(runs), verdict, remark))
        print("\n" + " | ".join(self.rows[-1]), end="", flush=True)

    def markdown(self) -> str:
        """For the manual's page benchmarks: which machine it was, the table, and how long it took."""
        lines = [" | ".join(row) for row in (_HEAD, ("---",) * len(_HEAD), *self.rows)]
        table = "\n".join(f"| {line.rstrip()} |" for line in lines)
        return f"{self._above()}\n\n{table}\n\n{self._below()}"

    def _above(self) -> str:
        return (
            f"{machine()}; load {self.load:.1f} before. The first median is skahactl's, the second that of what it is "
            "measured against;\na ratio is the median of those of neighbouring runs; memory is the highest peak."
        )

    def _below(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self.begun), 60)
        verdicts = [row[5] for row in self.rows]
        missed = sum(verdict.endswith(": **missed**") for verdict in verdicts)
        met = sum(verdict.endswith(": met") for verdict in verdicts)
        return f"{met} targets met, {missed} missed, in {minutes} min {seconds} s: `{COMMAND}`"


def reached(aim: str, ratio: float, peak: float) -> bool:
    """Is the ratio, rounded as it is shown, at most that of ``aim``, and ``peak`` (bytes) at most its MB?"""
    return all(
        peak / 1e6 <= float(limit.removesuffix("MB")) if limit.endswith("MB") else round(ratio, 2) <= float(limit)
        for limit in re.split(", *", aim)
    )


def number(seconds: float) -> str:
    """Three digits are enough."""
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def machine() -> str:
    """The shape of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.machine()}, Python {python}"


def _most(aim: str) -> str:
    return f"at most {aim}" if aim else ""
