"""get, describe and events as a person calls them: the real command, on a ledger made beforehand, against a server on
a real socket or none at all."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from skahactl.engine import snapshot
from skahactl.engine.progress import most_at_once
from skahactl.ledger import replicas, runs
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.database import FILE, open_ledger
from skahactl.ledger.lock import acquire
from skahactl.ledger.records import JobKey
from skahactl.model import State
from skahactl.profile import LOCAL_SERVER, Profile
from tests import ledgers
from tests.skaha_server.process import Server, running
from tests.workplace import PYTHON, Workplace, wait_for

pytestmark = pytest.mark.once


def words(text: str) -> list[str]:
    """The fields as the manual lists them."""
    return text.split()


JOB_FIELDS = words(
    "name profile server user run digest kind image status reason replicas counts items attempts limits created "
    "started ended observed deadline manifest logs shared driver"
)
REPLICA_FIELDS = words(
    "job run replica of state reason session name attempt attempts items image resources usage started finished "
    "finished_after ran deadline observed exit_code source last_line log url"
)
STATES = [
    "Queued",
    "Creating",
    "Unconfirmed",
    "Pending",
    "Running",
    "Completed",
    "Failed",
    "Rejected",
    "Unknown",
    "Deleted",
    "Skipped",
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """``tiles`` in six states, and ``merge``, Queued as a whole; only read by the tests."""
    made = Workplace(tmp_path_factory.mktemp("home"))
    ledger, _ = ledgers.survey(made.state)
    with ledger:
        ledgers.add(ledger, ledgers.job("merge", 1, after=("tiles",)), now=ledgers.NOW + 10)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), {"user": "alice"}) as started:
        yield started


def columns(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_jobs_as_a_table(here: Workplace) -> None:
    lines = here.run("get", "jobs", "--cached").stdout.splitlines()
    assert [columns(line)[:9] for line in lines] == [
        ["NAME", "RUN", "STATUS", "COMPLETED", "RUNNING", "PENDING", "QUEUED", "FAILED", "OTHER"],
        ["merge", "1", "Queued", "0/1", "0", "0", "1", "0", "-"],
        ["tiles", "1", "Running", "2/6", "1", "1", "1", "1", "-"],
    ]


def test_a_table_in_a_pipe_is_a_line_a_row_and_nothing_is_cut(here: Workplace) -> None:
    lines = here.run("get", "replicas", "tiles", "--cached", "-o", "wide").stdout.splitlines()
    assert len(lines) == 7
    assert len({len(columns(line)) for line in lines}) == 1
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) > 100


def test_jobs_have_the_fields_of_the_manual(here: Workplace) -> None:
    tiles = next(row for row in here.data("get", "jobs", "--cached") if row["name"] == "tiles")
    assert list(tiles) == JOB_FIELDS
    assert tiles["counts"] == {
        **dict.fromkeys(STATES, 0),
        **dict.fromkeys(STATES[3:7], 1),
        "Completed": 2,
        "Queued": 1,
    }
    assert tiles["items"] == {"total": 12, "completed": 4, "failed": 2}
    assert tiles["limits"] == {"alive": 10, "pending": None, "pending_timeout": None, "failures": None}
    assert (tiles["created"], tiles["ended"], tiles["driver"]) == ("2025-11-24T16:00:00Z", None, None)
    assert tiles["logs"] == f"{here.state}/logs/alice@local/tiles/1-20251124T160000Z"


def test_replicas_have_the_fields_of_the_manual(here: Workplace) -> None:
    rows = here.data("get", "tiles", "--cached")
    assert all(list(row) == REPLICA_FIELDS for row in rows)
    first, last = rows[0], rows[-1]
    assert first["log"] == {"path": None, "shared": None, "bytes": None, "complete": None}
    assert first["resources"] == {"cores": 2, "ram": 8, "gpus": None}
    assert (first["started"], first["finished"]) == ("2025-11-24T16:01:00Z", "2025-11-24T16:06:00Z")
    assert (first["items"], first["of"], first["attempts"]) == (["tile1a", "tile1b"], 6, 1)
    assert (last["state"], last["session"], last["name"], last["attempt"]) == ("Queued", None, "tiles-6-abcde", 0)
    assert last["observed"] == "2025-11-24T16:11:40Z"


def test_a_queued_replica_has_its_reason(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    manifest = here.job("shards", "until [ -e go ]; do sleep 0.1; done", 3, "[limits]\nalive = 2")
    merge = here.job("merge", "true", 1, 'after = ["shards"]')
    here.run("apply", manifest, merge)

    def reasons(job: str) -> list[str | None]:
        return [row["reason"] for row in here.data("get", "replicas", job)]

    assert reasons("shards") == [None, None, "limit of 2 sessions"]
    assert reasons("merge") == ["after shards, which is Running"]
    (here.root / "go").touch()
    here.run("wait", "shards/1,2")
    assert reasons("shards") == [None, None, "no driver is running"]
    here.run("resume", "shards")


def test_items_follow_their_replica_unless_they_reported_their_own_end(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    ledger, run = ledgers.survey(here.state)
    with ledger:
        replicas.record_items(ledger, run.id, 3, 1, [(1, 0), (2, 7)])
    rows = here.data("get", "items", "tiles/3,6", "--cached")
    assert [(row["item"], row["state"], row["exit_code"]) for row in rows] == [
        ("tile3a", "Completed", 0),
        ("tile3b", "Failed", 7),
        ("tile6a", "Queued", None),
        ("tile6b", "Queued", None),
    ]
    assert list(rows[0]) == ["job", "run", "replica", "number", "position", "item", "state", "attempt", "exit_code"]


def test_jsonl_and_names(here: Workplace) -> None:
    lines = here.run("get", "replicas", "tiles", "--cached", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == here.data("get", "replicas", "tiles", "--cached")
    assert here.run("get", "jobs", "--cached", "-o", "name").stdout.splitlines() == ["merge", "tiles"]
    failed = here.run("get", "replicas", "--state", "failed,running", "--cached", "-o", "name").stdout.splitlines()
    assert failed == ["tiles/3", "tiles/4"]


@pytest.mark.parametrize("output", ["name", "table", "csv", "jsonl"])
def test_rows_are_written_at_once_so_that_head_does_not_cut_them_short(here: Workplace, output: str) -> None:
    writer, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a write is a packet
    with writer, reader:
        unbuffered = {"PYTHONUNBUFFERED": "1"}
        here.run("get", "replicas", "tiles", "--cached", "-o", output, stdout=writer.fileno(), extra=unbuffered)
        assert reader.recv(1 << 16).count(b"\n") >= 4


def test_names_are_targets_again(here: Workplace) -> None:
    names = here.run("get", "replicas", "tiles", "--cached", "-o", "name").stdout.splitlines()
    rows = here.data("get", "replicas", *names, "--cached")
    assert [f"{row['job']}/{row['replica']}" for row in rows] == names


def test_ways_to_say_replicas_of_a_job(here: Workplace) -> None:
    ways = ("get tiles", "get replica tiles", "get replicas/tiles", "get replicas job/tiles")
    for done in here.each(*(f"{way} --cached --no-headers" for way in ways)):
        assert (done.returncode, done.stdout.count("\n")) == (0, 6), done


def test_sorting_puts_the_unknown_last(here: Workplace) -> None:
    orders = {
        "started": [1, 2, 3, 4, 5, 6],
        "-finished": [2, 1, 3, 4, 5, 6],
        "-replica": [6, 5, 4, 3, 2, 1],
        "STATE": [1, 2, 3, 5, 6, 4],
        "resources.cores": [1, 2, 3, 4, 5, 6],
    }
    lines = (f"get tiles --cached -o json --sort-by {key}".split() for key in orders)
    answers = here.each(*lines)
    found = [[row["replica"] for row in json.loads(done.stdout)] for done in answers]
    assert dict(zip(orders, found, strict=True)) == orders


def test_csv_has_a_column_for_each_field_and_yaml_is_json(here: Workplace) -> None:
    rows = list(csv.DictReader(here.run("get", "replicas", "tiles", "--cached", "-o", "csv").stdout.splitlines()))
    assert [row["replica"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert (rows[0]["items"], rows[0]["resources.cores"], rows[5]["session"]) == ("tile1a tile1b", "2", "")
    jobs = list(csv.DictReader(here.run("get", "jobs", "--cached", "-o", "csv").stdout.splitlines()))
    assert {row["name"]: row["counts.Completed"] for row in jobs}["tiles"] == "2"
    text = here.run("get", "items", "tiles", "--cached", "-o", "yaml").stdout
    assert json.loads(text) == here.data("get", "items", "tiles", "--cached")


def test_limit_says_what_is_left_out(here: Workplace) -> None:
    done = here.run("get", "tiles", "--cached", "--limit", "2", "--no-headers")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == "4 more rows not shown (--limit 2)\n"


def test_runs_of_a_job(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    ledger, _ = ledgers.survey(here.state)
    with ledger:
        ledgers.add(ledger, ledgers.job("tiles", 2), now=ledgers.NOW + 1000)
    assert len(here.data("get", "tiles", "--cached")) == 2
    assert len(here.data("get", "tiles", "--cached", "--run", "1")) == 6
    assert [row["run"] for row in here.data("get", "jobs", "--cached")] == [2]


MISTAKES = (
    (("get", "tilse", "--cached"), "did you mean 'tiles'?"),
    (
        ("get", "jobs", "catalogs"),
        "no job or session 'catalogs' in the local record",
    ),  # eight letters, as the id of a session
    (("get", "items", "catalogs", "--cached"), "no job or session 'catalogs' in the local record"),
    (("get", "replicsa", "--cached"), "did you mean 'get replicas'?"),
    (("get", "jobs", "--state", "Runing"), "did you mean 'Running'?"),
    (("get", "jobs", "--cached", "--sort-by", "nam"), "did you mean 'name'?"),
    (("get", "tiles", "--run", "7"), "tiles has no run 7"),
    (("get", "tiles/9", "--cached"), "tiles: replica 9 does not exist: the job has replicas 1 to 6"),
    (("get", "sessions", "--cached"), "the local record has no sessions\nhelp: leave out --cached"),
    (("get", "images", "-w"), "images cannot be watched"),
    (("get", "stats", "--state", "Failed"), "stats have no state"),
    (("get", "jobs", "--limit", "0"), "at least 1"),
    (("get", "jobs", "-r", "1"), "-r and --run need a job\nhelp: skahactl get jobs JOB"),
    (("get", "manifest", "tiles", "--cached"), "'manifest' is not a noun\nhelp: the nouns are jobs, "),
    (("get", "stats", "tiles"), "stats describe the whole platform"),
    (("describe",), "describe: missing argument TARGET"),
    (("describe", "a1b2c3d4", "--cached"), "no record of a session 'a1b2c3d4'"),
    (("events",), "events: missing argument TARGET"),
)


def test_mistakes_are_reported_and_nothing_is_printed(here: Workplace) -> None:
    answers = here.each(*(words for words, _ in MISTAKES))
    for (_, said), done in zip(MISTAKES, answers, strict=True):
        assert (done.returncode, done.stdout) == (2, ""), done
        assert said in done.stderr


def test_what_is_read_is_not_written(here: Workplace) -> None:
    before = (here.state / FILE).read_bytes()
    here.run("get", "jobs", "--cached")
    here.run("describe", "tiles", "--cached")
    assert (here.state / FILE).read_bytes() == before


def test_without_a_ledger_there_is_nothing_and_nothing_is_made(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    done = here.run("get", "jobs", "--cached")
    assert (done.stdout, done.stderr) == ("", "no jobs in the local record for local\n")
    assert here.data("get", "jobs", "--cached") == []
    assert not here.state.exists()


def test_describe_tells_it_all(here: Workplace) -> None:
    text = here.run("describe", "tiles", "--cached").stdout
    assert text.startswith("tiles on local (this machine)\n▸ Running: of 6 replicas, 2 Completed, 1 Running, 1 Pending")
    assert text.index("Failures") < text.index("Job") < text.index("Replicas") < text.index("Timeline")
    for part in (
        "replica 3  no reason is known",
        "Replicas    6: 2 Completed, 1 Running, 1 Pending, 1 Queued, 1 Failed",
        "Items       12: 4 completed, 2 failed",
        "Limits      10 alive, 1 attempt per replica",
        "Manifest    tiles.toml",
        "Driver      none",
        f"Logs        {here.state}/logs/alice@local/tiles/1-20251124T160000Z (0 B)",
        "replica 4: the platform restarted tiles-4-abcde",
    ):
        assert part in text
    timeline = text[text.index("Timeline") : text.index("History")].splitlines()
    assert [line.split()[0] for line in timeline[2:7]] == ["1", "2", "3", "4", "5"]
    assert all("waited" in line or "start unknown" in line for line in timeline[2:7])
    assert sum("waited" in line for line in timeline[2:7]) == 2


def test_describe_as_data(here: Workplace) -> None:
    found = here.data("describe", "tiles/3", "--cached")
    assert list(found["job"]) == JOB_FIELDS
    (replica,) = found["replicas"]
    assert list(replica) == [*REPLICA_FIELDS, "tried"]
    assert [(tried["attempt"], tried["state"], tried["session"]) for tried in replica["tried"]] == [
        (1, "Failed", "s0110003")
    ]
    assert found["history"] == []
    both = here.data("describe", "tiles/3", "merge", "--cached")
    assert [one["job"]["name"] for one in both] == ["tiles", "merge"]
    lines = here.run("describe", "tiles/3", "merge", "--cached", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == both


def test_replicas_of_one_job_are_described_together(here: Workplace) -> None:
    described = here.data("describe", "tiles/4", "tiles-1-abcde", "tiles/3", "--cached")
    assert [row["replica"] for row in described["replicas"]] == [1, 3, 4]
    assert here.run("describe", "tiles/4", "tiles/1", "--cached").stdout.count("tiles on local") == 1


def test_what_waits_on_a_server_is_drawn_as_waiting(tmp_path: Path) -> None:
    """startTime is when the platform took the session in; it may be Pending for long after that."""
    with running(tmp_path / "server", {"pending": [100, 100]}) as server:
        here = Workplace(tmp_path / "here", server)
        here.run("create", "headless", "images.canfar.net/a/b:1", "-n", "queue", "-r", "2", "--", "x")
        server.tell("plan", pending=[0, 0])
        here.run("create", "headless", "images.canfar.net/a/b:1", "-n", "up", "--", "x")
        first = here.data("get", "replicas", "queue")[0]
        assert (first["state"], first["started"] is None) == ("Pending", False)
        assert drawn(here, "queue") == ["Pending, waited"] * 2
        assert drawn(here, "up") == ["waited, runs"]
        here.run("delete", "queue", "up")
        assert drawn(here, "queue") == ["Deleted, waited"] * 2
        assert drawn(here, "up") == ["Deleted, waited, ran"]


def drawn(here: Workplace, job: str) -> list[str]:
    """What the timeline says of each attempt, without the numbers."""
    lines = here.run("describe", job).stdout.partition("Timeline")[2].partition("\n\n")[0].splitlines()[2:]
    return [re.sub(r" \d+ (ms|s|min)", "", re.split(" {2,}", line)[-1]) for line in lines]


def elsewhere(tmp_path: Path, server: Server) -> tuple[Workplace, dict[int, str]]:
    """A job of four on the server: 1 Running and 2 Completed there, 3 not there any more, 4 Queued; the ledger has all
    three Pending."""
    here = Workplace(tmp_path / "here", server)
    ids = {
        1: server.tell("session", name="field-1-abcde")["id"],
        2: server.tell("session", name="field-2-abcde", status="Completed")["id"],
        3: "gone0000",
    }
    with open_ledger(here.state) as ledger:
        run = ledgers.add(ledger, ledgers.job("field", 4), server=server.url)
        ledgers.start(ledger, run, (1, 2, 3), ids=ids)
        runs.set_run(ledger, run.id, observed=time.time() - 180)
    return here, ids


def test_one_poll_brings_what_has_not_ended_up_to_date(tmp_path: Path, server: Server) -> None:
    here, ids = elsewhere(tmp_path, server)
    asked = server.counts().get("list", 0)
    rows = here.data("get", "field")
    assert server.counts()["list"] == asked + 1
    assert [(row["state"], row["session"]) for row in rows] == [
        ("Running", ids[1]),
        ("Completed", ids[2]),
        ("Unknown", ids[3]),
        ("Queued", None),
    ]
    assert rows[2]["reason"] == "the replica finished unobserved, and the server has discarded its result"
    assert rows[0]["started"] is not None
    (job,) = here.data("get", "jobs")
    assert {state: count for state, count in job["counts"].items() if count} == {
        "Queued": 1,
        "Running": 1,
        "Completed": 1,
        "Unknown": 1,
    }
    recorded = [row["state"] for row in here.data("get", "field", "--cached")]
    assert recorded == ["Running", "Completed", "Unknown", "Queued"]  # a poll is never wasted


def test_sessions_are_the_platforms_with_what_they_are_to_us(tmp_path: Path, server: Server) -> None:
    here, ids = elsewhere(tmp_path, server)
    other = server.tell("session", name="my-notebook", kind="notebook")["id"]
    lines = {
        "all": "get sessions -o json",
        "names": "get sessions field -o name",
        "named": f"get sessions field/1 field/2 {ids[2]} my-notebook -o json",
        "notebook": "get sessions my-notebook -o json",
        "unknown": "get sessions a1b2c3d4",
        "described": f"describe {other}",
        "as data": f"describe {other} -o json",
    }
    told = dict(zip(lines, here.each(*lines.values()), strict=True))
    rows = {row["id"]: row for row in json.loads(told["all"].stdout)}
    assert rows[ids[1]]["skahactl"] == {"job": "field", "run": 1, "replica": 1, "attempt": 1}
    assert rows[other]["skahactl"] is None
    assert rows[other]["userid"] == "alice"
    assert told["names"].stdout.split() == sorted([ids[1], ids[2]])
    assert {row["id"] for row in json.loads(told["named"].stdout)} == {ids[1], ids[2], other}
    (notebook,) = json.loads(told["notebook"].stdout)
    assert notebook["id"] == other
    assert (told["unknown"].returncode, "no session 'a1b2c3d4'" in told["unknown"].stderr) == (2, True)
    assert re.search(r"URL +https?://\S+" + other, told["described"].stdout)
    assert json.loads(told["as data"].stdout)["session"]["id"] == other


def test_images_resources_and_events(tmp_path: Path, server: Server) -> None:
    here, ids = elsewhere(tmp_path, server)
    waiting = server.tell("session", name="waits", status="Pending")["id"]
    lines = (
        "get images astroml -o name",
        "get resources -o json",
        "get resources",
        f"get events {waiting} -o json",
        "events field/1 -o json",
        "events field/3",
    )
    answers = here.each(*lines)
    assert [done.returncode for done in answers] == [0] * len(lines), answers
    images, resources, table, events, of_first, of_third = (done.stdout for done in answers)
    assert images.split() == ["images.canfar.net/skaha/astroml:latest"]
    assert "options" in json.loads(resources)["cores"]
    assert "cores                 1-16 (default 2)" in table
    (event, *_) = json.loads(events)
    assert list(event) == ["session", "job", "run", "replica", "type", "reason", "message", "first", "last"]
    assert event["session"] == waiting
    assert [row["replica"] for row in json.loads(of_first)][:1] == [1]
    assert ids[1] not in of_third


def test_without_a_network_the_record_is_shown_and_said(tmp_path: Path, server: Server) -> None:
    here, _ = elsewhere(tmp_path, server)
    profile = (here.root / "profile.toml").read_text().replace(server.url, "http://127.0.0.1:9/skaha/v1")
    with open_ledger(here.state) as ledger, ledger.transaction() as connection:
        connection.execute("UPDATE jobs SET server = 'http://127.0.0.1:9/skaha/v1'")
    here.write("profile.toml", profile)
    shown = {"get jobs": "field", "get field": "field/1", "describe field": "field on"}
    *told, data, cached, sessions = here.each(*shown, "get jobs -o json", "get jobs --cached", "get sessions")
    for part, done in zip(shown.values(), told, strict=True):
        assert (done.returncode, part in done.stdout) == (4, True), done
        assert re.search("showing the local record, last observed 3 min( [0-9]+ s)? ago", done.stderr)
    assert (data.returncode, json.loads(data.stdout)[0]["counts"]["Pending"]) == (4, 3)
    assert (cached.returncode, cached.stderr) == (0, "")
    assert (sessions.returncode, sessions.stdout) == (4, "")


def test_another_users_list_says_nothing_of_ours(tmp_path: Path, server: Server) -> None:
    here, _ = elsewhere(tmp_path, server)
    with open_ledger(here.state) as ledger, ledger.transaction() as connection:
        connection.execute("UPDATE jobs SET user = 'bob'")
    done = here.run("get", "field", expect=3)
    assert "the server reports user alice, but field belongs to bob" in done.stderr
    assert done.stdout.count("Pending") == 3


def test_watching_appends_what_changed_until_the_end(tmp_path: Path, server: Server) -> None:
    here, ids = elsewhere(tmp_path, server)
    with open_ledger(here.state) as ledger:
        found = runs.run_by_id(ledger, 1)
        assert found is not None
        replicas.request_delete(ledger, 1, [4])
        ledgers.move(ledger, found, {3: (State.UNKNOWN, None, None)})
    process = here.start("get", "field", "-w")
    assert process.stdout is not None
    assert process.stderr is not None
    guard = threading.Timer(30, process.kill)
    guard.start()
    with process.stdout, process.stderr, contextlib.closing(SimpleNamespace(close=guard.cancel)):
        first = [process.stdout.readline() for _ in range(5)]
        assert [columns(line.strip())[:2] for line in first[1:3]] == [["field/1", "Running"], ["field/2", "Completed"]]
        polls = server.counts()["list"]
        wait_for(lambda: server.counts()["list"] >= polls + 2)  # which measure its usage anew
        server.tell("finish", sessions=[ids[1]])
        rest = process.stdout.read().splitlines()
        assert [columns(line)[:2] for line in rest] == [["field/1", "Completed"]]
        assert process.wait(timeout=120) == 0


def test_items_of_several_jobs_that_do_not_change_are_shown_once(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    ledger, tiles = ledgers.survey(here.state)
    with ledger:
        ledgers.add(ledger, ledgers.job("fields", 1, items=[["tile1a"]]))
        process = here.start("get", "items", "tiles/1", "fields", "--cached", "-w", "-o", "jsonl")
        assert process.stdout is not None
        assert process.stderr is not None
        guard = threading.Timer(30, process.kill)
        guard.start()
        with process.stdout, process.stderr, contextlib.closing(SimpleNamespace(close=guard.cancel)):
            rows = [json.loads(process.stdout.readline()) for _ in range(3)]
            replicas.record_items(ledger, tiles.id, 1, 1, [(2, 7)])
            rows.append(json.loads(process.stdout.readline()))
            process.kill()
            process.wait()
    assert [(row["job"], row["item"], row["state"]) for row in rows] == [
        ("tiles", "tile1a", "Completed"),
        ("tiles", "tile1b", "Completed"),
        ("fields", "tile1a", "Queued"),
        ("tiles", "tile1b", "Failed"),
    ]


def test_a_driver_that_is_gone_is_not_shown_though_its_process_number_lives(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    ledger, run = ledgers.survey(here.state)
    with ledger, multiprocessing.get_context("spawn").Pool(1) as others:
        pid = others.apply(_drive_and_let_go, (here.state, run.key))
        job = here.data("describe", "tiles", "--cached")["job"]
        assert (others.apply(os.getpid), job["driver"]) == (pid, None)
        lock = acquire(ledger, run.key, ledgers.NOW)
        assert here.data("get", "jobs", "--cached")[0]["driver"] is not None
        lock.release()


def _drive_and_let_go(state: Path, key: JobKey) -> int:
    """Leaves the row of a driver whose process goes on, and holds no lock."""
    with open_ledger(state) as ledger:
        lock = acquire(ledger, key, ledgers.NOW)
        rows = ledger.rows("SELECT * FROM drivers")
        lock.release()
        marks = ",".join("?" * len(rows[0]))
        ledger.connection.execute(f"INSERT INTO drivers VALUES ({marks})", tuple(rows[0]))
    return os.getpid()


def test_nothing_heavy_is_imported_for_a_pipe(here: Workplace) -> None:
    words = "import sys; from skahactl.cli import main; code = main(['get', 'jobs', '--cached']); "
    check = "heavy = {'httpx', 'pydantic', 'rich', 'asyncio'} & set(sys.modules); sys.exit(' '.join(heavy) or code)"
    done = here.run(words + check, program=PYTHON)
    assert done.stderr == ""
    assert "tiles" in done.stdout


def test_any_number_of_jobs_takes_the_same_few_queries(tmp_path: Path) -> None:
    """Thousands of runs answer at once: nothing is asked of the ledger for each of them."""
    profile = Profile("local", LOCAL_SERVER)
    asked: dict[int, int] = {}
    with open_ledger(tmp_path) as ledger:
        ledger.connection.execute("PRAGMA synchronous = OFF")
        made = 0
        for many in (5, 1500):
            with ledger.transaction():
                for number in range(made, many):
                    ledgers.add(ledger, ledgers.job(f"job{number}", 3))
            made = many
            statements: list[str] = []
            ledger.connection.set_trace_callback(statements.append)
            rows = snapshot.job_rows(ledger, snapshot.runs_in_question(ledger, profile, ()))
            ledger.connection.set_trace_callback(None)
            assert len(rows) == many
            asked[many] = len(statements)
    assert asked[1500] <= asked[5] + 5, asked


def test_jobs_of_a_removed_profile_are_shown_as_recorded(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    with open_ledger(here.state) as ledger:
        ledgers.add(ledger, ledgers.job("old", 1), server="https://gone.example/skaha/v1")
        ledger.connection.execute("UPDATE runs SET profile = 'gone'")
    done = here.run("get", "jobs", "-A", "-o", "json")
    assert [row["name"] for row in json.loads(done.stdout)] == ["old"]
    assert done.stderr == ""


def test_short_run_times_are_exact_on_this_machine_and_equal_in_every_view(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    here.slots(2)
    here.run("apply", here.job("short", "sleep 0.3", 8), "--wait")
    rows = here.data("get", "replicas", "short")
    assert all(0.3 <= row["ran"] < 3 for row in rows)
    with open_ledger(here.state) as ledger:
        attempts = attempts_of(ledger, 1)
    assert most_at_once((row.started or 0.0, row.finished or 0.0) for row in attempts) == 2
    whole, one = (here.run("describe", *words).stdout for words in (["short"], ["short/3"]))
    assert whole.splitlines()[1] == one.splitlines()[1]
    table = here.run("get", "replicas", "short", "--sort-by", "TIME").stdout
    longest = table.splitlines()[-1].split()
    number = longest[0].rpartition("/")[2]
    assert re.search(rf"^ +{number}  .*ran {' '.join(longest[-3:-1])}$", whole, re.MULTILINE), (table, whole)
