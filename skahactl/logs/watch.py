"""What there is to follow of jobs and sessions: the ledger's word and one list call, joined at each look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from skahactl import states
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import living_driver
from skahactl.ledger.runs import run_by_id
from skahactl.logs.choose import AttemptLog, Choice, logs_of
from skahactl.logs.strand import ENDED, GONE, LIVE, WAITING, LogStream, StreamRead
from skahactl.skaha.models import Listing
from skahactl.targets import Target
from skahactl.words import count_noun

_STATES = {"Pending": WAITING, "Running": LIVE, "Terminating": LIVE, "Completed": ENDED, "Failed": ENDED}
_LISTS = 2  # that agree before a session counts as gone


class SessionLister(Protocol):
    async def sessions(self) -> Listing: ...


class SessionWatch:
    """Looks again and again at the logs of ``targets``; what nobody will create is told once, and left out."""

    def __init__(
        self,
        ledger: Ledger,
        targets: Sequence[Target],
        choice: Choice,
        client: SessionLister,
        say: Callable[[str], object],
    ):
        self._ledger = ledger
        self._targets = targets
        self._choice = choice
        self._client = client
        self._say = say
        self._earlier: dict[int, set[tuple[int, int, int]]] = {}  # by place: attempts replaced before the first look
        self._absent: dict[str, int] = {}  # session: lists in a row that did not show it
        self._last: dict[str, str] = {}
        self._told: set[str] = set()
        self.left_out = False  # replicas are still to be created, and nobody does it

    async def look(self) -> StreamRead:
        logs: list[AttemptLog] = []
        more = False
        for place, target in enumerate(self._targets):
            driven = self._is_driven(target)
            more = more or driven
            logs += self._with_log(target, self._logs(target, place), driven)
        listing = await self._client.sessions() if any(log.whole is None for log in logs) else None
        listed = {} if listing is None else {session.id: session.status for session in listing.sessions}
        return StreamRead(tuple(self._strand(log, listed) for log in logs), more)

    def _is_driven(self, target: Target) -> bool:
        """Will a driver still make attempts?"""
        run = None if target.run is None or target.session is not None else run_by_id(self._ledger, target.run.id)
        return run is not None and run.ended is None and living_driver(self._ledger, run.key) is not None

    def _logs(self, target: Target, place: int) -> list[AttemptLog]:
        """Every attempt from the latest of the first look on; or those that were asked for."""
        if self._choice.attempt is not None or target.session is not None:
            return list(logs_of(self._ledger, target, place, self._choice))
        every = logs_of(self._ledger, target, place, replace(self._choice, attempt=0))
        latest = {log.key[1]: log.key for log in every}
        earlier = self._earlier.setdefault(place, {log.key for log in every} - set(latest.values()))
        return [replace(log, label=log.label.removesuffix(".1")) for log in every if log.key not in earlier]

    def _with_log(self, target: Target, logs: list[AttemptLog], driven: bool) -> list[AttemptLog]:
        """Without those that have no session and will get none."""
        there = [log for log in logs if driven or log.session is not None or log.whole is not None]
        if len(there) < len(logs):
            name = target.word if target.run is None else target.run.key.name
            held = any(log.state in (states.HELD, states.UNSETTLED) for log in logs if log not in there)
            self.left_out = self.left_out or held
            advice = f"; no command drives the job: skahactl resume {name}" if held else ""
            self._tell_once(f"{name}: {count_noun(len(logs) - len(there), 'replica')} without a session{advice}")
        return there

    def _strand(self, log: AttemptLog, listed: dict[str, str]) -> LogStream:
        return LogStream(log.key, log.label, log.session, self._state(log, listed), log.kept)

    def _state(self, log: AttemptLog, listed: dict[str, str]) -> str:
        if log.whole is not None:
            return ENDED
        if log.session is None:
            return GONE if log.state in states.ENDED else WAITING
        if log.session in listed:
            self._absent.pop(log.session, None)
            self._last[log.session] = _STATES.get(listed[log.session], LIVE)
            return self._last[log.session]
        self._absent[log.session] = self._absent.get(log.session, 0) + 1
        if self._absent[log.session] >= _LISTS or log.state in states.ENDED:
            return GONE
        return self._last.get(log.session, LIVE)

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)
