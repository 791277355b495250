"""``skahactl report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl import __version__, completers
from skahactl.commands.params import RunNumber
from skahactl.errors import Exit, SkahactlError, UsageError
from skahactl.invocation import OUTPUTS, current
from skahactl.text import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    if file == "-":
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

    from skahactl.commands.report_content import gather_job
    from skahactl.commands.runtime import open_runtime, read_exit_codes, run_online, targets_without_exit_codes
    from skahactl.render.report import report_page
    from skahactl.render.report_data import Report
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
        found = [gather_job(runtime.ledger, target.run) for target in fresh if target.run is not None]
    found.sort(key=lambda job: job.created)
    return report_page(Report(tuple(found), time.time(), __version__))


def _write(path: Path, page: str) -> None:
    """Replace the file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"cannot write the report: {error.strerror or error}", where=str(path)) from error


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        raise SkahactlError("no browser was found", where=str(path), hint="open the file by hand", code="no-browser")
