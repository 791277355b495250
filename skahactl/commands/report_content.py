"""What a report shows of a run, gathered from the local record and the saved logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from skahactl.model import ENDED, State
from skahactl.render.report_data import (
    FailedAttempt,
    FailureGroup,
    ReportAttempt,
    ReportJob,
    ReportUsage,
    TimedItem,
)
from skahactl.text import count_noun, format_resources

if TYPE_CHECKING:
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ReplicaRow, Run, RunSummary

_TAIL_BYTES = 32_768  # of a log, for its last lines
_LINES = 20
_EXAMPLES = 3  # logs of each group of failures
_FAILED = (State.FAILED, State.REJECTED, State.UNKNOWN, State.SKIPPED)


def gather_job(ledger: Ledger, run: Run) -> ReportJob:
    """Return everything that the page shows of one run. Reads the ends of its saved logs."""
    from skahactl.ledger.attempts import attempts_of
    from skahactl.ledger.replicas import replicas_of
    from skahactl.ledger.runs import summaries

    (summary,) = summaries(ledger, [run])
    rows = {row.number: row for row in replicas_of(ledger, run.id)}
    labels = {row.number: _items_label(row.items) for row in rows.values()}
    attempts = attempts_of(ledger, run.id)
    shown = tuple(_attempt(row, labels[row.replica]) for row in attempts)
    timed, noun = _timed(shown, rows)
    resources = {row.request.resources for row in rows.values()}
    common = resources.pop() if len(resources) == 1 else None
    return ReportJob(
        name=run.key.name,
        run=run.number,
        profile=run.profile,
        server=_host(run.key.server),
        user=run.key.user,
        image=run.image,
        resources=_resources_text(common),
        status=summary.status,
        reason=run.reason or summary.stop_reason,
        counts=summary.counts,
        items=summary.items,
        created=run.created,
        ended=summary.ended,
        observed=run.observed,
        cores=None if common is None else common.cores,
        alive_limit=run.limits.alive,
        after=run.after,
        attempts=shown,
        failures=_failures(rows, {(one.replica, one.number): one for one in shown}, attempts),
        timed=timed,
        timed_noun=noun,
        usage=_usage(ledger, run, rows, attempts),
        manifest=manifest_text(run),
        is_stopped=summary.stop_reason is not None,
        commands=_commands(run, summary),
    )


def _host(server: str) -> str:
    return server.split("://", 1)[-1].partition("/")[0]


def _items_label(items: Sequence[str]) -> str:
    if len(items) <= 1:
        return items[0] if items else ""
    return f"{len(items)} items: {items[0]} to {items[-1]}"


def _resources_text(resources: Any) -> str:
    if resources is None:
        return "resources differ by replica"
    return format_resources(asdict(resources)).replace("flexible", "flexible resources", 1)


def _attempt(row: AttemptRow, label: str) -> ReportAttempt:
    ended = row.state in ENDED
    finished = row.finished if row.finished is not None else row.observed or row.created if ended else None
    return ReportAttempt(
        replica=row.replica,
        number=row.number,
        state=row.state,
        items=label,
        created=row.created,
        started=row.started,
        finished=finished,
        finished_after=row.finished_after,
        exit_code=row.exit_code,
        last_line=row.last_line or _last_line(row) or row.reason,
    )


def _timed(attempts: Sequence[ReportAttempt], rows: Mapping[int, ReplicaRow]) -> tuple[tuple[TimedItem, ...], str]:
    """Return how long each attempt ran, by its item where every replica has one."""
    has_items = bool(rows) and all(len(row.items) == 1 for row in rows.values())
    timed = []
    for one in attempts:
        if one.started is not None and one.finished is not None and one.state in (State.COMPLETED, State.FAILED):
            label = one.items if has_items else f"{one.replica} {f'({one.items})' if one.items else ''}".rstrip()
            seconds = max(0.0, one.finished - one.started)
            timed.append(TimedItem(label, one.replica, one.number, one.state, seconds))
    return tuple(timed), "item" if has_items else "replica"


def _usage(
    ledger: Ledger, run: Run, rows: Mapping[int, ReplicaRow], attempts: Sequence[AttemptRow]
) -> tuple[ReportUsage, ...]:
    """Memory and CPU, each if any poll measured it."""
    from skahactl.engine.usage import run_usage
    from skahactl.ledger.attempts import usage_of

    requested = {(row.replica, row.number): row.resources or rows[row.replica].request.resources for row in attempts}
    used = run_usage(usage_of(ledger, run.id), requested)
    found = (
        ReportUsage("memory", "GB", used.ram, used.ram_requested, used.samples, used.advice),
        ReportUsage("cpu", "cores", used.cpu, used.cpu_requested, used.samples),
    )
    return tuple(one for one in found if one.values)


def _failures(
    rows: Mapping[int, ReplicaRow], shown: Mapping[tuple[int, int], ReportAttempt], attempts: Sequence[AttemptRow]
) -> tuple[FailureGroup, ...]:
    """Return the failed replicas, grouped by similar failures, the largest group first."""
    latest = {row.replica: row for row in attempts}
    groups: dict[tuple[str, str], list[int]] = {}
    texts: dict[tuple[str, str], str] = {}
    for number, row in rows.items():
        if row.state not in _FAILED:
            continue
        attempt = shown.get((number, row.attempt))
        text = (attempt.last_line if attempt else None) or row.reason or ""
        key = (row.state, _alike(text, row.items))
        texts.setdefault(key, text)
        groups.setdefault(key, []).append(number)
    found = []
    for key, numbers in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[1])):
        examples = [latest[number] for number in numbers[:_EXAMPLES] if number in latest]
        failed = tuple(_failed(row, shown[row.replica, row.number]) for row in examples)
        found.append(FailureGroup(key[0], texts[key], tuple(numbers), failed))
    return tuple(found)


def _alike(text: str, items: Sequence[str]) -> str:
    """Return the text without what differs from replica to replica: its items and numbers."""
    for item in items[:50]:
        text = text.replace(item, "?") if item else text
    return re.sub(r"\d+", "?", text)


def _failed(row: AttemptRow, shown: ReportAttempt) -> FailedAttempt:
    lines = tuple(_last_lines(row.log_path)) if row.log_path else ()
    where = row.log_path if lines else _why_no_log(row)
    return FailedAttempt(row.replica, row.number, shown.items, row.exit_code, lines, where)


def _why_no_log(row: AttemptRow) -> str:
    if row.session is None:
        return "no session was created"
    return "the log is not saved on this machine"


def _last_line(row: AttemptRow) -> str | None:
    from skahactl.logs.saved import last_line_of

    try:
        with open(row.log_path or "", "rb") as stream:
            return last_line_of(stream)
    except OSError:
        return None


def _last_lines(path: str) -> list[str]:
    """Return the lines at the end of a file, without the marks of items; a first line that is cut is left out."""
    from skahactl.manifest.placeholders import MARK

    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            data = stream.read()
    except OSError:
        return []
    lines = MARK.sub(b"\n", data).decode("utf-8", "replace").removesuffix("\n").split("\n") if data else []
    if size > _TAIL_BYTES and len(lines) > 1:
        del lines[0]
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-_LINES:]]


def manifest_text(run: Run) -> str:
    """Return the content of the run as TOML, with what it was driven by."""
    import tomli_w

    content = dict(run.content)
    shell, items = content.pop("shell", None), content.pop("items", None)
    if content.get("kind") == "headless":
        del content["kind"]
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    if run.after:
        plain["after"] = list(run.after)
    limits = {"alive": run.limits.alive, "pending": run.limits.pending, "failures": run.limits.failures}
    tables["limits"] = {key: value for key, value in limits.items() if value is not None}
    retry = {"attempts": run.attempts if run.attempts > 1 else None, "ram": list(run.retry_ram) or None}
    tables["retry"] = {key: value for key, value in retry.items() if value is not None}
    tables["logs"] = {"keep": run.keep}
    parts = [tomli_w.dumps({"name": run.key.name, **plain}), _shell_text(shell)]
    if isinstance(items, Mapping):
        each = "each = true\n" if items.get("each") else ""
        count = count_noun(items.get("count") or 0, "item")
        parts.append(f'\n[items]  # {count}\nstrategy = "{items.get("strategy")}"\n{each}')
    parts += [f"\n{tomli_w.dumps({key: table})}" for key, table in tables.items() if table]
    return "".join(parts)


def _shell_text(shell: object) -> str:
    """Return the script as people write it: a literal string, if it can be one."""
    import tomli_w

    if not isinstance(shell, str):
        return ""
    if "'''" in shell or not all(char.isprintable() or char in "\n\t" for char in shell):
        return tomli_w.dumps({"shell": shell})
    return f"shell = '''\n{shell}'''\n"


def _commands(run: Run, summary: RunSummary) -> tuple[tuple[str, str], ...]:
    """Return what to run next: (purpose, command)."""
    name, counts = run.key.name, summary.counts
    profile = "" if run.profile == "local" else f" -p {run.profile}"
    if summary.ended is None and summary.stop_reason is None:
        return (("continue", f"skahactl{profile} resume {name}"),)
    found = []
    if counts.get(State.FAILED):
        found = [
            ("why", f"skahactl{profile} logs {name} --failed"),
            ("again", f"skahactl{profile} retry {name} --wait"),
        ]
    if counts.get(State.UNKNOWN):
        found.append(("unknown results", f"skahactl{profile} retry {name} --unknown --wait"))
    return tuple(found)
