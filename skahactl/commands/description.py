"""What ``describe`` prints: the data of each target, as one JSON shape or as text."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl import shapes
from skahactl.commands.runtime import (
    open_runtime,
    poll_or_error,
    raise_failed_poll,
    read_exit_codes,
    run_online,
    say_unsaved_logs,
    targets_without_exit_codes,
)
from skahactl.engine import snapshot
from skahactl.engine.delete import kept_bytes
from skahactl.engine.outcome import time_taken
from skahactl.engine.snapshot import poll_is_due
from skahactl.engine.usage import run_usage
from skahactl.errors import AuthError, Exit, UnreachableError, UsageError
from skahactl.invocation import current
from skahactl.ledger.attempts import attempts_of, usage_of, was_killed
from skahactl.ledger.replicas import notes_of, replicas_of
from skahactl.ledger.runs import run_by_id, summaries
from skahactl.model import State
from skahactl.render.tables import data_text
from skahactl.targets import Target, by_run, find, unknown_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, Run
    from skahactl.shapes import Row


_MOST_ASKED = 3  # maximum number of Pending replicas per job for which events are requested


@dataclass(frozen=True, slots=True)
class DescribeQuery:
    """The data of a target (the shape that -o json prints), and its attempts for the timeline."""

    data: Row
    attempts: tuple[AttemptRow, ...] = ()
    took: str | None = None  # the time that the whole run took, if it has ended


def run_describe(words: Sequence[str], replicas: str | None, run: int | None, cached: bool) -> int:
    """Print each target and return the exit code. One poll serves all targets; the data of several targets is one
    list."""
    with open_runtime(reads_only=True) as runtime:
        targets = by_run(find(runtime.ledger, runtime.profile, words, replicas=replicas, run=run))
        runs = [target.run for target in targets if target.run is not None]
        is_due = (
            len(runs) < len(targets) or poll_is_due(runs) or bool(targets_without_exit_codes(runtime.ledger, targets))
        )
        if not cached and is_due:
            return run_online(runtime, lambda: _describe_online(runtime, targets, runs))
        _show([_described(runtime, target) for target in targets], runtime)
        say_unsaved_logs(runtime, runs)
        return Exit.DONE


async def _describe_online(runtime: Runtime, targets: Sequence[Target], runs: Sequence[Run]) -> int:
    listing, error = await poll_or_error(runtime, runs) if poll_is_due(runs) else (None, None)
    if error is None:
        await read_exit_codes(runtime, targets_without_exit_codes(runtime.ledger, targets), listing)
    described = []
    for target in targets:
        if target.run is None:
            described.append(DescribeQuery({"session": await _foreign(runtime, target)}))
            continue
        one = _of_run(runtime, target)
        if listing is not None:
            one.data["events"] = await _events(runtime, one)
        described.append(one)
    _show(described, runtime)
    say_unsaved_logs(runtime, runs)
    if error is not None:
        raise_failed_poll(runtime, runs, error)
    return Exit.DONE


def _described(runtime: Runtime, target: Target) -> DescribeQuery:
    """Return the data of a target from the local record alone. Raises UsageError for a session without a record."""
    if target.run is None:
        word = target.session or target.word
        raise UsageError(f"this machine has no record of a session '{word}'", hint="leave out --cached")
    return _of_run(runtime, target)


def _show(described: Sequence[DescribeQuery], runtime: Runtime) -> None:
    context = current()
    if context.machine_readable:
        data = [one.data for one in described]
        context.data(data_text(context.output, data[0] if len(data) == 1 else data))
        return
    from skahactl.render import pager

    pager.show("".join(_text(runtime, one) for one in described), context.stdout, context.environ)


def _of_run(runtime: Runtime, target: Target) -> DescribeQuery:
    """Return the data of a target's run from the ledger, which is read again."""
    ledger = runtime.ledger
    assert target.run is not None
    run = run_by_id(ledger, target.run.id) or target.run
    target = replace(target, run=run)
    tried = attempts_of(ledger, run.id)
    attempts = tuple(row for row in tried if _matches_target(row, target))
    (job,) = snapshot.job_rows(ledger, [run])
    data: Row = {
        "job": job,
        "keep_logs": run.keep,
        "log_bytes": kept_bytes(ledger, run),
        "after": list(run.after),
        "replicas": _replicas(runtime, target, run, attempts),
        "usage": _usage(ledger, run, attempts),
        "history": [shapes.note(note) for note in notes_of(ledger, run.id) if _is_noted(note.replica, target)],
        "events": [],
    }
    (summary,) = summaries(ledger, [run])
    return DescribeQuery(data, attempts, time_taken(summary, tried))


def _replicas(runtime: Runtime, target: Target, run: Run, attempts: Sequence[AttemptRow]) -> list[Row]:
    rows = snapshot.replica_rows(runtime.ledger, [target], [run], runtime.clock.now())
    tried: dict[object, list[Row]] = {}
    for attempt in attempts:
        tried.setdefault(attempt.replica, []).append(shapes.attempt(run, attempt))
    return [{**row, "tried": tried.get(row["replica"], [])} for row in rows]


def _usage(ledger: Ledger, run: Run, attempts: Sequence[AttemptRow]) -> Row:
    """Return what these attempts used of their requests, and what to request next; None for values that were not
    measured."""
    rows = {row.number: row for row in replicas_of(ledger, run.id)}
    requested = {(row.replica, row.number): rows[row.replica].requested(row) for row in attempts}
    used = run_usage(usage_of(ledger, run.id), requested, was_killed=was_killed(ledger, run.id))
    return {
        "ram_peak_gb": used.ram_peak,
        "ram_requested_gb": used.ram_requested,
        "cpu_mean_cores": used.cpu_mean,
        "cpu_requested": used.cpu_requested,
        "samples": used.samples,
        "summary": used.text,
        "advice": used.advice,
    }


def _matches_target(row: AttemptRow, target: Target) -> bool:
    return target.numbers is None or row.replica in target.numbers


def _is_noted(replica: int | None, target: Target) -> bool:
    return replica is None or target.numbers is None or replica in target.numbers


async def _events(runtime: Runtime, described: DescribeQuery) -> list[Row]:
    """Return the events of the first few Pending replicas; empty if the server does not answer."""
    latest = {row.replica: row for row in described.attempts}
    pending = [row for row in latest.values() if row.state == State.PENDING and row.session is not None]
    found: list[Row] = []
    with contextlib.suppress(AuthError, UnreachableError):
        for row in pending[:_MOST_ASKED]:
            for event in await runtime.client.events(row.session or "") or ():
                shown = shapes.event(row.session or "", None, event)
                found.append({**shown, "replica": row.replica})
    return found


async def _foreign(runtime: Runtime, target: Target) -> Row:
    """Return a session that the ledger does not know, as the platform reports it. Raises UsageError if it is not
    listed."""
    word = target.session or target.word
    listing = await runtime.first_poll()
    session = next((one for one in listing.sessions if word in (one.id, one.name)), None)
    if session is None:
        raise unknown_target(runtime.ledger, runtime.profile, word, is_listed=True)
    return shapes.session(listing.objects()[session.id], None)


def _text(runtime: Runtime, described: DescribeQuery) -> str:
    from skahactl.render.description import description

    lines = description(current(), runtime.profile, described.data, described.attempts, described.took, time.time())
    return "".join(f"{line}\n" for line in lines)
