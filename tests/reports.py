"""Reports with plausible numbers, of any size."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

from skahactl.render.report_data import (
    FailedAttempt,
    FailureGroup,
    Report,
    ReportAttempt,
    ReportJob,
    ReportUsage,
    TimedItem,
)

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
    attempts: list[ReportAttempt] = []
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
    return ReportJob(
        name=texts.name,
        run=1,
        profile="canfar",
        server="ws-uv.canfar.net",
        user="ana",
        image="images.canfar.net/unions/shapepipe:1.1",
        resources="2 cores, 8 GB",
        status="Failed" if failed else "Completed",
        reason=None,
        counts={"Completed": replicas - failed, "Failed": failed},
        items={"total": replicas, "completed": replicas - failed, "failed": failed},
        created=start,
        ended=end,
        observed=end,
        cores=2,
        alive_limit=at_once,
        after=after,
        attempts=tuple(attempts),
        failures=_failures(failed, texts),
        timed=tuple(
            TimedItem(one.items, one.replica, one.number, one.state, (one.finished or 0.0) - (one.started or 0.0))
            for one in attempts
        ),
        timed_noun="item",
        usage=(
            ReportUsage("memory", "GB", tuple(chance.uniform(1.5, 3) for _ in range(replicas)), 8, 41, "ram = 4"),
            ReportUsage("cpu", "cores", tuple(chance.uniform(0.8, 1) for _ in range(replicas)), 2, 41),
        ),
        manifest=f'name = "survey"\ncommand = ["measure.sh", "{texts.item}"]\n',
        commands=(("why", f"skahactl logs {texts.name} --failed"),) if failed else (),
    )


def _attempt(
    replica: int, number: int, bad: bool, texts: Texts, created: float, started: float, finished: float
) -> ReportAttempt:
    state, code = ("Failed", 2) if bad else ("Completed", 0)
    item = f"{texts.item} {replica}"
    return ReportAttempt(replica, number, state, item, created, started, finished, None, code, texts.line)


def _failures(failed: int, texts: Texts) -> tuple[FailureGroup, ...]:
    """One group for every hundred failures, with up to three logs each."""
    return tuple(
        FailureGroup(
            "Failed",
            texts.line,
            tuple(range(first, min(failed, first + 99) + 1)),
            tuple(
                FailedAttempt(n, 1, f"{texts.item} {n}", 2, (texts.line,) * 20, f"/home/ana/logs/{n}-1.log")
                for n in range(first, min(failed, first + 2) + 1)
            ),
        )
        for first in range(1, failed + 1, 100)
    )
