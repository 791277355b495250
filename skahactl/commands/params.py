"""``Annotated`` parameters that several verbs share, and the groups of options on help pages.

This module imports little, because completion imports it.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from skahactl import completers
from skahactl.completers import FileName

#: The groups of options, in the order in which a page shows them.
MANIFEST = Group("Manifest", sort_key=2)
SELECTION = Group("Selection", sort_key=3)
RESOURCES = Group("Resources", sort_key=4)
EXECUTION = Group("Execution", sort_key=5)
EARLIER_RUNS = Group("Jobs that ran before", sort_key=6)
DISPLAY = Group("Display", sort_key=7)

ANY_TARGET = "JOB, JOB/REPLICAS (tiles/1-10,17), or the name or id of a session."
RECORDED_TARGET = "JOB, JOB/REPLICAS (tiles/1-10,17), or the name or id of a session of a job here."

#: ``*targets: TargetWord``.
TargetWord = Annotated[str, Parameter(name="TARGET", help=ANY_TARGET, completer=completers.jobs, required=True)]

#: ``*targets: RecordTarget``: as TargetWord, of sessions with a record.
RecordTarget = Annotated[str, Parameter(name="TARGET", help=RECORDED_TARGET, completer=completers.jobs, required=True)]

#: ``job: JobWord``.
JobWord = Annotated[str, Parameter(name="JOB", help="JOB or JOB/REPLICAS.", completer=completers.jobs)]

#: ``replicas: Replicas = None``.
Replicas = Annotated[
    str | None,
    Parameter(
        name=["--replicas", "-r"],
        metavar="RANGES",
        group=SELECTION,
        completer=completers.replicas,
        help="Only these replicas: 3, 1-10,17 or 17-.",
    ),
]

#: ``run: RunNumber = None``.
RunNumber = Annotated[
    int | None,
    Parameter(
        metavar="N", group=SELECTION, completer=completers.runs, help="The run with this number (default: the last)."
    ),
]

#: ``items: ItemsFile = None``.
ItemsFile = Annotated[
    FileName | None,
    Parameter(
        metavar="FILE",
        group=SELECTION,
        allow_leading_hyphen=True,
        help="The items in this file, one per line; - is standard input.",
    ),
]

#: ``unknown: UnknownFlag = False``.
UnknownFlag = Annotated[
    bool, Parameter(group=SELECTION, help="Replicas that are Unknown: finished unobserved, result discarded.")
]

#: ``wait: WaitFlag = False``.
WaitFlag = Annotated[
    bool,
    Parameter(
        name=["--wait", "-w"],
        group=EXECUTION,
        help="Wait until the job ends and drive it: create queued replicas, retry, save logs. "
        "Exit with 0 only if every replica completed.",
    ),
]

#: ``timeout: Timeout = None``.
Timeout = Annotated[
    str | None,
    Parameter(
        metavar="DURATION",
        group=EXECUTION,
        help="Stop waiting after this time (30s, 5m, 2h; no unit: seconds) and exit with 5; sessions that exist keep "
        "running.",
    ),
]

#: ``dry_run: DryRun = False``.
DryRun = Annotated[bool, Parameter(group=EXECUTION, help="Show the plan without changing anything.")]

#: ``yes: Yes = False``.
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], group=EXECUTION, help="Do not ask for confirmation.")]

#: ``break_lock: BreakLock = False``.
BreakLock = Annotated[
    bool,
    Parameter(
        group=EARLIER_RUNS,
        help="Take over a job from a driver on another machine. Use it only if that driver has ended for certain.",
    ),
]

#: ``cached: Cached = False``.
Cached = Annotated[bool, Parameter(group=DISPLAY, help="Use the local record; do not contact the server.")]

#: ``sort_by: SortBy = None``.
SortBy = Annotated[
    str | None,
    Parameter(
        metavar="FIELD",
        group=DISPLAY,
        allow_leading_hyphen=True,
        completer=completers.sort_fields,
        help="Sort by a field of -o json (started, counts.Failed) or a column; -FIELD reverses the order.",
    ),
]

#: ``no_headers: NoHeaders = False``.
NoHeaders = Annotated[bool, Parameter(group=DISPLAY, help="Omit the header row.")]

#: ``limit: Limit = None``.
Limit = Annotated[int | None, Parameter(metavar="N", group=DISPLAY, help="Maximum number of rows (default: all).")]


#: ``*manifests: Manifest``. A leading hyphen is allowed for ``-``; ``read_manifests`` rejects other words with one.
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
        group=MANIFEST,
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
        group=MANIFEST,
        help="Override a key of the manifest; JOB.KEY=VALUE for one job of several.",
        negative=(),
        completer=completers.settings,
    ),
]

#: ``variables: Variables = None``.
Variables = Annotated[
    list[str] | None,
    Parameter(
        name="--var",
        metavar="K=V",
        group=MANIFEST,
        help="Value for the placeholder {K}; overrides [vars] of the manifest and the profile.",
        negative=(),
    ),
]
