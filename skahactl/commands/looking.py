"""What the commands that only look share: profile and ledger, one look at the platform, and what is said if it
fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from skahactl.context import Invocation, current
from skahactl.durations import time_ago
from skahactl.engine.snapshot import poll_is_due
from skahactl.errors import AuthError, LedgerError, SkahactlError, UnreachableError, UsageError
from skahactl.ledger.database import Ledger, read_ledger
from skahactl.ledger.records import Run
from skahactl.paths import state_dir
from skahactl.profile import Profile
from skahactl.profiles import choose
from skahactl.words import count_noun, did_you_mean

if TYPE_CHECKING:
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadContext:
    """Where a command looks."""

    context: Invocation
    profile: Profile
    ledger: Ledger

    def client(self) -> Client:
        from skahactl.platforms import open_client

        return open_client(
            self.profile,
            environ=self.context.environ,
            directory=self.context.cwd,
            report=self.context.debug,
            verbose=self.context.verbose,
        )

    @property
    def name(self) -> str:
        return f"{self.profile.name} ({self.profile.host})"


@contextlib.contextmanager
def open_read_context() -> Iterator[ReadContext]:
    """Profile and ledger of this call; the ledger is read, never written."""
    context = current()
    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        yield ReadContext(context, profile, ledger)


def ask_platform(place: ReadContext, question: Callable[[Client], Awaitable[T]]) -> T:
    """Puts one question to the platform; what the client raises goes through."""
    import asyncio

    async def asked() -> T:
        async with place.client() as client:
            return await question(client)

    return asyncio.run(asked())


def poll_or_cached(
    place: ReadContext, runs: Sequence[Run], cached: bool
) -> tuple[Listing | None, SkahactlError | None]:
    """One list of sessions if these runs have not ended; the error if it failed. Nothing with ``cached``."""
    if cached or not poll_is_due(runs):
        return None, None
    try:
        listing = ask_platform(place, lambda client: client.sessions())
        refuse_unknown_user(listing, runs)
    except (AuthError, UnreachableError, LedgerError) as error:
        return None, error
    return listing, None


def refuse_unknown_user(listing: Listing, runs: Sequence[Run]) -> None:
    """A list of somebody else's sessions says nothing of ours: AuthError."""
    for run in runs:
        if listing.user and run.key.user and listing.user != run.key.user:
            raise AuthError(
                f"the platform says that you are {listing.user}, and {run.key.name} is {run.key.user}'s",
                hint="log in as that user, or choose another profile with -p",
            )


def report_failed_poll(place: ReadContext, runs: Sequence[Run], error: SkahactlError) -> int:
    """Says that what is shown is the ledger's, how old that is, and why; the exit code."""
    seen = max((run.observed for run in runs if run.observed is not None), default=None)
    age = f", last looked at {time_ago(seen, time.time())}" if seen is not None else ""
    place.context.warn(f"{place.name}: shown as this machine knows it{age}: {error.message}")
    if error.hint:
        place.context.warn(f"  {error.hint}")
    return int(error.exit)


def parse_states(text: str | None, known: Sequence[str]) -> frozenset[str] | None:
    """``running,Failed`` as states; None for no choice. UsageError for what is none."""
    if text is None:
        return None
    by_lower = {state.lower(): state for state in known}
    chosen = set()
    for word in text.split(","):
        state = by_lower.get(word.strip().lower())
        if state is None:
            hint = did_you_mean(word.strip(), known)
            raise UsageError(f"there is no state '{word.strip()}'", hint=hint or f"there are {', '.join(known)}")
        chosen.add(state)
    return frozenset(chosen)


def limit_rows(place: ReadContext, rows: Sequence[T], limit: int | None) -> list[T]:
    """The first ``limit`` rows; how many are left out is said."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    place.context.say(f"{count_noun(len(rows) - limit, 'more row')} not shown (--limit {limit})")
    return list(rows[:limit])
