"""``skahactl delete``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import ANY_TARGET, EXECUTION, SELECTION, DryRun, Replicas, Yes
from skahactl.commands.runtime import confirm, connected_runtime, parse_states, run, run_with_report
from skahactl.completers import FileName
from skahactl.errors import Declined, Exit, NegativeResult, UsageError, worst
from skahactl.invocation import current
from skahactl.text import count_noun, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.delete import JobDeletion
    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import Run
    from skahactl.skaha.models import ServerSession
    from skahactl.targets import Target


def delete(
    *targets: Annotated[
        str,
        Parameter(name="TARGET", help=ANY_TARGET, completer=completers.jobs_with_sessions),
    ],
    file: Annotated[
        list[FileName] | None,
        Parameter(
            name=["--file", "-f"],
            metavar="MANIFEST",
            group=SELECTION,
            help="Delete the jobs of this manifest.",
            negative=(),
            allow_leading_hyphen=True,
        ),
    ] = None,
    replicas: Replicas = None,
    sessions: Annotated[
        str | None,
        Parameter(
            metavar="PATTERN",
            group=SELECTION,
            help="Instead of TARGET: sessions that belong to no job here, by name: 'old-*'.",
        ),
    ] = None,
    state: Annotated[
        str | None,
        Parameter(
            metavar="STATES",
            group=SELECTION,
            completer=completers.states,
            help="With --sessions: only sessions in these states: Completed,Failed.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Annotated[
        bool,
        Parameter(
            name="--wait",
            negative="--wait=false",
            group=EXECUTION,
            help="Request the deletion once, without waiting until the sessions are gone.",
        ),
    ] = True,
    ignore_not_found: Annotated[
        bool, Parameter(group=EXECUTION, help="Exit with 0 if the target does not exist.")
    ] = False,
    forget: Annotated[
        bool, Parameter(group=EXECUTION, help="Also delete the local record and the saved logs.")
    ] = False,
    no_logs: Annotated[
        bool, Parameter(name="--no-logs", negative=(), group=EXECUTION, help="Do not save logs before deleting.")
    ] = False,
) -> int:
    """Delete the sessions of jobs or replicas and wait until they are gone.

    Results are saved first, and the logs that [logs] keep selects (default: all). The local record and the saved logs
    remain unless you add --forget.
    After a job is deleted, even a Completed one, the next apply runs all of it again. Ended sessions need no delete:
    the server removes them after one hour.

    Examples:
      skahactl delete tiles
      skahactl delete tiles/1-10,17 --dry-run
      skahactl delete -f job.toml --ignore-not-found
      skahactl delete --sessions 'old-*' --state Completed
    """
    if sessions is not None:
        if targets or file or replicas:
            raise UsageError(
                "--sessions is instead of TARGET, -f and -r", hint=suggest("delete", "--sessions", sessions)
            )
        return int(run(lambda: _delete_foreign(sessions, state, dry_run, yes)))
    if state is not None:
        job = targets[0].partition("/")[0] if targets else "JOB"
        hint = (
            f"replicas of a job: {suggest('delete', f'{job}/REPLICAS')}\n"
            f"sessions without a job: {suggest('delete', '--sessions', 'PREFIX*', '--state', state)}"
        )
        raise UsageError("--state needs --sessions", hint=hint)
    words = [*targets, *_names(file or [])]
    if not words:
        raise UsageError(
            "delete needs a job, replicas of one, or a session", hint=f"{suggest('delete', 'JOB')}, or -f job.toml"
        )
    if forget and not wait:
        raise UsageError("--forget waits until the sessions are gone", hint="leave out --wait=false")
    options = DeleteOptions(dry_run, ignore_not_found, forget, wait, no_logs, yes)
    return int(run(lambda: _delete(words, replicas, options)))


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    dry_run: bool
    ignore_not_found: bool
    forget: bool
    wait: bool
    no_logs: bool
    yes: bool


async def _delete_foreign(pattern: str, states: str | None, dry_run: bool, yes: bool) -> Exit:
    """Delete sessions that the ledger does not know, by name pattern and state, after one confirmation for all of
    them."""
    from fnmatch import fnmatchcase

    from skahactl.commands.listing import SESSION_STATES
    from skahactl.engine.delete import JobDeletion
    from skahactl.engine.outcome import Outcome
    from skahactl.engine.snapshot import session_owners
    from skahactl.render.outcomes import show_outcome

    context = current()
    wanted = parse_states(states, SESSION_STATES)
    async with connected_runtime() as runtime:
        listed = (await runtime.first_poll()).sessions
        owner = session_owners(runtime.ledger, (one.id for one in listed))
        matching = [one for one in listed if fnmatchcase(one.name, pattern) and (not wanted or one.status in wanted)]
        chosen = [one for one in matching if owner(one.id) is None]
        if len(chosen) < len(matching):
            left = count_noun(len(matching) - len(chosen), "session")
            context.say(f"{left} left out: they belong to jobs; use {suggest('delete', 'JOB')}")
        removal = JobDeletion(runtime)
        outcome = Outcome(runtime.profile, dry_run, removal.parts)
        if not chosen:
            context.say(f"no session on {runtime.where} matches '{pattern}'" + (f" and {states}" if states else ""))
        elif not dry_run:
            answer = confirm(context, yes, _question(chosen, runtime.where))
            if answer is None:
                raise NegativeResult("nothing was deleted", hint="add --yes; --dry-run lists the sessions")
            if not answer:
                raise Declined("nothing was deleted")
        gone = [await _session(runtime, removal, one, dry_run) for one in chosen]
        if context.machine_readable:
            show_outcome(context, outcome)
        return worst([*gone, outcome.exit])


def _question(chosen: list[ServerSession], where: str) -> str:
    shown = "\n".join(f"  {one.id}  {one.name}  {one.status}" for one in chosen[:20])
    more = f"\n  and {len(chosen) - 20} more" if len(chosen) > 20 else ""
    return f"delete {count_noun(len(chosen), 'session')} on {where}:\n{shown}{more}"


def _names(files: list[str]) -> list[str]:
    if not files:
        return []
    from skahactl.manifest.load import load

    return [draft.name for draft in load(files, stdin=current().stdin)]


async def _delete(words: list[str], replicas: str | None, options: DeleteOptions) -> Exit:
    from skahactl.engine.delete import JobDeletion
    from skahactl.engine.outcome import Outcome
    from skahactl.render.outcomes import show_outcome
    from skahactl.targets import by_run

    async with connected_runtime() as runtime:
        ignore_not_found, dry_run = options.ignore_not_found, options.dry_run
        every = _found(runtime, words, replicas, ignore_not_found)
        # a session of an earlier attempt does not name the replica's current session
        found = by_run(target for target in every if not target.past)
        others = await _sessions(runtime, [target.word for target in found if target.run is None], ignore_not_found)
        others += await _sessions(runtime, [target.session or target.word for target in every if target.past], True)
        chosen = [(target.run, target.numbers) for target in found if target.run is not None]
        if not dry_run:
            _confirm(runtime, found, others, options)
        removal = JobDeletion(runtime, keep_logs=not options.no_logs)
        outcome = Outcome(runtime.profile, dry_run, removal.parts)
        gone = Exit.DONE
        with run_with_report(runtime, lambda: outcome):
            for target_run, numbers in chosen if dry_run else ():
                await removal.preview(target_run, numbers, options.forget)
            if not dry_run:
                await removal.delete(chosen, verify=options.wait)
                if options.forget:
                    await _forget(runtime, removal, chosen)
            for session in others:
                gone = worst([gone, await _session(runtime, removal, session, dry_run)])
        if outcome.jobs or current().machine_readable:
            show_outcome(current(), outcome)
        return worst([gone, outcome.exit])


def _confirm(
    runtime: Runtime, found: Sequence[Target], others: Sequence[ServerSession], options: DeleteOptions
) -> None:
    """Ask once on a terminal before live sessions, queued replicas or records are deleted. Raises Declined if the
    answer is no."""
    from skahactl.engine.delete import loss_of_logs
    from skahactl.ledger.replicas import replica_states
    from skahactl.ledger.runs import runs_of
    from skahactl.model import ALIVE, State
    from skahactl.text import count_noun

    context, lines = current(), []
    if options.yes or not (context.stdin.isatty() and context.stderr.isatty()):
        return
    for target in found:
        if target.run is None:
            continue
        states = [
            row.state
            for row in replica_states(runtime.ledger, target.run.id)
            if target.numbers is None or row.number in target.numbers
        ]
        counted = {state: states.count(state) for state in (*sorted(ALIVE), State.QUEUED) if state in states}
        parts = [f"{number} {state}" for state, number in counted.items()]
        loss = loss_of_logs(target.run, not options.no_logs)
        if loss and counted.get(State.RUNNING) and target.run.shared is None:
            parts[-1] += f" without saving the logs of what runs{loss}"
        if options.forget and target.numbers is None:
            parts.append(
                f"the record and saved logs of {count_noun(len(runs_of(runtime.ledger, target.run.key)), 'run')}"
            )
        if parts:
            lines.append(f"{target.word} on {runtime.where}: delete {', '.join(parts)}")
    lines += [
        f"session {one.id} ({one.name}) on {runtime.where}: delete, {one.status}"
        for one in others
        if one.status not in (State.COMPLETED, State.FAILED)
    ]
    if lines and not confirm(context, False, "\n".join(lines)):
        raise Declined("nothing was deleted")


def _found(runtime: Runtime, words: list[str], replicas: str | None, ignore_not_found: bool) -> list[Target]:
    """Return the targets of the words. A word that the ledger does not know may be a session."""
    from skahactl.targets import find

    try:
        return list(find(runtime.ledger, runtime.profile, words, replicas=replicas, sessions=True))
    except UsageError as error:
        if not ignore_not_found:
            raise
        if len(words) == 1:
            current().say(f"{error.message}; nothing to delete")
            return []
    return [target for word in words for target in _found(runtime, [word], replicas, ignore_not_found)]


async def _sessions(runtime: Runtime, words: list[str], ignore_not_found: bool) -> list[ServerSession]:
    """Return the listed sessions with these ids or names. All are resolved before anything is deleted.

    Raises UsageError for a name that several sessions have, and, unless ``ignore_not_found``, for an unknown word.
    """
    if not words:
        return []
    listed = (await runtime.first_poll()).sessions
    where = f"on {runtime.where}"
    found: list[ServerSession] = []
    for word in words:
        matching = [one for one in listed if word in (one.id, one.name)]
        if len(matching) > 1:
            ids = ", ".join(one.id for one in matching)
            raise UsageError(f"{len(matching)} sessions are named '{word}' {where}", hint=f"name one by its id: {ids}")
        if not matching and not ignore_not_found:
            names = [one.name for one in listed]
            raise UsageError(f"no job, replica or session '{word}' {where}", hint=_hint(runtime, word, names))
        if not matching:
            current().say(f"no job, replica or session '{word}' {where}; nothing to delete")
        found += matching
    return found


def _hint(runtime: Runtime, word: str, sessions: list[str]) -> str:
    from skahactl.spelling import did_you_mean
    from skahactl.targets import elsewhere_hint, job_names, replica_target

    if word.endswith(".toml"):
        return f"to delete the jobs of a manifest: {suggest('delete', '-f', word)}"
    number, _, task = word.partition("_")
    if number.isdecimal():  # a Slurm job id, with array tasks
        target = f"JOB/{task.strip('[]')}" if task else "JOB"
        return f"jobs have names, not numbers: {suggest('get', 'jobs')} lists them; then {suggest('delete', target)}"
    if elsewhere := elsewhere_hint(runtime.ledger, runtime.profile, word):
        return elsewhere
    names = job_names(runtime.ledger, runtime.profile)
    replica = replica_target(word, names)
    if replica is not None:
        return f"the command is: {suggest('delete', replica)}"
    guess = did_you_mean(word, [*names, *sessions])
    return guess or f"{suggest('get', 'jobs')} and {suggest('get', 'sessions')} show what there is"


async def _forget(runtime: Runtime, removal: JobDeletion, chosen: list[tuple[Run, frozenset[int] | None]]) -> None:
    """Delete the records of the jobs that were deleted as a whole, except those with sessions left."""
    done = {part.name for part in removal.parts if part.exit is Exit.DONE}
    for run_of, numbers in chosen:
        if numbers is None and run_of.key.name in done:
            await removal.forget(run_of)


async def _session(runtime: Runtime, removal: JobDeletion, chosen: ServerSession, dry_run: bool) -> Exit:
    """Delete a session without a record, and print the result on one line; add a part for it to the data. Return the
    exit code."""
    from skahactl.engine.delete import TRIES
    from skahactl.engine.outcome import StepOutcome

    status = f", {chosen.status}" if dry_run else ""
    session = f"session {chosen.id} ({chosen.name}{status}) on {runtime.where}"
    if dry_run:
        current().say(f"{session}: to delete (dry run)")
        result = StepOutcome.PLANNED
    elif await removal.delete_session(chosen.id):
        current().say(f"{session}: deleted")
        result = StepOutcome.DONE
    else:
        current().warn(f"{session}: still listed after {TRIES} deletes")
        result = StepOutcome.STAYS
    part = removal.of_session(chosen, result)
    if current().machine_readable:
        removal.parts.append(part)
    return part.exit
