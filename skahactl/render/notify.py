"""Notifications at the end of a long wait: the bell and a notification of the terminal, and the command of the
profile."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence

from skahactl.engine.outcome import JobOutcome, Outcome
from skahactl.invocation import Invocation, is_screen, one_line
from skahactl.model import State

#: Seconds that the command of the profile may take.
_PATIENCE = 30.0


def notify_end(context: Invocation, outcome: Outcome) -> None:
    """Report the end of jobs that a command waited for.

    On a terminal: the bell, and OSC 9 with the jobs. ``[notify] command`` of the profile runs once for each job, with
    SKAHACTL_JOB, SKAHACTL_STATUS and SKAHACTL_FAILED (the number of replicas) in its environment.
    """
    ended = [job for job in outcome.jobs if job.has_driver and job.status is not None]
    if not ended:
        return
    if is_screen(context.stderr, context.environ) and not context.quiet:
        words = ", ".join(f"{job.name} {str(job.status).lower()}" + f" ({job.took})" * bool(job.took) for job in ended)
        with contextlib.suppress(OSError):
            context.stderr.write(f"\x07\x1b]9;{one_line(words)}\x07")
            context.stderr.flush()
    if outcome.profile.notify:
        for job in ended:
            _run(context, outcome.profile.notify, job)


def _run(context: Invocation, command: Sequence[str], job: JobOutcome) -> None:
    environ = {
        **context.environ,
        "SKAHACTL_JOB": job.name,
        "SKAHACTL_STATUS": str(job.status),
        "SKAHACTL_FAILED": str(job.counts.get(State.FAILED, 0)),
    }
    try:
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        context.warn(f"warning: [notify] command: {error}")
        return
    if done.returncode:
        context.warn(f"warning: [notify] command: {command[0]} ended with exit code {done.returncode}")
