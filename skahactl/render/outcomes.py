"""Outcomes of apply, create, delete, retry, renew and dry runs, as words or as data."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TextIO

from skahactl.engine.outcome import (
    ACTIVE,
    JobOutcome,
    Outcome,
    StepOutcome,
    StepResult,
    retry_options,
    suggest_apply,
)
from skahactl.engine.plan import CREATES, JobAction, StepAction
from skahactl.errors import Exit
from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode
from skahactl.model import ALIVE, ENDED, Job, Replica, Request, Secret, State
from skahactl.profile import Profile
from skahactl.render.styles import COUNT_ORDER, STYLES, paint
from skahactl.skaha.encoding import fields
from skahactl.text import (
    count_noun,
    format_duration,
    format_ranges,
    format_resources,
    name_replicas,
    no_driver,
    suggest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skahactl.ledger.records import Run


def head(name: str, profile: Profile) -> str:
    """Return the job and where it runs: the beginning of every summary."""
    return f"{name} on {profile.name} ({profile.host})"


def head_of(run: Run) -> str:
    """Return the head for a run, with the profile that it was created with."""
    return head(run.key.name, Profile(run.profile, run.key.server))


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the counts of the states that occur: ``12 Completed, 4 Running``."""
    return ", ".join(f"{counts[state]} {state}" for state in COUNT_ORDER if counts.get(state)) or "0 replicas"


def standing(status: str | None, counts: Mapping[str, int]) -> str:
    """Return the status with counts: ``Completed, 6 replicas`` or
    ``Running: of 16 replicas, 12 Completed and 4 Running``."""
    total = sum(counts.values())
    replicas, states = count_noun(total, "replica"), [state for state in counts if counts[state]]
    if states == [status]:
        return f"{status}, {replicas}"
    if len(states) == 1:
        return f"{status or State.UNKNOWN}: {replicas}, {'all ' * (total > 1)}{states[0]}"
    *others, last = counts_text(counts).split(", ")
    return f"{status or State.UNKNOWN}: of {replicas}, {' and '.join(filter(None, [', '.join(others), last]))}"


_EXPLAINED = frozenset(
    {JobAction.REFUSE, JobAction.ENDED, JobAction.DELETE, JobAction.BUSY}
)  # if nothing was done, the reason is printed
_DENIED = frozenset({JobAction.REFUSE, JobAction.BUSY})  # printed with -q too
_MOST_ERRORS = 10  # maximum number of different errors that are shown


def show_outcome(context: Invocation, outcome: Outcome) -> None:
    """Print data and names on stdout, and a summary of each job on stderr.

    As a table, the plan and the differences of a dry run go to stdout, since they are what the user requested.
    """
    if context.machine_readable:
        from skahactl.render.tables import data_text

        data = outcome.data()
        context.data(data_text(context.output, data["jobs"] if context.output == "jsonl" else data))
        return
    for job in outcome.jobs:
        where = head(job.name, outcome.profile)
        if context.output == "name":
            _print_names(context, job)
            _say_errors(context, job)
        elif outcome.dry_run:
            _print_plan(context, where, job)
        else:
            _say_outcome(context, outcome.profile, where, job)


def _print_names(context: Invocation, job: JobOutcome) -> None:
    """Print targets: the job if all its replicas were changed or none was, else each replica that was changed."""
    acted = [step.replica for step in job.steps if step.action in ACTIVE]
    if not acted or len(acted) == len(job.steps):
        context.out(job.name)
        return
    for number in acted:
        context.out(f"{job.name}/{number}")


def _print_plan(context: Invocation, where: str, job: JobOutcome) -> None:
    run = f" (run {job.run})" if job.run is not None and f"run {job.run}" not in job.reason else ""
    ended = job.action is JobAction.ENDED
    action = f"nothing to do: {_headline(job)}" if ended else f"{_would(job.action)}{run}: {job.reason}"
    context.out_wrapped(one_line(f"{where}: {action}"))
    for line in _differences(context, job, context.stdout):
        context.out(line)
    for line in step_lines(job.steps):
        context.out_wrapped(f"  {line}")
    for line in (job.hint or "").splitlines():
        context.say(f"  {line}")


def _say_outcome(context: Invocation, profile: Profile, where: str, job: JobOutcome) -> None:
    say = context.warn if job.action in _DENIED or job.exit is not Exit.DONE else context.say
    if _is_driven(job) and is_screen(context.stderr, context.environ):
        _say_verdict(context, profile, job)
        return
    say(one_line(f"{where}: {_headline(job)}"))
    if job.action is JobAction.REFUSE:  # a run that was started needs no list of differences
        for line in _differences(context, job, context.stderr):
            say(line)
    _say_errors(context, job)
    for line in _advice(job, profile):
        say(f"  {line}")
    _print_urls(context, job)


def _print_urls(context: Invocation, job: JobOutcome) -> None:
    """Print the addresses of an interactive job that this command watched until it was Running."""
    if job.has_driver and job.summary is not None and job.summary.run.kind != "headless":
        for url in filter(
            None, (step.url for step in job.steps if step.action not in (StepAction.DELETE, StepAction.RENEW))
        ):
            context.out(str(url))


def _differences(context: Invocation, job: JobOutcome, stream: TextIO) -> list[str]:
    if not job.differences:
        return []
    from skahactl.render.differences import difference_lines

    return difference_lines(context, job, stream)


def _is_driven(job: JobOutcome) -> bool:
    """Return whether this command drove the job until it ended, so that a verdict is due."""
    ended = (State.COMPLETED, State.FAILED, State.UNKNOWN, State.DELETED)
    done = done_text(job) or job.action not in _EXPLAINED
    if job.action is JobAction.DELETE and job.exit is not Exit.DONE:
        return False
    return bool(job.has_driver and not job.reason_is_final and job.summary and job.status in ended and done)


def _say_verdict(context: Invocation, profile: Profile, job: JobOutcome) -> None:
    """Print how the job ended, and the commands that can come next."""
    deletes = job.action is JobAction.DELETE
    good = deletes or job.status == State.COMPLETED
    unicode, colour = shows_unicode(context.stderr), has_colour(context.stderr, context.environ)
    mark = ("✓" if good else "✗") if unicode else ("ok" if good else "x")
    style = STYLES[State.COMPLETED] if deletes else STYLES.get(job.status or "", "")
    parts = [(f"{mark} ", style), (job.name, "bold"), (f" on {profile.name}", "")]
    if deletes:
        after = [[(f"  {line}", "")] for line in _advice(job, profile)]
        parts.append((f": {done_text(job)}", ""))
    else:
        after = [[(f"    {word:<8}", "dim"), (text, "")] for word, text in _next_commands(context, job)]
        parts += [(f" {(job.status or '').lower()}", style), (f"   {_result(job)}", "")]
    for line in [parts, *after]:
        context.say("".join(paint(one_line(text), style, colour) for text, style in line))
    _print_urls(context, job)


def _result(job: JobOutcome) -> str:
    """Return ``1188/1200 items in 1 h 2 min; 3 of 200 replicas failed``, or ``29/30 replicas in 27 s; 1 failed``."""
    summary, total = job.summary, sum(job.counts.values())
    assert summary is not None
    items = summary.items
    done = f"{job.counts[State.COMPLETED]}/{count_noun(total, 'replica')}"
    if items.get("total"):
        done = f"{items['completed']}/{items['total']} items"
    took = f" in {job.took}" if job.took else ""
    bad = [(job.counts[state], state.lower()) for state in COUNT_ORDER[2:] if job.counts[state]]
    lost = ", ".join(f"{number} {word}" for number, word in bad)
    if not items.get("total"):
        return f"{done}{took}" + f"; {lost}" * bool(lost)
    if len(bad) == 1:
        return f"{done}{took}; {bad[0][0]} of {count_noun(total, 'replica')} {bad[0][1]}"
    return f"{done}{took}" + f"; of {total} replicas {lost}" * bool(lost)


def _next_commands(context: Invocation, job: JobOutcome) -> list[tuple[str, str]]:
    """Return pairs of a purpose (``why``, ``again``) and the command to paste."""
    name, counts = job.name, job.counts
    commands: list[tuple[str, str]] = []
    if counts[State.FAILED] > job.unlogged:
        commands.append(("why", suggest("logs", name, "--failed")))
    for state, without_logs in ((State.FAILED, job.unlogged), (State.REJECTED, counts[State.REJECTED])):
        if without_logs:
            commands.append(("why", suggest("get", "replicas", name, "--state", state)))
    if (counts[State.SKIPPED] or job.status == State.DELETED) and job.hint:
        first, *others = job.hint.splitlines()
        commands += [("why", first), *(("", line) for line in others)]
    if counts[State.FAILED] or counts[State.REJECTED]:
        items = job.summary.items if job.summary else {}
        left = items.get("total", 0) - items.get("completed", 0)
        about = f"     ({count_noun(left, 'item')})" if left else ""
        commands.append(("again", f"{suggest('retry', name, *retry_options(counts), '--wait')}{about}"))
    if job.unread:
        commands.append(("unread", f"{suggest('resume', name)}     (reads the shared record again)"))
    if job.action is JobAction.KEEP and job.hint:
        commands.append(("then", job.hint))
    if counts[State.UNKNOWN] > job.unread:
        commands.append(("unknown", "check the results first, then run one of these:"))
        commands.append(("  done", suggest("mark", name, "completed", "--unknown")))
        commands.append(("  again", suggest("retry", name, "--unknown", "--wait")))
    return commands


def _headline(job: JobOutcome) -> str:
    """Return what was done and the status, or why nothing was done."""
    done = done_text(job)
    if job.action is JobAction.DELETE and (done or job.reason_is_final) and job.status in ENDED:
        return job.reason if job.reason_is_final else done
    driven = job.action is not JobAction.DELETE and (done or job.action not in _EXPLAINED)
    if job.status and job.has_driver and not job.reason_is_final and driven:
        return standing(job.status, job.counts)
    queued = sum(step.outcome is StepOutcome.QUEUED for step in job.steps)
    if job.action is JobAction.RETRY and queued and not job.reason_is_final:
        done = "; ".join(filter(None, (done, f"{count_noun(queued, 'replica')} queued")))
    is_recorded = job.action is JobAction.CREATE and job.run is not None
    reason = f"run {job.run} is recorded" if is_recorded else job.reason or job.action
    said = (not job.reason_is_final and done) or reason
    mark = ":" if job.action is JobAction.ENDED else ";"
    return f"{said}{mark} {standing(job.status, job.counts)}" if job.status else said


def _say_errors(context: Invocation, job: JobOutcome) -> None:
    for line in error_lines(job.steps):
        context.warn(f"  {line}")


def _advice(job: JobOutcome, profile: Profile) -> list[str]:
    """Return lines with failures and the next command, and with what remains to do without a driver."""
    lines = (job.hint or "").splitlines()
    if job.failed:
        logs, rows = suggest("logs", job.name, "--failed"), suggest("get", "replicas", job.name)
        look = f"Logs: {logs}" if job.counts[State.FAILED] > job.unlogged else f"Why: {rows}"
        lines.append(f"not completed: {name_replicas(job.failed)}. {look}")
    if job.counts[State.REJECTED] and not job.hint:
        other = " (add --ram N or --cores N for another size)" * (job.action is JobAction.RETRY)
        lines.append(f"to retry what was rejected{other}: {suggest('retry', job.name, '--rejected')}")
        if job.manifest is not None and job.status in ENDED:
            again = suggest_apply(job.manifest, job.call, "--rerun")
            lines.append(f"to send other requests, change the manifest, then: {again}")
    if job.unread:
        lines.append(
            f"the shared record of {count_noun(job.unread, 'replica')} could not be read; run the same command again "
            "to read it"
        )
    if job.unseen:
        them = "them" if job.unseen > 1 else "it"
        lines.append(
            f"{job.unseen} Unknown: the server has no session and no result of {them}. If no other machine ran {them}: "
            f"{suggest('retry', job.name, '--unknown')}"
        )
    unknown = job.counts[State.UNKNOWN] - job.unread - job.unseen
    if unknown > 0:
        lines += [
            f"{unknown} Unknown: they finished unobserved. To run them again: "
            f"{suggest('retry', job.name, '--unknown')}",
            f"if you know that they are done: {suggest('mark', job.name, 'completed', '--unknown')}",
        ]
    if job.next_run is not None:
        lines.append(
            f"the next apply of {job.name} starts run {job.next_run}; if cron runs apply, remove that line first"
        )
    alive = sum(job.counts[state] for state in ALIVE)
    held = job.counts[State.QUEUED]
    is_stopped = job.summary is not None and job.summary.stop_reason is not None
    failed = job.summary.retriable if job.summary is not None else 0
    if not job.has_driver and (alive or held or failed) and not is_stopped:
        again = job.resume or suggest("resume", job.name)
        lines.append(f"{no_driver(held, failed)}{_without_driver(job, profile)}. To continue: {again}")
    return lines


def _without_driver(job: JobOutcome, profile: Profile) -> str:
    """Return what happens to the results of a job that has no driver."""
    if job.summary is not None and job.summary.run.shared is not None:
        return f"; the replicas write their logs and exit codes to {job.summary.run.shared}"
    return f", and {profile.noun} discards results and logs {format_duration(profile.memory)} after a replica ends"


def done_text(job: JobOutcome) -> str:
    """Return what was done, by action and outcome: ``40 sessions created, 2 rejected; 1 replica retried``. Unchanged
    replicas are left out."""
    tally: dict[str, dict[str, int]] = {}
    for step in job.steps:
        if step.action in ACTIVE and step.action != StepAction.RENEW and step.outcome:
            words = tally.setdefault(step.action, {})
            words[step.outcome] = words.get(step.outcome, 0) + 1
    return "; ".join(
        job.reason if action == StepAction.DELETE else _done_words(action, words) for action, words in tally.items()
    )


#: The object of an action, and its participle.
_DONE: Mapping[str, tuple[str, str]] = {
    StepAction.CREATE: ("session", "created"),
    StepAction.RETRY: ("replica", "retried"),
    StepAction.RESEND: ("session", "created again"),
    StepAction.ADOPT: ("replica", "adopted"),
}


def _done_words(action: str, outcomes: Mapping[str, int]) -> str:
    noun, done = _DONE[action]
    parts = [(number, done if outcome == StepOutcome.DONE else outcome) for outcome, number in outcomes.items()]
    (number, words), *others = parts
    return ", ".join([f"{count_noun(number, noun)} {words}", *(f"{number} {words}" for number, words in others)])


#: Actions for which ``would ACTION`` is not the right text.
_PLANNED: Mapping[str, str] = {
    StepAction.HOLD: "would stay Queued",
    StepAction.RESEND: "would create again",
    StepAction.GIVE_UP: "would give up",
    StepAction.EXPIRE: "would become Unknown",
    StepAction.KEEP: "unchanged",
    JobAction.BUSY: "busy",
    JobAction.FOREIGN: "would ask for --adopt",
}


def _would(action: str) -> str:
    """Return the text for an action of a plan."""
    return _PLANNED.get(action, f"would {action}")


def step_lines(steps: Sequence[StepResult]) -> list[str]:
    """Return a line for each group of equal planned steps: ``would create   1-10,17   not created yet``."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        numbers = grouped.setdefault((step.action, one_line(step.reason)), [])
        numbers += [] if step.replica is None else [step.replica]
    texts = [(_would(action), format_ranges(numbers), reason) for (action, reason), numbers in grouped.items()]
    widths = [max((len(text[place]) for text in texts), default=0) for place in (0, 1)]
    return [f"{a.ljust(widths[0])}  {n.ljust(widths[1])}  {r}".rstrip() for a, n, r in texts]


def error_lines(steps: Sequence[StepResult]) -> list[str]:
    """Return a line for each different error, with the replicas that had it, or the session without a job."""
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for step in steps:
        if step.error:
            name = step.name if step.replica is None else ""
            words = (name, one_line(step.error.message), one_line(step.error.hint or ""))
            numbers = grouped.setdefault(words, [])
            numbers += [] if step.replica is None else [step.replica]
    lines = []
    for (name, message, hint), numbers in list(grouped.items())[:_MOST_ERRORS]:
        lines.append(f"{name or name_replicas(numbers)}: {message}" + (f" ({hint})" if hint else ""))
    if len(grouped) > _MOST_ERRORS:
        lines.append(f"and {len(grouped) - _MOST_ERRORS} other errors; -o json has them all")
    return lines


def add_requests(outcome: Outcome, jobs: Sequence[Job]) -> None:
    """Add ``request`` to each step that sends one: the form as it would be sent, encoded, with references for secrets.

    A field that occurs once is a string; ``env`` is a list.
    """
    from skahactl.manifest.shared_record import wrapped_request

    for part, job in _pairs(outcome, jobs):
        replicas = {replica.number: replica for replica in job.replicas}
        for step in part.steps:
            if step.action in CREATES:
                replica = replicas[step.replica or 0]
                request = wrapped_request(job, replica.request, replica.number, part.run or "RUN")
                step.request = _form(request, step.name)


def show_requests(context: Invocation, outcome: Outcome, jobs: Sequence[Job]) -> None:
    """Print the first request of each job, and how the others differ from it."""
    for part, job in _pairs(outcome, jobs):
        sent = [step.replica or 0 for step in part.steps if step.action in CREATES]
        replicas = {replica.number: replica.request for replica in job.replicas}
        if sent:
            first = next(replica for replica in job.replicas if replica.number == sent[0])
            context.out(f"{job.name}/{sent[0]} would be sent:")
            for line in _lines_of_replica(job, first, part.run or "RUN", bool(context.verbose)):
                context.out(f"  {line}")
        if len(sent) > 1:
            differing = _differing(replicas[sent[0]], [replicas[number] for number in sent[1:]])
            context.out_wrapped(f"{name_replicas(sent[1:])}: {differing}")


def _pairs(outcome: Outcome, jobs: Sequence[Job]) -> Iterator[tuple[Any, Job]]:
    known = {job.name: job for job in jobs}
    return (
        (part, known[part.name]) for part in outcome.jobs if part.action is not JobAction.REFUSE and part.name in known
    )


def _form(request: Request, name: str) -> dict[str, object]:
    form: dict[str, object] = {}
    several: list[str] = []
    for key, text in fields(request, name):
        if key == "env":
            several.append(text)
        else:
            form[key] = text
    return {**form, "env": several}


def _lines_of_replica(job: Job, replica: Replica, run: int | str, verbose: bool) -> Iterator[str]:
    """Yield the lines of a replica's request. Without ``verbose``, the command has no wrapper; with ``each``, the
    placeholders of an item stay."""
    from skahactl.manifest.shared_record import wrapped_request

    wrapped = wrapped_request(job, replica.request, replica.number, run)
    plain = _request_of_any_item(job, replica) if replica.each else replica.request
    if verbose or wrapped.command == plain.command:
        yield from _lines(wrapped)
        return
    yield from _lines(plain)
    about = ["the command runs once per item"] if replica.each else []
    about += [f"logs and exit codes go to {wrapped.command[4]}"] if wrapped != replica.request else []
    yield f"note   {'; '.join(about)}; -v shows the wrapper"


def _request_of_any_item(job: Job, replica: Replica) -> Request:
    """Return the request of a replica with ``each`` with the command and the environment of one item: only the
    placeholders of the item are not replaced."""
    from skahactl.manifest.placeholders import parse_template, replica_words

    texts: dict[str, Any] = {"vars": {}, "env": {}, **job.content}
    values = texts["vars"] | replica_words(job.name, replica.number, len(job.replicas))

    def filled(text: str) -> str:
        return parse_template(text, values).render(values)

    command = texts["command"] if "command" in texts else ["bash", "-c", texts["shell"]]
    env = replica.request.env
    of_items = [(key, filled(text)) for key, text in texts["env"].items() if key not in dict(env)]
    return replace(replica.request, command=tuple(map(filled, command)), env=(*of_items, *env))


def _lines(request: Request) -> Iterator[str]:
    """Yield the lines of a request before encoding, with words quoted for a shell."""
    yield f"image  {request.image}"
    flexible = "flexible resources (explained by: skahactl help manifest)"
    yield f"needs  {format_resources(asdict(request.resources), flexible)}"
    if request.command:
        yield f"cmd    {shlex.quote(request.command[0])}"
    if len(request.command) > 1:
        yield f"args   {shlex.join(request.command[1:])}"
    for key, content in request.env:
        shown = f"<{content.reference()}>" if isinstance(content, Secret) else shlex.quote(str(content))
        yield f"env    {key}={shown}"


def _differing(first: Request, others: Sequence[Request]) -> str:
    """Return how the other requests differ from the first one: ``the same, except command and REPLICA_ID``."""
    names: dict[str, None] = {}
    own = dict(first.env)
    for other in others:
        for what, mine, theirs in (
            ("image", first.image, other.image),
            ("resources", first.resources, other.resources),
            ("command", first.command, other.command),
        ):
            if mine != theirs:
                names[what] = None
        for key, content in other.env:
            if own.get(key) != content:
                names[key] = None
    *most, last = names or ("",)
    different = f"{', '.join(most)} and {last}" if most else last
    return f"the same, except {different}. To see each: -o json" if names else "the same"
