"""TARGET on the command line: ``JOB``, ``JOB/REPLICAS``, a session's name or id; what they mean in the ledger."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl.errors import UsageError
from skahactl.ledger.attempts import attempt_of_session, attempts_named
from skahactl.ledger.records import AttemptRow, JobKey, Run
from skahactl.ledger.replicas import replica_states
from skahactl.ledger.runs import job_keys, last_run, run_by_id, runs_of, users_seen
from skahactl.text import did_you_mean, format_ranges, parse_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.profile import Profile

#: Accepted before a target, as ``jobs tiles`` or ``jobs/tiles``, singular or plural.
NOUNS = frozenset(
    {
        *("job", "jobs", "replica", "replicas", "item", "items", "session", "sessions", "event", "events"),
        *("pod", "pods", "po"),  # kubectl's word for what is a replica here
    }
)
_SESSION_NOUNS = frozenset({"session", "sessions"})
_NUMBERS = re.compile(r"[0-9][0-9,:.-]*")
_PLATFORM_ID = re.compile(r"[a-z][a-z0-9]{7}")


@dataclass(frozen=True, slots=True)
class Target:
    """What one word means, or several that name replicas of one run.

    ``run`` and ``numbers``: a run, and which of its replicas (None: all). ``session``: the platform's id, or, where
    the ledger knows nothing of it (``run`` is None), the word that may be an id or a name there. ``word``: as typed,
    or one for all that were. ``past``: it is a session whose replica has had a later attempt, and is not what the
    replica is now.
    """

    run: Run | None
    numbers: frozenset[int] | None
    session: str | None
    word: str
    past: bool = False

    @property
    def is_job(self) -> bool:
        """A job or replicas of one; False for a session that was named itself."""
        return self.run is not None and self.session is None


def find(
    ledger: Ledger,
    profile: Profile,
    words: Sequence[str],
    *,
    replicas: str | None = None,
    run: int | None = None,
    sessions: bool = False,
) -> tuple[Target, ...]:
    """What ``words`` mean on the profile's server, in their order; those that name one run are one target.

    ``replicas`` is ``-r`` and ``run`` is ``--run``: both for jobs only; without ``run`` the last run is meant. With
    ``sessions`` a word that the ledger does not know may be any session of the platform; without, only one that
    looks like a platform's id. Raises UsageError, with the nearest names, for what is unknown.
    """
    finder = _Finder(ledger, profile, replicas, run)
    return _joined(finder.one(word, as_session) for word, as_session in _without_nouns(finder, words, sessions))


def by_run(targets: Iterable[Target]) -> tuple[Target, ...]:
    """The targets with one for each run, also where sessions of it were named: each of them stands for its replica."""
    return _joined(target if target.run is None else replace(target, session=None) for target in targets)


def refuse_past(targets: Iterable[Target]) -> None:
    """UsageError for a session whose replica has had a later attempt: the replica as it is now was not named."""
    for target in targets:
        if target.past and target.run is not None and target.numbers is not None:
            replica = f"{target.run.key.name}/{format_ranges(target.numbers)}"
            raise UsageError(
                f"'{target.word}' is the session of an earlier attempt of {replica}, which has a later one",
                hint=f"for the replica as it is now: {replica}",
            )


def current_user(ledger: Ledger, profile: Profile) -> str:
    """Whom the server said we are when it was last asked; "" before."""
    return next((user for user in users_seen(ledger, profile.server) if user), "")


def job_names(ledger: Ledger, profile: Profile) -> tuple[str, ...]:
    """The jobs with a record on the profile's server, the newest first."""
    mine = {current_user(ledger, profile), ""}
    return tuple(dict.fromkeys(key.name for key in job_keys(ledger, profile.server) if key.user in mine))


def _joined(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Jobs and replicas of one run as one target, in the place of the first; one that names the whole job wins."""
    found: dict[int | str | None, list[Target]] = {}
    for target in targets:
        key = target.session if target.run is None or target.session is not None else target.run.id
        found.setdefault(key, []).append(target)
    return tuple(_one(same) for same in found.values())


def _one(targets: Sequence[Target]) -> Target:
    """All of these, which mean the same run or session."""
    first = targets[0]
    if len(targets) == 1 or first.run is None or first.session is not None:
        return first
    if any(target.numbers is None for target in targets):
        return Target(first.run, None, None, first.run.key.name)
    numbers = frozenset[int]().union(*(target.numbers or () for target in targets))
    return Target(first.run, numbers, None, f"{first.run.key.name}/{format_ranges(numbers)}")


def _without_nouns(finder: _Finder, words: Sequence[str], sessions: bool) -> Iterable[tuple[str, bool]]:
    """The words, each with whether a session is meant; a noun before them, or before a slash, is taken off."""
    if len(words) > 1 and words[0] in NOUNS and not finder.knows(words[0]):
        sessions = sessions or words[0] in _SESSION_NOUNS
        words = words[1:]
    for word in _with_replicas(finder, words):
        noun, slash, rest = word.partition("/")
        if slash and noun in NOUNS and not finder.knows(noun):
            yield rest, sessions or noun in _SESSION_NOUNS
        else:
            yield word, sessions


def _with_replicas(finder: _Finder, words: Sequence[str]) -> list[str]:
    """``tiles 17`` as ``tiles/17``, and ``tiles_17`` as Slurm writes it; never for a word that is itself a job."""
    found: list[str] = []
    for word in words:
        before = found[-1].rpartition("/")[2] if found else ""
        job, underscore, number = word.rpartition("_")
        if _NUMBERS.fullmatch(word) and finder.knows(before) and not finder.knows(word):
            found[-1] += f"/{word}"
        elif underscore and number.isdecimal() and finder.knows(job) and not finder.knows(word):
            found.append(f"{job}/{number}")
        else:
            found.append(word)
    return found


class _Finder:
    """Answers from one ledger for one profile."""

    def __init__(self, ledger: Ledger, profile: Profile, replicas: str | None, run: int | None):
        self._ledger = ledger
        self._profile = profile
        self._replicas = replicas
        self._run = run
        self._user = current_user(ledger, profile)
        self._last = functools.cache(self._found_last)  # words often name replicas of one run
        self._by_id = functools.cache(lambda run_id: run_by_id(ledger, run_id))

    def one(self, word: str, as_session: bool) -> Target:
        name, slash, numbers = word.partition("/")
        if not name:  # as of a variable that is not set: never anything without a name
            raise UsageError(
                f"'{word}' names no job and no session", hint="write JOB, JOB/REPLICAS, a session's name or id"
            )
        if slash and self._replicas is not None:
            raise UsageError(f"'{word}' names replicas, and so does -r {self._replicas}", hint="give one of the two")
        run = self._last(name)
        if run is not None:
            return self._of_job(run, numbers if slash else self._replicas, word)
        attempt = None if slash else self._attempt(word)
        if attempt is None and not slash and (as_session or _PLATFORM_ID.fullmatch(word)):
            self._refuse_job_options(word)
            return Target(None, None, word, word)
        if attempt is None:
            raise self._unknown(name)
        self._refuse_job_options(word)
        past = replica_states(self._ledger, attempt.run_id, attempt.replica)[0].attempt > attempt.number
        run = self._by_id(attempt.run_id)
        return Target(run, frozenset({attempt.replica}), attempt.session or word, word, past)

    def knows(self, name: str) -> bool:
        return self._last(name) is not None

    def _found_last(self, name: str) -> Run | None:
        """The last run of the job; one from before the server had said who we are counts as ours."""
        users = dict.fromkeys((self._user, ""))
        found = [last_run(self._ledger, JobKey(self._profile.server, user, name)) for user in users]
        return max((run for run in found if run is not None), key=lambda run: run.id, default=None)

    def _of_job(self, last: Run, numbers: str | None, word: str) -> Target:
        run = last if self._run is None else self._numbered(last, self._run)
        if numbers is None:
            return Target(run, None, None, word)
        try:
            return Target(run, frozenset(parse_ranges(numbers, run.total)), None, word)
        except ValueError as error:
            raise UsageError(f"{run.key.name}: {error}") from None

    def _numbered(self, last: Run, number: int) -> Run:
        known = runs_of(self._ledger, last.key)
        for run in known:
            if run.number == number:
                return run
        numbers = format_ranges(run.number for run in known)
        raise UsageError(f"{last.key.name} has no run {number}", hint=f"there is a record of run {numbers}")

    def _attempt(self, word: str) -> AttemptRow | None:
        """The attempt whose session has this id or this whole name, on this server."""
        by_id = attempt_of_session(self._ledger, word)
        for attempt in (by_id,) if by_id is not None else attempts_named(self._ledger, word):
            run = self._by_id(attempt.run_id)
            if run is not None and run.key.server == self._profile.server:
                return attempt
        return None

    def _refuse_job_options(self, word: str) -> None:
        for option, value in (("-r", self._replicas), ("--run", self._run)):
            if value is not None:
                raise UsageError(f"{option} is for jobs, and '{word}' is a session", hint=f"leave out {option}")

    def _unknown(self, name: str) -> UsageError:
        place = f"{self._profile.name} ({self._profile.host})"
        elsewhere = [key for key in job_keys(self._ledger) if key.name == name and key.server != self._profile.server]
        if elsewhere:
            run = last_run(self._ledger, elsewhere[0])
            hint: str | None = f"it has a record with another profile: -p {run.profile if run else '...'}"
        else:
            names = job_names(self._ledger, self._profile)
            hint = did_you_mean(name, names) or _listed(names)
        return UsageError(f"there is no job or session '{name}' on {place}", hint=hint, code="unknown-target")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no job has a record there yet; skahactl apply MANIFEST makes one"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"jobs there: {', '.join(names[:5])}{more}"
