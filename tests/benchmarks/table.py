"""The table that a run of the benchmarks ends with: two things a row, measured in turn in the same run."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field

from tests.benchmarks.pairs import Pair

_HEAD = ("what", "against", "ratio", "medians", "pairs", "aim", "remark")


@dataclass
class Table:
    """Rows as texts, in the order in which they were measured."""

    rows: list[tuple[str, ...]] = field(default_factory=list)

    def pair(self, what: str, against: str, pair: Pair, aim: str, remark: str = "") -> None:
        """Both commands' seconds; their peak memory is added to the remark."""
        memory = f"{pair.ours.peak / 1e6:.0f} MB, {pair.theirs.peak / 1e6:.0f} MB"
        medians = f"{pair.ours.seconds:.3f} s, {pair.theirs.seconds:.3f} s"
        self.add(
            what, against, f"{pair.ratio:.2f}", medians, pair.pairs, aim, f"{remark}; {memory}" if remark else memory
        )

    def add(self, what: str, against: str, ratio: str, medians: str, pairs: int, aim: str, remark: str = "") -> None:
        self.rows.append((what, against, ratio, medians, str(pairs), aim, remark))
        print("\n" + "  ".join(self.rows[-1]), end="", flush=True)

    def markdown(self) -> str:
        """For the README; the first line says what machine it was."""
        lines = [" | ".join(row) for row in (_HEAD, ("---",) * len(_HEAD), *self.rows)]
        return f"{machine()}\n\n" + "\n".join(f"| {line} |" for line in lines)


def machine() -> str:
    """The shape of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.machine()}, Python {python}"
