"""The local platform against GNU parallel with a joblog: 500 times ``true`` on two slots."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import pytest

from tests.benchmarks.pairs import Measured, alternate, measure
from tests.benchmarks.table import Table
from tests.skaha_server.process import ROOT

REPLICAS = 500
JOB = """
name = "true"
image = "images.canfar.net/skaha/astroml:latest"
command = ["true"]
replicas = {}
[logs]
keep = "all"
"""

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(not shutil.which("parallel"), reason="needs GNU parallel")]


def test_apply_wait_of_many_small_replicas(tmp_path: Path, table: Table) -> None:
    """Ledger, queue, workers, and a kept log each: all that a rehearsal has."""
    count = itertools.count()
    (tmp_path / "job.toml").write_text(JOB.format(REPLICAS))
    (tmp_path / "two.toml").write_text('server = "local"\n[local]\nslots = 2\n')
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def ours() -> Measured:
        state = {"SKAHACTL_STATE_DIR": str(tmp_path / f"state{next(count)}")}
        words = [sys.executable, "-m", "skahactl", "apply", "job.toml", "--wait", "-p", str(tmp_path / "two.toml")]
        return measure(words, env=environ | state, cwd=tmp_path)

    def theirs() -> Measured:
        log = tmp_path / f"joblog{next(count)}"
        words = f"seq {REPLICAS} | parallel --will-cite -j2 --joblog {log} true"
        return measure(["sh", "-c", words], env=environ, cwd=tmp_path)

    pair = alternate(ours, theirs)
    table.pair(f"{REPLICAS} replicas of true, 2 slots, logs kept", "GNU parallel -j2 --joblog", pair, "3")
