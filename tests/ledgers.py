"""Ledgers for tests: built through the functions that the commands use, in a directory of the test's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from skahactl.ledger import attempts, replicas, runs
from skahactl.ledger.database import FILE, Ledger, open_ledger
from skahactl.ledger.records import JobKey, Run
from skahactl.model import Each, Job, Limits, Replica, Request, Resources, State
from skahactl.profile import LOCAL_SERVER
from skahactl.skaha.models import CreateOutcome, CreateResult, ServerError

NOW = 1_764_000_000.0  # 2025-11-24T16:00:00Z


def job(name: str, count: int, *, items: Sequence[Sequence[str]] = (), **others: object) -> Job:
    """A job of ``count`` replicas; replica n has ``items[n-1]``."""
    made = tuple(
        Replica(
            number,
            f"{name}-{number}-abcde",
            Request(
                "headless",
                "images.canfar.net/skaha/astroml:latest",
                ("run.sh", str(number)),
                (("REPLICA_ID", str(number)), ("REPLICA_COUNT", str(count))),
                Resources(2, 8),
            ),
            tuple(items[number - 1]) if items else (),
        )
        for number in range(1, count + 1)
    )
    values: dict[str, object] = {"limits": Limits(alive=10), "manifest": f"{name}.toml", **others}
    return Job(name, "headless", made[0].request.image, made, f"{name:0<64}", {"replicas": count}, **values)  # type: ignore[arg-type]


def add(
    ledger: Ledger,
    made: Job,
    *,
    user: str = "alice",
    server: str = LOCAL_SERVER,
    now: float = NOW,
    profile: str = "local",
) -> Run:
    return runs.add_run(ledger, JobKey(server, user, made.name), made, profile, {}, now)


def session_of(run: Run, number: int, attempt: int = 1) -> str:
    """The id that ``start`` gives: letters and digits, eight of them, as the platform's."""
    return f"s{run.id:02x}{attempt:x}{number:04x}"


def start(
    ledger: Ledger, run: Run, numbers: Sequence[int], now: float = NOW, ids: Mapping[int, str] = MappingProxyType({})
) -> None:
    """One create each, answered with an id, that in ``ids`` or one made up."""
    with ledger.transaction():
        for number in numbers:
            intent = attempts.intend(ledger, run.id, number, now)
            assert intent is not None
            created = CreateResult(CreateOutcome.CREATED, id=ids.get(number) or session_of(run, number, intent.attempt))
            attempts.settle(ledger, intent, created, now + 1, None)


def refuse(ledger: Ledger, run: Run, number: int, words: str, now: float = NOW) -> None:
    intent = attempts.intend(ledger, run.id, number, now)
    assert intent is not None
    attempts.settle(
        ledger,
        intent,
        CreateResult(CreateOutcome.REJECTED, error=ServerError("bad-request", 400, words)),
        now + 1,
        None,
    )


def doubt(ledger: Ledger, run: Run, number: int, now: float = NOW) -> None:
    intent = attempts.intend(ledger, run.id, number, now)
    assert intent is not None
    attempts.settle(
        ledger,
        intent,
        CreateResult(CreateOutcome.AMBIGUOUS, error=ServerError("timeout", None, "no answer")),
        now + 1,
        None,
    )


def move(ledger: Ledger, run: Run, ends: Mapping[int, tuple[str, float | None, float | None]]) -> None:
    """Replica: state, started, finished of its latest attempt."""
    with ledger.transaction():
        for number, (state, started, finished) in ends.items():
            latest = attempts.attempts_of(ledger, run.id, number)[-1]
            columns = {"started": started, "finished": finished, "observed": finished or started}
            attempts.set_attempt(ledger, latest, columns, state=state)


def survey(state_dir: Path) -> tuple[Ledger, Run]:
    """``tiles``, 6 replicas with two items each: 1 and 2 Completed, 3 Failed, 4 Running, 5 Pending, 6 Queued; the run
    has not ended."""
    ledger = open_ledger(state_dir)
    items = [[f"tile{number}a", f"tile{number}b"] for number in range(1, 7)]
    run = add(ledger, job("tiles", 6, items=items))
    start(ledger, run, range(1, 6))
    move(
        ledger,
        run,
        {
            1: (State.COMPLETED, NOW + 60, NOW + 360),
            2: (State.COMPLETED, NOW + 60, NOW + 660),
            3: (State.FAILED, NOW + 120, NOW + 180),
            4: (State.RUNNING, NOW + 120, None),
        },
    )
    replicas.add_note(ledger, run.id, NOW + 200, "the platform restarted tiles-4-abcde", 4)
    runs.set_run(ledger, run.id, observed=NOW + 700)
    found = runs.run_by_id(ledger, run.id)
    assert found is not None
    return ledger, found


def with_each(made: Job, each: Each) -> Job:
    """The job with its first replica running its command once an item."""
    return dataclasses.replace(made, replicas=(dataclasses.replace(made.replicas[0], each=each), *made.replicas[1:]))


def changes(state_dir: Path) -> int:
    """SQLite's own count of the transactions that changed the file."""
    return int.from_bytes((state_dir / FILE).read_bytes()[24:28], "big")
