"""The estimate of a run's end: from what runs, what waits, and how many run at the same time."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from skahactl.engine.progress import ProgressTracker, finish_after, most_at_once
from skahactl.engine.record import snapshot_of
from skahactl.ledger import replicas, runs
from skahactl.ledger.database import open_ledger
from skahactl.model import Each, Limits, State
from tests import ledgers
from tests.ledgers import NOW


@pytest.mark.parametrize(
    ("running", "waiting", "slots", "left"),
    [
        ([30.0], 0, 1, 30.0),
        ([30.0, 50.0], 0, 8, 50.0),
        ([30.0], 1, 1, 130.0),
        ([30.0], 1, 2, 100.0),
        ([30.0, 50.0], 3, 2, 230.0),
        ([], 5, 5, 100.0),
        ([], 6, 5, 200.0),
        ([], 0, 5, None),
        ([], 5, 0, None),
        ([30.0, None], 2, 2, 230.0),  # a replica that may need any time keeps its slot
        ([None], 2, 1, None),
        ([30.0, None], 0, 2, None),
        ([0.0], 0, 2, None),
    ],
)
def test_the_last_replica_ends_after(running: list[float | None], waiting: int, slots: int, left: float | None) -> None:
    assert finish_after(running, [100.0] * waiting, slots) == left


def test_times_that_only_touch_do_not_overlap() -> None:
    assert most_at_once([(0.0, 10.0), (5.0, 20.0), (10.0, 30.0)]) == 2
    assert most_at_once([]) == 0


ITEMS, SLOTS, REPLICAS = 20, 4, 24


def seconds_of(number: int, position: int) -> int:
    """The time of an item: 2 to 4 s, and 300 s for one of replica 10."""
    return 300 if (number, position) == (10, 7) else 2 + number * 7 % 3


def ends_of(begin: float, number: int) -> list[float]:
    ends = [begin]
    for position in range(1, ITEMS + 1):
        ends.append(ends[-1] + seconds_of(number, position))
    return ends[1:]


@pytest.mark.parametrize("each", [True, False])
def test_the_estimate_does_not_jump_when_a_replica_starts_or_ends(tmp_path: Path, each: bool) -> None:
    made = ledgers.job("tiles", REPLICAS, items=[["x"] * ITEMS] * REPLICAS, limits=Limits(alive=2 * SLOTS))
    one = Each("x", (("x",),) * ITEMS) if each else None
    made = dataclasses.replace(made, replicas=tuple(dataclasses.replace(row, each=one) for row in made.replicas))
    slots: list[tuple[float, int]] = [(NOW, 0)] * SLOTS  # when a slot is free, and its replica
    ends: dict[int, list[float]] = {}
    begins: dict[int, float] = {}
    for number in range(1, REPLICAS + 1):
        free, _ = min(slots)
        slots.remove(min(slots))
        begins[number], ends[number] = free, ends_of(free, number)
        slots.append((ends[number][-1], number))
    last = max(times[-1] for times in ends.values())
    shown: list[tuple[float, float | None]] = []
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, made)
        ledgers.start(ledger, run, range(1, REPLICAS + 1))
        with ledger.transaction() as connection:
            connection.execute("UPDATE attempts SET pending_since = NULL")
        tracker = ProgressTracker(ledger, NOW, NOW)
        for now in range(int(NOW), int(last), 2):
            for number, times in ends.items():
                if begins[number] <= now:
                    done = [(place, 0) for place, at in enumerate(times, 1) if at <= now - 1] if each else []
                    replicas.record_items(ledger, run.id, number, 1, done)
                    state = State.COMPLETED if times[-1] <= now else State.RUNNING
                    ledgers.move(
                        ledger, run, {number: (state, begins[number], times[-1] if times[-1] <= now else None)}
                    )
            (summary,) = runs.summaries(ledger, [run])
            shown.append((now, tracker.progress(snapshot_of(ledger, run.id), summary, now).left))
    known = [left for at, left in shown if left is not None]
    first = next(place for place, (_, left) in enumerate(shown) if left is not None)
    usual = ITEMS * 3
    assert all(left is not None for at, left in shown[first:] if at < begins[REPLICAS])  # while any waits
    assert max(abs(after - before) for before, after in itertools.pairwise(known)) < usual
    regular = sum(times[-1] - begins[n] for n, times in ends.items()) / SLOTS
    assert 0.6 * regular < known[0] + shown[first][0] - NOW < 1.4 * regular
