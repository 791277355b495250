"""What tests of running commands begin with; a file that needs another one defines its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.workplace import Workplace

# whoever runs the tests may ignore signals (nohup, a script's "&"), and what is ignored is inherited
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGCHLD, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

# how long an example takes says how busy the machine is
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    """Four slots, and little patience with what does not end by itself."""
    here = Workplace(tmp_path)
    here.slots(4, kill_after=0.5)
    return here


@pytest.fixture
def long(here: Workplace) -> Iterator[str]:
    """A manifest whose replicas run for long."""
    yield here.job("long", "sleep 100", 2)
    here.clear("long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lift the time limit of pyproject.toml from slow tests and benchmarks."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("benchmark"):
            item.add_marker(pytest.mark.timeout(0))
