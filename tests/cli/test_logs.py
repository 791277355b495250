"""``skahactl logs`` and ``prune`` as a person calls them: real processes, the local platform, a server with faults."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from skahactl.ledger import attempts, runs
from skahactl.ledger.database import open_ledger
from skahactl.ledger.records import Run
from skahactl.ledger.replicas import record_items
from skahactl.logs.copies import log_path
from skahactl.model import State
from tests import ledgers
from tests.log_server import lines
from tests.skaha_server.process import Server, running
from tests.workplace import PYTHON, SHELL, Workplace, end, wait_for

pytestmark = pytest.mark.once


def shown(here: Workplace, *words: str, expect: int = 0, **options: Any) -> tuple[bytes, str]:
    """The bytes on stdout, and the text on stderr."""
    done = here.run(*words, expect=expect, text=False, **options)
    return done.stdout, done.stderr.decode()


def ended(
    here: Workplace, name: str, logs: Mapping[int, bytes | None], *, total: int = 0, now: float = 0.0, **others: object
) -> Run:
    """A run whose replicas have ended, an odd one Failed; a log of None was not kept."""
    now = now or time.time()
    with open_ledger(here.state) as ledger:
        made = ledgers.job(name, total or len(logs), **others)  # type: ignore[arg-type]
        run = ledgers.add(ledger, made, user="", now=now)
        ledgers.start(ledger, run, list(logs), now)
        for number, text in logs.items():
            path = log_path(here.state, run, number, 1)
            if text is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
            latest = attempts.attempts_of(ledger, run.id, number)[-1]
            columns: dict[str, object] = {"finished": now, "log": "lost" if text is None else "kept"}
            if text is not None:
                columns |= {"log_path": str(path), "log_bytes": len(text)}
            state = State.FAILED if number % 2 else State.COMPLETED
            attempts.set_attempt(ledger, latest, columns, state=state)
        runs.set_run(ledger, run.id, ended=now)
    return run


def test_one_log_is_its_bytes_and_several_have_prefixes(here: Workplace) -> None:
    ended(here, "tiles", {1: b"one\nand \xff no end", 2: b"two\n", 3: b""})
    assert shown(here, "logs", "tiles/1") == (b"one\nand \xff no end", "")
    assert shown(here, "logs", "tiles", "-r", "1") == (b"one\nand \xff no end", "")
    out, err = shown(here, "logs", "tiles")
    assert out == b"tiles/1 | one\ntiles/1 | and \xff no end\ntiles/2 | two\n"
    assert err == "tiles/3: the log is empty\n"
    assert shown(here, "logs", "tiles/1-2", "--prefix", "never")[0] == b"one\nand \xff no endtwo\n"
    assert shown(here, "logs", "job/tiles/2", "--prefix", "always")[0] == b"tiles/2 | two\n"
    assert shown(here, "logs", "tiles/2", "tiles/1", "tiles/2")[0] == out


def test_tail_failed_and_objects(here: Workplace) -> None:
    ended(here, "tiles", {1: lines(0, 100), 2: lines(0, 100), 3: b"x\n"})
    assert shown(here, "logs", "tiles/2", "--tail", "3")[0] == lines(97, 100)
    assert shown(here, "logs", "tiles/2", "--tail", "0") == (b"", "")
    out, _ = shown(here, "logs", "tiles", "--failed", "--tail", "1")
    assert out == b"tiles/1 | " + lines(99, 100) + b"tiles/3 | x\n"
    out, _ = shown(here, "logs", "tiles/2-3", "--tail", "1", "-o", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"log": "tiles/2", "line": lines(99, 100).decode().rstrip("\n")},
        {"log": "tiles/3", "line": "x"},
    ]


def test_save_writes_a_file_each_and_says_where(here: Workplace) -> None:
    ended(here, "tiles", {number: b"%d\n" % number for number in range(1, 12)})
    out, err = shown(here, "logs", "tiles", "--save", "saved")
    assert out.decode().splitlines() == [str(here.root / "saved" / f"tiles-{n:02d}.log") for n in range(1, 12)]
    assert err == f"tiles on local (this machine): 11 logs saved in {here.root / 'saved'}\n"
    assert (here.root / "saved" / "tiles-07.log").read_bytes() == b"7\n"
    assert len(list((here.root / "saved").iterdir())) == 11


def test_what_cannot_be_asked_is_refused(here: Workplace) -> None:
    ended(here, "tiles", {1: b"one\n"})
    refused = {
        "tiels": "did you mean 'tiles'",
        "tiles/4": "the job has replicas 1 to 1",
        "tiles -f --save x": "do not go together",
        "tiles --attempt 0": "a number from 1",
        "tiles --attempt 7": "tiles has no attempt 7",
        "tiles --tail -2": "at least 0",
        "tiles -o json": "jsonl",
        "tiles --item x": "tiles has no items",
        "": "logs: missing argument TARGET",
    }
    for done, (words, text) in zip(here.each(*(f"logs {words}" for words in refused)), refused.items(), strict=True):
        assert (done.returncode, text in done.stderr) == (2, True), (words, done)


def test_an_item_s_own_part(here: Workplace) -> None:
    mark = b"::skahactl item %d exit %d\n"
    text = b"first\n" + mark % (1, 0) + b"second\nhalf" + mark % (2, 3) + mark % (3, 0) + b"still runs\n"
    items = [["m31", "m33", "m51", "m81", "m82"], ["7"]]
    run = ended(here, "tiles", {1: text, 2: b"of seven\n"}, items=items)
    with open_ledger(here.state) as ledger:
        with ledger.transaction() as connection:
            connection.execute("UPDATE replicas SET each = '[\"\", []]' WHERE run = ? AND number = 1", (run.id,))
        record_items(ledger, run.id, 1, 1, [(1, 0), (2, 3), (3, 0)])
    wanted = {
        "m31": "first\n",
        "m33": "second\nhalf\n",
        "2": "second\nhalf\n",
        "m33 --tail 1": "half\n",
        "m51": "",
        "m81": "still runs\n",
        "7": "of seven\n",
    }
    lines = (f"logs tiles --item {words}" for words in (*wanted, "m82", "m8"))
    *good, nothing, unknown = here.each(*lines)
    assert [(answer.returncode, answer.stdout) for answer in good] == [(0, text) for text in wanted.values()]
    assert good[0].stderr == ""
    assert (nothing.returncode, "nothing of item 'm82'" in nothing.stderr) == (1, True)
    assert (unknown.returncode, "did you mean 'm81'" in unknown.stderr) == (2, True)


def test_an_item_that_has_not_started_has_written_nothing_yet(here: Workplace) -> None:
    more = "[items]\nvalues = ['a', 'b']\neach = true\n"
    here.run("apply", here.job("long", "echo {item}; sleep 600", more=more))
    try:
        wait_for(lambda: "a" in here.run("logs", "long", expect=None).stdout, every=0.5)
        done = here.run("logs", "long", "--item", "b", expect=1)
        assert done.stderr == "long/1.1: item 'b' has written nothing yet (the replica is Running)\n"
    finally:
        here.clear("long")


def test_attempts_of_a_job_with_one_replica_have_the_replica_in_their_prefix(here: Workplace) -> None:
    here.run("apply", here.job("one", "echo x; false", more="[retry]\nattempts = 2\n"), "--wait", expect=1)
    assert here.run("logs", "one", "--attempt", "all").stdout.splitlines() == ["one/1.1 | x", "one/1.2 | x"]
    assert here.run("logs", "one", "--attempt", "2", "--prefix", "always").stdout == "one/1.2 | x\n"
    assert here.run("logs", "one", "-f", "--prefix", "always").stdout == "one/1.2 | x\n"


def test_an_unfinished_copy_is_shown_when_the_platform_has_nothing_more(here: Workplace) -> None:
    run = ended(here, "tiles", {1: b"so far\n", 2: None})
    with open_ledger(here.state) as ledger:
        attempts.set_attempt(ledger, attempts.attempts_of(ledger, run.id, 1)[0], {"log": "incomplete"})
    out, err = shown(here, "logs", "tiles/1")
    assert (out, err) == (b"so far\n", "tiles/1: an unfinished copy; the platform has nothing more\n")
    assert (
        "tiles/2: log not available: the server has discarded it, and no copy was saved"
        in shown(here, "logs", "tiles", expect=1)[1]
    )


def test_a_reader_that_goes_away_is_not_an_error(here: Workplace) -> None:
    ended(here, "tiles", {number: lines(0, 40_000) for number in range(1, 5)})
    command = f"{sys.executable} -m skahactl logs tiles | head -1; echo ${{PIPESTATUS[0]}}"
    assert shown(here, command, program=SHELL) == (b"tiles/1 | " + lines(0, 1) + b"141\n", "")


def test_a_log_here_of_any_size_is_shown_in_bounded_memory(here: Workplace) -> None:
    ended(here, "tiles", {2: lines(0, 2_000_000)}, total=2)
    code = (
        "import sys\nfrom skahactl.cli import main\ncode = main(sys.argv[1:])\n"
        "print([line for line in open('/proc/self/status') if 'VmHWM' in line][0], file=sys.stderr)\nsys.exit(code)"
    )
    for words in (["--prefix", "always"], ["--tail", "1500000"]):
        done = here.run(code, "logs", "tiles/2", *words, program=PYTHON, stdout=subprocess.DEVNULL)
        peak = re.search(r"VmHWM:\s*(\d+) kB", done.stderr)
        assert peak is not None
        assert int(peak[1]) < 100_000, words


# The local platform


JOB = """
name = "count"
image = "images.canfar.net/skaha/terminal:1.1.1"
replicas = 2
shell = '''
for i in 1 2 3 4 5 6; do echo "line $i of $REPLICA_ID"; sleep 0.2; done; printf end; exit $((REPLICA_ID - 1))'''
"""


def test_follow_to_the_end_of_every_replica(here: Workplace) -> None:
    here.write("job.toml", JOB)
    shown(here, "apply", "job.toml")
    out, _ = shown(here, "logs", "-f", "count")
    found = out.decode().splitlines()
    for replica in (1, 2):
        mine = [line for line in found if line.startswith(f"count/{replica} | ")]
        wanted = [f"line {n} of {replica}" for n in range(1, 7)] + ["end"]
        assert mine == [f"count/{replica} | {line}" for line in wanted]
    assert len(found) == 14
    assert shown(here, "logs", "count", "--failed", "--tail", "1")[0] == b"end"


RETRY = """
name = "again"
image = "images.canfar.net/skaha/terminal:1.1.1"
replicas = 2
retry.attempts = 2
shell = '''
echo "attempt ${SKAHACTL_ATTEMPT:-1} of $REPLICA_ID"
while [ ! -e GO ]; do sleep 0.1; done; [ $REPLICA_ID = 1 ] || [ "$SKAHACTL_ATTEMPT" = 2 ]'''
"""


def test_attempts_that_a_driver_makes_are_followed_as_they_appear(here: Workplace) -> None:
    go = here.root / "go"
    here.write("job.toml", RETRY.replace("GO", str(go)))
    driver = here.start("apply", "job.toml", "--wait")
    try:
        wait_for(lambda: here.run("logs", "again", expect=None).stdout.count("\n") == 2, every=0.5)
        follower = here.start("logs", "-f", "again")
        assert follower.stdout is not None
        first = follower.stdout.readline() + follower.stdout.readline()
        go.touch()  # both first attempts are followed by now
        out, err = follower.communicate(timeout=120)
        assert follower.returncode == 0, err
        assert sorted((first + out).splitlines()) == [
            "again/1 | attempt 1 of 1",
            "again/2 | attempt 1 of 2",
            "again/2.2 | attempt 2 of 2",
        ]
        driver.communicate(timeout=120)
        assert driver.returncode == 0
    finally:
        end(driver)
    assert shown(here, "logs", "again/2")[0] == b"attempt 2 of 2\n"
    assert shown(here, "logs", "again/2", "--attempt", "1")[0] == b"attempt 1 of 2\n"
    assert shown(here, "logs", "again", "--attempt", "all")[0].splitlines() == [
        b"again/1.1 | attempt 1 of 1",
        b"again/2.1 | attempt 1 of 2",
        b"again/2.2 | attempt 2 of 2",
    ]


def test_ctrl_c_while_following(here: Workplace) -> None:
    here.write("job.toml", JOB.replace("sleep 0.2", "sleep 30"))
    shown(here, "apply", "job.toml")
    terminal = here.at_a_terminal("logs", "-f", "count")
    try:
        terminal.read_until(b"of 2")
        os.write(terminal.master, b"\x03")
        terminal.ended()
    finally:
        shown(here, "delete", "count")
    assert terminal.returncode == -signal.SIGINT
    assert b"Traceback" not in terminal.text
    assert b"\x1b[?25l" not in terminal.text
    assert terminal.text.removesuffix(b"^C").endswith(b"\n")
    assert re.search(rb"\x1b\[\d+mcount/1 \|\x1b\[0m line 1 of 1\r\n", terminal.text)


# A server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", {"log_lines": 2}) as server:
        yield server


def test_sessions_that_are_none_of_ours(tmp_path: Path, server: Server) -> None:
    here = Workplace(tmp_path / "here", server)
    done = server.tell("session", name="theirs-1", status="Completed")["id"]
    waiting = server.tell("session", name="theirs-2", status="Pending")["id"]
    text = "theirs-1: line 1 of 2\ntheirs-1: line 2 of 2\n"
    wanted = {
        (done,): (0, text),
        ("theirs-1",): (0, text),
        ("-f", done): (0, text),
        (waiting,): (1, ""),
        ("abcd1234",): (2, ""),
        (done, waiting): (0, "".join(f"{done} | {line}\n" for line in text.splitlines())),
    }
    answers = here.each(*(("logs", *words) for words in wanted))
    told = dict(zip(wanted, answers, strict=True))
    assert {words: (answer.returncode, answer.stdout) for words, answer in told.items()} == wanted
    assert told[(waiting,)].stderr == f"{waiting}: Pending, no log yet\n"
    assert told[("abcd1234",)].stderr.startswith("error: no job or session 'abcd1234' on ")


def test_a_server_that_is_away(tmp_path: Path, server: Server) -> None:
    here = Workplace(tmp_path / "here", server)
    done = server.tell("session", name="theirs-1", status="Completed")["id"]
    server.tell("outage", kind="drop", seconds=60)
    out = here.run("logs", done, expect=4)
    assert out.stdout == ""
    assert "1 log could not be read" in out.stderr
    place = f"{here.root}/profile.toml ({server.base.removeprefix('http://')})"
    assert f"error: {place}: the connection broke" in out.stderr
    assert here.run("logs", done, "--save", "there", expect=4).stdout == ""
    assert list((here.root / "there").iterdir()) == [] if (here.root / "there").exists() else True
    for kind, words in (("error", "the server replied 500"), ("gateway", "the server replied 50")):
        server.tell("outage", kind=kind, seconds=60)
        verbs = ("logs", "delete", "describe", "renew")
        for answer in here.each(*(f"{verb} {done}" for verb in verbs)):
            assert answer.returncode == 4, answer
            assert f"error: {place}: {words}" in answer.stderr, answer


def test_the_copy_answers_when_the_platform_has_discarded_it(tmp_path: Path, server: Server) -> None:
    here = Workplace(tmp_path / "here", server, client={"poll-max": 0.3})
    server.tell("plan", running=[0.2, 0.2], pending=[0, 0])
    here.write(
        "job.toml",
        'name = "tiles"\nimage = "images.canfar.net/skaha/terminal:1.1.1"\ncommand = ["true"]\nreplicas = 3\n',
    )
    here.run("apply", "job.toml", "--wait")
    before = here.run("logs", "tiles").stdout
    assert len(before.splitlines()) == 6
    server.tell("forget")
    server.tell("outage", kind="drop", seconds=60)
    again = here.run("logs", "tiles")
    assert (again.stdout, again.stderr) == (before, "")
    assert here.run("logs", "-f", "tiles", "--tail", "1").stdout.splitlines() == before.splitlines()[1::2]


def test_what_is_pending_has_no_log_yet(tmp_path: Path, server: Server) -> None:
    here = Workplace(tmp_path / "here", server)
    server.tell("plan", pending=[600, 600])
    image = 'image = "images.canfar.net/skaha/terminal:1.1.1"'
    here.write("job.toml", f'name = "tiles"\n{image}\ncommand = ["true"]\nreplicas = 9\nlimits.alive = 6\n')
    here.run("apply", "job.toml")
    out = here.run("logs", "tiles", expect=1)
    assert out.stdout == ""
    assert out.stderr.splitlines()[0] == "6 logs (tiles/1, tiles/2, tiles/3, ...): Pending, no log yet"
    assert out.stderr.splitlines()[1].startswith("tiles/7, tiles/8, tiles/9: not created yet")


# prune


def test_prune_forgets_what_is_old_and_ended(here: Workplace) -> None:
    month = 31 * 86400.0
    old = ended(here, "tiles", {1: b"x" * 3000}, now=time.time() - month)
    ended(here, "tiles", {1: b"new\n"})
    with open_ledger(here.state) as ledger:
        alive = ledgers.add(ledger, ledgers.job("alive", 1), user="", now=time.time() - month)
        ledgers.start(ledger, alive, [1])
    kept = log_path(here.state, old, 1, 1)
    out, err = shown(here, "prune", "--dry-run")
    assert out.decode().startswith("tiles  run 1  Failed  ended 20")
    assert "would forget 1 run, 3.0 kB of logs" in err
    assert "1 run kept: not ended, or the end is not known" in err
    assert kept.exists()
    assert "--yes" in shown(here, "prune", expect=2)[1]
    out, _ = shown(here, "prune", "--logs", "--yes", "-o", "json")
    assert [(row["name"], row["run"], row["log_bytes"]) for row in json.loads(out)] == [("tiles", 1, 3000)]
    assert not kept.exists()
    assert shown(here, "prune", "--logs", "--yes")[0] == b""
    assert "forgot 1 run" in shown(here, "prune", "tiles", "--yes")[1]
    with open_ledger(here.state) as ledger:
        assert [run.number for run in runs.runs_of(ledger, old.key)] == [2]
        assert runs.run_by_id(ledger, alive.id) is not None
    assert shown(here, "logs", "tiles")[0] == b"new\n"
    assert "skahactl delete survey" in shown(here, "prune", "survey", expect=2)[1]


def test_logs_that_were_removed_by_hand_are_lost(here: Workplace) -> None:
    here.slots(4, memory=1)
    here.run("apply", here.job("wordy", "echo a word", 2), "--wait")
    for path in (here.state / "logs").rglob("*.log"):
        path.unlink()
    wait_for(lambda: here.data("get", "sessions") == [])
    for words in (("logs", "wordy"), ("logs", "wordy", "-f")):
        told = here.run(*words, expect=1).stderr
        assert "log not available" in told
        assert "empty" not in told
