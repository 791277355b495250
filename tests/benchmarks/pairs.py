"""Two commands against each other, in one run: alternating, medians, the ratio, peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Pairs that take longer, in seconds, count from the first: what a first run has to find costs them little.
WARM_UP = 2.0
#: Of pairs that take longer, in seconds, three are enough.
LONG = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds from start to end, the most memory that any one process of it held, in bytes, and the seconds
    of processor time that it had, which tell more than the others on a machine that does other things besides."""

    seconds: float
    peak: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians of both commands' runs; ``ratio`` is the median of the ratios of the runs that were neighbours."""

    ours: Measured
    theirs: Measured
    ratio: float
    pairs: int


def compare(ours: Sequence[str], theirs: Sequence[str], *, pairs: int = 5, **how: object) -> Pair:
    """Runs both alternately, ``pairs`` times; ``how`` is for ``measure``."""
    return alternate(lambda: measure(ours, **how), lambda: measure(theirs, **how), pairs)  # type: ignore[arg-type]


def alternate(ours: Callable[[], Measured], theirs: Callable[[], Measured], pairs: int = 5) -> Pair:
    """As ``compare``, for what needs more around a command than its words.

    A first pair that is short is not counted; if it is LONG, at most three pairs are run.
    """
    runs = [(ours(), theirs())]
    seconds = sum(one.seconds for one in runs[0])
    if seconds < WARM_UP:
        runs = []
    if seconds > LONG:
        pairs = min(pairs, 3)
    runs += [(ours(), theirs()) for _ in range(pairs - len(runs))]
    ratio = statistics.median(mine.seconds / other.seconds for mine, other in runs)
    return Pair(median([mine for mine, _ in runs]), median([other for _, other in runs]), ratio, pairs)


def median(runs: Sequence[Measured]) -> Measured:
    """The median of the seconds and of the processor's, and the highest peak."""
    seconds, cpu = (statistics.median(times) for times in zip(*((run.seconds, run.cpu) for run in runs), strict=True))
    return Measured(seconds, max(run.peak for run in runs), cpu)


def measure(
    command: Sequence[str],
    *,
    stdout: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    code: int = 0,
) -> Measured:
    """One run of ``command``, stdin from /dev/null, stdout to a file or /dev/null.

    Raises RuntimeError unless it ends with ``code``. A small process of its own starts it: a program's peak
    is never below that of the process that started it.
    """
    words = [sys.executable, "-I", "-S", "-c", STARTER, str(stdout or os.devnull), *command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, cwd=cwd, text=True)
    seconds, peak, cpu, status = done.stderr.split()[-4:]
    if os.waitstatus_to_exitcode(int(status)) != code:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(int(status))}: {done.stderr}")
    return Measured(float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024), float(cpu))


#: Runs argv[2:] with stdout to argv[1]; the last words on stderr: seconds, peak, processor time, wait status.
STARTER = """
import os, sys, time
actions = [(os.POSIX_SPAWN_OPEN, 1, sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
print("", time.perf_counter() - start, usage.ru_maxrss, usage.ru_utime + usage.ru_stime, status, file=sys.stderr)
"""
