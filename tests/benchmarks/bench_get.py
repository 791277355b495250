"""``get jobs`` and ``get replicas`` with 1,000 sessions listed, against ``canfar ps --all -o json``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.pairs import compare
from tests.benchmarks.peers import CANFAR, canfar_environ, fresh, job, needs_canfar
from tests.benchmarks.table import Table
from tests.workplace import Workplace

SESSIONS = 1000

pytestmark = [pytest.mark.benchmark, needs_canfar]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A job whose replicas all run."""
    with fresh(tmp_path_factory.mktemp("get"), {}) as (server, place):
        made = Workplace(place, server, {"timeout": 30})
        made.write("job.toml", job(SESSIONS))
        made.run("apply", "job.toml")
        yield made


@pytest.mark.parametrize("words", [("get", "jobs"), ("get", "replicas", "fits")])
def test_get(here: Workplace, tmp_path: Path, table: Table, words: tuple[str, ...]) -> None:
    """Without a file of a profile, as on the servers that have a built-in profile."""
    assert here.server is not None
    environ = {**here.environ, **canfar_environ(tmp_path, here.server), "PATH": here.environ["PATH"]}
    environ |= {"SKAHACTL_SERVER": here.server.url, "SKAHACTL_TOKEN": environ["TEST_TOKEN"]}
    del environ["SKAHACTL_PROFILE"]
    ours = [sys.executable, "-m", "skahactl", *words, "-o", "json"]
    pair = compare(ours, [str(CANFAR), "ps", "--all", "-o", "json"], env=environ)
    table.pair(f"{' '.join(words[:2])}, {SESSIONS:,} sessions listed", "canfar ps --all -o json", pair, "0.5")
