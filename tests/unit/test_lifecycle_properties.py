"""The life of replicas under any sequence of events, against a platform that lies.

A model platform loses replies, shows sessions late, and answers lists that are empty, stale, partial or doubled. A
model driver carries out what the reconciler decides, and is killed at any moment. Whatever happens: no recorded result
is taken back, nothing is created after a delete was requested, nothing foreign is deleted, and once the platform
behaves, everything ends with at most one live session per replica.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skahactl.engine.lifecycle import (
    AskSession,
    Create,
    Deletes,
    DeleteSession,
    DriverRules,
    Phase,
    ReadLog,
)
from skahactl.engine.observe import FINAL
from skahactl.engine.plan import Gate
from skahactl.engine.reconcile import InFlight, Pass, Reconciler
from skahactl.ledger import attempts, replicas
from skahactl.ledger.attempts import attempts_of, close_open_sends, set_attempt
from skahactl.ledger.database import read_ledger
from skahactl.ledger.records import Intent, Run
from skahactl.model import ALIVE, ENDED, OBSERVED, Limits, State
from skahactl.profile import ClientSettings
from skahactl.skaha.models import CreateResult, Listing, ServerError, ServerSession
from tests import ledgers

REPLICAS = 3
SETTINGS = ClientSettings(settle=30.0, backoff=1.0, log_patience=0.0)
RETENTION = 3600.0


@dataclass
class Made:
    """A session on the model platform."""

    id: str
    name: str
    status: str
    visible: float  # from then on lists show it
    ended: float | None = None
    foreign: bool = False


@dataclass
class Platform:
    draw: random.Random
    now: float = 1_000_000.0
    sessions: dict[str, Made] = field(default_factory=dict)
    history: list[tuple[float, list[Made]]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def create(self, name: str, late: float = 0.0, foreign: bool = False) -> str:
        id = f"s{len(self.sessions):07d}"
        self.sessions[id] = Made(id, name, "Pending", self.now + late, foreign=foreign)
        return id

    def shown(self) -> list[Made]:
        return [
            replace(one)
            for one in self.sessions.values()
            if one.status != "gone"
            and one.visible <= self.now
            and (one.ended is None or self.now - one.ended < RETENTION)
        ]

    def list(self, fault: str) -> Listing:
        rows = self.shown()
        self.history.append((self.now, rows))
        if fault == "empty":
            rows = []
        elif fault == "stale":
            rows = next((old for at, old in reversed(self.history) if at <= self.now - 10.0), [])
        elif fault == "partial":
            rows = [one for one in rows if self.draw.random() < 0.5]
        elif fault == "doubled":
            rows = rows + rows[:2]
        return Listing(tuple(self.session(one) for one in rows), self.now, self.now, "alice")

    def session(self, one: Made) -> ServerSession:
        return ServerSession(one.id, one.name, "headless", one.status, "alice", "i", None, None, None)

    def get(self, id: str) -> ServerSession | None:
        return next((self.session(one) for one in self.shown() if one.id == id), None)

    def delete(self, id: str) -> None:
        assert not self.sessions[id].foreign, "a foreign session was deleted"
        self.deleted.append(id)
        self.sessions[id].status = "gone"

    def alive(self) -> list[Made]:
        return [one for one in self.sessions.values() if one.status in ("Pending", "Running") and not one.foreign]


class Driver:
    """Carries out what the reconciler decides; each request is answered by a later event, or lost with the driver."""

    def __init__(self, platform: Platform):
        self.platform = platform
        self.ledger = read_ledger(Path("/nonexistent"))  # a ledger in memory
        self.run: Run = ledgers.add(
            self.ledger,
            ledgers.job(
                "fits", REPLICAS, attempts=2, limits=Limits(pending_timeout=platform.draw.choice((None, 60.0)))
            ),
            server="s",
            now=platform.now,
        )
        self.results: dict[tuple[int, int], str] = {}
        self.deleting = False
        self.start()

    def start(self) -> None:
        """A new process: all that it knows is in the ledger."""
        self.core = Reconciler(self.ledger, SETTINGS)
        self.creates: dict[int, tuple[Intent, float]] = {}
        self.touched: set[int] = set()
        self.asks: set[str] = set()
        self.deletes: set[str] = set()
        self.reads: list[attempts.AttemptRow] = []
        self.sent: dict[str, Deletes] = {}
        self.answers: dict[str, ServerSession | None] = {}
        self.last: Pass | None = None
        close_open_sends(self.ledger, self.run.id, self.platform.now)

    def poll(self, fault: str) -> None:
        now = self.platform.now
        flying = frozenset(self.touched | set(self.creates))
        self.touched = set(self.creates)
        evidence = self.core.recorder.evidence(self.platform.list(fault), self.answers)
        self.answers = {}
        self.core.recorder.record([self.run], evidence, lambda _: flying)
        under_way = InFlight(frozenset(self.creates), [(a.run_id, a.replica, a.number) for a in self.reads], self.sent)
        rules = DriverRules(keep_until=now + 60 if self.platform.draw.random() < 0.8 else 0.0)
        self.last = self.core.reconcile(self.run, evidence, now, under_way, rules, Gate())
        for action in self.last.actions:
            if isinstance(action, Create):
                self.begin_create(action.replica)
            elif isinstance(action, AskSession):
                self.asks.add(action.session)
            elif isinstance(action, DeleteSession):
                self.deletes.add(action.session)
            elif isinstance(action, ReadLog):
                self.reads.append(action.attempt)
        self.check(flying)

    def begin_create(self, number: int) -> None:
        with self.ledger.transaction():
            alive = [a for a in attempts_of(self.ledger, self.run.id, number) if a.state in ALIVE and a.session]
            assert not alive, "a create beside a live session"
            intent = attempts.intend(self.ledger, self.run.id, number, self.platform.now)
        if intent is not None:
            assert not self.deleting, "a create after a delete was requested"
            self.creates[number] = (intent, self.platform.now)
            self.touched.add(number)

    def end_create(self, number: int, outcome: str) -> None:
        intent, _ = self.creates.pop(number)
        words = ServerError("x", 500, "words")
        created = {
            "created": lambda: CreateResult("created", self.platform.create(intent.name)),
            "lost": lambda: self.lose(intent, 0.0, words),
            "late": lambda: self.lose(intent, self.platform.draw.choice((5.0, 60.0)), words),
            "nothing": lambda: CreateResult("ambiguous", error=words),
            "not-created": lambda: CreateResult("not-created", error=words),
            "refused": lambda: CreateResult("refused", error=words),
        }[outcome]()
        with self.ledger.transaction():
            attempts.settle(self.ledger, intent, created, self.platform.now, None)

    def lose(self, intent: Intent, late: float, words: ServerError) -> CreateResult:
        self.platform.create(intent.name, late)
        return CreateResult("ambiguous", error=words)

    def end_delete(self, id: str, ignored: bool, asked: bool = True) -> None:
        self.deletes.discard(id)
        if not ignored:
            self.platform.delete(id)
        tries = self.sent.get(id, Deletes()).tries + 1
        self.sent[id] = Deletes(tries, self.platform.now)
        if asked:
            self.answers[id] = self.platform.get(id)

    def end_ask(self, id: str) -> None:
        self.asks.discard(id)
        self.answers[id] = self.platform.get(id)

    def end_read(self) -> None:
        attempt = self.reads.pop(0)
        state = "kept" if attempt.state in OBSERVED else "partial"
        set_attempt(self.ledger, attempt, {"log": state})

    def kill(self) -> None:
        for intent, _ in self.creates.values():
            if self.platform.draw.random() < 0.5:
                self.platform.create(intent.name, self.platform.draw.choice((0.0, 5.0)))
        self.start()

    def delete_all(self) -> None:
        replicas.request_delete(self.ledger, self.run.id, None)
        self.deleting = True

    def retry(self, number: int) -> None:
        row = replicas.replica_states(self.ledger, self.run.id, number)[0]
        if row.state in ENDED and not self.deleting:
            replicas.allow_again(self.ledger, self.run.id, {number: None})

    def misjudge(self, number: int) -> None:
        """Older versions concluded from two lists that a session was gone; then somebody retried."""
        attempt = next(iter(attempts_of(self.ledger, self.run.id, number)[-1:]), None)
        if attempt is not None and attempt.session and attempt.state in ALIVE and attempt.ending is None:
            set_attempt(self.ledger, attempt, {"log": "lost"}, state=State.UNKNOWN)
            self.retry(number)

    def check(self, flying: frozenset[int]) -> None:
        """What holds after every poll."""
        live: dict[int, int] = {}
        for attempt in attempts_of(self.ledger, self.run.id):
            key = (attempt.replica, attempt.number)
            before = self.results.get(key)
            assert before is None or before == attempt.state, f"{key}: {before} became {attempt.state}"
            if attempt.state in FINAL:
                self.results[key] = attempt.state
            is_live = attempt.session and attempt.state in ALIVE and attempt.ending is None
            if is_live and attempt.replica not in flying:
                live[attempt.replica] = live.get(attempt.replica, 0) + 1
        if not self.deleting:
            assert all(count == 1 for count in live.values()), "two live sessions of one replica"


OUTCOMES = ("created", "created", "lost", "late", "nothing", "not-created", "refused")
FAULTS = ("none", "none", "empty", "stale", "partial", "doubled")
#: Kinds of events with their weights and details.
KINDS: dict[str, tuple[int, tuple[object, ...]]] = {
    "poll": (6, FAULTS),
    "create": (6, OUTCOMES),
    "delete": (3, ("done", "ignored", "unanswered")),
    "ask": (4, ("",)),
    "read": (3, ("",)),
    "time": (4, (1.0, 6.0, 11.0, 40.0)),
    "status": (3, ("Running", "Completed", "Failed")),
    "kill": (1, ("",)),
    "retry": (1, (1, 2, 3)),
    "misjudge": (1, (1, 2, 3)),
    "foreign": (0, (1, 2, 3)),
}
EVENTS = st.sampled_from(
    [(kind, detail) for kind, (weight, all_) in KINDS.items() for detail in all_ for _ in range(weight or 1)]
)
ENDS = ("alive", "complete", "deleted")


def apply_event(driver: Driver, kind: str, detail: object) -> None:
    platform = driver.platform
    if kind == "poll":
        driver.poll(str(detail))
    elif kind == "create" and driver.creates:
        driver.end_create(platform.draw.choice(sorted(driver.creates)), str(detail))
    elif kind == "delete" and driver.deletes:
        chosen = platform.draw.choice(sorted(driver.deletes))
        driver.end_delete(chosen, detail == "ignored", detail != "unanswered")
    elif kind == "ask" and driver.asks:
        driver.end_ask(platform.draw.choice(sorted(driver.asks)))
    elif kind == "read" and driver.reads:
        driver.end_read()
    elif kind == "time":
        platform.now += float(str(detail))
    elif kind == "status" and platform.sessions:
        one = platform.sessions[platform.draw.choice(sorted(platform.sessions))]
        if one.status in ("Pending", "Running") and not one.foreign:
            one.status = str(detail)
            one.ended = platform.now if detail in ("Completed", "Failed") else None
    elif kind == "kill":
        driver.kill()
    elif kind == "retry":
        driver.retry(int(str(detail)))
    elif kind == "misjudge":
        driver.misjudge(int(str(detail)))
    elif kind == "foreign":
        platform.create(f"fits-{detail}-zzzzz", foreign=True)


def settle(driver: Driver, complete: bool) -> None:
    """The platform behaves from now on: every request is answered, lists are true, sessions end well."""
    for _ in range(200):
        driver.platform.now += 6.0
        if complete:
            for one in driver.platform.alive():
                if one.visible <= driver.platform.now and driver.platform.draw.random() < 0.3:
                    one.status, one.ended = "Completed", driver.platform.now
        idle = not (driver.touched or driver.creates or driver.deletes or driver.asks or driver.reads)
        driver.poll("none")
        for number in list(driver.creates):
            driver.end_create(number, "created")
        for id in list(driver.deletes):
            driver.end_delete(id, False)
        for id in list(driver.asks):
            driver.end_ask(id)
        while driver.reads:
            driver.end_read()
        assert driver.last is not None
        resting = {Phase.DONE} if complete or driver.deleting else {Phase.DONE, Phase.PENDING, Phase.RUNNING}
        late = [one for one in driver.platform.sessions.values() if one.visible > driver.platform.now]
        if idle and not driver.last.actions and not late and set(driver.last.phases.values()) <= resting:
            return
    raise AssertionError(f"it does not end: {driver.last}")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), events=st.lists(EVENTS, min_size=30, max_size=120), end=st.sampled_from(ENDS))
def test_one_live_session_per_replica_whatever_happens(seed: int, events: list[tuple[str, object]], end: str) -> None:
    run_world(seed, events, end)


@pytest.mark.parametrize("seed", [*range(25), *(pytest.param(n, marks=pytest.mark.slow) for n in range(25, 400))])
def test_long_sequences(seed: int) -> None:
    draw = random.Random(seed)
    kinds = draw.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=250)
    run_world(seed, [(kind, draw.choice(KINDS[kind][1])) for kind in kinds], draw.choice(ENDS))


def run_world(seed: int, events: list[tuple[str, object]], end: str) -> None:
    platform = Platform(random.Random(seed))
    driver = Driver(platform)
    driver.poll("none")
    for kind, detail in events:
        apply_event(driver, kind, detail)
    if end == "deleted":
        driver.delete_all()
    settle(driver, end == "complete")
    alive = platform.alive()
    rows = replicas.replica_states(driver.ledger, driver.run.id)
    if end == "deleted":
        assert not alive, "a session survived the delete"
        assert {row.state for row in rows} <= ENDED
    else:
        names = [one.name.split("-")[1] for one in alive]
        assert len(names) == len(set(names)), f"two live sessions: {[one.name for one in alive]}"
        for row in rows:
            listed = [one for one in alive if one.name.split("-")[1] == str(row.number)]
            assert bool(listed) == (row.state in ALIVE), (row, listed)
    driver.ledger.close()
