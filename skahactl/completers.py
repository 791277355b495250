"""What tab completion offers beyond fixed words: jobs, replicas, items, images, profiles, states.

Each function is a completer of cyclopts: it gets the context of the word in progress and returns words with their
descriptions. It uses no network and writes nothing; if something is missing or damaged, it offers nothing and prints
no message. Every completion pays for the imports, so the ledger is read with plain SQL and the rest is imported late.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    FileName = str
else:
    #: A word of the command line that is completed with files. It stays a str: the first type of a union that fits.
    FileName = str | Path

Offers = list[tuple[str, str]]

NOUNS = ("jobs", "replicas", "items", "sessions", "events", "images", "resources", "stats")
#: The fields by which rows of a noun are usually sorted.
SORT_FIELDS = {
    "jobs": ("name", "status", "run", "created", "started", "ended", "replicas", "counts.Failed", "counts.Running"),
    "replicas": ("replica", "state", "started", "finished", "attempt", "session"),
    "items": ("replica", "position", "item", "state", "exit_code"),
    "sessions": ("name", "status", "startTime", "expiryTime", "image", "type"),
    "events": ("session", "type", "reason", "first", "last"),
    "images": ("id",),
}
#: The keys of a manifest that are in no table, and its tables with their keys; a test compares them with the schema.
_PLAIN_KEYS = ("name", "image", "kind", "command", "shell", "replicas", "session-name", "after")
_TABLES = {
    "resources": ("cores", "ram", "gpus"),
    "env": (),
    "items": ("file", "glob", "values", "range", "csv", "matrix", "strategy", "per-replica", "each", "duplicates"),
    "limits": ("alive", "failures", "pending", "pending-timeout"),
    "retry": ("attempts", "ram"),
    "logs": ("keep", "shared"),
    "vars": (),
    "common": (),
    "job": (),
}
_OF_JOBS = ("jobs", "replicas", "items", "events")
_JOB_ARGUMENTS = ("targets", "words", "job", "jobs")
_MOST = 1000  # maximum number of replicas per completion

#: The last run of each job, newest first: on the server of the profile's newest run, or on all servers without one.
_LAST_RUNS = """
WITH here AS (SELECT jobs.server FROM runs JOIN jobs ON jobs.id = runs.job
              WHERE runs.profile IN (?, ?) ORDER BY runs.id DESC LIMIT 1)
SELECT jobs.name, max(runs.id) AS run, runs.number FROM runs JOIN jobs ON jobs.id = runs.job
WHERE jobs.server IN here OR NOT EXISTS (SELECT 1 FROM here) GROUP BY jobs.name ORDER BY run DESC
"""
_RUNS = """
SELECT number, created FROM runs JOIN jobs ON jobs.id = runs.job WHERE jobs.name = ? ORDER BY runs.id DESC LIMIT 100
"""
_ATTEMPTS = "SELECT max(attempt) FROM replicas WHERE run = ?"
_ITEMS = """
SELECT DISTINCT value FROM replicas, json_each(replicas.items) WHERE run = ? AND substr(value, 1, ?) = ? LIMIT 1000
"""
_IMAGES = "SELECT image FROM runs GROUP BY image ORDER BY max(id) DESC LIMIT 100"
_TALLY = "SELECT replicas, state FROM tallies WHERE run = ? AND replicas > 0 ORDER BY replicas DESC"
_HAS_SESSION = "SELECT 1 FROM attempts WHERE run = ? AND session IS NOT NULL LIMIT 1"
_REPLICAS = "SELECT number, state FROM replicas WHERE run = ? ORDER BY number"


def jobs(context: Any) -> Offers:
    """Return jobs with a record, newest first; after ``JOB/``, and for a number after ``JOB``, its replicas."""
    return _jobs(context, only_with_sessions=False)


def jobs_with_sessions(context: Any) -> Offers:
    """Return jobs with a session in their last run, newest first: they can be deleted, renewed or retried."""
    return _jobs(context, only_with_sessions=True)


def nouns_or_jobs(context: Any) -> Offers:
    """Return nouns and jobs for the first word of ``get``, and the targets for later words."""
    before = _before(context)
    if not before:
        done, comma, _ = context.incomplete.rpartition(",")
        given = done.split(",") if comma else []
        if "/" in context.incomplete or not {*given} <= {*NOUNS}:
            return jobs(context)
        offers = [(f"{done}{comma}{noun}", "") for noun in NOUNS if noun not in given]
        return offers if comma else offers + jobs(context)
    first = before[0] if before[0].endswith("s") else before[0] + "s"
    return jobs(context) if first in _OF_JOBS or first not in NOUNS else []


def replicas(context: Any) -> Offers:
    """Return the replica numbers of the job named before, with their states; after a comma or a hyphen, further
    numbers."""
    for job in _jobs_before(context):
        offers = _ranges(context, job, context.incomplete)
        if offers:
            return offers
    return []


def states(context: Any) -> Offers:
    """Return states, also after a comma; in lower case if the word begins that way."""
    from skahactl.model import STATES

    done, comma, start = context.incomplete.rpartition(",")
    taken = {word.lower() for word in done.split(",")}
    lower = start[:1].islower()
    return [(f"{done}{comma}{state.lower() if lower else state}", "") for state in STATES if state.lower() not in taken]


def runs(context: Any) -> Offers:
    """Return the run numbers of the job named before, the newest first."""
    from skahactl.text import iso_time

    with _ledger() as ledger:
        for job in _jobs_before(context):
            rows = _rows(ledger, _RUNS, job)
            if rows:
                return [(str(number), f"created {iso_time(created)}") for number, created in rows]
    return []


def attempts(context: Any) -> Offers:
    """Return ``all`` and the attempt numbers of the job named before."""
    with _ledger() as ledger:
        for job, run, _ in _last_runs(ledger, context):
            if job in _jobs_before(context):
                [(most,)] = _rows(ledger, _ATTEMPTS, run) or [(0,)]
                return [("all", ""), *((str(number), "") for number in range(1, (most or 0) + 1))]
    return [("all", "")]


def items(context: Any) -> Offers:
    """Return items of the job named before."""
    with _ledger() as ledger:
        for job, run, _ in _last_runs(ledger, context):
            if job in _jobs_before(context):
                rows = _rows(ledger, _ITEMS, run, len(context.incomplete), context.incomplete)
                return [(item, "") for (item,) in rows if item.isprintable()]
    return []


def images(context: Any) -> Offers:
    """Return images of earlier runs, the newest first."""
    with _ledger() as ledger:
        return [(image, "") for (image,) in _rows(ledger, _IMAGES)]


def sort_fields(context: Any) -> Offers:
    """Return the fields by which the rows of the noun named before can be sorted, also after a ``-``."""
    words = _before(context)
    first = words[0].partition("/")[0] if words else "jobs"
    noun = first if first in SORT_FIELDS else first + "s" if first + "s" in SORT_FIELDS else "replicas"
    sign = "-" if context.incomplete.startswith("-") else ""
    return [(sign + name, "") for name in SORT_FIELDS[noun]]


def settings(context: Any) -> Offers:
    """Return the keys of a manifest, each with the ``=`` of ``--set``."""
    return [(f"{key}=", "") for key in key_words() if key not in _TABLES]


def key_words() -> tuple[str, ...]:
    """Return every key of a manifest, dotted."""
    of_tables = (key for table, keys in _TABLES.items() for key in (table, *(f"{table}.{one}" for one in keys)))
    return (*_PLAIN_KEYS, *of_tables)


def profiles(context: Any) -> Offers:
    """Return the names of profiles."""
    from skahactl.profiles import names

    return [(name, "") for name in names(os.environ)]


def _jobs(context: Any, *, only_with_sessions: bool) -> Offers:
    noun, slash, rest = context.incomplete.partition("/")
    if slash and _is_noun(noun):  # job/tiles, as kubectl writes it
        return [(f"{noun}/{word}", text) for word, text in _jobs_named(context, rest, only_with_sessions)]
    numbers = replicas(context) if context.incomplete[:1].isdecimal() else []
    return _jobs_named(context, context.incomplete, only_with_sessions) + numbers


def _jobs_named(context: Any, typed: str, only_with_sessions: bool) -> Offers:
    name, slash, start = typed.partition("/")
    if slash:
        return [(f"{name}/{word}", text) for word, text in _ranges(context, name, start)]
    with _ledger() as ledger:
        found = []
        for job, run, number in _last_runs(ledger, context):
            if not job.startswith(name) or (only_with_sessions and not _rows(ledger, _HAS_SESSION, run)):
                continue
            counts = ", ".join(f"{count} {state}" for count, state in _rows(ledger, _TALLY, run))
            found.append((job, f"run {number}: {counts}"))
        given = set(_jobs_before(context))
        return [offer for offer in found if offer[0] not in given]


def _ranges(context: Any, job: str, typed: str) -> Offers:
    """Return completions of the last number in ``1,3-``: numbers that are not in the list yet; after a hyphen, only
    larger ones."""
    done, comma, last = typed.rpartition(",")
    low, hyphen, start = last.rpartition("-")
    taken = set(done.split(","))
    with _ledger() as ledger:
        runs = [run for name, run, _ in _last_runs(ledger, context) if name == job]
        rows = _rows(ledger, _REPLICAS, runs[0]) if runs else []
    least = int(low) if low.isdecimal() else 0
    before = f"{done}{comma}{low}{hyphen}"
    numbers = [(str(number), state) for number, state in rows if number > least and str(number).startswith(start)]
    return [(before + number, state) for number, state in numbers if number not in taken][:_MOST]


def _is_noun(word: str) -> bool:
    return word in NOUNS or word + "s" in NOUNS


def _jobs_before(context: Any) -> list[str]:
    """Return the names of the jobs that were given, without ``job/`` and ``/REPLICAS``; the last one first."""
    found = []
    for word in reversed(_before(context)):
        parts = word.split("/")
        found.append(parts[1] if len(parts) > 1 and _is_noun(parts[0]) else parts[0])
    return found


def _before(context: Any) -> list[str]:
    """Return the words for the jobs of this command, without the current word."""
    return [word for name in _JOB_ARGUMENTS for word in _given(context, name)]


def _chosen(context: Any) -> str:
    """Return the name or path of the selected profile."""
    from skahactl.profiles import default_name

    named = [*_given(context, "profile"), os.environ.get("SKAHACTL_PROFILE"), default_name(os.environ), "local"]
    return next(name for name in named if name)


def _given(context: Any, name: str) -> list[str]:
    """Return the words for one argument; faster than asking the context, which parses options first."""
    return [
        token.value for argument in context.arguments if argument.field_info.name == name for token in argument.tokens
    ]


@contextlib.contextmanager
def _ledger() -> Iterator[sqlite3.Connection | None]:
    """Yield a read-only connection to the ledger with a lock timeout of 0.2 s; None if the file cannot be opened."""
    import sqlite3

    from skahactl.system import state_dir

    path = str(state_dir(os.environ) / "ledger.sqlite3")
    for letter in "%?#":
        path = path.replace(letter, f"%{ord(letter):02x}")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)
    except sqlite3.Error:
        yield None
        return
    with contextlib.closing(connection):
        yield connection


def _last_runs(ledger: sqlite3.Connection | None, context: Any) -> list[Any]:
    """Return (job, id of its last run, number of that run) for each job on the selected profile's server."""
    from skahactl.profiles import is_path
    from skahactl.system import config_dir

    name = _chosen(context)
    path = name if is_path(name) else config_dir(os.environ) / "profiles" / f"{name}.toml"
    return _rows(ledger, _LAST_RUNS, name, os.path.abspath(os.path.expanduser(path)))


def _rows(ledger: sqlite3.Connection | None, sql: str, *values: object) -> list[Any]:
    """Return the rows of a query; empty if the ledger is missing, damaged or busy."""
    import sqlite3

    if ledger is None:
        return []
    try:
        return list(ledger.execute(sql, values))
    except sqlite3.Error:
        return []
