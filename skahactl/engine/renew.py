"""Extend the deadlines of live sessions and compare the deadlines before and after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.outcome import JobOutcome, Outcome, StepOutcome, StepResult, job_outcome
from skahactl.engine.plan import JobAction, StepAction
from skahactl.errors import Exit, UnreachableError
from skahactl.ledger import runs
from skahactl.ledger.attempts import attempts_of
from skahactl.skaha.models import ServerError
from skahactl.targets import unknown_target
from skahactl.text import count_noun, iso_time, name_replicas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.skaha.models import ServerSession
    from skahactl.targets import Target


@dataclass(frozen=True, slots=True)
class _RenewRequest:
    """One live session to be renewed."""

    part: JobOutcome
    replica: int
    attempt: int | None
    session: ServerSession


@dataclass
class Renewal:
    runtime: Runtime

    async def renew(self, targets: Sequence[Target], dry_run: bool) -> Outcome:
        """Renew the live sessions of the targets, and return one step for each.

        The outcome is ``done`` if the deadline moved, ``unchanged`` if not, and ``rejected``, with an error, if the
        request failed.
        """
        of_jobs = [target.run for target in targets if target.run is not None]
        before = {session.id: session for session in (await self.runtime.first_poll(of_jobs)).sessions}
        parts: list[JobOutcome] = []
        asked = [one for target in targets for one in self._live(target, before, parts)]
        words: dict[str, str | None] = {}
        if not dry_run:
            slots = asyncio.Semaphore(self.runtime.profile.client.concurrency)
            await asyncio.gather(*(self._ask(one.session.id, words, slots) for one in asked))
        after = before if dry_run else {one.id: one for one in (await self.runtime.first_poll(of_jobs)).sessions}
        for one in asked:
            one.part.steps.append(_step(one, words.get(one.session.id), after, dry_run))
            if one.part.steps[-1].outcome is StepOutcome.REJECTED:
                one.part.exit = Exit.NO
        for part in parts:
            part.reason = _reason([one for one in asked if one.part is part], part, after)
            part.reason_is_final = not dry_run
        return Outcome(self.runtime.profile, dry_run, parts)

    def _live(self, target: Target, listed: dict[str, ServerSession], parts: list[JobOutcome]) -> list[_RenewRequest]:
        if target.run is None:
            session = next((s for s in listed.values() if target.session in (s.id, s.name)), None)
            if session is None:
                raise unknown_target(self.runtime.ledger, self.runtime.profile, target.word, is_listed=True)
            part = JobOutcome(session.name, JobAction.RENEW, "the session is not live", has_driver=True)
            parts.append(part)
            return _running([_RenewRequest(part, 1, None, session)], part)
        reason = _nothing(target.numbers)
        part = JobOutcome(
            target.run.key.name, JobAction.RENEW, reason, target.run.number, target.run.digest, has_driver=True
        )
        job_outcome(part, runs.summaries(self.runtime.ledger, [target.run])[0])
        parts.append(part)
        found = [
            _RenewRequest(part, attempt.replica, attempt.number, listed[attempt.session])
            for attempt in attempts_of(self.runtime.ledger, target.run.id)
            if attempt.session in listed and (target.numbers is None or attempt.replica in target.numbers)
        ]
        return _running(found, part)

    async def _ask(self, session: str, words: dict[str, str | None], slots: asyncio.Semaphore) -> None:
        async with slots:
            self.runtime.stop.check()
            try:
                words[session] = await self.runtime.stop.guard(self.runtime.client.renew(session))
            except UnreachableError as error:
                words[session] = error.message


def _running(found: Sequence[_RenewRequest], part: JobOutcome) -> list[_RenewRequest]:
    """Return those of running sessions; state in ``part`` how many are Pending.

    The server has no deadline for a session that waits in its queue, and refuses to renew it (skaha-api 6).
    """
    waiting = sum(one.session.status == "Pending" for one in found)
    if waiting:
        part.reason = "no session is Running yet, so there is nothing to renew"
        part.hint = f"{waiting} Pending: a session can be renewed once it is Running"
    return [one for one in found if one.session.status == "Running"]


def _nothing(numbers: frozenset[int] | None) -> str:
    """Return why nothing is renewed if none of these replicas (None: of the job) has a live session."""
    if numbers is None:
        return "nothing is alive, so there is nothing to renew"
    return f"{name_replicas(numbers)} {'has' if len(numbers) == 1 else 'have'} no live session"


def _reason(asked: Sequence[_RenewRequest], part: JobOutcome, after: dict[str, ServerSession]) -> str:
    """Return how many deadlines were extended and how many not, with the earliest deadline of each group. Without a
    live session, return the reason that ``part`` has."""
    if not asked:
        return part.reason
    if any(step.outcome is StepOutcome.PLANNED for step in part.steps):
        return count_noun(len(asked), "live session")
    said = []
    for result, words in ((StepOutcome.DONE, "extended:"), (StepOutcome.UNCHANGED, "unchanged:")):
        found = [after[one.session] for one in part.steps if one.outcome is result and one.session in after]
        ends = sorted(session.expires for session in found if session.expires is not None)
        when = "from " * (len(ends) > 1) + (iso_time(ends[0]) or "" if ends else "unknown")
        said += [f"{count_noun(len(found), 'deadline')} {words} {when}"] if found else []
        if found and result is StepOutcome.UNCHANGED:
            said[-1] += " (the server extends a deadline only when fewer than 4 days are left)"
    rejected = sum(step.outcome is StepOutcome.REJECTED for step in part.steps)
    return "; ".join([*said, *([f"{count_noun(rejected, 'request')} rejected"] if rejected else [])]) or "requested"


def _step(one: _RenewRequest, words: str | None, after: dict[str, ServerSession], dry_run: bool) -> StepResult:
    old, now = one.session.expires, after.get(one.session.id)
    new = None if now is None else now.expires
    moved = new is not None and (old is None or new > old + 1)
    ended = StepOutcome.DONE if moved else StepOutcome.UNCHANGED
    outcome = StepOutcome.PLANNED if dry_run else StepOutcome.REJECTED if words else ended
    reason = f"deadline {iso_time(old) or 'unknown'}" + (f", now {iso_time(new)}" if moved else "")
    step = StepResult(one.replica, one.session.name, StepAction.RENEW, reason, outcome)
    step.session, step.attempt, step.url = one.session.id, one.attempt, one.session.url
    step.error = ServerError("renew", None, words) if words else None
    return step
