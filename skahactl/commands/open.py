"""``skahactl open``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.runtime import connected_runtime, run
from skahactl.errors import Exit, NegativeResult, UnreachableError, UsageError
from skahactl.invocation import current
from skahactl.text import suggest

if TYPE_CHECKING:
    from skahactl.engine.runtime import Runtime
    from skahactl.skaha.models import Listing, ServerSession
    from skahactl.targets import Target


def open_session(
    target: Annotated[
        str | None,
        Parameter(
            name="TARGET",
            completer=completers.jobs_with_sessions,
            help="The job, or the session's name or id.",
        ),
    ] = None,
    /,
    *,
    url: Annotated[bool, Parameter(help="Print the address only; do not start a browser.")] = False,
) -> int:
    """Open the page of an interactive session in the browser, and print its address.

    Examples:

    skahactl open my-notebook

    skahactl open k9p2x0aa --url
    """
    if target is None:
        hint = f"{suggest('open', 'JOB')}; {suggest('get', 'sessions')} lists sessions"
        raise UsageError("missing argument TARGET", hint=hint)
    session = run(lambda: _find_session(target))
    _print_address(session)
    return Exit.DONE if url else _start_browser(str(session.url))


async def _find_session(word: str) -> ServerSession:
    """Return the live session that ``word`` names, with an address that a browser can open. Raises NegativeResult if
    there is none."""
    from skahactl.targets import find

    async with connected_runtime() as runtime:
        (target,) = find(runtime.ledger, runtime.profile, [word], sessions=True)
        listing = await runtime.first_poll([target.run] if target.run is not None else [])
        return _with_address(_choose(runtime, target, listing), word)


def _choose(runtime: Runtime, target: Target, listing: Listing) -> ServerSession:
    """Return the newest listed session of the target, with an address if one has it."""
    from skahactl.ledger.attempts import attempts_of
    from skahactl.targets import unknown_target

    if target.run is not None and target.run.kind == "headless":
        raise UsageError(
            f"{target.run.key.name} is a headless job, which has no page",
            hint=f"to see what it prints: {suggest('logs', target.word)}",
        )
    if target.session is not None or target.run is None:
        wanted = {target.session}
    else:
        numbers = target.numbers
        attempts = attempts_of(runtime.ledger, target.run.id)
        wanted = {one.session for one in attempts if numbers is None or one.replica in numbers}
    found = [session for session in listing.sessions if {session.id, session.name} & wanted]
    if not found:
        if target.run is None:
            raise unknown_target(runtime.ledger, runtime.profile, target.word, is_listed=True)
        raise NegativeResult(
            f"{target.word} has no live session",
            where=runtime.where,
            hint=f"{suggest('get', 'sessions')} lists sessions",
        )
    return max(found, key=lambda session: (session.url is not None, session.started or 0.0))


def _with_address(session: ServerSession, word: str) -> ServerSession:
    from urllib.parse import urlsplit

    if session.kind.lower() == "headless":
        raise UsageError(f"{word} is a headless session, which has no page", hint=suggest("logs", word))
    if session.status != "Running" or session.url is None:
        raise NegativeResult(
            f"{word} is {session.status}; its page opens when it is Running",
            hint=f"{suggest('wait', word, '--for', 'running')}; {suggest('open', word)}",
        )
    if urlsplit(session.url).scheme not in ("http", "https") or not session.url.isprintable():
        raise UnreachableError(f"the server's address of {word} is not a web address")
    return session


def _print_address(session: ServerSession) -> None:
    from skahactl.render.tables import data_text

    context = current()
    data = {key: getattr(session, key) for key in ("id", "name", "kind", "status", "url")}
    if context.machine_readable:
        context.data(data_text(context.output, data))
    else:
        context.out(session.id if context.output == "name" else str(session.url))


def _start_browser(url: str) -> int:
    import webbrowser

    if webbrowser.open(url):
        return Exit.DONE
    current().warn("no browser could be started here: open the address yourself")
    return Exit.NO
