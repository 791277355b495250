"""What most commands open first: profile, ledger, client, reporter; closed in order however the command ends."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from skahactl.errors import AuthError, LedgerError, SkahactlError, UnreachableError, UsageError
from skahactl.invocation import Invocation, current
from skahactl.system import Clock, SystemClock, handled_signals, state_dir
from skahactl.text import count_noun, did_you_mean, parse_duration, time_ago

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    from skahactl.engine.outcome import Outcome
    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import Run
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteContext:
    """All that a command which writes needs."""

    context: Invocation
    desk: Runtime


@contextlib.asynccontextmanager
async def open_write_context(profile: Profile | None = None) -> AsyncIterator[WriteContext]:
    """Opens ledger and client for the profile of this call, and takes INT, TERM and HUP while it lasts."""
    from skahactl.engine.runtime import Runtime
    from skahactl.eventloop import Stop
    from skahactl.ledger.database import open_ledger
    from skahactl.platforms import open_client
    from skahactl.profiles import choose
    from skahactl.render.progress import reporter

    context = current()

    chosen = profile or choose(context.profile, context.environ)
    clock = SystemClock()
    ledger = open_ledger(state_dir(context.environ))
    shown = reporter(context)
    stop = Stop()
    try:
        client = open_client(
            chosen,
            clock=clock,
            environ=context.environ,
            directory=context.cwd,
            report=context.debug,
            verbose=context.verbose,
        )
        async with client:
            with stop.handling():
                yield WriteContext(context, Runtime(ledger, client, chosen, clock, shown, stop))
    finally:
        shown.close()
        ledger.close()


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Enters the event loop, once a command."""
    import asyncio

    return asyncio.run(main())


def deadline(timeout: str | None, clock: Clock) -> float | None:
    """The wall time at which ``--timeout`` is over."""
    if timeout is None:
        return None
    try:
        return clock.now() + parse_duration(timeout)
    except ValueError as error:
        raise UsageError(str(error), where="--timeout") from error


def confirm(context: Invocation, yes: bool, words: str) -> bool:
    """Asks on a terminal; elsewhere only ``--yes`` will do."""
    if yes:
        return True
    if not (context.stdin.isatty() and context.stderr.isatty()):
        return False
    context.stderr.write(f"{words}\nGo on? [y/N] ")
    context.stderr.flush()
    with _signals_as_usual():
        return context.stdin.readline().strip().lower() in (b"y", b"yes")


@contextlib.contextmanager
def _signals_as_usual() -> Iterator[None]:
    """While a question waits for its answer, the event loop does not run, and could not tell of a signal."""
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, usual[number]) for number in handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    from skahactl.profiles import choose

    profile = choose(context.profile, context.environ)
    from skahactl.ledger.database import read_ledger

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
    from skahactl.engine.snapshot import poll_is_due

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


@contextlib.contextmanager
def run_with_report(here: WriteContext, known: Callable[[], Outcome | None]) -> Iterator[None]:
    """Ends the progress after the work in it. An error that ends the work is told on stderr alone; with ``-o json``
    and the like, the outcome that is ``known`` by then goes to stdout before, its ``exit`` that of the error."""
    try:
        yield
    except SkahactlError as error:
        here.desk.reporter.close()
        outcome = known()
        if outcome is not None and outcome.jobs and here.context.machine_readable:
            outcome.ended_by = error.exit
            _show(here, outcome)
        raise
    here.desk.reporter.close(told=here.context.output in ("table", "wide"))


def _show(here: WriteContext, outcome: Outcome) -> None:
    """A reader that went away does not hide the error."""
    from skahactl.render.outcomes import show_outcome

    with contextlib.suppress(OSError):
        show_outcome(here.context, outcome)
        here.context.stdout.flush()


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A run, which of its replicas were named (None: none in particular), and the profile in force."""

    profile: Profile
    run: Run
    numbers: frozenset[int] | None


def one_job(word: str, replicas: str | None = None) -> FoundJob:
    """The last run of a job, named as ``JOB`` or ``JOB/REPLICAS``. UsageError if it is not known."""
    return jobs_named([word], replicas)[0]


def jobs_named(words: Sequence[str], replicas: str | None = None) -> list[FoundJob]:
    """The last runs that the words name, each once with all its replicas that they name.

    UsageError for what is not known, and for a session of an earlier run or of an earlier attempt: what is done to
    them would be done beside what runs now.
    """
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import last_run
    from skahactl.profiles import choose
    from skahactl.system import state_dir
    from skahactl.targets import by_run, find, refuse_past

    context = current()

    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        targets = find(ledger, profile, words, replicas=replicas)
        refuse_past(targets)
        for target in targets:
            if target.run is None:
                raise UsageError(f"'{target.word}' is no job with a record here", hint="'skahactl get jobs' lists them")
            last = last_run(ledger, target.run.key)
            if last is not None and last.id != target.run.id:
                raise UsageError(
                    f"'{target.word}' is a session of run {target.run.number} of {target.run.key.name}, whose last "
                    f"run is {last.number}",
                    hint="only the last run of a job goes on",
                )
    return [FoundJob(profile, target.run, target.numbers) for target in by_run(targets) if target.run is not None]


def read_lines(path: str) -> tuple[str, ...]:
    """The items in a file, one a line; ``-`` is standard input. Blank lines are passed over."""
    context = current()
    if path.startswith("-") and path != "-":
        raise UsageError(f"--items needs a file, not '{path}'", hint="a file of that name is ./" + path)
    if path == "-":
        text = context.stdin.read()
    else:
        try:
            with open(path, "rb") as stream:
                text = stream.read()
        except OSError as error:
            raise UsageError(f"the items cannot be read: {error.strerror}", where=path) from None
    lines = (line.rstrip("\r") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    found = tuple(line for line in lines if line.strip())
    if not found:
        raise UsageError("there is no item in it", where=path)
    return found
