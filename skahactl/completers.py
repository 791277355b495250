"""What Tab offers beyond fixed words: jobs, replicas, profiles, states; from the ledger's file and the profiles.

Each function is a completer of cyclopts: it gets the context of the word in progress and gives words, or words with
what they mean. No network, nothing is written, and whatever is missing or broken means no offer, never a message. A
Tab pays for every import, so the ledger is asked in plain SQL and everything else is imported late.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

    FileName = str
else:
    #: A word of the command line for which Tab offers files. It stays a str: the first type of a union that fits.
    FileName = str | Path

Offers = list[tuple[str, str]]

NOUNS = ("jobs", "replicas", "items", "sessions", "events", "images", "resources", "stats")
_OF_JOBS = ("jobs", "replicas", "items", "events")
_JOB_ARGUMENTS = ("targets", "words", "job", "more")
_MOST = 1000  # replicas in one answer

#: The last run of each job, the newest first: on the server of the profile, as its newest run knows it; everywhere if
#: no run was made with the profile.
_LAST_RUNS = """
WITH here AS (SELECT jobs.server FROM runs JOIN jobs ON jobs.id = runs.job
              WHERE runs.profile IN (?, ?) ORDER BY runs.id DESC LIMIT 1)
SELECT jobs.name, max(runs.id) AS run, runs.number FROM runs JOIN jobs ON jobs.id = runs.job
WHERE jobs.server IN here OR NOT EXISTS (SELECT 1 FROM here) GROUP BY jobs.name ORDER BY run DESC
"""
_TALLY = "SELECT replicas, state FROM tallies WHERE run = ? AND replicas > 0 ORDER BY replicas DESC"
_HAS_SESSION = "SELECT 1 FROM attempts WHERE run = ? AND session IS NOT NULL LIMIT 1"
_REPLICAS = "SELECT number, state FROM replicas WHERE run = ? ORDER BY number"


def jobs(context: Any) -> Offers:
    """Jobs with a record, the newest first; after ``JOB/`` its replicas."""
    return _jobs(context, only_with_sessions=False)


def jobs_with_sessions(context: Any) -> Offers:
    """Of these, the ones that ever had a session: what can be deleted, renewed, tried again."""
    return _jobs(context, only_with_sessions=True)


def nouns_or_jobs(context: Any) -> Offers:
    """For ``get``: a noun or a job, and after a noun what it has."""
    before = _before(context)
    if not before:
        offers = [] if "/" in context.incomplete else [(noun, "") for noun in NOUNS]
        return offers + jobs(context)
    first = before[0] if before[0].endswith("s") else before[0] + "s"
    return jobs(context) if first in _OF_JOBS or first not in NOUNS else []


def replicas(context: Any) -> Offers:
    """Replica numbers of the job that is named before, with their states; after a comma more of them."""
    for word in reversed(_before(context)):
        done, comma, start = context.incomplete.rpartition(",")
        taken = set(done.split(","))
        rows = _replicas(context, word.removeprefix("jobs/").removeprefix("replicas/").partition("/")[0], start)
        if rows:
            return [(f"{done}{comma}{number}", state) for number, state in rows if str(number) not in taken]
    return []


def profiles(context: Any) -> Offers:
    """Names of profiles."""
    from skahactl.profiles import names

    return [(name, "") for name in names(os.environ)]


def states(context: Any) -> Offers:
    """States, also after a comma."""
    from skahactl.model import STATES

    done, comma, _ = context.incomplete.rpartition(",")
    taken = done.split(",")
    return [(f"{done}{comma}{state}", "") for state in STATES if state not in taken]


def _jobs(context: Any, *, only_with_sessions: bool) -> Offers:
    name, slash, start = context.incomplete.partition("/")
    if slash:
        return [(f"{name}/{number}", state) for number, state in _replicas(context, name, start)]
    with _Ledger() as ledger:
        found = []
        for job, run, number in ledger.last_runs(context):
            if not job.startswith(name) or (only_with_sessions and not ledger.rows(_HAS_SESSION, run)):
                continue
            counts = ", ".join(f"{count} {state}" for count, state in ledger.rows(_TALLY, run))
            found.append((job, f"run {number}: {counts}"))
        given = set(_before(context))
        return [offer for offer in found if offer[0] not in given]


def _replicas(context: Any, job: str, start: str) -> list[tuple[int, str]]:
    with _Ledger() as ledger:
        runs = [run for name, run, _ in ledger.last_runs(context) if name == job]
        rows = ledger.rows(_REPLICAS, runs[0]) if runs else []
        return [(number, state) for number, state in rows if str(number).startswith(start)][:_MOST]


def _before(context: Any) -> list[str]:
    """The words that were given for the jobs of this command, the word in progress left out."""
    return [word for name in _JOB_ARGUMENTS for word in _given(context, name)]


def _chosen(context: Any) -> str:
    """The name or path of the profile in force."""
    from skahactl.profiles import default_name

    named = [*_given(context, "profile"), os.environ.get("SKAHACTL_PROFILE"), default_name(os.environ), "local"]
    return next(name for name in named if name)


def _given(context: Any, name: str) -> list[str]:
    """The words for one argument; quicker than to ask the context, which looks for options first."""
    return [
        token.value for argument in context.arguments if argument.field_info.name == name for token in argument.tokens
    ]


class _Ledger:
    """The ledger's file, read only and without waiting; one that is missing, damaged or busy has no rows."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> _Ledger:
        import sqlite3

        from skahactl.system import state_dir

        path = str(state_dir(os.environ) / "ledger.sqlite3")
        for letter in "%?#":
            path = path.replace(letter, f"%{ord(letter):02x}")
        try:
            self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)
        except sqlite3.Error:
            self._connection = None
        return self

    def last_runs(self, context: Any) -> list[Any]:
        """Of each job on the chosen profile's server: its name, its last run, and that run's number."""
        from skahactl.profiles import is_path
        from skahactl.system import config_dir

        name = _chosen(context)
        path = name if is_path(name) else config_dir(os.environ) / "profiles" / f"{name}.toml"
        return self.rows(_LAST_RUNS, name, os.path.abspath(os.path.expanduser(path)))

    def rows(self, sql: str, *values: object) -> list[Any]:
        import sqlite3

        if self._connection is None:
            return []
        try:
            return list(self._connection.execute(sql, values))
        except sqlite3.Error:
            return []

    def __exit__(self, *exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
