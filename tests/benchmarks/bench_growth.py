"""How time and space grow with the replicas of a job, and the memory of a driver over a day.

    python -m pytest -m benchmark tests/benchmarks/bench_growth.py -s

A straight line goes through the medians at 100 and 1,000 replicas; the ratio says how many times what that line has
at 5,000 is really there. 1 is linear, less is better than that, and 1.2 is what the noise of short runs needs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.benchmarks.pairs import Measured, median
from tests.benchmarks.peers import fresh, job, ours
from tests.benchmarks.table import Table, number, reached
from tests.skaha_server.process import ROOT
from tests.workplace import Workplace

SIZES = (10, 100, 1000, 5000)
SOME = "10, 100, 1,000, 5,000 replicas"
#: A real apply to so many runs fewer times.
MANY = 1000
CLIENT = {"timeout": 30, "poll-min": 1, "poll-max": 60}
MOST = "1.2"

pytestmark = pytest.mark.benchmark

Places = dict[int, Workplace]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """For each size a server and a home in which the job was applied."""
    root = tmp_path_factory.mktemp("growth")
    with ExitStack() as stack:
        made = {size: _place(stack, root, size) for size in SIZES}
        for place in made.values():
            place.run("apply", "job.toml")
        yield made


def test_apply(tmp_path: Path, table: Table) -> None:
    """Each on a fresh server that answers at once: what is measured is the work of both."""
    servers: dict[int, float] = {}

    def applied(size: int) -> Measured:
        with ExitStack() as stack:
            place = _place(stack, tmp_path, size)
            measured = ours(place, "apply", "job.toml")
            servers[size] = place.server.state()["cpu_seconds"]
            return measured

    medians = _medians(applied, lambda size: 3 if size >= MANY else 5)
    _row(table, "apply", medians, 3, f"server {servers[1000]:.1f}, {servers[5000]:.1f} s of CPU beside it")


def test_dry_run(tmp_path: Path, table: Table) -> None:
    with ExitStack() as stack:
        made = {size: _place(stack, tmp_path, size) for size in SIZES}
        medians = _medians(lambda size: ours(made[size], "apply", "job.toml", "--dry-run"), lambda size: 5)
    _row(table, "apply --dry-run", medians, 5)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("get jobs", ("get", "jobs")),
        ("get replicas", ("get", "replicas", "fits")),
    ],
    ids=["jobs", "replicas"],
)
def test_of_what_was_applied(places: Places, table: Table, what: str, words: tuple[str, ...]) -> None:
    _row(table, what, _medians(lambda size: ours(places[size], *words), lambda size: 5), 5)


def test_ledger(places: Places, table: Table) -> None:
    files = {size: (place.root / "state" / "ledger.sqlite3").stat().st_size for size, place in places.items()}
    ratio = _against_the_line(files)
    told = ", ".join(f"{files[size] / 1e3:.0f}" for size in SIZES) + " kB"
    remark = f"{(files[5000] - files[1000]) / 4000:.0f} bytes a replica"
    table.add("growth: size of the ledger", SOME, ratio, told, 1, f"at most {MOST}", reached(MOST, ratio, 0), remark)


def _place(stack: ExitStack, root: Path, size: int) -> Workplace:
    server, home = stack.enter_context(fresh(root / str(size), {"running": [86400, 86400]}))  # all run at every size
    place = Workplace(home, server, CLIENT)
    place.write("job.toml", job(size))
    return place


def _medians(run: Callable[[int], Measured], times: Callable[[int], int]) -> dict[int, Measured]:
    """Runs every size in turn, until each had its ``times``."""
    runs: dict[int, list[Measured]] = {size: [] for size in SIZES}
    for turn in range(max(map(times, SIZES))):
        for size in SIZES:
            if turn < times(size):
                runs[size].append(run(size))
    return {size: median(runs[size]) for size in SIZES}


def _row(table: Table, what: str, medians: Mapping[int, Measured], runs: int, more: str = "") -> None:
    curve = {size: one.seconds for size, one in medians.items()}
    ratio = _against_the_line(curve)
    told = ", ".join(number(curve[size]) for size in SIZES) + " s"
    remark = "; ".join(filter(None, (_costs(medians), more)))
    table.add(f"growth: {what}", SOME, ratio, told, runs, f"at most {MOST}", reached(MOST, ratio, 0), remark)


def _against_the_line(curve: Mapping[int, float]) -> float:
    each = max(0.0, (curve[1000] - curve[100]) / 900)
    return curve[5000] / (curve[1000] + 4000 * each)


def _costs(medians: Mapping[int, Measured]) -> str:
    """What a replica more costs, from 100 to 1,000 and from there to 5,000, in time and in that of the processor."""
    few, some, many = (medians[size] for size in SIZES[1:])
    wall = [(some.seconds - few.seconds) / 900, (many.seconds - some.seconds) / 4000]
    cpu = [(some.cpu - few.cpu) / 900, (many.cpu - some.cpu) / 4000]
    each = ", then ".join(f"{1000 * time:.2f}" for time in wall)
    return f"{each} ms a replica ({', '.join(f'{1000 * time:.2f}' for time in cpu)} of CPU); {many.peak / 1e6:.0f} MB"


#: argv: replicas, hours. Prints hours driven, lists, and the peak memory in MB after the first hour and at the end (the
#: server's part is in the same process).
DAY = """
import asyncio, resource, sys, tempfile
from pathlib import Path
sys.modules["httpx._main"] = None  # as in the command
from skahactl.profile import ClientSettings
from tests.driving import drive
from tests.simulated_time import EPOCH, SimulatedClock, SimulatedLoop, run
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.transport import AppTransport

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
        slowly = ClientSettings(poll_min=60, poll_max=900)
        result = await drive(Path(folder), JOB % int(sys.argv[1]), AppTransport(app), clock, slowly)
        task.cancel()
        return result
    states, _ = run(loop, both())
assert set(states) == {"Completed"}, set(states)
print((clock.now() - EPOCH) / HOUR, app.counts["list"], peaks[0] / 1024, peaks[-1] / 1024)
"""


def test_memory_of_a_day(table: Table) -> None:
    """5,000 replicas that all run for a day: a driver that polls, in simulated time, with the server in its process."""
    done = subprocess.run([sys.executable, "-c", DAY, "5000", "24"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    driven, lists, first, last = map(float, done.stdout.split())
    ratio = last / first
    table.add(
        "memory of apply --wait, 5,000 replicas, a day of simulated polling",
        "itself after the first hour",
        ratio,
        f"{last:.0f}, {first:.0f} MB",
        1,
        "at most 1.1",
        reached("1.1", ratio, 0),
        f"{driven:.1f} hours, {lists:.0f} lists (poll-min 60, poll-max 900), test server included",
    )
