"""``apply`` of many replicas on a server that takes its time: against canfar's ``AsyncSession.create``, and the ideal.

    pytest -m benchmark tests/benchmarks/bench_apply.py -s

The ideal is ceil(replicas / connections) times what a create takes. "Beyond start-up" is without the time of the same
command for one replica on a server that answers at once.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.benchmarks.pairs import Measured, alternate, measure
from tests.benchmarks.peers import canfar_create, canfar_environ, fresh, job, needs_canfar, ours
from tests.benchmarks.table import Table
from tests.skaha_server.process import Server
from tests.workplace import Workplace

CONNECTIONS = 16
CLIENT = {"concurrency": CONNECTIONS, "timeout": 10, "poll-min": 1, "poll-max": 60, "backoff": 0.2}
SETTLE = 2  # seconds, where replies are lost
#: One reply in five: lost with and without a session behind it, refused for now, or late.
FAULTS = {
    "drop_before": 0.03,
    "drop_after": 0.04,
    "error_after": 0.03,
    "gateway_after": 0.03,
    "unavailable": 0.04,
    "late_visible": 0.03,
}

pytestmark = [pytest.mark.benchmark, needs_canfar]


@pytest.fixture(scope="module")
def start_up(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of ``apply`` for one replica on a server that answers at once."""
    root = tmp_path_factory.mktemp("one")
    runs = [applied(root, {}, 1, []).seconds for _ in range(5)]
    return statistics.median(runs)


@pytest.mark.parametrize(
    ("replicas", "latency", "pairs"), [(100, 0.3, 5), (100, 0.05, 5), (500, 0.05, 5), (500, 0.3, 3)]
)
def test_apply(tmp_path: Path, table: Table, start_up: float, replicas: int, latency: float, pairs: int) -> None:
    plan = {"post_latency": latency}
    lists: list[int] = []
    pair = alternate(
        lambda: applied(tmp_path, plan, replicas, lists), lambda: created(tmp_path, plan, replicas, []), pairs
    )
    what = f"apply of {replicas} replicas, {latency:g} s a create, {CONNECTIONS} connections"
    table.pair(what, "canfar, AsyncSession.create", pair, "1", f"{max(lists)} lists")
    ideal = math.ceil(replicas / CONNECTIONS) * latency
    beyond = pair.ours.seconds - start_up
    medians = f"{beyond:.3f} s, {ideal:.3f} s"
    table.add(what, "the ideal", f"{beyond / ideal:.2f}", medians, pairs, "1.10", f"beyond start-up, {start_up:.2f} s")


@pytest.mark.parametrize(("replicas", "latency"), [(100, 0.05), (500, 0.05)])
def test_apply_with_faults(tmp_path: Path, table: Table, start_up: float, replicas: int, latency: float) -> None:
    plan = {"post_latency": latency, "faults": FAULTS, "fault_sends": 1, "late": [0.5, 1.5]}
    alive: list[Counter[int]] = []
    theirs: list[int] = []
    pair = alternate(
        lambda: applied(tmp_path, plan, replicas, [], lambda server: alive.append(live(server))),
        lambda: created(tmp_path, plan, replicas, theirs),
        3,
    )
    good = all(counts == Counter(range(1, replicas + 1)) for counts in alive)
    left = f"canfar knew {min(theirs)} of {replicas}"
    what = f"apply of {replicas} replicas, {latency:g} s a create, one reply in five lost, refused or late"
    table.pair(what, "canfar, which loses those", pair, "one each", f"{'one each' if good else 'NOT one each'}; {left}")
    ideal = math.ceil(replicas / CONNECTIONS) * latency + SETTLE
    beyond = pair.ours.seconds - start_up
    table.add(
        what,
        "the ideal and one settling",
        f"{beyond / ideal:.2f}",
        f"{beyond:.3f} s, {ideal:.3f} s",
        3,
        "",
        "a 503 or 504 halves the connections in use for a while",
    )


def applied(
    root: Path,
    plan: Mapping[str, object],
    replicas: int,
    lists: list[int],
    then: Callable[[Server], None] | None = None,
) -> Measured:
    with fresh(root / "ours", plan) as (server, place):
        here = Workplace(place, server, CLIENT | ({"settle": SETTLE} if "faults" in plan else {}))
        here.write("job.toml", job(replicas))
        measured = ours(here, "apply", "job.toml")
        lists.append(server.counts()["list"])
        if then is not None:
            then(server)
        return measured


def created(root: Path, plan: Mapping[str, object], replicas: int, known: list[int]) -> Measured:
    """``known``: how many sessions the client was told of is added."""
    with fresh(root / "theirs", plan) as (server, place):
        told = root / "told"
        words = canfar_create(server, replicas, CONNECTIONS)
        measured = measure(words, env=canfar_environ(place, server), stdout=told)
        known.append(int(told.read_text().split()[-1]))
        return measured


def live(server: Server) -> Counter[int]:
    """How many live sessions each replica has."""
    return Counter(int(row["replica"]) for row in server.state()["sessions"] if row["alive"])
