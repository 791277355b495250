"""The estimate of a run's end: pure, from what runs, what waits, and how many run at the same time."""

from __future__ import annotations

import pytest

from skahactl.engine.progress import finish_after, most_at_once


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
    ],
)
def test_the_last_replica_ends_after(running: list[float], waiting: int, slots: int, left: float | None) -> None:
    assert finish_after(running, 100.0, waiting, slots) == left


def test_times_that_only_touch_do_not_overlap() -> None:
    assert most_at_once([(0.0, 10.0), (5.0, 20.0), (10.0, 30.0)]) == 2
    assert most_at_once([]) == 0
