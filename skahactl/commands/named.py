"""What a command line names besides manifests: targets, some of their replicas, one of their runs.

Nothing is imported here that completion should not pay for.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers

#: ``*targets: TargetWord``.
TargetWord = Annotated[
    str,
    Parameter(
        name="TARGET",
        help="JOB, JOB/REPLICAS (tiles/1-10,17), session name or id.",
        completer=completers.jobs,
    ),
]

#: ``replicas: Replicas = None``.
Replicas = Annotated[
    str | None,
    Parameter(name=["--replicas", "-r"], completer=completers.replicas, help="Of these replicas: 1-10,17."),
]

#: ``run: RunNumber = None``.
RunNumber = Annotated[int | None, Parameter(help="Of an earlier run, by its number.")]
