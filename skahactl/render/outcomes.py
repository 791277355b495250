"""The outcome of a command: data to stdout where it was asked for, words to stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator

from skahactl import states
from skahactl.context import Context
from skahactl.engine.outcome import JobOutcome, Outcome
from skahactl.ranges import text as ranges

#: More steps than this are counted, not listed.
_LISTED = 20
_VERBS = {"create": "to create", "retry": "to retry", "resend": "to send again", "hold": "held", "adopt": "to adopt"}


def show_outcome(context: Context, outcome: Outcome) -> None:
    """``-o json|jsonl|toml``: the outcome shape; ``-o name``: ``JOB/REPLICA`` a line; always: a summary a job."""
    data = outcome.data()
    if context.output == "json":
        context.out(json.dumps(data, ensure_ascii=False, indent=2))
    elif context.output == "jsonl":
        for job in outcome.jobs:
            context.out(json.dumps(job.data(), ensure_ascii=False))
    elif context.output == "toml":
        import tomli_w

        context.out(tomli_w.dumps(_without_null(data)).rstrip("\n"))
    elif context.output == "name":
        for job in outcome.jobs:
            for step in job.steps:
                context.out(f"{job.name}/{step['replica']}")
    for job in outcome.jobs:
        for line in _summary(outcome, job):
            context.say(line)


def place(outcome: Outcome) -> str:
    """``on canfar (ws-uv.canfar.net)``."""
    return f"on {outcome.profile.name} ({outcome.profile.host})"


def _summary(outcome: Outcome, job: JobOutcome) -> Iterator[str]:
    start = f"{job.name} {place(outcome)}:"
    if outcome.dry_run:
        yield f"{start} {_planned(job)}"
    else:
        yield f"{start} {_stands(job)}"
    for difference in job.differences:
        row = difference.data()  # type: ignore[attr-defined]
        yield f"  {row['path']}: {_shown(row['old'])} -> {_shown(row['new'])}  ({row['source']})"
    yield from _errors(job)
    if job.hint:
        yield f"  {job.hint}"
    if not outcome.dry_run:
        yield from _advice(job)


def _planned(job: JobOutcome) -> str:
    counts: dict[str, int] = {}
    for step in job.steps:
        counts[str(step["action"])] = counts.get(str(step["action"]), 0) + 1
    parts = [f"{number} {_VERBS.get(action, action)}" for action, number in counts.items()]
    run = f"run {job.run}, " if job.run else ""
    return f"{run}{job.action}: {job.reason}; {', '.join(parts) or 'nothing to do'} (dry run, nothing was sent)"


def _stands(job: JobOutcome) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in job.counts.items() if number)
    head = f"run {job.run} " if job.run else ""
    if job.action in ("refuse", "ended"):
        return f"{job.reason}" + (f" ({counts})" if counts else "")
    return f"{head}{job.status or job.action}: {counts or job.reason}"


def _errors(job: JobOutcome) -> Iterator[str]:
    """What went wrong, replicas with the same words together."""
    grouped: dict[str, list[int]] = {}
    for step in job.steps:
        error = step.get("error")
        if isinstance(error, dict) and step["outcome"] != "held":
            words = str(error["message"]) + (f" ({error['hint']})" if error.get("hint") else "")
            grouped.setdefault(f"{step['outcome']}: {words}", []).append(int(str(step["replica"])))
    for words, numbers in list(grouped.items())[:_LISTED]:
        yield f"  replica {ranges(numbers)} {words}"


def _advice(job: JobOutcome) -> Iterator[str]:
    failed = [state for state in (states.FAILED, states.REFUSED, states.EXPIRED) if job.counts[state]]
    if failed and job.failed:
        yield f"  {'/'.join(failed)}: replica {ranges(job.failed)}"
    if job.counts[states.FAILED]:
        yield f"  see why: skahactl logs {job.name} --failed; run them again: skahactl retry {job.name} --failed"
    if job.counts[states.EXPIRED]:
        yield f"  Expired: nobody saw the end. skahactl retry {job.name} --expired, or mark what you know"
    alive = sum(job.counts[state] for state in states.ALIVE)
    held = job.counts[states.HELD]
    if (alive or held) and not job.watched and job.action not in ("refuse", "delete"):
        kept = f"{held} held until there is room; " if held else ""
        yield (
            f"  {kept}nobody is watching: states and logs vanish an hour after each end. "
            f"Follow with: skahactl resume {job.name}"
        )


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."


def _without_null(value: object) -> dict[str, object]:
    """TOML has no null: such fields are left out."""
    cleaned = _cleaned(value)
    assert isinstance(cleaned, dict)
    return cleaned


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
