"""Reports with plausible numbers, of any size."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from skahactl.engine.usage import RunUsage
from skahactl.ledger.records import AttemptRow, JobKey, Run, RunSummary
from skahactl.model import Limits, Resources, zero_filled
from skahactl.render.report import FailedAttempt, FailureGroup, Report, ReportJob
from tests.rendering import attempt

START = 1_795_705_200.0  # 2026-11-26T15:00:00Z


@dataclass(frozen=True)
class Texts:
    """What comes from outside: an item, the last line of its log, and everything else that a person or server named."""

    item: str = "tile 271.285"
    line: str = "measure.sh: cannot open images/271.285.fits"
    name: str = "survey"


def report_of(*jobs: ReportJob) -> Report:
    ends = [one.finished for job in jobs for one in job.attempts if one.finished is not None]
    return Report(jobs, max(ends, default=START) + 60, "0.2.0")


def job(
    replicas: int,
    *,
    at_once: int = 64,
    failing: int = 0,
    start: float = START,
    texts: Texts = Texts(),
    after: tuple[str, ...] = (),
    retry_after: float | None = None,
) -> ReportJob:
    """A run of which the first ``failing`` replicas failed; with ``retry_after`` they completed with a second attempt,
    so many seconds after the end of all others."""
    chance = random.Random(replicas)
    free = [start] * at_once
    attempts: list[AttemptRow] = []
    for number in range(1, replicas + 1):
        created = heapq.heappop(free)
        started = created + 3 + chance.expovariate(1 / 10)
        finished = started + chance.lognormvariate(0, 0.3) * 300
        heapq.heappush(free, finished + 1)
        bad = number <= failing
        attempts.append(_attempt(number, 1, bad, texts, created, started, finished))
    end = max(one.finished or 0.0 for one in attempts)
    if retry_after is not None:
        later = end + retry_after
        attempts += [_attempt(n, 2, False, texts, later, later + 5, later + 200) for n in range(1, failing + 1)]
        attempts.sort(key=lambda one: (one.replica, one.number))
        end = later + 200
    failed = 0 if retry_after is not None else failing
    run = Run(
        1, JobKey("https://ws-uv.canfar.net/skaha/v1", "ana", texts.name), 1, "canfar", "d", "headless",
        "images.canfar.net/unions/shapepipe:1.1", {}, Limits(alive=at_once), 1, "all", start, replicas, after,
        started=start, ended=end, observed=end,
    )  # fmt: skip
    counts = zero_filled({"Completed": replicas - failed, "Failed": failed})
    items = {"total": replicas, "completed": replicas - failed, "failed": failed}
    return ReportJob(
        summary=RunSummary(run, counts, "Failed" if failed else "Completed", 0, items, ended=end),
        attempts=tuple(attempts),
        items={number: (f"{texts.item} {number}",) for number in range(1, replicas + 1)},
        resources=Resources(2, 8),
        failures=_failures(attempts[:failed], texts),
        usage=RunUsage(
            tuple(chance.uniform(1.5, 3) for _ in range(replicas)),
            tuple(chance.uniform(0.8, 1) for _ in range(replicas)),
            ram_requested=8,
            cpu_requested=2,
            samples=41,
        ),
        manifest=f'name = "survey"\ncommand = ["measure.sh", "{texts.item}"]\n',
    )


def _attempt(
    replica: int, number: int, bad: bool, texts: Texts, created: float, started: float, finished: float
) -> AttemptRow:
    state, code = ("Failed", 2) if bad else ("Completed", 0)
    made = attempt(replica, state, created, started, finished)
    return replace(made, number=number, exit_code=code, last_line=texts.line)


def _failures(failed: Sequence[AttemptRow], texts: Texts) -> tuple[FailureGroup, ...]:
    """One group for every hundred failures, with up to three logs each."""
    return tuple(
        FailureGroup(
            "Failed",
            texts.line,
            tuple(row.replica for row in failed[first : first + 100]),
            tuple(
                FailedAttempt(row, (texts.line,) * 20, f"/home/ana/logs/{row.replica}-1.log")
                for row in failed[first : first + 3]
            ),
        )
        for first in range(0, len(failed), 100)
    )
