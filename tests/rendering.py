"""Runs, attempts and calls for tests of what is shown."""

from __future__ import annotations

import io
from collections.abc import Sequence

from skahactl.engine.runtime import RunProgress
from skahactl.invocation import Invocation
from skahactl.ledger.records import AttemptRow, JobKey, Run, RunSummary
from skahactl.model import Limits, job_status, zero_filled
from skahactl.profile import Profile

CANFAR = Profile("canfar", "https://ws-uv.canfar.net/skaha/v1")


def run_of(total: int, name: str = "tiles", identifier: int = 1) -> Run:
    key = JobKey(CANFAR.server, "alice", name)
    content: dict[str, object] = {}
    return Run(
        identifier, key, 1, "canfar", "d", "headless", "i", content, Limits(), 1, "all", 0.0, total,
        started=0.0,
    )  # fmt: skip


def progress(kinds: Sequence[str], *, now: float = 600.0, **others: object) -> RunProgress:
    counts = zero_filled({state: kinds.count(state) for state in kinds})
    summary = RunSummary(run_of(len(kinds)), counts, job_status(counts, 0), 0)
    return RunProgress(summary, tuple(kinds), started=0.0, now=now, **others)  # type: ignore[arg-type]


def mixed(**counts: int) -> list[str]:
    return [state.capitalize() for state, number in counts.items() for _ in range(number)]


def context(**others: object) -> Invocation:
    values: dict[str, object] = {"environ": {}, "stdout": io.StringIO(), "stderr": io.StringIO(), **others}
    return Invocation(**values)  # type: ignore[arg-type]


def written(place: Invocation) -> tuple[str, str]:
    assert isinstance(place.stdout, io.StringIO)
    assert isinstance(place.stderr, io.StringIO)
    return place.stdout.getvalue(), place.stderr.getvalue()


def attempt(replica: int, state: str, created: float, started: float | None, finished: float | None) -> AttemptRow:
    name = f"t-{replica}"
    return AttemptRow(
        1, replica, 1, name, state, None, "id", created, created, started, finished, finished, None, None, None, None,
        1, 0, None, 0, "none", None, None,
    )  # fmt: skip
