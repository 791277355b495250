"""Read results from shared records, where the list of sessions has none, and write them to the ledger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.plan import backoff
from skahactl.engine.record import is_ended, snapshot_of, unread_logs
from skahactl.errors import AuthError, UnreachableError
from skahactl.ledger import replicas
from skahactl.ledger.attempts import add_recorded_attempt, set_attempt
from skahactl.ledger.records import UNREAD, AttemptRow, ResultSource, Run
from skahactl.ledger.runs import end_run, set_run
from skahactl.logs import keep
from skahactl.logs.shared_source import SharedLogSource
from skahactl.manifest.shared_record import RecordDirectory, RecordedEnd
from skahactl.model import ALIVE, OBSERVED, State, ended_state
from skahactl.skaha.storage import LISTING_FROM, FoundEnds, newest_run
from skahactl.text import count_noun

if TYPE_CHECKING:
    from skahactl.engine.observe import RunSnapshot
    from skahactl.errors import SkahactlError
    from skahactl.ledger.database import Ledger
    from skahactl.manifest.placeholders import ItemMarks
    from skahactl.model import Job
    from skahactl.profile import ClientSettings
    from skahactl.skaha.storage import EndKey, SharedStorage

#: Value of ``AttemptRow.log``: the shared record contains the log, and no complete copy of it was saved.
IN_SHARED_RECORD = "shared"
_END_NAME = re.compile(r"(\d{1,7})-(\d{1,4})\.end")
_NOT_READ = UNREAD | {"lost"}
#: Maximum difference, in seconds, between the clocks of nodes and of this machine, which follows the server's.
_CLOCK_TOLERANCE = 60.0


@dataclass(frozen=True, slots=True)
class EarlierRecord:
    """The results in an earlier record of a job with the same content.

    ``ends``: by replica, the number of the latest attempt with an end, and that end.
    """

    directory: str
    ends: Mapping[int, tuple[int, RecordedEnd]]


class SharedResults:
    """Looks up the ends of attempts in the shared records of their runs.

    An attempt is looked up if its session is missing from the list, if it ended unobserved, if its log was not read
    before the server discarded it, or, with ``exact``, if it has ended without an exit code. An attempt that the record
    certainly lacks is not looked up again.
    """

    def __init__(
        self, ledger: Ledger, storage: SharedStorage, settings: ClientSettings, say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._ledger = ledger
        self._storage = storage
        self._settings = settings

    async def record(
        self,
        runs: Iterable[Run],
        now: float,
        listed: Container[str] | None,
        *,
        exact: bool = False,
        numbers: Container[int] | None = None,
    ) -> SkahactlError | None:
        """Write what the shared records of these runs contain; return the error if some could not be read.

        ``listed``: the ids of the listed sessions; None if the platform was not polled. ``numbers``: only these
        replicas.
        """
        wanted: dict[EndKey, tuple[Run, AttemptRow]] = {}
        for run in runs:
            if run.shared is not None:
                snapshot = snapshot_of(self._ledger, run.id)
                for attempt in _unanswered(snapshot, listed, exact, numbers):
                    wanted[run.shared, attempt.replica, attempt.number] = (snapshot.run, attempt)
        if not wanted:
            return None
        self._announce(len(wanted))
        found = await self._storage.ends(wanted)
        for key in [key for key, end in found.ends.items() if not _is_of(wanted[key][1], end)]:
            del found.ends[key]
            found.absent.add(key)
        await self._read_marks(wanted, found)
        with self._ledger.transaction():
            for key, (_, attempt) in wanted.items():
                self._write(attempt, key, found, now, attempt.session not in (listed or ()))
        with self._ledger.transaction():
            for run in {run.id: run for run, _ in wanted.values()}.values():
                self._note_end(run, now)
        return found.error

    def _announce(self, results: int) -> None:
        """Report that results are read, if there are so many that it takes a while."""
        if results >= LISTING_FROM:
            self._say(f"reading {count_noun(results, 'result')} from the shared record")

    async def newest_run(self, shared: str, job: Job) -> int:
        """Return the number of the newest run of this job and content in ``shared``, of any machine; 0 without one.

        Send one listing. Raise AuthError and UnreachableError.
        """
        return newest_run(job.name, job.digest, await self._storage.names(shared) or ())

    async def find_earlier(self, shared: str, job: Job, others: Container[int]) -> EarlierRecord | None:
        """Return what the newest earlier record of this job with this content contains; None without one. Write
        nothing.

        ``others``: replicas with a session, which are left out. Send at most two listings, and one request for each
        end. Raise AuthError and UnreachableError.
        """
        newest = await self.newest_run(shared, job)
        if not newest:
            return None
        directory = RecordDirectory.of_run(shared, job.name, newest, job.digest)
        numbers = {replica.number for replica in job.replicas}
        latest: dict[int, int] = {}
        for found in map(_END_NAME.fullmatch, await self._storage.names(directory.path) or ()):
            if found is not None and int(found[1]) in numbers and int(found[1]) not in others:
                latest[int(found[1])] = max(int(found[2]), latest.get(int(found[1]), 0))
        keys = [(directory.path, *latest_of) for latest_of in sorted(latest.items())]
        self._announce(len(keys))
        ends = await self._storage.ends(keys, are_listed=True)
        if ends.error is not None:
            raise ends.error
        return EarlierRecord(directory.path, {key[1]: (key[2], end) for key, end in ends.ends.items()})

    async def adopt(self, run: Run, earlier: EarlierRecord, now: float) -> SkahactlError | None:
        """Adopt these results; return the error if the items of some could not be read."""
        set_run(self._ledger, run.id, shared=earlier.directory, started=now)
        wanted: dict[EndKey, tuple[Run, AttemptRow]] = {}
        found = FoundEnds()
        with self._ledger.transaction():
            for row in replicas.replicas_of(self._ledger, run.id, tuple(earlier.ends)):
                number, end = earlier.ends[row.number]
                key = (earlier.directory, row.number, number)
                found.ends[key] = end
                wanted[key] = (run, add_recorded_attempt(self._ledger, row, number, now))
        await self._read_marks(wanted, found)
        with self._ledger.transaction():
            for key, (_, attempt) in wanted.items():
                self._write(attempt, key, found, now, True)
        self._note_end(run, now)
        return found.error

    def _write(self, attempt: AttemptRow, key: EndKey, found: FoundEnds, now: float, is_gone: bool) -> None:
        end = found.ends.get(key)
        if end is not None:
            record_end(self._ledger, attempt, end, is_gone, now)
            if end.exit_code and attempt.state not in OBSERVED:
                pause = backoff(self._settings.backoff, attempt.number)
                replicas.set_not_before(self._ledger, attempt.run_id, attempt.replica, now + pause)
        elif attempt.state not in ALIVE:
            unrecorded = 1 if key in found.absent else -1 if key in found.failed else 0
            set_attempt(self._ledger, attempt, {"unrecorded": unrecorded})

    async def _read_marks(self, wanted: Mapping[EndKey, tuple[Run, AttemptRow]], found: FoundEnds) -> None:
        """Read which items are done from the logs of attempts with ``each``.

        A later attempt needs that, so an end with an unreadable log counts as failed, and is read again later.
        """
        attempts = {key: wanted[key][1] for key in found.ends if wanted[key][1].log in _NOT_READ}
        marks = {key: replicas.item_marks(self._ledger, attempt) for key, attempt in attempts.items()}
        with_items = [key for key in attempts if marks[key] is not None]
        errors = await asyncio.gather(*(self._marks_of(key, attempts[key], marks[key]) for key in with_items))
        for key, error in zip(with_items, errors, strict=True):
            if error is not None:
                del found.ends[key]
                found.failed.add(key)
                found.error = error

    async def _marks_of(self, key: EndKey, attempt: AttemptRow, marks: ItemMarks | None) -> SkahactlError | None:
        path = RecordDirectory(key[0]).log(attempt.replica, attempt.number)
        try:
            read = await keep.fetch(SharedLogSource(self._storage), path, None, marks=marks)
        except (UnreachableError, AuthError) as error:
            return error
        with self._ledger.transaction():
            if read.ends:
                replicas.record_items(self._ledger, attempt.run_id, attempt.replica, attempt.number, read.ends)
            columns = {} if read.last_line is None else {"last_line": read.last_line}
            set_attempt(self._ledger, attempt, {"log_bytes": read.bytes, **columns})
        return None

    def _note_end(self, run: Run, now: float) -> None:
        snapshot = snapshot_of(self._ledger, run.id)
        if snapshot.run.ended is None and is_ended(snapshot) and not unread_logs(snapshot):
            end_run(self._ledger, run.id, now)


def record_end(ledger: Ledger, attempt: AttemptRow, end: RecordedEnd, is_gone: bool, now: float) -> None:
    """Record the end that an attempt wrote itself: exit code, time, and the state, unless a list has shown it.

    ``is_gone``: the server has discarded the session with its log. ``now``: when the end was read.
    """
    columns: dict[str, object] = {"exit_code": end.exit_code, "finished": end.finished, "finished_after": None}
    if is_gone and attempt.log in _NOT_READ:
        columns["log"] = IN_SHARED_RECORD
    if attempt.state in OBSERVED:
        set_attempt(ledger, attempt, columns)
        return
    columns |= {"source": ResultSource.SHARED_RECORD, "missing_since": None, "observed": now}
    set_attempt(ledger, attempt, columns, state=ended_state(end.exit_code))


def _is_of(attempt: AttemptRow, end: RecordedEnd) -> bool:
    """Return whether the end belongs to this attempt.

    A run of a machine without the earlier records writes to the same directory, which contains the end of the earlier
    replica until the new one starts. The creation of an adopted attempt is unknown, so its end is not checked.
    """
    return attempt.sends == 0 or end.finished >= attempt.created - _CLOCK_TOLERANCE


def lacks_exact_results(ledger: Ledger, run: Run, numbers: Container[int] | None) -> bool:
    """Return whether the shared record may contain exit codes of these replicas that the ledger lacks."""
    return run.shared is not None and bool(_unanswered(snapshot_of(ledger, run.id), None, True, numbers))


def _unanswered(
    snapshot: RunSnapshot, listed: Container[str] | None, exact: bool, numbers: Container[int] | None = None
) -> list[AttemptRow]:
    deleting = {row.number for row in snapshot.replicas if row.deleting or snapshot.run.deleting}
    return [
        attempt
        for attempt in snapshot.attempts
        if attempt.replica not in deleting
        and (numbers is None or attempt.replica in numbers)
        and attempt.ending is None
        and (attempt.session is not None or attempt.sends == 0)  # without a session and sends: adopted from the record
        and (
            (attempt.state in ALIVE and attempt.missing_since is not None)
            or (attempt.unrecorded <= 0 and _lacks_result(attempt, listed, exact))
        )
    ]


def _lacks_result(attempt: AttemptRow, listed: Container[str] | None, exact: bool) -> bool:
    if attempt.state == State.UNKNOWN:
        return True
    is_gone = listed is not None and attempt.session not in listed
    lacks_log = is_gone and attempt.log in _NOT_READ
    return attempt.state in OBSERVED and (lacks_log or (exact and attempt.exit_code is None))
