"""The exit code that one job's part of a command deserves."""

from __future__ import annotations

from collections.abc import Mapping

from skahactl import states
from skahactl.engine.decide import Decision
from skahactl.engine.outcome import JobOutcome
from skahactl.errors import Exit, SkahactlError, worst
from skahactl.ledger.records import RunSummary

#: Sessions (or names) that stay although they were to go, and what their last DELETE failed with, if it did.
Undeleted = Mapping[str, SkahactlError | None]


def exit_of_driven(part: JobOutcome, summary: RunSummary, waited: bool) -> Exit:
    """Driven to the end: how it ended. Else: whether every step that was planned was done, held ones included; what
    the platform did not take for now may be taken later."""
    if waited or _is_over(summary):
        return Exit.DONE if _went_well(summary) else Exit.NO
    codes = {"refused": Exit.NO, "not created": Exit.UNREACHABLE, "in doubt": Exit.UNREACHABLE}
    return worst([codes.get(str(step["outcome"]), Exit.DONE) for step in part.steps])


def _is_over(summary: RunSummary) -> bool:
    return summary.status in (states.COMPLETED, states.FAILED, states.DELETED, states.UNKNOWN)


def _went_well(summary: RunSummary) -> bool:
    if summary.run.kind != "headless":
        return summary.counts[states.RUNNING] + summary.counts[states.COMPLETED] == summary.run.total
    return summary.status == states.COMPLETED


def exit_of_decision(decision: Decision, last: RunSummary | None) -> Exit:
    """Of what was decided, before anything is done: an ended run's result counts again."""
    if decision.action == "ended":
        return Exit.DONE if last is not None and _went_well(last) else Exit.NO
    return {"refuse": Exit.NO, "foreign": Exit.USAGE}.get(decision.action, Exit.DONE)


def exit_of_undeleted(undeleted: Undeleted) -> Exit:
    """Of a delete: whether nothing stays; else as the server refused or failed, or that it is just so."""
    return worst([Exit.NO if error is None else error.exit for error in undeleted.values()])
