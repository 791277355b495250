"""``get -w``: one list call a poll, as long as anything can change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from skahactl.clock import Clock, SystemClock
from skahactl.commands.getting import Asked, Query
from skahactl.commands.looking import check_user, placed, tell_failed_look
from skahactl.engine import gather
from skahactl.engine.glance import look_is_due
from skahactl.errors import AuthError, Exit, SkahactlError, UnreachableError
from skahactl.render.watch import watched

if TYPE_CHECKING:
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing

_FIRST = 1.0  # seconds between looks, at the beginning
_SLOWER = 1.1


def run_watch(words: Sequence[str], asked: Asked) -> int:
    """Shows the rows again and again; ends when all that was named has ended, else by a signal."""
    with placed() as place:
        return asyncio.run(_Watch(Query(place, words, asked), SystemClock()).run())


class _Watch:
    def __init__(self, query: Query, clock: Clock):
        self.query = query
        self.clock = clock
        self.shown = watched(query.place.context, query.noun, query.asked.headers)
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
        if client is None or (query.noun != "sessions" and not look_is_due(runs)):
            return None
        try:
            listing = await client.sessions()
            if query.noun != "sessions":
                check_user(listing, runs)
        except (AuthError, UnreachableError) as error:
            if query.noun == "sessions" and not self.answered:
                raise
            if self.outage is None:
                tell_failed_look(query.place, runs, error)
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
        return all(run.ended is not None for run in runs) or gather.is_over(
            gather.jobs(query.place.ledger, runs, listing)
        )
