"""``skahactl describe``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl.commands.named import Replicas, RunNumber, TargetWord
from skahactl.errors import UsageError


def describe(
    *targets: TargetWord,
    replicas: Replicas = None,
    run: RunNumber = None,
    cached: Annotated[bool, Parameter(help="As this machine knows it; no look at the platform.")] = False,
) -> int:
    """Show a job with its replicas, attempts, times, history, logs, and why it is Pending.

    The timeline has a bar for each attempt, waiting and running, so that an unbalanced split is seen at a glance;
    of more than 60 attempts the longest, with -o wide all. A session that is none of ours is shown as the platform
    tells it, with the URL of an interactive one. If a look at the platform was due and failed, what this machine
    knows is shown, and the exit code is 4.

    Examples:

    skahactl describe tiles

    skahactl describe tiles/17

    skahactl describe a1b2c3d4 -o json
    """
    from skahactl.commands.describing import run_describe

    if not targets:
        raise UsageError("describe what?", hint="skahactl describe JOB, JOB/REPLICA or SESSION")
    return run_describe(targets, replicas, run, cached)
