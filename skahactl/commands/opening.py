"""What most commands open first: profile, ledger, client, reporter; closed in order however the command ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from skahactl.clock import Clock, SystemClock
from skahactl.context import Invocation, current
from skahactl.durations import parse_duration
from skahactl.errors import UsageError
from skahactl.paths import state_dir
from skahactl.profile import Profile
from skahactl.signals import handled_signals

if TYPE_CHECKING:
    from skahactl.engine.runtime import Runtime

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
    from skahactl.engine.stop import Stop
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
