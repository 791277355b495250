"""What tests of running commands begin with; a file that needs another one defines its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.desk import Desk

# how long an example takes says how busy the machine is
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Four slots, and little patience with what does not end by itself."""
    desk = Desk(tmp_path)
    desk.slots(4, kill_after=0.5)
    return desk


@pytest.fixture
def long(desk: Desk) -> Iterator[str]:
    """A manifest whose replicas run for long."""
    yield desk.job("long", "sleep 100", 2)
    desk.clear("long")
