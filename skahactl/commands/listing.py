"""What ``get`` prints: the rows of each noun, of several nouns, once or watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.commands.runtime import (
    LineReporter,
    open_runtime,
    parse_states,
    poll_or_error,
    raise_failed_poll,
    run_online,
    say_unsaved_logs,
)
from skahactl.completers import NOUNS
from skahactl.engine import snapshot
from skahactl.engine.snapshot import poll_is_due
from skahactl.errors import Exit, ProfileError, UsageError, worst
from skahactl.invocation import current
from skahactl.model import STATES, State
from skahactl.render.columns import resource_rows, stats_rows
from skahactl.render.tables import data_text, show_rows, sort_rows
from skahactl.spelling import nearest
from skahactl.targets import Target, find, job_names, unknown_target
from skahactl.text import count_noun, format_ranges, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import Run
    from skahactl.render.watch import WatchedView
    from skahactl.shapes import Row
    from skahactl.skaha.models import Listing

_OF_THE_LEDGER = ("jobs", "replicas", "items")
_WATCHED = (*_OF_THE_LEDGER, "sessions")
SESSION_STATES = (State.PENDING, State.RUNNING, State.COMPLETED, State.FAILED, "Terminating")


@dataclass(frozen=True, slots=True)
class GetOptions:
    """The options of ``get``."""

    state: str | None = None
    replicas: str | None = None
    run: int | None = None
    watch: bool = False
    cached: bool = False
    sort_by: str | None = None
    headers: bool = True
    limit: int | None = None


def list_rows(words: Sequence[str], asked: GetOptions, *, every_profile: bool = False) -> int:
    """Print the rows of a call of ``get`` and return its exit code."""
    noun, targets, _ = _parse_query(words)
    if every_profile and (noun != "jobs" or targets):
        raise UsageError("-A lists jobs", hint=suggest("get", "jobs", "-A", *["-w"] * asked.watch))
    if every_profile or (noun == "jobs" and not targets and _lacks_profile()):
        from skahactl.commands.every_profile import get_every_profile

        return get_every_profile(asked)
    nouns = _several_nouns(words)
    if nouns:
        return get_several(nouns, words[1:], asked)
    return watch_rows(words, asked) if asked.watch else run_get(words, asked)


def run_get(words: Sequence[str], asked: GetOptions, data: dict[str, object] | None = None) -> Exit:
    """Print the rows after at most one poll, and return the exit code. With ``data``, store them there by noun
    instead."""
    with open_runtime(reads_only=True) as runtime:
        query = GetQuery(runtime, words, asked, data)
        if query.noun not in _OF_THE_LEDGER:
            return run_online(runtime, query.show_from_platform)
        if query.is_due():
            return run_online(runtime, query.show_after_poll)
        query.show(query.rows(None))
        say_unsaved_logs(runtime, query.runs)
        return Exit.DONE


def _several_nouns(words: Sequence[str]) -> list[str]:
    """Return the nouns of a list such as ``jobs,replicas``; empty if the first word is not a list of nouns."""
    found = [_noun(part) for part in words[0].split(",")] if words and "," in words[0] else []
    return [noun for noun in found if noun] if None not in found else []


def get_several(nouns: Sequence[str], words: Sequence[str], asked: GetOptions) -> int:
    """Print several nouns: tables one below the other, or with -o json one object with a list for each. Return the exit
    code."""
    context = current()
    if asked.watch or context.output == "csv":
        option = "-w" if asked.watch else "-o csv"
        raise UsageError(f"{option} takes one noun", hint=suggest("get", *[nouns[0], *words], option))
    data: dict[str, object] | None = {} if context.output in ("json", "yaml") else None
    codes = []
    for place, noun in enumerate(nouns):
        if place and context.output in ("table", "wide"):
            context.out("")
        codes.append(run_get((noun, *words), asked, data))
        context.stdout.flush()
    if data is not None:
        context.data(data_text(context.output, data))
    return worst(codes)


def show_limited(noun: str, rows: Sequence[Row], asked: GetOptions, *, raw: object = None, place: str = "") -> None:
    """Print at most as many rows as ``--limit`` allows, and how many rows are left."""
    context = current()
    show_rows(context, noun, rows[: asked.limit], headers=asked.headers, raw=raw, place=place)
    if asked.limit is not None and asked.limit < len(rows):
        context.stdout.flush()
        context.say(f"{count_noun(len(rows) - asked.limit, 'more row')} not shown (--limit {asked.limit})")


def _lacks_profile() -> bool:
    """Return whether no profile is selected and a user with an account must select one."""
    from skahactl.profiles import choose

    context = current()
    try:
        choose(context.profile, context.environ)
    except ProfileError as error:
        return error.code == "no-profile"
    return False


class GetQuery:
    """One call of ``get``. ``targets`` and ``runs`` are those of its words when the ledger was last read."""

    def __init__(
        self, runtime: Runtime, words: Sequence[str], asked: GetOptions, data: dict[str, object] | None = None
    ):
        self.runtime = runtime
        self.asked = asked
        self.noun, self.words, self.guessed = _parse_query(words)
        self.targets: tuple[Target, ...] = ()
        self.runs: tuple[Run, ...] = ()
        self._data = data
        for word in self.words[1:]:
            if (found := _noun(word)) is not None and not self._is_job(word):
                raise UsageError("get takes one noun, before the targets", hint=suggest("get", found, self.words[0]))
        if self.noun not in ("images", "resources", "stats"):
            self._look_up()
            self._settle_unknown()
        self.states = parse_states(asked.state, SESSION_STATES if self.noun == "sessions" else STATES)
        self._refuse_contradictions()

    def _settle_unknown(self) -> None:
        """Take an unknown word for the id of a session if no noun was given; raise UsageError if the noun needs a
        job."""
        unknown = [target.word for target in self.targets if target.run is None]
        if unknown and self.guessed:
            self._refuse_near_noun(unknown[0])
            self.noun = "sessions"
            self._look_up()
        elif unknown and self.noun in _OF_THE_LEDGER:
            raise unknown_target(self.runtime.ledger, self.runtime.profile, unknown[0])

    def _is_job(self, word: str) -> bool:
        return word in job_names(self.runtime.ledger, self.runtime.profile)

    def _look_up(self) -> None:
        """Find the targets and the runs of the words in the current ledger."""
        ledger, profile, asked = self.runtime.ledger, self.runtime.profile, self.asked
        online = self.noun in ("sessions", "events")
        try:
            self.targets = find(ledger, profile, self.words, replicas=asked.replicas, run=asked.run, sessions=online)
        except UsageError as error:
            if error.code == "unknown-target" and self.guessed:
                self._refuse_near_noun(self.words[0])
            raise
        self.runs = () if online else snapshot.runs_in_question(ledger, profile, self.targets)

    def is_due(self) -> bool:
        """Return whether a poll may show anything new."""
        return not self.asked.cached and (self.noun == "sessions" or poll_is_due(self.runs))

    def rows(self, listing: Listing | None) -> list[Row]:
        """Return the rows of jobs, replicas, items or sessions, filtered and sorted. After a poll, the ledger is read
        again, so that it is at least as recent as ``listing``."""
        ledger = self.runtime.ledger
        if listing is not None:
            self._look_up()
        if self.noun == "sessions":
            found = [] if listing is None else snapshot.session_rows(ledger, self.targets, listing)
            if listing is not None:
                self._refuse_unknown_sessions(listing)
        elif self.noun == "jobs":
            found = snapshot.job_rows(ledger, self.runs, folders=current().machine_readable)
        elif self.noun == "replicas":
            found = snapshot.replica_rows(ledger, self.targets, self.runs, self.runtime.clock.now())
        else:
            found = snapshot.item_rows(ledger, self.targets, self.runs)
        return self._filtered(found)

    def _filtered(self, rows: Sequence[Row]) -> list[Row]:
        wanted = self.states
        kept = [row for row in rows if wanted is None or row.get("status", row.get("state")) in wanted]
        return sort_rows(self.noun, kept, self.asked.sort_by)

    def show(self, rows: Sequence[Row], raw: object = None) -> None:
        if self._data is not None:
            self._data[self.noun] = rows[: self.asked.limit] if raw is None else raw
            return
        is_record = self.noun in _OF_THE_LEDGER and not self.words and self.states is None
        place = f" in the local record for {self.runtime.profile.name}" if is_record else ""
        if self.states:
            place = f" that are {' or '.join(self.states)}"
        show_limited(self.noun, rows, self.asked, raw=raw, place=place)
        if self.noun == "items":
            self._say_unread_logs()

    def _say_unread_logs(self) -> None:
        """Print which replicas have items with a result that is not known yet, because no command has read their
        logs."""
        for name in snapshot.uncounted_jobs(self.runtime.ledger, self.runs):
            current().say(
                f"{name} has no driver, so the results of its items are known only after their replica has ended. To "
                f"count them as they end: {suggest('resume', name)}"
            )
        for run_of, unread in snapshot.unread_failures(self.runtime.ledger, self.targets, self.runs):
            name, several = run_of.key.name, len(unread) > 1
            logs = (
                f"the log{'s' * several} of {name}/{format_ranges(unread)} {'have' if several else 'has'} not been read"
            )
            items = f"which of {'their' if several else 'its'} items failed is not known yet"
            current().say(f"{logs}; {items}. To read {'them' if several else 'it'}: {suggest('resume', name)}")

    async def show_after_poll(self) -> Exit:
        """Poll, then show the local record. If the poll failed, show the record as it is and raise the error."""
        listing, error = await poll_or_error(self.runtime, self.runs)
        self.show(self.rows(listing))
        say_unsaved_logs(self.runtime, self.runs)
        if error is not None:
            raise_failed_poll(self.runtime, self.runs, error)
        return Exit.DONE

    async def show_from_platform(self) -> Exit:
        if self.noun == "sessions":
            self.show(self.rows(await self.runtime.first_poll()))
        elif self.noun == "events":
            from skahactl.commands.events import event_rows

            self.show(self._filtered(await event_rows(self.runtime, self.targets)))
        else:
            rows, raw = await _platform_rows(self.runtime, self.noun, self.words)
            self.show(sort_rows(self.noun, rows, self.asked.sort_by), raw)
        return Exit.DONE

    async def poll_while_watched(self) -> Listing | None:
        """Poll if that may show anything new, and return the listing, else None. An outage is reported when it begins
        and when it ends."""
        from skahactl.engine.runtime import FOREVER

        self._look_up()
        return await self.runtime.poll(self.runs, patience=FOREVER) if self.is_due() else None

    def _refuse_unknown_sessions(self, listing: Listing) -> None:
        listed = {word for session in listing.sessions for word in (session.id, session.name)}
        for target in self.targets:
            if target.session is not None and target.session not in listed:
                raise UsageError(
                    f"no session '{target.word}' on {self.runtime.where}",
                    hint=f"a session that has ended is listed for an hour; {suggest('get', 'sessions')} shows them all",
                    code="unknown-target",
                )

    def _refuse_near_noun(self, word: str) -> None:
        """Raise UsageError for a verb, a misspelled noun, or a word before a job that is not a noun."""
        from skahactl.app import VERBS

        rest = self.words[1:]
        guess = nearest(word, NOUNS)
        if word in VERBS:
            raise UsageError(f"'{word}' is not a job or a noun", hint=f"the command is: {suggest(word, *rest)}")
        if guess is None and rest and self._is_job(rest[0].partition("/")[0]):
            raise UsageError(f"'{word}' is not a noun", hint=f"the nouns are {', '.join(NOUNS)}")
        if guess is not None:
            raise UsageError(f"'{word}' is not a job or a noun", hint=f"did you mean 'get {guess}'?")

    def _refuse_contradictions(self) -> None:
        asked = self.asked
        if asked.cached and self.noun not in _OF_THE_LEDGER:
            raise UsageError(f"the local record has no {self.noun}", hint="leave out --cached")
        if asked.watch and self.noun not in _WATCHED:
            raise UsageError(f"{self.noun} cannot be watched", hint=f"-w is for {', '.join(_WATCHED)}")
        if asked.state and self.noun not in _WATCHED:
            raise UsageError(f"{self.noun} have no state", hint=f"--state is for {', '.join(_WATCHED)}")
        if asked.limit is not None and asked.limit < 1:
            raise UsageError(f"--limit {asked.limit}: at least 1")
        if (asked.replicas or asked.run is not None) and not self.words:
            raise UsageError("-r and --run need a job", hint=suggest("get", self.noun, "JOB"))


def _parse_query(words: Sequence[str]) -> tuple[str, tuple[str, ...], bool]:
    """Return the noun, the words that are targets, and whether the noun was omitted, for calls such as
    ``get jobs tiles``, ``get job/tiles``, ``get tiles`` and ``get``."""
    if not words:
        return "jobs", (), True
    noun = _noun(words[0])
    if noun is not None:
        return noun, tuple(words[1:]), False
    first, slash, rest = words[0].partition("/")
    noun = _noun(first) if slash else None
    if noun is not None:
        return noun, (rest, *words[1:]), False
    return "replicas", tuple(words), True


def _noun(word: str) -> str | None:
    """Return the noun for a word in singular or plural, or for kubectl's ``pods``; None for any other word."""
    if word in ("pod", "pods", "po"):
        return "replicas"
    return next((noun for noun in NOUNS if word in (noun, noun.removesuffix("s"))), None)


def watch_rows(words: Sequence[str], asked: GetOptions) -> int:
    """Show the rows and update them until every named job has ended, or until a signal."""
    from skahactl.render.watch import watched_view

    reporter = WatchReporter()
    with open_runtime(reads_only=True, shown=reporter) as runtime:
        query = GetQuery(runtime, words, asked)
        view = reporter.view = watched_view(current(), query.noun, asked.headers)
        return run_online(runtime, lambda: _watch(query, view))


class WatchReporter(LineReporter):
    """Prints messages above the watched table."""

    view: WatchedView | None = None

    def say(self, text: str) -> None:
        if self.view is None:
            super().say(text)
        else:
            self.view.say(text)


async def _watch(query: GetQuery, view: WatchedView) -> Exit:
    try:
        while True:
            listing = await query.poll_while_watched()
            if listing is not None or query.noun != "sessions":
                view.show(query.rows(listing)[: query.asked.limit], query.runtime.clock.now())
            if _is_over(query, listing):
                return Exit.DONE
            await query.runtime.pause()
    finally:
        view.close()


def _is_over(query: GetQuery, listing: Listing | None) -> bool:
    """Return whether all named jobs have ended. Without names, a watch does not end, since new jobs may appear."""
    if not query.words or query.noun == "sessions":
        return False
    return not poll_is_due(query.runs) or snapshot.is_over(snapshot.job_rows(query.runtime.ledger, query.runs))


async def _platform_rows(runtime: Runtime, noun: str, words: Sequence[str]) -> tuple[list[Row], object]:
    """Return the rows of images, resources or stats, and what data formats print instead (None: the rows). ``words``:
    texts that every image's name must contain."""
    if noun == "images":
        if runtime.profile.is_local:
            hint = "the local platform starts no containers and has no list; try: skahactl -p canfar get images"
            runtime.reporter.say(hint)
        found = await runtime.ask(runtime.client.images) or ()
        return [dict(row) for row in found if all(word in str(row.get("id")) for word in words)], None
    if words:
        raise UsageError(
            f"{noun} describe the whole platform and take no job",
            hint=f"leave out '{words[0]}': {suggest('get', noun)}",
        )
    if noun == "resources":
        options = await runtime.ask_until_answered(runtime.client.options, patience=0.0)
        return resource_rows(options.raw), options.raw
    stats = await runtime.ask_until_answered(runtime.client.stats, patience=0.0)
    return stats_rows(stats), stats
