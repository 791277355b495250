"""``logs -f`` for an hour of a replica that writes 10 lines a second, in simulated time."""

from __future__ import annotations

import pytest

from skahactl.logs.follow import REMOTE
from tests.benchmarks.table import Table
from tests.server.test_logs_follow import HOUR, Platform, followed

pytestmark = pytest.mark.benchmark


def test_an_hour_of_ten_lines_a_second(table: Table) -> None:
    platform, screen, follower = followed(lambda clock: Platform(clock, 10, {"a": HOUR}), REMOTE)
    whole = platform.log("a")
    every_five_seconds = sum(len(whole) * second / HOUR for second in range(0, int(HOUR), 5))
    ratio, all_shown = follower.moved / every_five_seconds, bytes(screen.text["a"]) == whole
    table.add(
        "logs -f, one hour at 10 lines per second, simulated time",
        "reading the whole log every 5 s",
        ratio,
        f"{follower.moved / 1e6:.0f}, {every_five_seconds / 1e6:.0f} MB moved",
        1,
        "at most 0.20, each line at most 60 s late",
        ratio <= 0.2 and screen.latest <= 60 and all_shown,
        f"latest line {screen.latest:.0f} s, {'all' if all_shown else 'NOT all'} shown",
    )
