"""What a command line names besides manifests: targets, some of their replicas, one of their runs.

Nothing is imported here that completion should not pay for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.completers import FileName
from skahactl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

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


#: ``*manifests: Manifest``. A hyphen may lead, or ``-`` would not get through; ``given`` refuses other such words.
Manifest = Annotated[
    FileName,
    Parameter(
        name="MANIFEST",
        help="Files, directories (their *.toml, sorted), or - for standard input.",
        allow_leading_hyphen=True,
    ),
]

#: ``file: Files = None``.
Files = Annotated[
    list[FileName] | None,
    Parameter(
        name=["--file", "-f"],
        metavar="MANIFEST",
        help="Another manifest, as with kubectl.",
        negative=(),
        allow_leading_hyphen=True,
    ),
]

#: ``sets: Sets = None``.
Sets = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        metavar="KEY=VALUE",
        help="KEY=VALUE, over the manifest's own; JOB.KEY=VALUE for one job of several.",
        negative=(),
    ),
]

#: ``variables: Variables = None``.
Variables = Annotated[
    list[str] | None,
    Parameter(
        name="--var",
        metavar="K=V",
        help="K=V for the placeholder {K}, over the [vars] of manifest and profile.",
        negative=(),
    ),
]


def read_manifests(
    verb: str, manifests: Sequence[str], files: Sequence[str] | None, options: Sequence[str]
) -> list[str]:
    """All that were named; UsageError if none was, or if one is an option that ``verb`` does not have.

    ``options`` are those that it has, for the nearest one.
    """
    from skahactl.text import did_you_mean

    named = [*manifests, *(files or [])]
    for word in manifests:
        if word.startswith("-") and word != "-":
            hint = did_you_mean(word, options) or f"see 'skahactl {verb} --help'; a file of that name is ./{word}"
            raise UsageError(f"{verb} has no option '{word}'", hint=hint)
    if not named:
        raise UsageError(
            f"{verb} needs a manifest", hint=f"skahactl {verb} job.toml; 'skahactl explain' lists its keys"
        )
    return named
