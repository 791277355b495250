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
from dataclasses import dataclass
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


@pytest.fixture(scope="module")
def start_up(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of ``apply`` for one replica on a server that answers at once."""
    root = tmp_path_factory.mktemp("one")
    runs = [applied(root, {}, 1, []).seconds for _ in range(6)]
    return statistics.median(runs[1:])


@pytest.mark.parametrize("latency", [0.3, 0.05])
@pytest.mark.parametrize("replicas", [100, 500])
def test_apply(tmp_path: Path, table: Table, start_up: float, replicas: int, latency: float) -> None:
    plan = {"post_latency": latency}
    seen: list[Seen] = []
    pair = alternate(lambda: applied(tmp_path, plan, replicas, seen), lambda: created(tmp_path, plan, replicas, []))
    what = f"apply, {replicas} replicas, {latency:g} s a create, {CONNECTIONS} connections"
    table.pair(what, "canfar, AsyncSession.create", pair, "1")
    ideal = math.ceil(replicas / CONNECTIONS) * latency
    beyond = pair.ours.seconds - start_up
    remark = f"beyond start-up of {start_up:.2f} s; {served(seen)}"
    add(table, what, "the ideal", beyond, ideal, pair.pairs, "1.10", remark)


@pytest.mark.parametrize("replicas", [100, 500])
def test_apply_with_faults(tmp_path: Path, table: Table, start_up: float, replicas: int) -> None:
    """What is lost late is settled, and sent again if it is not there: the ideal, a settling and a create."""
    latency = 0.05
    plan = {"post_latency": latency, "faults": FAULTS, "fault_sends": 1, "late": [0.5, 1.5]}
    seen: list[Seen] = []
    known: list[int] = []
    pair = alternate(lambda: applied(tmp_path, plan, replicas, seen), lambda: created(tmp_path, plan, replicas, known))
    good = all(one.alive == Counter(range(1, replicas + 1)) for one in seen)
    what = f"apply, {replicas} replicas, {latency:g} s a create, one reply in five lost, refused or late"
    lost = f"canfar in {pair.theirs.seconds:.1f} s knew {min(known)} of {replicas}"
    creates = max(one.creates for one in seen)
    ideal = math.ceil(creates / CONNECTIONS) * latency + SETTLE + latency
    beyond = pair.ours.seconds - start_up
    remark = f"{lost}; a 503 or 504 halves the connections for a while; {served(seen)}"
    add(table, what, "the ideal, resends and settling", beyond, ideal, pair.pairs, "1.10", remark, good)


def add(
    table: Table,
    what: str,
    against: str,
    beyond: float,
    ideal: float,
    runs: int,
    most: str,
    remark: str,
    one_each: bool | None = None,
) -> None:
    """``one_each``: also told and judged, whether every replica had exactly one session."""
    met = reached(most, beyond / ideal, 0) and one_each is not False
    aim = f"at most {most}" if one_each is None else f"at most {most}, {'one each' if one_each else 'NOT one each'}"
    table.add(what, against, beyond / ideal, f"{number(beyond)}, {number(ideal)} s", runs, aim, met, remark)


def served(seen: list[Seen]) -> str:
    latency = 1000 * statistics.median(one.latency for one in seen)
    cpu = statistics.median(one.cpu for one in seen)
    return f"server: {latency:.1f} ms a create, {cpu:.1f} s of CPU, {max(one.lists for one in seen)} lists"


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
