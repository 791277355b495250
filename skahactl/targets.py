"""TARGET on the command line: ``JOB``, ``JOB/REPLICAS``, a session name or id; resolved with the ledger."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl.errors import ProfileError, UsageError
from skahactl.ledger.attempts import attempt_of_session, attempts_named
from skahactl.ledger.records import AttemptRow, JobKey, Run
from skahactl.ledger.replicas import replica_states
from skahactl.ledger.runs import job_keys, last_run, run_by_id, runs_of, users_seen
from skahactl.profiles import load, names
from skahactl.spelling import did_you_mean
from skahactl.text import format_ranges, parse_ranges, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    """The target of one word, or of several that name replicas of one run.

    ``run`` and ``numbers`` are a run and its replicas (None: all). ``session`` is the id of the platform, or, if the
    ledger does not know it (``run`` is None), a word that can be an id or a name there. ``word`` is the text as typed.
    ``past`` means a session of an earlier attempt of its replica.
    """

    run: Run | None
    numbers: frozenset[int] | None
    session: str | None
    word: str
    past: bool = False

    @property
    def is_job(self) -> bool:
        """Whether this is a job or replicas of one; False for a session."""
        return self.run is not None and self.session is None

    def has(self, replica: int) -> bool:
        """Return whether the target includes this replica of its run."""
        return self.numbers is None or replica in self.numbers


def find(
    ledger: Ledger,
    profile: Profile,
    words: Sequence[str],
    *,
    replicas: str | None = None,
    run: int | None = None,
    sessions: bool = False,
) -> tuple[Target, ...]:
    """Resolve ``words`` on the server of the profile, in their order; words for the same run become one target.

    ``replicas`` is ``-r`` and ``run`` is ``--run``, both only for jobs; the default is the last run. With ``sessions``,
    an unknown word can be any session of the platform; without, only one that looks like an id. Raises UsageError, with
    the nearest names, for unknown words.
    """
    finder = _Finder(ledger, profile, replicas, run)
    return _joined(finder.one(word, as_session) for word, as_session in _without_nouns(finder, words, sessions))


def by_run(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Merge the targets to one per run; a session counts as its replica."""
    return _joined(target if target.run is None else replace(target, session=None) for target in targets)


def find_in_record(
    ledger: Ledger, profile: Profile, words: Sequence[str], *, replicas: str | None = None
) -> tuple[Target, ...]:
    """Resolve ``words`` like ``find``, for a command about the current state of jobs. Raises UsageError also for a
    session without a local record and for a session of an earlier attempt."""
    found = find(ledger, profile, words, replicas=replicas)
    refuse_past(found)
    for target in found:
        if target.run is None:
            raise unknown_target(ledger, profile, target.word)
    return found


def refuse_past(targets: Iterable[Target]) -> None:
    """Raise UsageError for a session of an earlier attempt: it does not name the current state of its replica."""
    for target in targets:
        if target.past and target.run is not None and target.numbers is not None:
            replica = f"{target.run.key.name}/{format_ranges(target.numbers)}"
            raise UsageError(
                f"'{target.word}' is the session of an earlier attempt of {replica}",
                hint=f"to use the replica with its latest attempt: {replica}",
            )


def recorded_runs(words: Sequence[str], environ: Mapping[str, str]) -> list[Run]:
    """Return the last runs of the jobs that the words of a call name, on any server, newest first."""
    from skahactl.ledger.database import read_ledger
    from skahactl.system import state_dir

    named = {part for word in words[1:] for part in word.split("/")}
    with read_ledger(state_dir(environ)) as ledger:
        found = [last_run(ledger, key) for key in job_keys(ledger) if key.name in named]
    return [run for run in found if run is not None]


def record_hint(words: Sequence[str], run: Run) -> str:
    """Return a hint with this call, for the server of a run of the job that it names."""
    profile = profile_of(run)
    before, after = ([], ["-p", profile]) if profile else ([f"SKAHACTL_SERVER={run.key.server}"], [])
    call = shlex.join([*before, "skahactl", *after, *words])
    return f"{run.key.name} has a record on {profile or 'another server'}: {call}"


def elsewhere_hint(ledger: Ledger, profile: Profile, name: str) -> str | None:
    """Return how to reach the job ``name`` that has a record on another server; None if there is none."""
    keys = [key for key in job_keys(ledger) if key.name == name and key.server != profile.server]
    for run in filter(None, (last_run(ledger, key) for key in keys)):
        found = profile_of(run)
        if found is None:
            return f"it has a record on another server; to use that: export SKAHACTL_SERVER={run.key.server}"
        unset = "unset SKAHACTL_SERVER, and " if os.environ.get("SKAHACTL_SERVER") else ""
        return f"it has a record with another profile; {unset}use -p {found} instead"
    return None


def profile_of(run: Run) -> str | None:
    """Return a profile that names the server of the run, if possible the recorded one. None if no profile does:
    SKAHACTL_SERVER named it, or the profile has changed."""
    for name in dict.fromkeys((run.profile, *names())):
        with contextlib.suppress(ProfileError):
            if load(name).server == run.key.server:
                return name
    return None


def current_user(ledger: Ledger, profile: Profile) -> str:
    """Return the user that the server last reported; "" if it has not reported one."""
    return next(iter(users_seen(ledger, profile.server)), "")


def job_names(ledger: Ledger, profile: Profile) -> tuple[str, ...]:
    """Return the jobs with a record on the server of the profile, newest first."""
    mine = {current_user(ledger, profile), ""}
    return tuple(dict.fromkeys(key.name for key in job_keys(ledger, profile.server) if key.user in mine))


def _joined(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Merge jobs and replicas of one run to one target, in the position of the first; a whole job includes its
    replicas."""
    found: dict[int | str | None, list[Target]] = {}
    for target in targets:
        key = target.session if target.run is None or target.session is not None else target.run.id
        found.setdefault(key, []).append(target)
    return tuple(_one(same) for same in found.values())


def _one(targets: Sequence[Target]) -> Target:
    """Merge targets of the same run or session."""
    first = targets[0]
    if len(targets) == 1 or first.run is None or first.session is not None:
        return first
    if any(target.numbers is None for target in targets):
        return Target(first.run, None, None, first.run.key.name)
    numbers = frozenset[int]().union(*(target.numbers or () for target in targets))
    return Target(first.run, numbers, None, f"{first.run.key.name}/{format_ranges(numbers)}")


def _without_nouns(finder: _Finder, words: Sequence[str], sessions: bool) -> Iterable[tuple[str, bool]]:
    """Yield each word without a noun before it or before its slash, and whether the word names a session."""
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
    """Convert ``tiles 17``, and Slurm's ``tiles_17`` and ``tiles_[1-9]``, to ``tiles/17`` and ``tiles/1-9``. A word
    that is a job itself stays."""
    found: list[str] = []
    for word in words:
        before = found[-1].rpartition("/")[2] if found else ""
        job, underscore, number = word.rpartition("_")
        if _NUMBERS.fullmatch(word) and finder.knows(before) and not finder.knows(word):
            found[-1] += f"/{word}"
        elif underscore and _NUMBERS.fullmatch(task := number.strip("[]")) and finder.knows(job):
            found.append(word if finder.knows(word) else f"{job}/{task}")
        else:
            found.append(word)
    return found


class _Finder:
    """Resolves targets with one ledger and one profile."""

    def __init__(self, ledger: Ledger, profile: Profile, replicas: str | None, run: int | None):
        self._ledger = ledger
        self._profile = profile
        self._replicas = replicas
        self._run = run
        self._user = current_user(ledger, profile)
        self._last = functools.cache(self._found_last)  # several words often name replicas of one run
        self._by_id = functools.cache(lambda run_id: run_by_id(ledger, run_id))

    def one(self, word: str, as_session: bool) -> Target:
        name, slash, numbers = word.partition("/")
        if not name:  # for example from an unset variable: never match anything
            raise UsageError(f"invalid target '{word}'", hint="use JOB, JOB/REPLICAS, or the name or id of a session")
        if slash and self._replicas is not None:
            raise UsageError(f"both '{word}' and -r {self._replicas} name replicas", hint="use one of them")
        run = self._last(name)
        if run is not None:
            return self._of_job(run, numbers if slash else self._replicas, word)
        attempt = None if slash else self._attempt(word)
        if attempt is None and not slash and (as_session or _PLATFORM_ID.fullmatch(word)):
            self._refuse_job_options(word)
            return Target(None, None, word, word)
        if attempt is None:
            raise unknown_target(self._ledger, self._profile, name)
        self._refuse_job_options(word)
        past = replica_states(self._ledger, attempt.run_id, attempt.replica)[0].attempt > attempt.number
        run = self._by_id(attempt.run_id)
        return Target(run, frozenset({attempt.replica}), attempt.session or word, word, past)

    def knows(self, name: str) -> bool:
        return self._last(name) is not None

    def _found_last(self, name: str) -> Run | None:
        """Return the last run of the job. A run from before the server reported the user counts as the user's own."""
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
        raise UsageError(f"{last.key.name} has no run {number}", hint=f"runs with a record: {numbers}")

    def _attempt(self, word: str) -> AttemptRow | None:
        """Return the attempt with this session id or session name on this server."""
        by_id = attempt_of_session(self._ledger, word)
        for attempt in (by_id,) if by_id is not None else attempts_named(self._ledger, word):
            run = self._by_id(attempt.run_id)
            if run is not None and run.key.server == self._profile.server:
                return attempt
        return None

    def _refuse_job_options(self, word: str) -> None:
        for option, value in (("-r", self._replicas), ("--run", self._run)):
            if value is not None:
                raise UsageError(f"{option} applies only to jobs, but '{word}' is a session", hint=f"remove {option}")


def unknown_target(ledger: Ledger, profile: Profile, name: str, *, is_listed: bool = False) -> UsageError:
    """Return the error for a word that the ledger does not know. ``is_listed``: the server's list was searched too."""
    hint = elsewhere_hint(ledger, profile, name)
    if hint is None:
        known = job_names(ledger, profile)
        replica = replica_target(name, known)
        guess = None if replica else did_you_mean(name, known)
        hint = f"a replica is written JOB/NUMBER: {replica}" if replica else guess or _listed(known)
    place = "on" if is_listed else "in the local record for"
    message = f"no job or session '{name}' {place} {profile.name} ({profile.host})"
    return UsageError(message, hint=hint, code="unknown-target")


def replica_target(word: str, jobs: Sequence[str]) -> str | None:
    """Return ``hello/1`` for ``hello-1``, the beginning of a session name, if there is a job hello; else None."""
    job, _, number = word.rpartition("-")
    return f"{job}/{number}" if job in jobs and number.isdecimal() else None


def _listed(names: Sequence[str]) -> str:
    if not names:
        return f"no job was started from here; to start one, or to adopt one: {suggest('apply', 'MANIFEST')}"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"jobs there: {', '.join(names[:5])}{more}"
