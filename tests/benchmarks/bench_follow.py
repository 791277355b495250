"""``logs -f`` for an hour of a replica that writes 10 lines a second, in simulated time."""

from __future__ import annotations

import pytest

from skahactl.logs.pace import REMOTE
from tests.benchmarks.table import Table
from tests.test_logs_follow import HOUR, Platform, followed

pytestmark = pytest.mark.benchmark


def test_an_hour_of_ten_lines_a_second(table: Table) -> None:
    platform, screen, follower = followed(lambda clock: Platform(clock, 10, {"a": HOUR}), REMOTE)
    whole = platform.log("a")
    every_five_seconds = sum(len(whole) * second / HOUR for second in range(0, int(HOUR), 5))
    table.add(
        "logs -f, an hour of 10 lines a second, simulated time",
        "the whole log every 5 s",
        f"{follower.moved / every_five_seconds:.3f}",
        f"{follower.moved / 1e6:.1f} MB, {every_five_seconds / 1e6:.0f} MB",
        1,
        "0.2, 60 s",
        f"no line later than {screen.latest:.0f} s, {'all' if bytes(screen.text['a']) == whole else 'NOT all'} shown",
    )
