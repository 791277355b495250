"""``skahactl prune``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import SELECTION, DryRun, Yes
from skahactl.errors import BusyError, Declined, Exit, UsageError
from skahactl.invocation import Invocation, current
from skahactl.text import count_noun, format_duration, format_size, iso_time, parse_duration, suggest

if TYPE_CHECKING:
    from skahactl.engine.delete import Prune
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import JobKey, RunSummary
    from skahactl.profile import Profile


def prune(
    *jobs: Annotated[str, Parameter(name="JOB", help="Only these jobs (default: all).", completer=completers.jobs)],
    older_than: Annotated[
        str,
        Parameter(
            metavar="DURATION",
            group=SELECTION,
            help="Only runs that ended at least this long ago: 12h, 30d (default: 30d).",
        ),
    ] = "30d",
    logs: Annotated[bool, Parameter(group=SELECTION, help="Remove only the saved logs; keep the records.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Remove the local records and saved logs of runs that ended long ago.

    Nothing on the server is touched; use delete to end sessions. After the last run of a job is removed, the next
    apply starts it as a new job.

    Examples:
      skahactl prune --dry-run
      skahactl prune tiles --older-than 7d --logs --yes
      skahactl -p canfar prune --older-than 90d
    """
    from skahactl.engine.delete import Prune, kept_bytes
    from skahactl.ledger.database import open_ledger, read_ledger
    from skahactl.profiles import choose
    from skahactl.system import state_dir

    context = current()
    profile = choose(context.profile, context.environ)
    where = state_dir(context.environ)
    before = time.time() - _age(older_than)
    with read_ledger(where) if dry_run else open_ledger(where) as ledger:
        chosen, spared = _chosen(ledger, profile, jobs, before)
        every = [_OldRuns(summary, kept_bytes(ledger, summary.run)) for summary in chosen]
        found = [old for old in every if old.size or not logs]
        _show(context, found)
        place = f"{', '.join(jobs) or 'every job'} on {profile.name} ({profile.host})"
        for line in spared:
            context.say(f"{place}: {line}")
        if not found:
            which = f"run of {', '.join(jobs)}" if jobs else "job"
            where_kept = f"on {profile.name} ({profile.host}){' with saved logs' * logs}"
            age = format_duration(_age(older_than))
            context.say(f"nothing to prune: no {which} {where_kept} ended more than {age} ago")
            return Exit.DONE
        if dry_run:
            context.say(f"{place}: would forget {_describe_target(found, logs)}")
            return Exit.DONE
        _require_consent(context, yes, f"{place}: forget {_describe_target(found, logs)}?")
        gone = _forget(context, profile, Prune(ledger, before, profile.memory, logs), found)
    context.say(f"{place}: forgot {_describe_target(gone, logs)}")
    return Exit.DONE


@dataclass(frozen=True, slots=True)
class _OldRuns:
    """A run that can be removed, and the size in bytes of its saved logs on disk."""

    summary: RunSummary
    size: int


def _describe_target(found: list[_OldRuns], logs: bool) -> str:
    size, number = format_size(sum(old.size for old in found)), count_noun(len(found), "run")
    return f"{size} of logs of {number}" if logs else f"{number}, {size} of logs"


def _age(text: str) -> float:
    """Return the seconds of ``--older-than``. A number alone is an error: 7 seconds would remove what 7 days keep."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error), where="--older-than") from error
    if text.strip()[-1].isdigit():
        raise UsageError(f"'{text}' has no unit", where="--older-than", hint=f"add a unit, such as {text.strip()}d")
    return seconds


def _chosen(
    ledger: Ledger, profile: Profile, names: tuple[str, ...], before: float
) -> tuple[tuple[RunSummary, ...], list[str]]:
    """Return the runs that ended before ``before`` (epoch seconds), and messages about runs that are kept."""
    from skahactl.engine.delete import ended_before
    from skahactl.ledger.lock import living_driver
    from skahactl.ledger.runs import job_keys, runs_of

    keys = [key for key in job_keys(ledger, profile.server) if not names or key.name in names]
    for name in names:
        if name not in {key.name for key in keys}:
            raise _unknown(name, names, profile)
    driven = [key for key in keys if living_driver(ledger, key) is not None]
    runs = [run for key in keys if key not in driven for run in runs_of(ledger, key)]
    open_ones = sum(run.ended is None and run.created < before for run in runs)
    spared = [f"{key.name} is unchanged: another command is driving it" for key in driven]
    if open_ones:
        spared.append(
            f"{count_noun(open_ones, 'run')} kept: not ended, or the end is not known; to see: {suggest('get', *names)}"
        )
    return ended_before(ledger, runs, before), spared


def _unknown(name: str, names: tuple[str, ...], profile: Profile) -> UsageError:
    from skahactl.commands.create import KINDS

    delete = suggest("delete", name)
    if len(names) > 1 and names[1].lower() in KINDS:  # PREFIX KIND STATUS of canfar
        state = names[2] if len(names) > 2 and names[2].lower() != "succeeded" else "Completed"
        delete = suggest("delete", "--sessions", f"{name}*", "--state", state)
    return UsageError(
        f"no record of a job '{name}' on {profile.name} ({profile.host})",
        hint=f"prune removes old records on this machine; to delete sessions: {delete}",
        code="unknown-target",
    )


def _show(context: Invocation, found: list[_OldRuns]) -> None:
    """Print the runs to remove as data, names or lines."""
    rows = [
        {
            "name": old.summary.run.key.name,
            "run": old.summary.run.number,
            "status": old.summary.status,
            "ended": iso_time(old.summary.run.ended),
            "log_bytes": old.size,
        }
        for old in found
    ]
    if context.machine_readable:
        from skahactl.render.tables import data_text

        context.data(data_text(context.output, rows))
        return
    if context.output == "name":
        for row in rows:
            context.out(f"{row['name']}/run/{row['run']}")
        return
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        size = format_size(int(str(row["log_bytes"])))
        context.out(f"{row['name']:<{width}}  run {row['run']}  {row['status']}  ended {row['ended']}  logs {size}")


def _require_consent(context: Invocation, yes: bool, question: str) -> None:
    from skahactl.commands.runtime import confirm

    context.stdout.flush()
    answer = confirm(context, yes, question)
    if answer is None:
        raise UsageError("nothing was removed", hint="to remove without a question, add --yes")
    if not answer:
        raise Declined("nothing was removed")


def _forget(context: Invocation, profile: Profile, work: Prune, found: list[_OldRuns]) -> list[_OldRuns]:
    """Remove the runs and return the removed ones. Runs that have changed or that another command drives stay and are
    reported."""
    wanted: dict[JobKey, dict[int, _OldRuns]] = {}
    for old in found:
        wanted.setdefault(old.summary.run.key, {})[old.summary.run.id] = old
    gone: list[_OldRuns] = []
    for key, of_job in wanted.items():
        try:
            forgotten = work.prune(key, of_job, time.time())
        except BusyError as error:
            context.say(f"{error.message}; nothing of it was removed")
            continue
        gone += [of_job[run.id] for run in forgotten]
        if len(forgotten) < len(of_job):
            left = count_noun(len(of_job) - len(forgotten), "run")
            context.say(f"{key.name} on {profile.name} ({profile.host}): {left} changed meanwhile, not removed")
    return gone
