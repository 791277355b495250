"""Creates on their way: the intent is durable before the request leaves, the outcome is written after it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from skahactl.engine.plan import backoff
from skahactl.errors import SkahactlError
from skahactl.ledger import attempts, replicas
from skahactl.manifest.placeholders import each_command
from skahactl.model import Request
from skahactl.skaha.models import CreateResult, ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from skahactl.ledger.attempts import Intent
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.journal import Journal
    from skahactl.profile import ClientSettings
    from skahactl.skaha.client import Client
    from skahactl.system import Clock

ATTEMPT_VARIABLE = "SKAHACTL_ATTEMPT"
#: Seconds that what is on its way may still take once an end is wanted.
PATIENCE = 5.0


@dataclass
class Creator:
    """Sends creates, at most ``settings.concurrency`` at a time, and remembers which are on their way.

    As many intents again are written ahead, and an outcome is written while the next request is on its way: a
    connection never waits for the disk.

    ``results``: the last outcome of each (run, replica). ``denied``: the platform said to log in; nothing more is
    sent until ``resume``.
    """

    client: Client
    ledger: Ledger
    journal: Journal
    clock: Clock
    settings: ClientSettings
    on_end: Callable[[], None]
    directories: Mapping[int, str | None]  # of each run: where the local platform runs it
    results: dict[tuple[int, int], CreateResult] = field(default_factory=dict)
    denied: CreateResult | None = None
    user: str | None = None  # whose the runs are; once the platform takes us for another, nothing more is sent
    stopping: bool = False
    failure: BaseException | None = None
    _queue: deque[tuple[int, int]] = field(default_factory=deque)
    _flying: dict[tuple[int, int], asyncio.Task[None]] = field(default_factory=dict)
    _touched: set[tuple[int, int]] = field(default_factory=set)
    _unsent: dict[tuple[int, int], int] = field(default_factory=dict)
    _unanswered: int = 0  # of those that fly: how many have no answer yet

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)

    def submit(self, run_id: int, numbers: list[int]) -> None:
        self._queue.extend((run_id, number) for number in numbers)
        self._start_more()

    def queued(self, run_id: int) -> frozenset[int]:
        """Replicas whose create waits or is on its way."""
        waiting = {number for run, number in self._queue if run == run_id}
        return frozenset(waiting | {number for run, number in self._flying if run == run_id})

    @property
    def idle(self) -> bool:
        return not self._queue and not self._flying

    def begin_look(self) -> None:
        """A list call begins: from now on every create that is, or comes, on its way counts as in flight for it."""
        self._touched = set(self._flying)

    def in_flight(self, run_id: int) -> frozenset[int]:
        """Replicas with a create on its way at any moment since ``begin_look``."""
        return frozenset(number for run, number in self._touched | set(self._flying) if run == run_id)

    async def stop(self, hurry: asyncio.Event | None) -> None:
        """Sends nothing more, and waits for what is on its way: until it is answered or times out by itself, but at
        most PATIENCE seconds after ``hurry`` was set, or this was cancelled; None: from now on. Then lets go of it."""
        self.stopping = True
        self._queue.clear()
        tasks = list(self._flying.values())
        if not tasks:
            return
        try:
            if hurry is not None:
                await self._until_answered(tasks, hurry)
        finally:
            _, late = await asyncio.wait(tasks, timeout=PATIENCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _until_answered(self, tasks: list[asyncio.Task[None]], hurry: asyncio.Event) -> None:
        answered = asyncio.ensure_future(asyncio.wait(tasks, timeout=self.settings.timeout))
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait((answered, hurried), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (answered, hurried):
                one.cancel()
            await asyncio.gather(answered, hurried, return_exceptions=True)

    def _start_more(self) -> None:
        while self._queue and self._unanswered < 2 * self.settings.concurrency and not self.stopping:
            key = self._queue.popleft()
            self._touched.add(key)
            self._unanswered += 1
            task = asyncio.create_task(self._create(*key))
            self._flying[key] = task
            task.add_done_callback(partial(self._landed, key))

    def _landed(self, key: tuple[int, int], task: asyncio.Task[None]) -> None:
        self._flying.pop(key, None)
        if not task.cancelled() and task.exception() is not None:
            self.stopping = True
            self.failure = task.exception()
        self._start_more()
        if self.idle:
            self.on_end()

    async def _create(self, run_id: int, number: int) -> None:
        try:
            answered = await self._answered(run_id, number)
        finally:
            self._unanswered -= 1
            self._start_more()
        if answered is None:
            return
        intent, created = answered
        again = self._again(run_id, number, created)
        self.results[(run_id, number)] = created
        ended = self.clock.now()
        await self.journal.write(lambda: attempts.settle(self.ledger, intent, created, ended, again))

    async def _answered(self, run_id: int, number: int) -> tuple[Intent, CreateResult] | None:
        """The intent written, the request sent and answered; None if it was not sent after all."""
        self._check_user()
        if self.denied is not None:
            return None
        prepared = await self.journal.write(lambda: self._intend(run_id, number))
        if prepared is None:
            return None
        intent, request = prepared
        async with self._slot(intent):
            self._check_user()
            if self.stopping or self.denied is not None:
                await self.journal.write(lambda: attempts.withdraw(self.ledger, intent))
                return None
            created = await self._sent(run_id, request, intent.name)
            if created.outcome == "auth":
                self.denied = created
        return intent, created

    def _check_user(self) -> None:
        now = self.client.user
        if self.denied is None and self.user and now and now != self.user:
            words = ServerError("other-user", None, f"the platform says you are {now}, but the job is {self.user}'s")
            self.denied = CreateResult("auth", error=words)

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
        except SkahactlError as error:  # before anything left: a secret that cannot be read, say
            return CreateResult("rejected", error=ServerError(error.code, None, error.message, error.hint))

    def _intend(self, run_id: int, number: int) -> tuple[Intent, Request] | None:
        intent = attempts.intend(self.ledger, run_id, number, self.clock.now())
        if intent is None:
            return None
        return intent, request_for(self.ledger, intent)

    def _again(self, run_id: int, number: int, created: CreateResult) -> float | None:
        key = (run_id, number)
        if created.outcome not in ("not-created", "auth"):
            self._unsent.pop(key, None)
            return None
        self._unsent[key] = self._unsent.get(key, 0) + 1
        pause = created.retry_after
        if pause is None:
            pause = backoff(min(self.settings.backoff, 2.0), self._unsent[key])
        return self.clock.now() + pause


def request_for(ledger: Ledger, intent: Intent) -> Request:
    """The request of this attempt: with ``each`` of the items that are still to do, and from the second attempt on
    with SKAHACTL_ATTEMPT."""
    row = replicas.replica(ledger, intent.run_id, intent.replica)
    command, env = row.request.command, row.request.env
    if row.each is not None:
        command = each_command(row.each, replicas.positions_to_run(ledger, intent.run_id, row))
    if intent.attempt > 1:
        env = (*env, (ATTEMPT_VARIABLE, str(intent.attempt)))
    return Request(row.request.kind, row.request.image, command, env, row.request.resources)
