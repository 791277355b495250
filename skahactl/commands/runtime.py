"""Functions that several commands share: the runtime, prompts, jobs by name, failed polls."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from skahactl.errors import AuthError, SkahactlError, UnreachableError, UsageError
from skahactl.invocation import Invocation, current, unknown_option
from skahactl.spelling import did_you_mean
from skahactl.system import Clock, SystemClock, handled_signals, state_dir
from skahactl.text import count_noun, format_duration, parse_duration, suggest, time_ago

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence

    from skahactl.engine.outcome import Outcome
    from skahactl.engine.runtime import Reporter, RunProgress, Runtime
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import Run
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing
    from skahactl.targets import Target


T = TypeVar("T")
#: The end of a wait is reported if it took at least this many seconds.
LONG_WAIT = 60.0


class LineReporter:
    """Prints messages and warnings on stderr, and no progress."""

    def say(self, text: str) -> None:
        current().warn(text)

    def warn(self, text: str) -> None:
        self.say(text)

    def progress(self, runs: Sequence[RunProgress]) -> None:
        """Do nothing: a command that only reads shows no progress."""

    def close(self, *, has_result: bool = False) -> None:
        """Do nothing: no output is delayed."""


@contextlib.contextmanager
def open_runtime(
    profile: Profile | None = None, *, reads_only: bool = False, shown: Reporter | None = None
) -> Iterator[Runtime]:
    """Yield the runtime of this call, and close its ledger and reporter at the end. The platform is contacted at first
    use.

    ``reads_only``: no ledger is created, and no progress is shown. ``shown``: the reporter, instead of one for stderr.
    """
    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.database import open_ledger, read_ledger
    from skahactl.profiles import choose

    context = current()
    chosen = profile or choose(context.profile, context.environ)
    folder, clock = state_dir(context.environ), SystemClock()

    def connect() -> Client:
        from skahactl.platforms import open_client

        return open_client(
            chosen,
            clock=clock,
            environ=context.environ,
            directory=context.cwd,
            report=context.debug,
            verbose=context.verbose,
        )

    with read_ledger(folder) if reads_only else open_ledger(folder) as ledger:
        shown = shown or LineReporter()
        if not reads_only:
            from skahactl.render.progress import reporter

            shown = reporter(context)
        try:
            yield Runtime(ledger, connect, chosen, clock, shown)
        finally:
            shown.close()


@contextlib.asynccontextmanager
async def connected_runtime(profile: Profile | None = None) -> AsyncIterator[Runtime]:
    """Yield a runtime like ``open_runtime``, for a command that changes something; INT, TERM and HUP set its
    ``stop``."""
    with open_runtime(profile) as runtime:
        try:
            with runtime.stop.handling():
                yield runtime
        finally:
            await runtime.close()


def run_online(runtime: Runtime, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command that only reads in an event loop, and close the runtime at the end. A signal ends it like any
    program."""

    async def connected() -> T:
        try:
            return await work()
        finally:
            await runtime.close()

    return run(connected)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` in a new event loop and return its result. A command does this once."""
    import asyncio

    if signal.SIGINT in handled_signals():  # asyncio cancels the work at Ctrl-C only if it finds this handler
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return asyncio.run(main())


def deadline(timeout: str | None, clock: Clock) -> float | None:
    """Return the monotonic time at which ``--timeout`` is over; None without a timeout."""
    return None if timeout is None else clock.monotonic() + _seconds(timeout)


_MOST_JOBS = 3  # maximum number of jobs in the suggested command


def say_unsaved_logs(runtime: Runtime, chosen: Iterable[Run]) -> None:
    """Print how many logs of these runs no command has saved yet, and how long the server still keeps them."""
    from skahactl.engine.snapshot import unsaved_logs

    if current().machine_readable:
        return
    number, left, jobs = unsaved_logs(runtime.ledger, chosen, runtime.profile.memory, runtime.clock.now())
    if number:
        are = f"{count_noun(number, 'log')} {'is' if number == 1 else 'are'}"
        more = f", and {count_noun(len(jobs) - _MOST_JOBS, 'more job')}" if len(jobs) > _MOST_JOBS else ""
        how = suggest("logs", *jobs[:_MOST_JOBS], "--save", "DIR") + more
        current().say(f"{are} on {runtime.profile.noun} only, for {format_duration(left)}. To save: {how}")


def check_timeout(timeout: str | None, wait: bool, *call: str) -> None:
    """Raise UsageError for an invalid ``--timeout``, or for one without ``--wait``, with the correct ``call``."""
    if timeout is None:
        return
    _seconds(timeout)
    if not wait:
        raise UsageError("--timeout needs --wait", hint=suggest(*call, "--wait", "--timeout", timeout))


def _seconds(timeout: str) -> float:
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise UsageError(str(error), where="--timeout") from error


def confirm(context: Invocation, yes: bool, words: str) -> bool | None:
    """Return whether the user agrees: by ``yes`` or by an answer on a terminal. None if neither is available."""
    if yes:
        return True
    if not (context.stdin.isatty() and context.stderr.isatty()):
        return None
    context.tell(words)
    context.stderr.write("Continue? [y/N] ")
    context.stderr.flush()
    with _signals_as_usual():
        return context.stdin.readline().strip().lower() in (b"y", b"yes")


@contextlib.contextmanager
def _signals_as_usual() -> Iterator[None]:
    """Restore the default handlers of signals during a question: the event loop does not run then and cannot react."""
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


async def poll_or_error(runtime: Runtime, runs: Sequence[Run]) -> tuple[Listing | None, SkahactlError | None]:
    """Poll once and return the listing, or the error, for a command that can show the local record instead."""
    try:
        return await runtime.poll(runs), None
    except (AuthError, UnreachableError) as error:
        return None, error


def targets_without_exit_codes(ledger: Ledger, targets: Sequence[Target]) -> list[Target]:
    """Return the targets for which the shared record may contain exit codes and exact ends that the local record
    lacks."""
    shared = [target for target in targets if target.run is not None and target.run.shared is not None]
    if not shared:
        return []
    from skahactl.engine.shared_results import lacks_exact_results

    return [one for one in shared if one.run is not None and lacks_exact_results(ledger, one.run, one.numbers)]


async def read_exit_codes(runtime: Runtime, targets: Sequence[Target], listing: Listing | None = None) -> None:
    """Read the exit codes and exact ends of these targets from the shared record, for a command that shows them."""
    for target in targets:
        if target.run is not None:
            await runtime.read_shared_records([target.run], listing, exact=True, numbers=target.numbers)


def raise_failed_poll(runtime: Runtime, runs: Sequence[Run], error: SkahactlError) -> NoReturn:
    """Print how old the local record is, after it was shown, and raise the error of the poll."""
    context = current()
    context.stdout.flush()
    if not context.machine_readable:
        seen = max((run.observed for run in runs if run.observed is not None), default=None)
        age = f", last observed {time_ago(seen, time.time())}" if seen is not None else ""
        context.warn(f"{runtime.where}: showing the local record{age}")
    raise error


def parse_states(text: str | None, known: Sequence[str]) -> frozenset[str] | None:
    """Parse ``running,Failed`` to states; None stays None. Raises UsageError for an unknown state."""
    if text is None:
        return None
    by_lower = {state.lower(): state for state in known}
    chosen = set()
    for word in text.split(","):
        state = by_lower.get(word.strip().lower())
        if state is None:
            hint = did_you_mean(word.strip(), known)
            raise UsageError(f"invalid state '{word.strip()}'", hint=hint or f"use one of {', '.join(known)}")
        chosen.add(state)
    return frozenset(chosen)


@contextlib.contextmanager
def run_with_report(runtime: Runtime, known: Callable[[], Outcome | None]) -> Iterator[None]:
    """Close the progress display after the work in the block, and report the end of a long wait.

    If an error ends the work, data formats first print the outcome that is ``known`` so far, with the exit code of the
    error.
    """
    context = current()
    begun = runtime.clock.monotonic()
    try:
        yield
    except SkahactlError as error:
        runtime.reporter.close()
        outcome = known()
        if outcome is not None and outcome.jobs and context.machine_readable:
            outcome.ended_by = error.exit
            _show(outcome)
        raise
    runtime.reporter.close(has_result=context.output in ("table", "wide"))
    outcome = known()
    if outcome is not None:
        notify_after_wait(context, outcome, runtime.clock.monotonic() - begun)


def notify_after_wait(context: Invocation, outcome: Outcome, seconds: float) -> None:
    """Report the end of jobs that a command waited for, if it waited for more than a minute."""
    if seconds < LONG_WAIT:
        return
    from skahactl.render.notify import notify_end

    notify_end(context, outcome)


def _show(outcome: Outcome) -> None:
    """Print the outcome. A closed stdout does not hide the error that follows."""
    from skahactl.render.outcomes import show_outcome

    context = current()
    with contextlib.suppress(OSError):
        show_outcome(context, outcome)
        context.stdout.flush()


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A run, the numbers of the replicas that were named (None: no particular ones), and the selected profile."""

    profile: Profile
    run: Run
    numbers: frozenset[int] | None


def one_job(word: str, replicas: str | None = None) -> FoundJob:
    """Return the last run of a job, named as ``JOB`` or ``JOB/REPLICAS``. Raises UsageError for an unknown job."""
    return jobs_named([word], replicas)[0]


def jobs_named(words: Sequence[str], replicas: str | None = None) -> list[FoundJob]:
    """Return the last runs that the words name, each once, with all replicas that they name.

    Raises UsageError for an unknown word, and for a session of an earlier run or attempt: only the last run can
    continue.
    """
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import last_run
    from skahactl.profiles import choose
    from skahactl.system import state_dir
    from skahactl.targets import by_run, find_in_record

    context = current()

    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        targets = find_in_record(ledger, profile, words, replicas=replicas)
        for target in targets:
            last = None if target.run is None else last_run(ledger, target.run.key)
            if target.run is not None and last is not None and last.id != target.run.id:
                raise UsageError(
                    f"'{target.word}' is a session of run {target.run.number} of {target.run.key.name}; the last "
                    f"run is {last.number}",
                    hint="only the last run of a job can continue",
                )
    return [FoundJob(profile, target.run, target.numbers) for target in by_run(targets) if target.run is not None]


def read_lines(path: str) -> tuple[str, ...]:
    """Return the items in a file, one per line, without blank lines; ``-`` is standard input. A note says if there are
    none. Raises UsageError if the file is unreadable or too large."""
    from skahactl.manifest.items import LARGEST
    from skahactl.system import read_limited, read_stream

    context = current()
    if path.startswith("-") and path != "-":
        raise UsageError(f"--items needs a file, not '{path}'", hint=name_of_file(path))
    try:
        text = read_stream(context.stdin, LARGEST) if path == "-" else read_limited(path, LARGEST)
    except OSError as error:
        raise UsageError(f"the items cannot be read: {error.strerror}", where=path) from None
    if len(text) > LARGEST:
        raise UsageError(f"the list of items has more than {LARGEST >> 30} GiB", where=path)
    lines = (line.rstrip("\r") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    found = tuple(line for line in lines if line.strip())
    if not found:
        context.say(f"note: {'standard input' if path == '-' else path} contains no items")
    return found


def name_of_file(word: str) -> str:
    """Return a hint on how to write the name of a file that looks like an option."""
    return f"if you mean a file named {word}, write ./{word}"


def read_manifests(verb: str, manifests: Sequence[str], files: Sequence[str] | None) -> list[str]:
    """Return all manifests that were named. Raises UsageError if there are none, or for a word that is an unknown
    option."""
    named = [*manifests, *(files or [])]
    for word in manifests:
        if word.startswith("-") and word != "-":
            from skahactl.app import options_of

            raise unknown_option(verb, word, options_of(verb), f"see 'skahactl {verb} --help'; {name_of_file(word)}")
    if not named:
        raise UsageError(
            f"{verb} needs a manifest", hint=f"skahactl {verb} job.toml; 'skahactl explain' lists its keys"
        )
    return named
