"""Every verb that contacts a platform gives the same answer to the same trouble: exit code and message."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import PYTHON, Done, Workplace, wait_for

pytestmark = pytest.mark.once  # a hundred commands, each a process

IMAGE = "images.canfar.net/skaha/astroml:latest"
MANIFEST = f'name = "field"\nimage = "{IMAGE}"\ncommand = ["true"]\nreplicas = 2\n'
SESSION = """
import sys
from skahactl.errors import SkahactlError
from skahactl.session import Session
try:
    with Session() as session:
        getattr(session, sys.argv[1])(sys.argv[2])
except SkahactlError as error:
    print(error.message, file=sys.stderr)
    sys.exit(int(error.exit))
"""

UNREACHABLE = "no connection: Connection refused"
#: Long enough to start and to poll on a busy machine.
LIMIT = "8s"
#: Verbs that ask once.
ONE_SHOT = {
    "apply": ("apply", "job.toml"),
    "diff": ("diff", "job.toml"),
    "create": ("create", "headless", IMAGE, "-n", "field", "--", "true"),
    "retry": ("retry", "field", "-r", "2"),
    "get": ("get", "jobs"),
    "get JOB": ("get", "field"),
    "describe": ("describe", "field"),
    "events": ("events", "field"),
    "logs": ("logs", "field"),
    "delete": ("delete", "field"),
    "renew": ("renew", "field"),
}
#: Verbs that wait: they endure an outage. Each with the words that end it before long.
WAITING = {
    "apply --wait": ("apply", "job.toml", "--wait", "--timeout", LIMIT),
    "create --wait": ("create", "headless", IMAGE, "-n", "other", "--wait", "--timeout", LIMIT, "--", "true"),
    "resume": ("resume", "field", "--timeout", LIMIT),
    "retry --wait": ("retry", "field", "-r", "2", "--wait", "--timeout", LIMIT),
    "wait": ("wait", "field/1", "--timeout", LIMIT),
}
#: Verbs that wait, and have no --timeout.
ENDLESS = {"get -w": ("get", "field", "-w"), "logs -f": ("logs", "-f", "field")}
VERBS = {**ONE_SHOT, **WAITING, **ENDLESS}
METHODS = ("info", "logs", "events", "destroy")  # of a Session in Python
#: One of each kind: what creates, reads, deletes, drives, waits and follows.
SOME = ("apply", "describe", "delete", "resume", "wait", "logs -f")


@dataclass
class Stage:
    """A job of alice with one session Running and one Failed, and the server that runs them."""

    place: Workplace
    server: Server

    def command(self, verb: str) -> tuple[str, ...]:
        """The words of a verb; for another user's jobs, ``create`` needs the name of one."""
        return tuple({"other": "field", LIMIT: "60s"}.get(word, word) for word in VERBS[verb])

    def python(self, method: str, id: str) -> Done:
        return self.place.run(SESSION, method, id, program=PYTHON, expect=None)

    def session(self) -> str:
        with contextlib.closing(sqlite3.connect(self.place.root / "state" / "ledger.sqlite3")) as ledger:
            return str(ledger.execute("SELECT session FROM attempts WHERE replica = 1").fetchone()[0])

    def move_to(self, url: str) -> None:
        """The same platform, now at another address."""
        profile = self.place.root / "profile.toml"
        profile.write_text(profile.read_text().replace(self.server.url, url))
        with contextlib.closing(sqlite3.connect(self.place.root / "state" / "ledger.sqlite3")) as ledger:
            ledger.execute("UPDATE jobs SET server = ?", (url,))
            ledger.commit()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with running(tmp_path / "server", {}) as server:
        place = Workplace(tmp_path / "here", server, {"settle": 0.5})
        place.write("job.toml", MANIFEST)
        place.run("apply", "job.toml")
        second = next(one for one in server.state()["sessions"] if one["name"].startswith("field-2"))
        server.tell("fail", sessions=[second["id"]])
        place.run("get", "jobs")
        yield Stage(place, server)


@pytest.mark.parametrize(
    ("verbs", "methods"),
    [(SOME, METHODS[:1]), pytest.param(tuple(VERBS), METHODS, marks=pytest.mark.slow)],
    ids=["some verbs", "all verbs"],
)
@pytest.mark.parametrize(
    ("plan", "code", "message"),
    [
        ({"user": "bob"}, 3, "the server reports user bob, but field belongs to alice"),
        ({"deny": "expired"}, 3, "authentication failed (Token has expired)"),
        ({"list_page": True}, 4, "not a reply from a Skaha server: a web page"),
    ],
    ids=["another user", "expired credentials", "not a Skaha server"],
)
def test_every_verb_gives_the_same_answer(
    stage: Stage, plan: dict[str, object], code: int, message: str, verbs: tuple[str, ...], methods: tuple[str, ...]
) -> None:
    stage.server.tell("plan", **plan)
    answers = {}
    for verb in verbs:
        done = stage.place.run(*stage.command(verb), expect=None, timeout=60)
        answers[verb] = (done.returncode, message in done.stderr, done.stderr[-300:])
    for method in methods:
        result = stage.python(method, stage.session())
        answers[method] = (result.returncode, message in result.stderr, result.stderr[-300:])
    wrong = {verb: answer for verb, answer in answers.items() if answer[:2] != (code, True)}
    assert not wrong
    assert len([one for one in stage.server.state()["sessions"] if one["name"].startswith("field")]) == 2


@pytest.mark.parametrize(
    "verbs", [SOME[:3], pytest.param(tuple(ONE_SHOT), marks=pytest.mark.slow)], ids=["some verbs", "all verbs"]
)
def test_no_verb_mistakes_an_unreachable_server_for_an_answer(stage: Stage, verbs: tuple[str, ...]) -> None:
    stage.move_to("http://127.0.0.1:9/skaha/v1")
    answers = {}
    for verb in verbs:
        done = stage.place.run(*ONE_SHOT[verb], expect=None, timeout=60)
        answers[verb] = (done.returncode, done.stderr.count(UNREACHABLE), done.stderr[-300:])
    wrong = {verb: answer for verb, answer in answers.items() if answer[:2] != (4, 1)}
    assert not wrong


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=() if verb in SOME else pytest.mark.slow) for verb in WAITING]
)
def test_a_verb_that_waits_endures_an_unreachable_server(stage: Stage, verb: str) -> None:
    stage.move_to("http://127.0.0.1:9/skaha/v1")
    err = stage.place.run(*WAITING[verb], expect=5, timeout=60).stderr
    assert err.count(f"{UNREACHABLE}; retrying") == 1, err


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=() if verb in ("apply --wait", "logs -f") else pytest.mark.slow)
        for verb in (*WAITING, *ENDLESS)
    ],
)
def test_credentials_that_expire_and_are_renewed_end_nothing(stage: Stage, verb: str) -> None:
    words = tuple("60s" if word == LIMIT else word for word in VERBS[verb])
    polls = stage.server.counts().get("list", 0)
    process = stage.place.start(*words)
    wait_for(lambda: stage.server.counts().get("list", 0) > polls)
    time.sleep(0.3)  # whatever the first poll leads to
    stage.server.tell("plan", deny="expired")
    refused = stage.server.counts().get("list", 0)
    wait_for(lambda: stage.server.counts().get("list", 0) > refused + 1)
    stage.server.tell("plan", deny=None)
    limit = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:  # a retry, or a new job, may start a session now
        stage.server.tell("finish")
        time.sleep(0.3)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (1 if verb in ("resume", "apply --wait") else 0), err
    assert err.count("authentication failed (Token has expired); retrying") == 1, err
    assert err.count("connection restored") == 1, err
