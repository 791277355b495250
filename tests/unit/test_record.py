"""What one look after the other writes: adopted sessions, doubts that are settled; with a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skahactl.engine.observe import Evidence
from skahactl.engine.record import Recorder
from skahactl.ledger import attempts
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.records import Run
from skahactl.profile import ClientSettings
from skahactl.skaha.models import Listing, ServerSession
from tests import ledgers
from tests.ledgers import NOW

NAME = "tiles-1-abcde"
SETTINGS = ClientSettings(settle=120)


@pytest.fixture
def doubtful(tmp_path: Path) -> Iterator[tuple[Ledger, Run]]:
    """A run of one replica whose create ended in doubt, a second after NOW."""
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("tiles", 1))
        ledgers.doubt(ledger, run, 1)
        yield ledger, run


def take(recorder: Recorder, run: Run, listing: Listing) -> None:
    recorder.record([run], Evidence(listing), lambda _: frozenset())


def listing(after: float, *sessions: str) -> Listing:
    """Requested so many seconds after NOW."""
    rows = tuple(ServerSession(id, NAME, "headless", "Running", "alice", "i", NOW + 2, None, None) for id in sessions)
    return Listing(rows, NOW + after, NOW + after + 1, "alice")


def test_a_doubt_that_made_a_session_makes_no_stranger_ours(doubtful: tuple[Ledger, Run]) -> None:
    ledger, run = doubtful
    recorder = Recorder(ledger, SETTINGS)
    take(recorder, run, listing(10, "mine"))
    assert [attempt.session for attempt in attempts_of(ledger, run.id)] == ["mine"]
    again = listing(20, "mine", "stranger")
    take(recorder, run, again)
    assert {one.id for one in recorder.unrecognised[run.id].values()} == {"stranger"}
    assert attempts.duplicates_of(ledger, run.id) == {}, "nothing is to be deleted"


def test_an_unconfirmed_create_is_settled_by_three_polls_however_late_they_come(doubtful: tuple[Ledger, Run]) -> None:
    ledger, run = doubtful
    recorder = Recorder(ledger, SETTINGS)
    settled = []
    for after in (1000, 2000, 3000):
        take(recorder, run, listing(after))
        settled.append(recorder.settled(run))
    assert settled == [frozenset(), frozenset(), frozenset({1})]


def test_an_unconfirmed_create_is_settled_by_a_poll_begun_after_the_time_is_up(doubtful: tuple[Ledger, Run]) -> None:
    ledger, run = doubtful
    recorder = Recorder(ledger, SETTINGS)
    for after in (10, 20, 30, 120):
        take(recorder, run, listing(after))
        assert recorder.settled(run) == frozenset()
    take(recorder, run, listing(121))
    assert recorder.settled(run) == {1}
