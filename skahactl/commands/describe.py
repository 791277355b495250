"""``skahactl describe``."""

from __future__ import annotations

from skahactl.commands.params import Cached, RecordTarget, Replicas, RunNumber


def describe(
    *targets: RecordTarget,
    replicas: Replicas = None,
    run: RunNumber = None,
    cached: Cached = False,
) -> int:
    """Show a job in full: verdict, failures, run times, resource usage, timeline, history and where its logs are.

    Use -o wide to list every replica. Exit with 4 if the server could not be reached and the local record is shown.

    Examples:
      skahactl describe tiles
      skahactl describe tiles/17
      skahactl describe a1b2c3d4 -o json
    """
    from skahactl.commands.description import run_describe

    return run_describe(targets, replicas, run, cached)
