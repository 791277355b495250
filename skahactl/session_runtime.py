"""The resources that a Python session opens at first use (profile, ledger, connection), and checks of its arguments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import numbers
import operator
import os
import re
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skahactl.engine.delete import JobDeletion
from skahactl.engine.driver import Driver, release_locks
from skahactl.engine.outcome import StepOutcome
from skahactl.engine.plan import Gate
from skahactl.engine.runtime import Runtime, SilentReporter, check_user
from skahactl.errors import BusyError, SkahactlError, UsageError
from skahactl.ledger import replicas, runs
from skahactl.ledger.attempts import attempts_of, known_sessions
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import JobKey, Run
from skahactl.model import Job, Limits, State
from skahactl.profile import Profile
from skahactl.skaha.models import Listing
from skahactl.spelling import did_you_mean
from skahactl.system import Clock, SystemClock, state_dir

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Arguments of a session's constructor that override the profile."""

    timeout: float | None = None
    concurrency: int | None = None
    token: Any = None
    url: Any = None
    certificate: str | os.PathLike[str] | None = None

    def environment(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return ``environ`` with the variables that override a profile's server and credentials."""
        reveal = getattr(self.token, "get_secret_value", lambda: self.token)
        given = {
            "SKAHACTL_TOKEN": reveal(),
            "SKAHACTL_SERVER": None if self.url is None else str(self.url).rstrip("/"),
            "SKAHACTL_CERTIFICATE": None if self.certificate is None else os.path.expanduser(self.certificate),
        }
        present = {name: str(value) for name, value in given.items() if value is not None}
        return {**environ, **present} if present else environ

    def profile(self, name: str | None) -> str | None:
        """Return the name of the profile: ``canfar`` if only a credential was given, as with the canfar client, else
        ``name``."""
        has_credential = self.token is not None or self.certificate is not None
        return "canfar" if name is None and has_credential and self.url is None else name

    def apply(self, profile: Profile) -> Profile:
        """Return ``profile`` with the overrides that are not credentials."""
        client = profile.client
        if self.timeout is not None:
            client = replace(client, timeout=float(_positive(self.timeout, "timeout")))
        if self.concurrency is not None:
            client = replace(client, concurrency=int(_positive(self.concurrency, "concurrency")))
        return replace(profile, client=client)


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool | str) or not value > 0:
        raise UsageError(f"{name} is a number above zero, not {value!r}")
    return float(value)


class SessionRuntime:
    """Opens a runtime for the current process and event loop, and a new one after a fork or in another loop."""

    def __init__(
        self,
        profile: str | None,
        environ: Mapping[str, str],
        directory: str | None,
        report: Callable[[str], None] | None,
        overrides: Overrides,
    ):
        self._overrides = overrides
        self._profile_name = profile
        self._environ = overrides.environment(environ)
        self._directory = directory
        self._report = report
        self._elsewhere: list[object] = []  # referenced, so that nothing closes it here
        self._begin()

    def _begin(self) -> None:
        self._where: tuple[int, object] | None = None
        self._names: dict[str, asyncio.Lock] = {}
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._open: Runtime | None = None

    async def get(self) -> Runtime:
        """Return the open runtime; open it first if necessary."""
        self._come_here()
        async with self._lock:
            if self._open is None:
                self._open = await self._opened()
            return self._open

    def one_at_a_time(self, name: str) -> asyncio.Lock:
        """Return the lock that lets only one create of this job name run at a time."""
        return self._names.setdefault(name, asyncio.Lock())

    async def close(self) -> None:
        """Close the runtime; the next ``get`` opens it again."""
        self._come_here()
        stack = self._stack
        self._begin()
        await stack.aclose()

    def _come_here(self) -> None:
        here = (os.getpid(), asyncio.get_running_loop())
        if self._where not in (None, here):
            self._leave()
            self._begin()
        self._where = here

    def _leave(self) -> None:
        """Close the ledger of another loop; leave the resources of another process alone."""
        assert self._where is not None
        self._elsewhere.append((self._stack, self._open, self._where))
        if self._open is not None and self._where[0] == os.getpid():
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was opened in another thread
                self._open.ledger.close()

    async def _opened(self) -> Runtime:
        from skahactl.ledger.database import open_ledger
        from skahactl.platforms import open_client
        from skahactl.profiles import choose

        profile = self._overrides.apply(choose(self._overrides.profile(self._profile_name), self._environ))
        client = open_client(profile, environ=self._environ, directory=self._directory, report=self._report)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            ledger = stack.enter_context(open_ledger(state_dir(self._environ)))
            self._stack = stack.pop_all()
        # a session without ``with`` is never closed
        weakref.finalize(self, _close_in_process, ledger, os.getpid()).atexit = False
        return Runtime(ledger, client, profile, SystemClock(), SilentReporter())


def _close_in_process(ledger: Ledger, process: int) -> None:
    """Close the ledger, unless another process opened it."""
    if os.getpid() == process:
        ledger.close()


#: Number of polls, and seconds between them, until deleted sessions are gone.
TRIES, PAUSE = 20, 0.5
#: Seconds that a create waits for another create of the same name.
PATIENCE = 60.0


async def create_once(runtime: Runtime, job: Job, directory: str) -> tuple[list[str | None], dict[int, str]]:
    """Create every replica of the job. Return the session ids in replica order (None for a missing one), and the
    reasons of failures by replica number.

    Limits of the profile do not apply. If an error ends the work early, its message is the reason of the replicas
    without a session; if no session was created, the error is raised.
    """
    ledger, profile, clock = runtime.ledger, runtime.profile, runtime.clock
    listing = await runtime.first_poll()
    check_user(ledger, profile, [job.name], listing.user)
    key = JobKey(profile.server, listing.user or "", job.name)
    lock = await _lock(ledger, key, clock)
    stopped: SkahactlError | None = None
    try:
        run = runs.add_run(ledger, key, job, profile.name, {}, clock.now(), directory)
        try:
            runs.set_limits(ledger, run.id, Limits(), job.keep, 1)
            await Driver(runtime, (run,), False, lambda watched: Gate()).drive()
        except SkahactlError as error:
            stopped = error
    finally:
        release_locks([lock])
    rows = replicas.replica_states(ledger, run.id)
    sessions = {attempt.replica: attempt.session for attempt in attempts_of(ledger, run.id)}
    ids = [sessions.get(row.number) for row in rows]
    failures = {
        row.number: row.reason or (row.state if stopped is None else stopped.message)
        for row in rows
        if sessions.get(row.number) is None or row.state in (State.REJECTED, State.UNCONFIRMED)
    }
    if stopped is not None and not any(ids):
        raise stopped
    return ids, failures


async def _lock(ledger: Ledger, key: JobKey, clock: Clock) -> JobLock:
    """Return the job's lock as soon as another create of this name releases it. Raises BusyError after PATIENCE
    seconds."""
    until = clock.monotonic() + PATIENCE
    while True:
        try:
            return acquire(ledger, key, clock.now())
        except BusyError:
            if clock.monotonic() > until:
                raise
        await asyncio.sleep(0.1)


async def poll_for(runtime: Runtime, ids: Sequence[str]) -> Listing:
    """Poll once and return the listing. Raises AuthError if the server reports another user than the owner of a job
    with one of these ids."""
    owners = {found[0] for found in known_sessions(runtime.ledger, ids).values()}
    return await runtime.first_poll(filter(None, (runs.run_by_id(runtime.ledger, run_id) for run_id in owners)))


async def delete_ids(runtime: Runtime, ids: Sequence[str]) -> dict[str, bool]:
    """Delete these sessions and return whether each is gone. For sessions with a local record, results and logs are
    saved first and the replicas become Deleted. Raises AuthError before any change if the server reports another user
    than the owner of the jobs."""
    if "" in ids:
        raise UsageError("an empty session id")
    await poll_for(runtime, ids)
    current = _current_replicas(runtime.ledger, ids)
    deletion = JobDeletion(runtime)
    await deletion.delete(list(current.values()))
    gone = {one: True for one in ids if one in _ids_of(runtime.ledger, current)}
    for part in deletion.parts:
        gone |= {one.session: one.outcome is StepOutcome.DONE for one in part.steps if one.session in gone}
    slots = asyncio.Semaphore(runtime.profile.client.concurrency)

    async def delete(one: str) -> None:
        async with slots:
            gone[one] = await deletion.delete_session(one)

    await asyncio.gather(*(delete(one) for one in dict.fromkeys(ids) if one not in gone))
    return {one: gone[one] for one in ids}


def _current_replicas(ledger: Ledger, ids: Sequence[str]) -> dict[int, tuple[Run, set[int]]]:
    """Return, by run id, the run and its replicas with one of these ids as their current session."""
    found: dict[int, tuple[Run, set[int]]] = {}
    for run_id, replica, attempt in known_sessions(ledger, ids).values():
        row = replicas.replica_states(ledger, run_id, replica)[0]
        run = runs.run_by_id(ledger, run_id)
        if run is not None and row.attempt == attempt:
            found.setdefault(run_id, (run, set()))[1].add(replica)
    return found


def _ids_of(ledger: Ledger, chosen: Mapping[int, tuple[Run, set[int]]]) -> set[str]:
    """Return the session ids of the current attempts of these replicas."""
    found: set[str] = set()
    for run_id, (_, chosen_numbers) in chosen.items():
        latest = {attempt.replica: attempt for attempt in attempts_of(ledger, run_id)}
        found |= {latest[number].session or "" for number in chosen_numbers}
    return found


def named_kind(asked: str) -> str:
    """Return the kind in lower case. It is validated later, with the manifest."""
    if not isinstance(asked, str):
        raise UsageError(f"the kind of a session must be a string, not {asked!r}", hint='kind="headless"')
    return asked.lower()


def command_words(cmd: Any, args: Iterable[Any] | str | None) -> dict[str, list[Any]]:
    """Return a table with the ``command`` for these arguments, or an empty one. Without ``cmd``, the first word is
    empty, which means the image's entry point.

    A string in ``args`` is split on blanks; paths and numbers become text; other values are checked with the manifest.
    Log a warning if the split separates a quoted text. Raises UsageError for a ``cmd`` of several words, with the
    correct arguments.
    """
    words = args.split() if isinstance(args, str) else [_plain_value(one) for one in _several_words(args)]
    if isinstance(args, str) and any(word.count(quote) % 2 for word in words for quote in "'\""):
        listed = json.dumps(words, ensure_ascii=False)
        _LOG.warning(
            "args is a string, so it is split on blanks, also in quotes: %s; for other words, use a list", listed
        )
    if isinstance(cmd, str) and len(parts := cmd.split()) > 1:
        given = f"cmd={cmd!r}" + (f", args={args!r}" if words else "")
        hint = f"cmd={json.dumps(parts[0])}, args={json.dumps([*parts[1:], *words], ensure_ascii=False)}"
        raise UsageError(f"cmd is the program alone, and its arguments are args: {given}", hint=hint)
    if cmd is None:
        return {"command": ["", *words]} if words else {}
    return {"command": [_plain_value(cmd), *words]}


def plain_number(value: Any) -> Any:
    """Return a number, also of NumPy, as an int or float of Python; return any other value unchanged."""
    if isinstance(value, str | bytes | bool):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if isinstance(value, numbers.Real) else value


def resource_table(cores: float | None, ram: float | None, gpus: int | None, gpu: int | None) -> dict[str, float]:
    """Return the ``resources`` of a table; ``gpu`` is another name for ``gpus``. Raises UsageError if both are
    given."""
    if gpus is not None and gpu is not None:
        raise UsageError("gpus and gpu are two names for the same argument", hint="use one of them")
    asked = {"cores": cores, "ram": ram, "gpus": gpu if gpus is None else gpus}
    return {key: plain_number(value) for key, value in asked.items() if value is not None}


def env_table(env: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ``env`` of a table. Raises UsageError if it is not a mapping or a value is None."""
    if env is not None and not isinstance(env, Mapping):
        raise UsageError(
            f"env must be a mapping of names to values, not {type(env).__name__}", hint='env={"NAME": "value"}'
        )
    for name, value in (env or {}).items():
        if value is None:
            raise UsageError(f"env: {name} has no value", hint='omit it, or use an empty value: ""')
    return {str(name): _plain_value(value) for name, value in (env or {}).items()}


def _plain_value(value: Any) -> Any:
    """Return a value of ``env`` or a word of a command as a manifest contains it; numbers become text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    plain = plain_number(value)
    return str(plain) if isinstance(plain, int | float) and not isinstance(plain, bool) else plain


def _several_words(args: Iterable[Any] | None) -> Iterable[Any]:
    if args is None:
        return ()
    if isinstance(args, Iterable) and not isinstance(args, Mapping | bytes):
        return args
    raise UsageError(f"args must be a list of words or a string, not {args!r}", hint='args=["script.py", 3]')


KINDS = ("headless", "notebook", "desktop", "carta", "firefly", "contributed", "desktop-app")
STATUSES = ("Pending", "Running", "Terminating", "Completed", "Failed")

#: Terms of older servers and clients, and the current ones.
_FORMER = {"succeeded": "completed", "error": "failed"}


def session_ids(given: str | Iterable[str]) -> list[str]:
    """Return a list of ids from one id or several. Raises UsageError for anything else."""
    if isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        found = [given] if isinstance(given, str) else list(given)
        if all(isinstance(one, str) and one.isprintable() for one in found):
            return found
    raise UsageError(
        "ids must be the id of a session, or a list of ids", hint='as returned by create, for example ["k9p2x0aa"]'
    )


def known_kind(asked: str) -> str:
    """Return the kind in lower case. Raises UsageError for an unknown kind."""
    return _known(asked, "kind", KINDS)


def known_status(asked: str) -> str:
    """Return the current term for a status, in lower case. Raises UsageError for an unknown status."""
    return current_status(_known(asked, "status", (*STATUSES, *map(str.capitalize, _FORMER))))


def current_status(status: str) -> str:
    """Return the current term for a server's status, in lower case; an unknown status stays."""
    return _FORMER.get(status.lower(), status.lower())


def name_pattern(prefix: str) -> re.Pattern[str]:
    """Return a pattern for names: a regular expression if it looks like one, else a prefix. Raises UsageError for an
    invalid one."""
    if not isinstance(prefix, str):
        raise UsageError(f"the prefix must be a string, not {prefix!r}")
    try:
        return re.compile(prefix if re.search(r"[.^$*+?{}\[\]()|\\]", prefix) else "^" + re.escape(prefix))
    except re.error as error:
        raise UsageError(f"'{prefix}' is not a valid regular expression: {error}") from error


def _known(asked: str, what: str, words: tuple[str, ...]) -> str:
    if isinstance(asked, str) and asked.lower() in map(str.lower, words):
        return asked.lower()
    hint = isinstance(asked, str) and did_you_mean(asked, words)
    raise UsageError(f"invalid {what} of sessions: {asked!r}", hint=hint or f"use one of {', '.join(words)}")
