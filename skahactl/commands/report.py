"""``skahactl report``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from skahactl import __version__, completers
from skahactl.commands.params import RunNumber
from skahactl.errors import Exit, SkahactlError, UsageError
from skahactl.invocation import OUTPUTS, current
from skahactl.model import State
from skahactl.system import write_atomically
from skahactl.text import count_noun, suggest, without_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ReplicaRow, Run
    from skahactl.render.report import FailureGroup, ReportJob

_TAIL_BYTES = 32_768  # of a log, for its last lines
_LINES = 20
_EXAMPLES = 3  # logs of each group of failures
_FAILED = (State.FAILED, State.REJECTED, State.UNKNOWN, State.SKIPPED)


def report(
    *jobs: Annotated[
        str, Parameter(name="JOB", help="Jobs with a local record.", required=True, completer=completers.jobs)
    ],
    file: Annotated[str | None, Parameter(name=["--output", "-o"], metavar="FILE")] = None,
    run: RunNumber = None,
    open_page: Annotated[bool, Parameter(name="--open")] = False,
) -> int:
    """Write a page with charts of one or more jobs.

    The page is one HTML file that needs no network. Everything in it comes from the local record and the saved logs;
    the server is not contacted. Several jobs share a page, in the order in which they ran.

    Examples:

      skahactl report tiles
      skahactl report shards merge -o survey.html --open

    Parameters
    ----------
    file
        Write the page to this file, or to standard output with - (default: JOB.html).
    run
        Show this run of the job (default: the last).
    open_page
        Open the page in the browser.
    """
    context = current()
    if file in OUTPUTS:
        raise UsageError(f"the format of a report is always HTML, not {file}", hint="-o names a file: -o report.html")
    page = _page(jobs, run)
    if file in ("-", "/dev/stdout"):
        context.stdout.write(page)
        return Exit.DONE
    path = Path(context.cwd) / (file or f"{'-'.join(dict.fromkeys(_plain(job) for job in jobs))[:100]}.html")
    _write(path, page)
    context.out(str(path))
    if open_page:
        _open(path)
    return Exit.DONE


def _plain(job: str) -> str:
    return job.rpartition("/")[2] or job


def _page(words: Sequence[str], number: int | None) -> str:
    import time

    from skahactl.commands.runtime import open_runtime, read_exit_codes, run_online, targets_without_exit_codes
    from skahactl.render.report import Report, report_page
    from skahactl.targets import by_run, find

    with open_runtime(reads_only=True) as runtime:
        targets = by_run(find(runtime.ledger, runtime.profile, words, run=number))
        for target in targets:
            if target.run is None or target.numbers is not None:
                hint = f"a report shows whole jobs: {suggest('report', 'JOB')}"
                raise UsageError(f"'{target.word}' is not a job", hint=hint)
        if lacking := targets_without_exit_codes(runtime.ledger, targets):
            run_online(runtime, lambda: read_exit_codes(runtime, lacking))
        fresh = by_run(find(runtime.ledger, runtime.profile, words, run=number))
        found = [_gather(runtime.ledger, target.run) for target in fresh if target.run is not None]
    found.sort(key=lambda job: job.summary.run.created)
    return report_page(Report(tuple(found), time.time(), __version__))


def _gather(ledger: Ledger, run: Run) -> ReportJob:
    """Return the data of one run for the page, with the last lines of its saved logs."""
    from skahactl.engine.usage import run_usage
    from skahactl.ledger.attempts import attempts_of, usage_of, was_killed
    from skahactl.ledger.replicas import replicas_of
    from skahactl.ledger.runs import summaries
    from skahactl.render.report import ReportJob

    (summary,) = summaries(ledger, [run])
    rows = {row.number: row for row in replicas_of(ledger, run.id)}
    attempts = tuple(replace(row, last_line=row.last_line or _last_line(row)) for row in attempts_of(ledger, run.id))
    requested = {(row.replica, row.number): rows[row.replica].requested(row) for row in attempts}
    resources = {row.request.resources for row in rows.values()}
    return ReportJob(
        summary=summary,
        attempts=attempts,
        items={row.number: row.items for row in rows.values()},
        resources=resources.pop() if len(resources) == 1 else None,
        failures=_failures(rows, {row.replica: row for row in attempts}),
        usage=run_usage(usage_of(ledger, run.id), requested, was_killed=was_killed(ledger, run.id)),
        manifest=_run_toml(run, summary.items["total"]),
    )


def _last_line(row: AttemptRow) -> str | None:
    """Return the last line of the attempt's saved log; without one, its reason."""
    from skahactl.logs.copies import last_line_of

    try:
        with open(row.log_path or "", "rb") as stream:
            return last_line_of(stream) or row.reason
    except OSError:
        return row.reason


def _failures(rows: Mapping[int, ReplicaRow], latest: Mapping[int, AttemptRow]) -> tuple[FailureGroup, ...]:
    """Return the failed replicas, grouped by similar failures, the largest group first."""
    from skahactl.render.report import FailedAttempt, FailureGroup

    groups: dict[tuple[str, str], list[int]] = {}
    texts: dict[tuple[str, str], str] = {}
    for number, row in rows.items():
        if row.state in _FAILED:
            last_line = latest[number].last_line if number in latest else None
            text = last_line or row.reason or ""
            key = (row.state, _without_items(text, row.items))
            texts.setdefault(key, text)
            groups.setdefault(key, []).append(number)
    found = []
    for key, numbers in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[1])):
        examples = [latest[number] for number in numbers[:_EXAMPLES] if number in latest]
        ends = tuple(FailedAttempt(row, *_end_of_log(row)) for row in examples)
        found.append(FailureGroup(key[0], texts[key], tuple(numbers), ends))
    return tuple(found)


def _without_items(text: str, items: Sequence[str]) -> str:
    """Return the text without what differs from replica to replica: its items and numbers."""
    for item in items[:50]:
        text = text.replace(item, "?") if item else text
    return without_numbers(text)


def _end_of_log(row: AttemptRow) -> tuple[tuple[str, ...], str]:
    """Return the last lines of the attempt's saved log and the path of the log; without lines, the second value is the
    reason."""
    if row.session is None:
        return (), "no session was created"
    lines = _last_lines(row.log_path) if row.log_path else []
    return tuple(lines), (row.log_path or "") if lines else "the log is not saved on this machine"


def _last_lines(path: str) -> list[str]:
    """Return the last lines of a file, without marks of items and without an incomplete first line."""
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


def _run_toml(run: Run, total: int) -> str:
    """Return the content of the run as TOML, with the settings for driving it (after, limits, retry, logs). ``total``:
    the number of items that it runs."""
    import tomli_w

    from skahactl.toml import toml_text

    content: dict[str, Any] = {"name": run.key.name, **run.content}
    shell, items = content.pop("shell", None), content.pop("items", None)
    if content.get("kind") == "headless":
        del content["kind"]
    content["after"] = list(run.after)
    content["limits"] = {key: getattr(run.limits, key) for key in ("alive", "pending", "failures")}
    content["retry"] = {"attempts": run.attempts if run.attempts > 1 else None, "ram": list(run.retry_ram) or None}
    content["logs"] = {"keep": run.keep}
    tables = {key: _known(table) for key, table in content.items() if isinstance(table, Mapping)}
    plain = {key: value for key, value in content.items() if key not in tables and value != []}
    text = tomli_w.dumps(plain) + (f"shell = {toml_text(shell)}\n" if shell else "")
    if items:
        each = "each = true\n" if items.get("each") else ""
        some = f"{total} of " if total < items["count"] else ""  # of a run with --missing
        listed = some + count_noun(items["count"], "item")
        text += f'\n[items]  # {listed}\nstrategy = "{items["strategy"]}"\n{each}'
    return f"{text}\n{tomli_w.dumps({key: table for key, table in tables.items() if table})}"


def _known(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _write(path: Path, page: str) -> None:
    """Replace the file in one step, or write into a FIFO or a device. Raises UsageError if that fails."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(page, encoding="utf-8")
        else:
            write_atomically(path, page.encode(), 0o666, parents=False)
    except OSError as error:
        raise UsageError(f"cannot write the report: {error.strerror or error}", where=str(path)) from error


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        raise SkahactlError("no browser was found", where=str(path), hint="open the file by hand", code="no-browser")
