"""What ``get`` and ``events`` print: the rows of each noun, of several nouns, of every profile, once or watched."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skahactl import shapes
from skahactl.commands.runtime import (
    LineReporter,
    limit_rows,
    open_runtime,
    parse_states,
    poll_or_error,
    raise_failed_poll,
    run,
    run_online,
    say_unsaved_logs,
)
from skahactl.completers import NOUNS
from skahactl.engine import snapshot
from skahactl.engine.snapshot import poll_is_due, view_run
from skahactl.errors import AuthError, Exit, ProfileError, SkahactlError, UnreachableError, UsageError, worst
from skahactl.invocation import current
from skahactl.model import ENDED, STATES, State
from skahactl.render.columns import ALL_PROFILES, resource_rows, stats_rows
from skahactl.render.tables import show_rows, sort_rows, watched_view
from skahactl.targets import Target, find, unknown_target
from skahactl.text import count_noun, format_ranges, nearest, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import Run
    from skahactl.profile import Profile
    from skahactl.render.tables import WatchedView
    from skahactl.shapes import Row
    from skahactl.skaha.models import Event, Listing, Options


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
    if every_profile or (_parse_query(words) == ("jobs", ()) and _lacks_profile()):
        return get_every_profile(words, asked)
    nouns = _several_nouns(words)
    if nouns:
        return get_several(nouns, words[1:], asked)
    if asked.watch:
        return watch_jobs(words, asked)
    return run_get(words, asked)


def run_get(words: Sequence[str], asked: GetOptions) -> int:
    """Return the exit code of one poll."""
    with open_runtime(reads_only=True) as runtime:
        query = GetQuery(runtime, words, asked)
        if query.noun not in _OF_THE_LEDGER:
            return run_online(runtime, query.run_from_platform)
        runs = query.runs(query.targets())
        if asked.cached or not poll_is_due(runs):
            query.show(query.rows(None, runs))
            say_unsaved_logs(query.runtime, runs)
            return Exit.DONE
        return run_online(runtime, lambda: query.run_from_ledger(runs))


def _several_nouns(words: Sequence[str]) -> list[str]:
    """``jobs,replicas``: the nouns of a list of at least two."""
    found = [_noun(part) for part in words[0].split(",")] if words and "," in words[0] else []
    return [noun for noun in found if noun] if None not in found else []


def get_several(nouns: Sequence[str], words: Sequence[str], asked: GetOptions) -> int:
    """Print several nouns: tables below each other, or with -o json one object with a list for each."""
    context = current()
    if asked.watch or context.output == "csv":
        option = "-w" if asked.watch else "-o csv"
        raise UsageError(f"{option} takes one noun", hint=suggest("get", *[nouns[0], *words], option))
    if context.output in ("json", "yaml"):
        return _get_several_as_json(nouns, words, asked)
    codes = []
    for place, noun in enumerate(nouns):
        if place and context.output in ("table", "wide"):
            context.out("")
        codes.append(Exit(run_get((noun, *words), asked)))
        context.stdout.flush()
    return worst(codes)


def _get_several_as_json(nouns: Sequence[str], words: Sequence[str], asked: GetOptions) -> int:
    import dataclasses
    import io
    import json

    from skahactl.invocation import enter

    context, data, codes = current(), {}, []
    for noun in nouns:
        text = io.StringIO()
        enter(dataclasses.replace(context, stdout=text))
        try:
            codes.append(Exit(run_get((noun, *words), asked)))
        finally:
            enter(context)
        data[noun] = json.loads(text.getvalue())
    context.out(json.dumps(data, ensure_ascii=False, indent=2))
    return worst(codes)


def _lacks_profile() -> bool:
    """Return whether no profile is selected, so that a command that starts work would ask for one."""
    from skahactl.profiles import choose

    context = current()
    try:
        choose(context.profile, context.environ)
    except ProfileError as error:
        return error.code == "no-profile"
    return False


def get_every_profile(words: Sequence[str], asked: GetOptions) -> int:
    """Return the jobs on every server in the local record, each server polled at most once and all at the same time;
    or watch them, each server at its own pace."""
    noun, targets = _parse_query(words)
    if noun != "jobs" or targets:
        raise UsageError("-A lists jobs", hint=suggest("get", "jobs", "-A", *["-w"] * asked.watch))
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import job_keys, last_runs
    from skahactl.profiles import choose
    from skahactl.system import state_dir

    context = current()
    every = _EveryProfile(asked)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(read_ledger(state_dir(context.environ)))
        for server in dict.fromkeys(key.server for key in job_keys(ledger)):
            name = last_runs(ledger, server)[0].profile
            try:
                profile = choose(name, context.environ)
            except ProfileError as error:
                every.failed.append(error)
                continue
            if profile.server == server:
                runtime = stack.enter_context(open_runtime(profile, reads_only=True, shown=every.reporter))
                every.queries.append(GetQuery(runtime, ("jobs",), asked))
            else:
                every.unreachable += snapshot.job_rows(ledger, last_runs(ledger, server), None)
        run(every.watch if asked.watch else every.show)
    context.stdout.flush()
    for one in every.failed[1:]:
        context.warn(one.message)
    if every.failed:
        raise every.failed[0]
    return Exit.DONE


@dataclass
class _EveryProfile:
    """The jobs on every server in the local record."""

    asked: GetOptions
    queries: list[GetQuery] = field(default_factory=list)
    unreachable: list[Row] = field(default_factory=list)  # of servers that no profile has any more
    failed: list[SkahactlError] = field(default_factory=list)
    reporter: WatchReporter = field(default_factory=lambda: WatchReporter())

    async def show(self) -> None:
        """Poll every server once, and print the rows."""
        import asyncio

        rows = list(self.unreachable)
        for found, problem in await asyncio.gather(*map(self._poll_once, self.queries)):
            rows.extend(found)
            self.failed.extend([problem] if problem is not None else [])
        shown = limit_rows(sort_rows(ALL_PROFILES, rows, self.asked.sort_by), self.asked.limit)
        show_rows(current(), ALL_PROFILES, shown, headers=self.asked.headers)

    async def _poll_once(self, query: GetQuery) -> tuple[list[Row], SkahactlError | None]:
        runs = query.runs(())
        try:
            if self.asked.cached or not poll_is_due(runs):
                return query.rows(None, runs), None
            listing, error = await poll_or_error(query.runtime, runs)
            return query.rows(listing, runs), error
        finally:
            await query.runtime.close()

    async def watch(self) -> None:
        """Show the rows again and again until a signal. A server that cannot be asked at all is reported, and its rows
        are those of the local record."""
        import asyncio

        view = self.reporter.view = watched_view(current(), ALL_PROFILES, self.asked.headers)
        found: dict[str, list[Row]] = {}

        async def follow(query: GetQuery) -> None:
            error: SkahactlError | None = None
            while True:
                try:
                    listing = None if error else await query.poll_while_watched()
                except (AuthError, UnreachableError) as problem:
                    error, listing = problem, None
                    self.reporter.say(f"{query.runtime.where}: {problem.message}; showing the local record")
                found[query.runtime.profile.server] = query.rows(listing)
                rows = [row for one in (self.unreachable, *found.values()) for row in one]
                shown = sort_rows(ALL_PROFILES, rows, self.asked.sort_by)[: self.asked.limit]
                view.show(shown, query.runtime.clock.now())
                await query.runtime.pause()

        try:
            await asyncio.gather(*map(follow, self.queries))
        finally:
            view.close()
            for query in self.queries:
                await query.runtime.close()


class GetQuery:
    """One call of ``get``."""

    def __init__(self, runtime: Runtime, words: Sequence[str], asked: GetOptions):
        self.runtime = runtime
        self.asked = asked
        self.noun, self.words = _parse_query(words)
        for word in self.words[1:]:
            if (found := _noun(word)) is not None and not self._is_job(word):
                raise UsageError("get takes one noun, before the targets", hint=suggest("get", found, self.words[0]))
        self.guessed = not words or self.noun not in (_noun(words[0]), _noun(words[0].partition("/")[0]))
        if self.noun not in ("images", "resources", "stats"):
            unknown = [target.word for target in self.targets() if target.run is None]
            if self.guessed and unknown:
                self._refuse_near_noun(unknown[0])
                self.noun = "sessions"
            elif unknown and self.noun in _OF_THE_LEDGER:  # a word of eight letters may be the id of a session
                raise unknown_target(runtime.ledger, runtime.profile, unknown[0])
        self.states = parse_states(asked.state, self._states())
        self._refuse_contradictions()

    def _is_job(self, word: str) -> bool:
        from skahactl.targets import job_names

        return word in job_names(self.runtime.ledger, self.runtime.profile)

    def targets(self) -> tuple[Target, ...]:
        """Return what the words mean, by the ledger as it is now."""
        try:
            return find(
                self.runtime.ledger,
                self.runtime.profile,
                self.words,
                replicas=self.asked.replicas,
                run=self.asked.run,
                sessions=self.noun in ("sessions", "events"),
            )
        except UsageError as error:
            if error.code == "unknown-target" and self.guessed:
                self._refuse_near_noun(self.words[0])
            raise

    def runs(self, targets: Sequence[Target]) -> tuple[Run, ...]:
        return snapshot.runs_in_question(self.runtime.ledger, self.runtime.profile, targets)

    def rows(self, listing: Listing | None, known: Sequence[Run] | None = None) -> list[Row]:
        """Return the rows of jobs, replicas, items or sessions, filtered and sorted. The ledger is read after the list,
        so that what it holds is never older; without a list ``known`` runs will do."""
        ledger, targets = self.runtime.ledger, self.targets()
        if self.noun == "sessions":
            found = [] if listing is None else snapshot.session_rows(ledger, targets, listing)
            if listing is not None:
                self._refuse_unknown_sessions(targets, listing)
        else:
            runs = self.runs(targets) if known is None or listing is not None else known
            if self.noun == "jobs":
                found = snapshot.job_rows(ledger, runs, listing, folders=current().machine_readable)
            elif self.noun == "replicas":
                found = snapshot.replica_rows(ledger, targets, runs, listing)
            else:
                found = snapshot.item_rows(ledger, targets, runs, listing)
        return self.filtered(found)

    def filtered(self, rows: Sequence[Row]) -> list[Row]:
        wanted = self.states
        kept = [row for row in rows if wanted is None or row.get("status", row.get("state")) in wanted]
        return sort_rows(self.noun, kept, self.asked.sort_by)

    def show(self, rows: Sequence[Row], raw: object = None) -> None:
        shown = limit_rows(rows, self.asked.limit)
        is_record = self.noun in _OF_THE_LEDGER and not self.words and self.states is None
        place = f" in the local record for {self.runtime.profile.name}" if is_record else ""
        if self.states:
            place = f" that are {' or '.join(self.states)}"
        show_rows(current(), self.noun, shown, headers=self.asked.headers, raw=raw, place=place)
        if self.noun == "items":
            self._say_unread_logs()

    def _say_unread_logs(self) -> None:
        """Name the failed replicas of which the failed items are not known yet."""
        targets = self.targets()
        for run_of, unread in snapshot.unread_failures(self.runtime.ledger, targets, self.runs(targets)):
            name, several = run_of.key.name, len(unread) > 1
            logs = (
                f"the log{'s' * several} of {name}/{format_ranges(unread)} {'have' if several else 'has'} not been read"
            )
            items = f"which of {'their' if several else 'its'} items failed is not known yet"
            current().say(f"{logs}; {items}. To read {'them' if several else 'it'}: {suggest('resume', name)}")

    async def run_from_ledger(self, runs: Sequence[Run]) -> int:
        listing, error = await poll_or_error(self.runtime, runs)
        self.show(self.rows(listing, runs))
        say_unsaved_logs(self.runtime, runs)
        if error is not None:
            raise_failed_poll(self.runtime, runs, error)
        return Exit.DONE

    async def run_from_platform(self) -> int:
        if self.noun == "sessions":
            self.show(self.rows(await self.runtime.first_poll()))
        elif self.noun == "events":
            self.show(self.filtered(await event_rows(self.runtime, self.targets())))
        else:
            rows, raw = await platform_rows(self.runtime, self.noun, self.words)
            self.show(sort_rows(self.noun, rows, self.asked.sort_by), raw)
        return Exit.DONE

    async def poll_while_watched(self) -> Listing | None:
        """Return a list, if one may show anything new. An outage is reported when it begins and when it ends."""
        from skahactl.engine.runtime import FOREVER

        runs = self.runs(self.targets())
        if self.asked.cached or (self.noun != "sessions" and not poll_is_due(runs)):
            return None
        return await self.runtime.poll(runs if self.noun != "sessions" else (), patience=FOREVER)

    def _refuse_unknown_sessions(self, targets: Sequence[Target], listing: Listing) -> None:
        listed = {word for session in listing.sessions for word in (session.id, session.name)}
        for target in targets:
            if target.session is not None and target.session not in listed:
                raise UsageError(
                    f"no session '{target.word}' on {self.runtime.where}",
                    hint=f"a session that has ended is listed for an hour; {suggest('get', 'sessions')} shows them all",
                    code="unknown-target",
                )

    def _refuse_near_noun(self, word: str) -> None:
        """Report a misspelled noun, and a word before a job that is not a noun."""
        from skahactl.app import VERBS

        rest = self.words[1:]
        guess = nearest(word, NOUNS)
        if word in VERBS:
            raise UsageError(f"'{word}' is not a job or a noun", hint=f"the command is: {suggest(word, *rest)}")
        if guess is None and rest and self._is_job(rest[0].partition("/")[0]):
            raise UsageError(f"'{word}' is not a noun", hint=f"the nouns are {', '.join(NOUNS)}")
        if guess is not None:
            raise UsageError(f"'{word}' is not a job or a noun", hint=f"did you mean 'get {guess}'?")

    def _states(self) -> tuple[str, ...]:
        return SESSION_STATES if self.noun == "sessions" else STATES

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


def _parse_query(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the noun, and the words that are targets: ``get jobs tiles``, ``get job/tiles``, ``get tiles``,
    ``get``."""
    if not words:
        return "jobs", ()
    noun = _noun(words[0])
    if noun is not None:
        return noun, tuple(words[1:])
    first, slash, rest = words[0].partition("/")
    noun = _noun(first) if slash else None
    if noun is not None:
        return noun, (rest, *words[1:])
    return "replicas", tuple(words)


def _noun(word: str) -> str | None:
    """``replica`` and ``replicas`` are one noun, and kubectl's pods."""
    if word in ("pod", "pods", "po"):
        return "replicas"
    return next((noun for noun in NOUNS if word in (noun, noun.removesuffix("s"))), None)


def live_jobs() -> list[str]:
    """Return a title and a line for each job in the local record that has not ended, on any server, the newest first;
    no server is contacted. ``canfar  psfex  Running 412/600 ✗3  about 40 min left``"""
    from skahactl.engine.progress import ProgressTracker
    from skahactl.engine.record import snapshot_of
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import job_keys, last_runs, summaries
    from skahactl.system import SystemClock, state_dir
    from skahactl.text import about_duration

    context, now = current(), SystemClock().now()
    with read_ledger(state_dir(context.environ)) as ledger:
        servers = dict.fromkeys(key.server for key in job_keys(ledger))
        runs = [one for server in servers for one in last_runs(ledger, server) if one.ended is None]
        unfinished = [summary for summary in summaries(ledger, runs) if summary.status not in ENDED]
        rows = []
        for summary in unfinished[:_MOST_LIVE]:
            counts, items = summary.counts, summary.items
            done, total = counts[State.COMPLETED], sum(counts.values())
            if items["total"] > total:
                done, total = items["completed"], items["total"]
            failed = counts[State.FAILED] - summary.retriable
            left = ProgressTracker(ledger, now, now).progress(snapshot_of(ledger, summary.run.id), summary, now).left
            standing = f"{summary.status} {done}/{total}" + (f" ✗{failed}" if failed > 0 else "")
            about = f"about {about_duration(left)} left" if left else ""
            rows.append((summary.run.profile, summary.run.key.name, standing, about))
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(unfinished) - len(rows)
    title = ["Jobs that have not ended, as last seen:"] if rows else []
    return title + lines + ([f"{count_noun(more, 'more job')}: {suggest('get', 'jobs', '-A')}"] if more else [])


_MOST_LIVE = 15  # lines, so that they fit a small terminal


def watch_jobs(words: Sequence[str], asked: GetOptions) -> int:
    """Show the rows again and again until all that was named has ended, or until a signal."""
    reporter = WatchReporter()
    with open_runtime(reads_only=True, shown=reporter) as runtime:
        query = GetQuery(runtime, words, asked)
        reporter.view = watched_view(current(), query.noun, asked.headers)
        return run_online(runtime, _Watcher(query, reporter.view).run)


class WatchReporter(LineReporter):
    """Says what is to be said above the table that is watched."""

    view: WatchedView | None = None

    def say(self, text: str) -> None:
        if self.view is None:
            super().say(text)
        else:
            self.view.say(text)


class _Watcher:
    def __init__(self, query: GetQuery, view: WatchedView):
        self.query = query
        self.runtime = query.runtime
        self.shown = view

    async def run(self) -> int:
        try:
            while True:
                listing = await self.query.poll_while_watched()
                if listing is not None or self.query.noun != "sessions":
                    rows = self.query.rows(listing)
                    self.shown.show(rows[: self.query.asked.limit], self.runtime.clock.now())
                if self._is_over(listing):
                    return Exit.DONE
                await self.runtime.pause()
        finally:
            self.shown.close()

    def _is_over(self, listing: Listing | None) -> bool:
        """Only what was named can be over: new jobs may come any time."""
        query = self.query
        if not query.words or query.noun == "sessions":
            return False
        runs = query.runs(query.targets())
        return all(run.ended is not None for run in runs) or snapshot.is_over(
            snapshot.job_rows(self.runtime.ledger, runs, listing)
        )


_MOST_NAMES = 3  # that a line about several sessions shows
_MOST = 50  # maximum number of sessions for which events are requested, unless they are named


@dataclass(frozen=True, slots=True)
class EventsOptions:
    """A session for which events are requested, and its label."""

    session: str
    name: str


async def platform_rows(runtime: Runtime, noun: str, words: Sequence[str]) -> tuple[list[Row], object]:
    """Return rows of images, resources or stats, and what data formats print instead (None: the rows). ``words``: parts
    of images' names."""
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
        return resource_rows(_offered(options)), options.raw
    stats = await runtime.ask_until_answered(runtime.client.stats, patience=0.0)
    return stats_rows(stats), stats


async def event_rows(runtime: Runtime, targets: Sequence[Target]) -> list[Row]:
    """Return the events of what the targets name; of a job those of its replicas that are Pending, or if none is,
    Running; without targets, of whatever is Pending."""
    import asyncio

    named = snapshot.runs_in_question(runtime.ledger, runtime.profile, targets) if targets else ()
    seen = await runtime.first_poll(named)
    chosen = _chosen_sessions(runtime, targets, seen)
    answers = await asyncio.gather(*(runtime.client.events(one.session) for one in chosen))
    _say_without_events(runtime.profile, chosen, answers, seen)
    return _rows(runtime, chosen, answers)


def _say_without_events(
    profile: Profile, chosen: Sequence[EventsOptions], answers: Sequence[Sequence[Event] | None], seen: Listing
) -> None:
    """Say why sessions have no events, in one line for each reason."""
    from skahactl.engine.tasks import pending_reason

    pending = {session.id for session in seen.sessions if session.status == State.PENDING}
    found: dict[str, list[str]] = {}
    for one, events in zip(chosen, answers, strict=True):
        if events is None:
            waits = pending_reason(None, profile.local.slot_count if profile.is_local else None)
            found.setdefault(waits if one.session in pending else "no pod: the session is gone", []).append(one.name)
        elif not events:
            found.setdefault("no events (they are kept for an hour)", []).append(one.name)
    for why, names in found.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        current().say(f"{', '.join(names[:_MOST_NAMES])}{more}: {why}")


def _rows(runtime: Runtime, chosen: Sequence[EventsOptions], answers: Sequence[Sequence[Event] | None]) -> list[Row]:
    owners = snapshot.session_owners(runtime.ledger, (one.session for one in chosen))
    rows: list[Row] = []
    for one, found in zip(chosen, answers, strict=True):
        owner = owners(one.session)
        rows.extend(shapes.event(one.session, owner[:2] if owner else None, event) for event in found or ())
    return rows


def _chosen_sessions(runtime: Runtime, targets: Sequence[Target], seen: Listing) -> list[EventsOptions]:
    """Return the sessions for which events are requested."""
    if not targets:
        return _not_too_many([EventsOptions(s.id, s.name) for s in seen.sessions if s.status == State.PENDING])
    chosen: list[EventsOptions] = []
    for target in targets:
        if target.is_job:
            chosen += _of_job(runtime, target, seen)
        else:
            chosen.append(_of_session(runtime, target, seen))
    return chosen


def _of_session(runtime: Runtime, target: Target, seen: Listing) -> EventsOptions:
    """Return the session that a target names. Raises UsageError if neither the ledger nor the platform knows it."""
    word = target.session or target.word
    found = next((s.id for s in seen.sessions if word in (s.id, s.name)), None)
    if found is None and target.run is None:
        raise unknown_target(runtime.ledger, runtime.profile, target.word, is_listed=True)
    return EventsOptions(found or word, target.word)


def _of_job(runtime: Runtime, target: Target, seen: Listing) -> list[EventsOptions]:
    assert target.run is not None
    run = target.run
    latest = snapshot.chosen_attempts(runtime.ledger, target, view_run(runtime.ledger, run, seen))
    with_session = [row for row in latest if row.session is not None]
    if target.numbers is None:
        pending = [row for row in with_session if row.state == State.PENDING]
        with_session = pending or [row for row in with_session if row.state == State.RUNNING]
    chosen = [EventsOptions(row.session or "", f"{run.key.name}/{row.replica}") for row in with_session]
    if not chosen:
        current().say(f"{target.word}: no session that is Pending or Running")
    return chosen if target.numbers is not None else _not_too_many(chosen)


def _not_too_many(chosen: list[EventsOptions]) -> list[EventsOptions]:
    if len(chosen) > _MOST:
        more = count_noun(len(chosen) - _MOST, "more session")
        current().say(f"{more} not shown; to see their events, name their replicas")
    return chosen[:_MOST]


def _offered(options: Options) -> Mapping[str, object]:
    """Return what a table shows of the platform's answer: as it is, or at least what may be chosen."""
    return options.raw or {"cores": list(options.cores), "ram": list(options.ram), "gpus": list(options.gpus)}
