"""How time and space grow with the replicas of a job, and the memory of a driver over a day."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.peers import fresh, job, ours
from tests.benchmarks.table import Table
from tests.skaha_server.process import ROOT
from tests.workplace import Workplace

SIZES = (10, 100, 1000, 5000)
RUNS = 3

pytestmark = pytest.mark.benchmark


def test_growth(tmp_path: Path, table: Table) -> None:
    """Each command on a fast server, at each size; a ratio is how many times as long ten times as many took."""
    seconds: dict[str, dict[int, float]] = {}
    peaks: dict[str, int] = {}
    files: dict[int, int] = {}
    for size in SIZES:
        with fresh(tmp_path / str(size), {}) as (server, place):
            here = Workplace(place, server, {"timeout": 30, "poll-max": 60})
            here.write("job.toml", job(size))
            for words, runs, code in (
                (("apply", "job.toml", "--dry-run"), RUNS, 0),
                (("apply", "job.toml"), 1, 0),
                (("apply", "job.toml"), RUNS, 0),
                (("get", "jobs"), RUNS, 0),
                (("get", "replicas", "fits"), RUNS, 0),
            ):
                what = " ".join(words) + (" again" if words in (("apply", "job.toml"),) and runs > 1 else "")
                measured = [ours(here, *words, code=code) for _ in range(runs)]
                seconds.setdefault(what, {})[size] = statistics.median(one.seconds for one in measured)
                peaks[what] = max(one.peak for one in measured)
            files[size] = (here.root / "state" / "ledger.sqlite3").stat().st_size
    for what, curve in seconds.items():
        runs = 1 if what == "apply job.toml" else RUNS
        told = ", ".join(f"{curve[size]:.2f}" for size in SIZES) + " s"
        per = f"{1000 * (curve[5000] - curve[10]) / 4990:.2f} ms a replica; {peaks[what] / 1e6:.0f} MB at 5,000"
        table.add(f"growth: {what}", "10, 100, 1,000, 5,000 replicas", _steps(curve), told, runs, "5 or less", per)
    told = ", ".join(f"{files[size] / 1e3:.0f}" for size in SIZES) + " kB"
    table.add("growth: the ledger", "10, 100, 1,000, 5,000 replicas", _steps(files), told, 1, "5 or less")


def _steps(curve: dict[int, float] | dict[int, int]) -> str:
    """The last step, from 1,000 to 5,000: 5 is linear."""
    return f"{curve[5000] / curve[1000]:.2f}"


#: argv: replicas. Prints hours driven and peak memory in MB (the server's part is in the same process).
DAY = """
import asyncio, resource, sys, tempfile
from pathlib import Path
from skahactl.profile import ClientSettings
from tests.simulated_time import EPOCH, SimulatedClock, SimulatedLoop, run
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.transport import AppTransport
from tests.test_long_job import drive

JOB = 'name = "day"\\nimage = "images.canfar.net/skaha/astroml:latest"\\ncommand = ["x"]\\nreplicas = %d\\n'
HOUR = 3600.0
loop = SimulatedLoop()
clock = SimulatedClock(loop)
plan = Plan.of({"seed": 4, "pending": [5, 900], "running": [float(sys.argv[2]) * HOUR] * 2, "log_lines": 5})
app = App(plan, clock)
peaks = []
with tempfile.TemporaryDirectory() as folder:
    async def watch():
        while True:
            await clock.sleep(HOUR)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    async def both():
        task = asyncio.create_task(watch())
        slowly = ClientSettings(poll_max=900)
        result = await drive(Path(folder), JOB % int(sys.argv[1]), AppTransport(app), clock, slowly)
        task.cancel()
        return result
    run(loop, both())
print((clock.now() - EPOCH) / HOUR, app.counts["list"], peaks[0] / 1024, peaks[-1] / 1024)
"""


@pytest.mark.parametrize("hours", [24])
def test_memory_of_a_day(table: Table, hours: int) -> None:
    """5,000 replicas that all run for a day: a driver that polls, in simulated time, with the server in its process."""
    done = subprocess.run([sys.executable, "-c", DAY, "5000", str(hours)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    driven, lists, first, last = map(float, done.stdout.split())
    table.add(
        "memory of apply --wait, 5,000 replicas, a day of simulated polling",
        "itself after the first hour",
        f"{last / first:.2f}",
        f"{last:.0f} MB, {first:.0f} MB",
        1,
        "bounded",
        f"{driven:.1f} hours, {lists:.0f} lists, test server included",
    )
