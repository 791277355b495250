"""``apply`` of many replicas on a server that takes its time: against canfar's ``AsyncSession.create``, and the ideal.

    python -m pytest -m benchmark tests/benchmarks/bench_apply.py -s

The ideal is ceil(replicas / connections) times what a create takes. "Beyond start-up" is without the time of the same
command for one replica on a server that answers at once. The server runs on this machine beside the client: a remark
says how long a create really took there, and how many seconds of processor time the server had.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.pairs import Measured, alternate, measure
from tests.benchmarks.peers import canfar_create, canfar_environ, fresh, job, needs_canfar, ours
from tests.benchmarks.table import Table, number, reached
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server saw of one apply."""

    creates: int
    lists: int
    alive: Counter[int]  # live sessions of each replica
    latency: float  # seconds a create took there
    cpu: float  # seconds, its start included

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Seen:
        alive = Counter(int(row["replica"]) for row in state["sessions"] if row["alive"])
        latency = statistics.fmean(state["create_seconds"])
        requests = state["requests"]
        return cls(requests["create"], requests["list"], alive, latency, state["cpu_seconds"])


@pytest.mark.parametrize(
    ("replicas", "latency", "pairs"), [(100, 0.3, 5), (100, 0.05, 9), (500, 0.3, 3), (500, 0.05, 5)]
)
def test_apply(tmp_path: Path, table: Table, replicas: int, latency: float, pairs: int) -> None:
    runs = Runs(tmp_path, {"post_latency": latency}, replicas)
    pair = alternate(runs.ours, runs.theirs, pairs)
    what = f"apply, {replicas} replicas, {latency:g} s per create, {CONNECTIONS} connections"
    table.pair(what, "canfar, AsyncSession.create", pair, "1")
    ideal = math.ceil(replicas / CONNECTIONS) * latency
    ratio = runs.beyond(pair.pairs) / ideal
    medians = f"{number(runs.beyond(pair.pairs))}, {number(ideal)} s"
    table.add(what, "the ideal", ratio, medians, pair.pairs, "at most 1.10", reached("1.10", ratio, 0), runs.remark())


@pytest.mark.parametrize("replicas", [100, 500])
def test_apply_with_faults(tmp_path: Path, table: Table, replicas: int) -> None:
    """What is lost late is settled, and sent again if it is not there: the ideal, a settling and a create."""
    latency = 0.05
    plan = {"post_latency": latency, "faults": FAULTS, "fault_sends": 1, "late": [0.5, 1.5]}
    runs = Runs(tmp_path, plan, replicas)
    pair = alternate(runs.ours, runs.theirs)
    one_each = all(one.alive == Counter(range(1, replicas + 1)) for one in runs.seen)
    ideal = math.ceil(max(one.creates for one in runs.seen) / CONNECTIONS) * latency + SETTLE + latency
    beyond = runs.beyond(pair.pairs)
    lost = f"canfar knew {min(runs.known)} of {replicas} after {pair.theirs.seconds:.1f} s"
    table.add(
        f"apply, {replicas} replicas, {latency:g} s per create, one reply in five lost, rejected or late",
        "the ideal, resends and checks",
        beyond / ideal,
        f"{number(beyond)}, {number(ideal)} s",
        pair.pairs,
        f"at most 1.10, {'one each' if one_each else 'NOT one each'}",
        reached("1.10", beyond / ideal, 0) and one_each,
        f"{lost}; {runs.remark()}",
    )


@dataclass
class Runs:
    """Both clients on fresh servers with the same plan, and what was seen of them."""

    root: Path
    plan: Mapping[str, object]
    replicas: int
    took: list[tuple[float, float]] = field(default_factory=list)  # seconds of one replica at once, and of all
    seen: list[Seen] = field(default_factory=list)
    known: list[int] = field(default_factory=list)  # how many sessions canfar was told of

    def ours(self) -> Measured:
        start_up = applied(self.root, {}, 1, []).seconds
        measured = applied(self.root, self.plan, self.replicas, self.seen)
        self.took.append((start_up, measured.seconds))
        return measured

    def theirs(self) -> Measured:
        return created(self.root, self.plan, self.replicas, self.known)

    def beyond(self, pairs: int) -> float:
        """Median seconds of the last ``pairs`` applies beyond the start-up before each."""
        return statistics.median(whole - start_up for start_up, whole in self.took[-pairs:])

    def remark(self) -> str:
        start_up = statistics.median(start_up for start_up, _ in self.took)
        latency = 1000 * statistics.median(one.latency for one in self.seen)
        cpu = statistics.median(one.cpu for one in self.seen)
        server = f"server: {latency:.1f} ms per create, {cpu:.1f} s of CPU"
        return f"beyond start-up, {start_up:.2f} s; {server}, {max(one.lists for one in self.seen)} lists"


def applied(root: Path, plan: Mapping[str, object], replicas: int, seen: list[Seen]) -> Measured:
    """One apply on a fresh server; what that saw is added to ``seen``."""
    with fresh(root / "ours", plan) as (server, place):
        here = Workplace(place, server, CLIENT | ({"settle": SETTLE} if "faults" in plan else {}))
        here.write("job.toml", job(replicas))
        measured = ours(here, "apply", "job.toml")
        seen.append(Seen.of(server.state()))
        return measured


def created(root: Path, plan: Mapping[str, object], replicas: int, known: list[int]) -> Measured:
    """``known``: how many sessions the client was told of is added."""
    with fresh(root / "theirs", plan) as (server, place):
        told = root / "told"
        words = canfar_create(server, replicas, CONNECTIONS)
        measured = measure(words, env=canfar_environ(place, server), stdout=told)
        known.append(int(told.read_text().split()[-1]))
        return measured
