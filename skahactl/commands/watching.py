"""``get -w``: one list call a poll, as long as anything can change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from skahactl.clock import Clock, SystemClock
from skahactl.commands.getting import GetOptions, GetQuery
from skahactl.commands.looking import open_read_context, refuse_unknown_user, report_failed_poll
from skahactl.engine import snapshot
from skahactl.engine.snapshot import poll_is_due
from skahactl.errors import AuthError, Exit, SkahactlError, UnreachableError
from skahactl.render.tables import watched_view

if TYPE_CHECKING:
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing

_FIRST = 1.0  # seconds between looks, at the beginning
_SLOWER = 1.1


def watch_jobs(words: Sequence[str], asked: GetOptions) -> int:
    """Shows the rows again and again; ends when all that was named has ended, else by a signal."""
    with open_read_context() as place:
        return asyncio.run(_Watcher(GetQuery(place, words, asked), SystemClock()).run())


class _Watcher:
    def __init__(self, query: GetQuery, clock: Clock):
        self.query = query
        self.clock = clock
        self.shown = watched_view(query.place.context, query.noun, query.asked.headers)
        self.outage: SkahactlError | None = None
        self.answered = False

    async def run(self) -> int:
        pause = _FIRST
        try:
            async with self._client() as client:
                while True:
                    listing = await self._look(client)
                    if self.outage is None or self.query.noun != "sessions":
                        rows = self.query.rows(listing)
                        self.shown.show(rows[: self.query.asked.limit], self.clock.now())
                    if self._is_over(listing):
                        return Exit.DONE
                    await self.clock.sleep(pause)
                    pause = min(pause * _SLOWER, self.query.place.profile.client.poll_max)
        finally:
            self.shown.close()

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Client | None]:
        if self.query.asked.cached:
            yield None
            return
        async with self.query.place.client() as client:
            yield client

    async def _look(self, client: Client | None) -> Listing | None:
        """A list, if one may tell anything new; what fails is said when it begins and when it ends."""
        query = self.query
        runs = query.runs(query.targets())
        if client is None or (query.noun != "sessions" and not poll_is_due(runs)):
            return None
        try:
            listing = await client.sessions()
            if query.noun != "sessions":
                refuse_unknown_user(listing, runs)
        except (AuthError, UnreachableError) as error:
            if query.noun == "sessions" and not self.answered:
                raise
            if self.outage is None:
                report_failed_poll(query.place, runs, error)
            self.outage = error
            return None
        if self.outage is not None:
            query.place.context.warn(f"{query.place.name}: it answers again")
        self.outage, self.answered = None, True
        return listing

    def _is_over(self, listing: Listing | None) -> bool:
        """Only what was named can be over: new jobs may come any time."""
        query = self.query
        if not query.words or query.noun == "sessions":
            return False
        runs = query.runs(query.targets())
        return all(run.ended is not None for run in runs) or snapshot.is_over(
            snapshot.job_rows(query.place.ledger, runs, listing)
        )
