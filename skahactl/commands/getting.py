"""How ``get`` does it: nouns and targets understood, rows gathered, filtered, sorted and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl import states
from skahactl.commands.looking import (
    ReadContext,
    limit_rows,
    open_read_context,
    parse_states,
    poll_or_cached,
    report_failed_poll,
)
from skahactl.completers import NOUNS
from skahactl.engine import snapshot
from skahactl.errors import Exit, SkahactlError, UsageError
from skahactl.ledger.records import Run
from skahactl.render.tables import show_rows, sort_rows
from skahactl.shapes import Row
from skahactl.targets import Target, find
from skahactl.words import nearest

if TYPE_CHECKING:
    from skahactl.skaha.models import Listing

_OF_THE_LEDGER = ("jobs", "replicas", "items")
_WATCHED = (*_OF_THE_LEDGER, "sessions")
_SESSION_STATES = (states.PENDING, states.RUNNING, states.COMPLETED, states.FAILED, "Terminating")


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


def run_get(words: Sequence[str], asked: GetOptions) -> int:
    """The exit code of one look."""
    with open_read_context() as place:
        return GetQuery(place, words, asked).run()


class GetQuery:
    """One call of ``get``."""

    def __init__(self, place: ReadContext, words: Sequence[str], asked: GetOptions):
        self.place = place
        self.asked = asked
        self.noun, self.words = _parse_query(words)
        self.guessed = not words or self.noun not in (_noun(words[0]), _noun(words[0].partition("/")[0]))
        if self.noun not in ("images", "resources", "stats"):
            unknown = [target.word for target in self.targets() if target.run is None]
            if self.guessed and unknown:
                self._refuse_near_noun(unknown[0])
                self.noun = "sessions"
        self.states = parse_states(asked.state, self._states())
        self._refuse_contradictions()

    def run(self) -> int:
        if self.noun in _OF_THE_LEDGER:
            return self._from_ledger()
        return self._from_platform()

    def targets(self) -> tuple[Target, ...]:
        """What the words mean, by the ledger as it is now."""
        try:
            return find(
                self.place.ledger,
                self.place.profile,
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
        return snapshot.runs_in_question(self.place.ledger, self.place.profile, targets)

    def rows(self, listing: Listing | None, known: Sequence[Run] | None = None) -> list[Row]:
        """The rows of jobs, replicas, items or sessions, filtered and sorted. The ledger is read after the list, so
        that what it holds is never older; without a list ``known`` runs will do."""
        ledger, targets = self.place.ledger, self.targets()
        if self.noun == "sessions":
            found = [] if listing is None else snapshot.session_rows(ledger, targets, listing)
            if listing is not None:
                self._refuse_unknown_sessions(targets, listing)
        else:
            runs = self.runs(targets) if known is None or listing is not None else known
            if self.noun == "jobs":
                found = snapshot.job_rows(ledger, runs, listing, folders=self.place.context.machine_readable)
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
        shown = limit_rows(self.place, rows, self.asked.limit)
        show_rows(self.place.context, self.noun, shown, headers=self.asked.headers, raw=raw)

    def _from_ledger(self) -> int:
        runs = self.runs(self.targets())
        listing, error = poll_or_cached(self.place, runs, self.asked.cached)
        self.show(self.rows(listing, runs))
        return int(Exit.DONE) if error is None else self._failed(runs, error)

    def _failed(self, runs: Sequence[Run], error: SkahactlError) -> int:
        self.place.context.stdout.flush()
        return report_failed_poll(self.place, runs, error)

    def _from_platform(self) -> int:
        from skahactl.commands import platform_rows

        if self.noun == "sessions":
            self.show(self.rows(platform_rows.list_from_platform(self.place)))
        elif self.noun == "events":
            self.show(self.filtered(platform_rows.event_rows(self.place, self.targets())))
        else:
            rows, raw = platform_rows.platform_rows(self.place, self.noun, self.words)
            self.show(sort_rows(self.noun, rows, self.asked.sort_by), raw)
        return Exit.DONE

    def _refuse_unknown_sessions(self, targets: Sequence[Target], listing: Listing) -> None:
        listed = {word for session in listing.sessions for word in (session.id, session.name)}
        for target in targets:
            if target.session is not None and target.session not in listed:
                raise UsageError(
                    f"{self.place.name} lists no session '{target.word}'",
                    hint="a session that has ended is listed for an hour; skahactl get sessions shows them all",
                    code="unknown-target",
                )

    def _refuse_near_noun(self, word: str) -> None:
        """A noun with a slip in it is no target."""
        guess = nearest(word, NOUNS)
        if guess is not None:
            raise UsageError(f"there is neither a job nor a noun '{word}'", hint=f"did you mean 'get {guess}'?")

    def _states(self) -> tuple[str, ...]:
        if self.noun == "jobs":
            return (*states.STATES, states.UNKNOWN)
        return _SESSION_STATES if self.noun == "sessions" else states.STATES

    def _refuse_contradictions(self) -> None:
        asked = self.asked
        if asked.cached and self.noun not in _OF_THE_LEDGER:
            raise UsageError(f"{self.noun} are known to the platform alone", hint="leave out --cached")
        if asked.watch and self.noun not in _WATCHED:
            raise UsageError(f"{self.noun} cannot be watched", hint=f"-w is for {', '.join(_WATCHED)}")
        if asked.state and self.noun not in _WATCHED:
            raise UsageError(f"{self.noun} have no state", hint=f"--state is for {', '.join(_WATCHED)}")
        if asked.limit is not None and asked.limit < 1:
            raise UsageError(f"--limit {asked.limit}: at least 1")
        if (asked.replicas or asked.run is not None) and not self.words:
            raise UsageError("-r and --run are for a job: name it", hint=f"skahactl get {self.noun} JOB")


def _parse_query(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The noun, and the words that are targets: ``get jobs tiles``, ``get job/tiles``, ``get tiles``, ``get``."""
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
    """``replica`` and ``replicas`` are one noun."""
    return next((noun for noun in NOUNS if word in (noun, noun.removesuffix("s"))), None)
