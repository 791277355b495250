"""How a command ends: each job and where it runs, in a line; and outcomes, as words or as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skahactl import ranges, states
from skahactl.context import Context
from skahactl.ledger.records import Run, RunSummary
from skahactl.profile import Profile
from skahactl.render.streams import one_line
from skahactl.render.tables import data_text
from skahactl.words import counted

_MOST_ERRORS = 10  # different ones; more are a wall that nobody reads


def summary_line(profile: Profile, summary: RunSummary) -> str:
    """``tiles on canfar (ws-uv.canfar.net): Running: 12 Completed, 4 Running, 80 Held of 96``."""
    return f"{head(summary.run.key.name, profile)}: {standing(summary.status, summary.counts)}"


def head(name: str, profile: Profile) -> str:
    """The job and where it runs, with which every summary begins."""
    return f"{name} on {profile.name} ({profile.host})"


def head_of(run: Run) -> str:
    """The same, of the profile that the run was made with."""
    return head(run.key.name, Profile(run.profile, run.key.server))


def standing(status: str | None, counts: Mapping[str, int]) -> str:
    """``Completed, 6 replicas`` or ``Running: 12 Completed, 4 Running of 16``."""
    total = sum(counts.values())
    if status is not None and counts.get(status) == total:
        return f"{status}, {counted(total, 'replica')}"
    return f"{status or states.UNKNOWN}: {counts_text(counts)} of {total}"


def counts_text(counts: Mapping[str, int]) -> str:
    """The states that there are: ``12 Completed, 4 Running``."""
    return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts.get(state)) or "0 replicas"


_ORDER = (
    states.COMPLETED,
    states.RUNNING,
    states.PENDING,
    states.UNSETTLED,
    states.HELD,
    states.FAILED,
    states.REFUSED,
    states.EXPIRED,
    states.DELETED,
    states.SKIPPED,
)


def show_outcome(context: Context, profile: Profile, outcome: Mapping[str, Any]) -> None:
    """An outcome (shapes.outcome): data and names to stdout, a summary for each job to stderr.

    A dry run's plan and differences are what was asked for, so with ``-o table`` they go to stdout.
    """
    if context.machine_readable:
        rows = outcome["jobs"] if context.output == "jsonl" else outcome
        context.stdout.write(data_text(context.output, "jobs", rows))
        return
    for job in outcome["jobs"]:
        if context.output == "name":
            _print_names(context, job)
        elif outcome["dry_run"]:
            _print_plan(context, profile, job)
        else:
            _say(context, profile, job)


def _print_names(context: Context, job: Mapping[str, Any]) -> None:
    """The job where all its replicas took part, else each replica that did: words that are targets again."""
    acted = [step["replica"] for step in job["steps"] if step["action"] not in ("keep", "hold")]
    if len(acted) == len(job["steps"]):
        context.out(job["name"])
        return
    for number in acted:
        context.out(f"{job['name']}/{number}")


def _print_plan(context: Context, profile: Profile, job: Mapping[str, Any]) -> None:
    run = f", run {job['run']}" if job["run"] is not None else ""
    reason = f": {job['reason']}" if job["reason"] else ""
    context.out(f"{head(job['name'], profile)}: would {job['action']}{run}{one_line(reason)}")
    for line in difference_lines(job["differences"]):
        context.out(f"  {line}")
    for line in step_lines(job["steps"]):
        context.out(f"  {line}")


def _say(context: Context, profile: Profile, job: Mapping[str, Any]) -> None:
    done = done_text(job["steps"])
    parts = [part for part in (done, standing(job["status"], job["counts"]) if job["status"] else "") if part]
    text = "; ".join(parts) or job["action"]
    reason = f" ({job['reason']})" if job["reason"] else ""
    context.say(one_line(f"{head(job['name'], profile)}: {text}{reason}"))
    for line in difference_lines(job["differences"]):
        context.say(f"  {line}")
    for line in error_lines(job["steps"]):
        context.warn(f"  {line}")


def done_text(steps: Iterable[Mapping[str, Any]]) -> str:
    """What was done: ``40 created, 2 failed to create``; what was kept as it is goes unsaid."""
    tally: dict[str, int] = {}
    for step in steps:
        if step["action"] != "keep" and step["outcome"]:
            tally[step["outcome"]] = tally.get(step["outcome"], 0) + 1
    return ", ".join(f"{number} {words}" for words, number in tally.items())


def difference_lines(differences: Iterable[Mapping[str, Any]]) -> list[str]:
    """``image: "a:1" -> "a:2" (profile default)``."""
    lines = []
    for difference in differences:
        source = f" ({difference['source']})" if difference["source"] else ""
        change = f"{_value(difference['old'])} -> {_value(difference['new'])}"
        lines.append(one_line(f"{difference['path']}: {change}{source}"))
    return lines


def _value(value: object) -> str:
    import json

    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def step_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Equal steps in one line: ``create   1-10,17   not created yet``."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        grouped.setdefault((step["action"], one_line(step["reason"] or "")), []).append(step["replica"])
    texts = [(action, ranges.text(numbers), reason) for (action, reason), numbers in grouped.items()]
    widths = [max((len(text[place]) for text in texts), default=0) for place in (0, 1)]
    return [f"{a.ljust(widths[0])}  {n.ljust(widths[1])}  {r}".rstrip() for a, n, r in texts]


def error_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every different error once, with the replicas that had it."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        if step["error"]:
            words = (one_line(step["error"]["message"]), one_line(step["error"]["hint"] or ""))
            grouped.setdefault(words, []).append(step["replica"])
    lines = []
    for (message, hint), numbers in list(grouped.items())[:_MOST_ERRORS]:
        lines.append(f"replica {ranges.text(numbers)}: {message}" + (f" ({hint})" if hint else ""))
    if len(grouped) > _MOST_ERRORS:
        lines.append(f"and {len(grouped) - _MOST_ERRORS} other errors; -o json has them all")
    return lines
