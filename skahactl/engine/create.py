"""Creates in flight: the intent is durable before the request is sent, and the outcome is recorded after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from skahactl.engine.plan import backoff
from skahactl.engine.pool import TaskPool
from skahactl.errors import SkahactlError
from skahactl.ledger import attempts, replicas
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import AttemptKey, Intent
from skahactl.ledger.runs import request_settings
from skahactl.manifest.placeholders import each_command
from skahactl.model import Request
from skahactl.profile import ClientSettings
from skahactl.skaha.client import Client
from skahactl.skaha.models import CreateOutcome, CreateResult, ServerError
from skahactl.system import Clock
from skahactl.text import format_duration

T = TypeVar("T")
ATTEMPT_VARIABLE = "SKAHACTL_ATTEMPT"
#: Seconds to wait for creates in flight when the command ends.
PATIENCE = 5.0
#: Seconds that a write waits for others: always, and the shortest and the longest pause after a commit.
FIRST, SHORTEST, LONGEST = 0.003, 0.02, 0.1


class Journal:
    """Collects writes and commits them together. A write returns when it is durable.

    Use one journal per event loop. A commit blocks the loop, so the journal pauses for twice the duration of the last
    commit, within SHORTEST and LONGEST.
    """

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = float("-inf")  # end of the last commit; the next one waits _rest seconds after it
        self._rest = 0.0

    async def write(self, change: Callable[[], T]) -> T:
        """Run ``change`` in a transaction, and return its result once it is on disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait for pending writes."""
        if self._task is not None:
            await self._task

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(max(FIRST, self._ended + self._rest - loop.time()))
            batch, self._waiting = self._waiting, []
            begun = loop.time()
            try:
                results = self._commit(batch)
            except Exception as error:
                for _, future in batch:
                    if not future.cancelled():
                        future.set_exception(error)
                continue
            finally:
                self._ended = loop.time()
                self._rest = min(LONGEST, max(SHORTEST, 2 * (self._ended - begun)))
            for (_, future), result in zip(batch, results, strict=True):
                if not future.cancelled():
                    future.set_result(result)

    def _commit(self, batch: list[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> list[Any]:
        with self._ledger.transaction():
            return [change() for change, _ in batch]


@dataclass
class Creator:
    """Sends creates, at most ``settings.concurrency`` at a time.

    Intents for as many more creates are written ahead, and an outcome is written while the next request is in flight,
    so that a connection never waits for the disk.

    ``results``: the last outcome by (run, replica).
    ``denied``: the platform refused the credentials; nothing is sent until the driver clears it.
    ``lacking``: by run, the error of a secret that could not be read; replicas that need it stay queued.
    ``user``: the owner of the runs; nothing is sent as another user.
    """

    client: Client
    ledger: Ledger
    journal: Journal
    clock: Clock
    settings: ClientSettings
    on_idle: Callable[[], None]
    say: Callable[[str], None]
    directories: Mapping[int, str | None]  # by run: the working directory on the local platform
    user: str | None = None
    results: dict[tuple[int, int], CreateResult] = field(default_factory=dict)
    denied: CreateResult | None = None
    lacking: dict[int, ServerError] = field(default_factory=dict)
    pool: TaskPool[tuple[int, int], None] = field(init=False)
    trouble: PlatformTrouble = field(init=False)
    _touched: set[tuple[int, int]] = field(default_factory=set)
    _unsent: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self.pool = TaskPool(2 * self.settings.concurrency, self.on_idle)
        self.trouble = PlatformTrouble(max(self.settings.settle / 2, self.settings.poll_min))

    def submit(self, run_id: int, numbers: Iterable[int]) -> None:
        """Send creates for these replicas of a run. While the platform has trouble, send only one of them as a
        probe."""
        for number in numbers:
            key = (run_id, number)
            if self.trouble.is_on:
                if self.pool.keys or not self.trouble.may_send(self.clock.now()):
                    return
                self.trouble.sending(self.clock.now())
            self._touched.add(key)
            self.pool.submit(key, partial(self._create, run_id, number))

    def creating(self, run_id: int) -> frozenset[int]:
        """Return the replicas with a create that waits or is in flight."""
        return frozenset(number for run, number in self.pool.keys if run == run_id)

    def begin_poll(self) -> None:
        """Start to record, for one list call, which creates are in flight at any moment of it."""
        self._touched = set(self.pool.running)

    def in_flight(self, run_id: int) -> frozenset[int]:
        """Return the replicas with a create in flight at any moment since ``begin_poll``."""
        return frozenset(number for run, number in self._touched | self.pool.running if run == run_id)

    async def stop(self, hurry: asyncio.Event | None) -> None:
        """Send nothing more, and wait for the creates in flight until they are answered or time out.

        Wait at most PATIENCE seconds after ``hurry`` is set; with None, at most PATIENCE seconds from now.
        """
        await self.pool.stop(PATIENCE, hurry, self.settings.timeout)

    async def _create(self, run_id: int, number: int) -> None:
        self._touched.add((run_id, number))
        try:
            answered = await self._answered(run_id, number)
        finally:
            self.pool.release((run_id, number))
        if answered is None:
            return
        intent, created = answered
        again = self._again(run_id, number, created)
        self.results[(run_id, number)] = created
        ended = self.clock.now()
        excused = self._watch_for_trouble(intent, created, ended)

        def write() -> None:
            attempts.settle(self.ledger, intent, created, ended, again)
            attempts.excuse(self.ledger, excused)

        await self.journal.write(write)

    def _watch_for_trouble(self, intent: Intent, created: CreateResult, now: float) -> tuple[AttemptKey, ...]:
        had_trouble = self.trouble.is_on
        excused = self.trouble.take(intent.key, created, now)
        if self.trouble.is_on and not had_trouble:
            self.pool.clear()
            pause = format_duration(self.trouble.pause)
            self.say(
                f"the platform fails to create sessions ({self.trouble.reason}); pausing, with one try every {pause}"
            )
        elif had_trouble and not self.trouble.is_on:
            self.say("the platform creates sessions again")
        return excused

    async def _answered(self, run_id: int, number: int) -> tuple[Intent, CreateResult] | None:
        """Write the intent, send the request, and return the reply; None if the request was not sent."""
        self._check_user()
        if self.denied is not None:
            return None
        prepared = await self.journal.write(lambda: self._intend(run_id, number))
        if prepared is None:
            return None
        intent, request = prepared
        paused_before = self.trouble.is_on
        async with self._slot(intent):
            self._check_user()
            if self.pool.stopping or self.denied is not None or (self.trouble.is_on and not paused_before):
                await self.journal.write(lambda: attempts.withdraw(self.ledger, intent))
                return None
            created = await self._sent(run_id, request, intent.name)
            if created.outcome == CreateOutcome.AUTH and created.error is not None and created.error.code == "secret":
                self.lacking[run_id] = created.error
            elif created.outcome == CreateOutcome.AUTH:
                self.denied = created
            else:
                self.lacking.pop(run_id, None)
        return intent, created

    def _check_user(self) -> None:
        now = self.client.user
        if self.denied is None and self.user and now and now != self.user:
            words = ServerError(
                "other-user", None, f"the platform reports user {now}, but the job belongs to {self.user}"
            )
            self.denied = CreateResult(CreateOutcome.AUTH, error=words)

    @asynccontextmanager
    async def _slot(self, intent: Intent) -> AsyncIterator[None]:
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            with self.ledger.transaction():
                attempts.withdraw(self.ledger, intent)
            raise
        try:
            yield
        finally:
            self._slots.release()

    async def _sent(self, run_id: int, request: Request, name: str) -> CreateResult:
        try:
            return await self.client.create(request, name, self.directories.get(run_id))
        except SkahactlError as error:  # raised before anything was sent
            missing = error.code == "secret"  # as with an expired certificate, a later pass may succeed
            outcome = CreateOutcome.AUTH if missing else CreateOutcome.REJECTED
            return CreateResult(outcome, error=ServerError(error.code, None, error.message, error.hint))

    def _intend(self, run_id: int, number: int) -> tuple[Intent, Request] | None:
        intent = attempts.intend(self.ledger, run_id, number, self.clock.now())
        if intent is None:
            return None
        return intent, record_request(self.ledger, intent)

    def _again(self, run_id: int, number: int, created: CreateResult) -> float | None:
        key = (run_id, number)
        if created.outcome not in (CreateOutcome.NOT_CREATED, CreateOutcome.AUTH):
            self._unsent.pop(key, None)
            return None
        self._unsent[key] = self._unsent.get(key, 0) + 1
        pause = created.retry_after
        if pause is None:
            pause = backoff(min(self.settings.backoff, 2.0), self._unsent[key])
        return self.clock.now() + pause


def record_request(ledger: Ledger, intent: Intent) -> Request:
    """Return the request of this attempt.

    With ``each``, it runs the items that are still to do; from the second attempt on, it sets SKAHACTL_ATTEMPT.
    Resources that differ from those of the replica are recorded with the attempt.
    """
    row = replicas.replica(ledger, intent.run_id, intent.replica)
    command, env = row.request.command, row.request.env
    if row.each is not None:
        nonce = replicas.nonce_of(ledger, intent.key, row.each.script)
        command = each_command(row.each, replicas.positions_to_run(ledger, intent.run_id, row), nonce or "")
    shared, retry_ram = request_settings(ledger, intent.run_id)
    if shared is not None and command:
        from skahactl.manifest.shared_record import RecordDirectory

        command = RecordDirectory(shared).wrap(command, intent.replica, intent.attempt)
    if intent.attempt > 1:
        env = (*env, (ATTEMPT_VARIABLE, str(intent.attempt)))
    resources = row.request.resources.of_attempt(intent.attempt, retry_ram, row.override)
    if resources != row.request.resources:
        attempts.record_resources(ledger, intent, resources)
    return Request(row.request.kind, row.request.image, command, env, resources)


#: This many failures in a row, of at least this many replicas, mean that the platform has a problem, not the replicas.
FAILURES, REPLICAS = 3, 2


@dataclass
class PlatformTrouble:
    """Detects trouble of the platform from creates that fail in a row with server errors.

    Such creates are ambiguous replies with an HTTP status from 500 on, for which more creates would not help.
    ``pause``: seconds between two probes while the trouble lasts.
    """

    pause: float
    reason: str | None = None  # the server's message, while there is trouble
    _failed: list[AttemptKey] = field(default_factory=list)  # since the last success
    _next_probe: float = 0.0

    @property
    def is_on(self) -> bool:
        return self.reason is not None

    def may_send(self, now: float) -> bool:
        """Return whether a create may be sent: always without trouble, else one probe every ``pause`` seconds."""
        return not self.is_on or now >= self._next_probe

    def sending(self, now: float) -> None:
        """Record that a probe is sent now."""
        self._next_probe = now + self.pause

    def take(self, key: AttemptKey, created: CreateResult, now: float) -> tuple[AttemptKey, ...]:
        """Record the reply to a create, and return the attempts with a failed create that does not count against
        them."""
        if created.outcome != "ambiguous" or not _is_server_error(created):
            if created.outcome == "created":
                self._failed.clear()
                self.reason = None
            return ()
        self._failed.append(key)
        if self.is_on:
            return (key,)
        if len(self._failed) < FAILURES or len({one[:2] for one in self._failed}) < REPLICAS:
            return ()
        self.reason = "" if created.error is None else created.error.message
        self._next_probe = now + self.pause
        return tuple(self._failed)


def _is_server_error(created: CreateResult) -> bool:
    return created.error is not None and (created.error.http_status or 0) >= 500
