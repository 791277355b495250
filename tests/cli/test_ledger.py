"""The ledger's file: newer, older, damaged, read-only; its tallies; and who holds the lock."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skahactl.engine.retry import mark_results
from skahactl.errors import BusyError, LedgerError
from skahactl.ledger import attempts, replicas, runs
from skahactl.ledger.database import FILE, MIGRATIONS, VERSION, open_ledger, read_ledger, schema_version
from skahactl.ledger.lock import acquire, living_driver
from skahactl.ledger.records import JobKey
from skahactl.model import STATES, Each, State, zero_filled
from skahactl.skaha.models import CreateOutcome, CreateResult
from skahactl.system import config_dir, state_dir
from tests import ledgers
from tests.workplace import Workplace, wait_for

KEY = JobKey("local", "alice", "fits")


def test_it_is_private(tmp_path: Path) -> None:
    open_ledger(tmp_path / "state").close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert files == {FILE: 0o600, f"{FILE}-journal": 0o600}


def test_what_an_older_version_left_readable_becomes_private(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    open_ledger(tmp_path).close()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_driver_of_this_boot_is_known_to_be_gone_although_the_host_has_another_name(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 1))
        lock = acquire(ledger, run.key, 1.0)
        with ledger.transaction() as connection:
            connection.execute("UPDATE drivers SET host = 'renamed'")
        assert living_driver(ledger, run.key) is not None
        with pytest.raises(BusyError, match="renamed"):
            acquire(ledger, run.key, 2.0)
        lock._stream.close()  # as the end of its process does
        assert living_driver(ledger, run.key) is None
        acquire(ledger, run.key, 3.0).release()


def test_a_newer_one_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = (tmp_path / FILE).read_bytes()
    for opened in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match="newer skahactl"):
            opened(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_an_empty_file_of_the_oldest_version_is_migrated(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / FILE).close()
    (tmp_path / FILE).touch()
    with open_ledger(tmp_path) as ledger:
        assert ledgers.add(ledger, ledgers.job("fits", 2)).number == 1


def test_a_ledger_of_an_older_version_is_migrated_with_its_contents(tmp_path: Path) -> None:
    """The states of 0.1 get their names of 0.2, and the counts by state follow."""
    with open_ledger(tmp_path) as ledger:
        path = ledger.state_dir / FILE
        run = ledgers.add(ledger, ledgers.job("fits", 5))
        rows = [tuple(row) for row in ledger.connection.execute("SELECT * FROM runs")]
        keys = [tuple(row) for row in ledger.connection.execute("SELECT * FROM jobs")]
    path.unlink()
    old = sqlite3.connect(path, isolation_level=None)
    for script in MIGRATIONS[:2]:
        old.executescript(script)
    old.executemany(f"INSERT INTO jobs VALUES ({','.join('?' * len(keys[0]))})", keys)
    columns = [row[1] for row in old.execute("PRAGMA table_info(runs)")]
    old.executemany(f"INSERT INTO runs VALUES ({','.join('?' * len(columns))})", [row[: len(columns)] for row in rows])
    for number, state in enumerate(("Held", "Unsettled", "Refused", "Expired", "Running"), 1):
        old.execute(
            "INSERT INTO replicas (run, number, name, request, items, item_count, state, allowed)"
            " VALUES (?, ?, ?, '{}', '[]', 0, ?, 1)",
            (run.id, number, f"fits-{number}", state),
        )
    old.execute(
        "INSERT INTO attempts (run, replica, number, name, state, session, created, doubts, twins)"
        " VALUES (?, 2, 1, 'fits-2', 'Unsettled', 'abc', 0, 3, 1)",
        (run.id,),
    )
    old.execute("PRAGMA user_version = 2")
    old.close()
    for opened in (read_ledger, open_ledger):
        with opened(tmp_path) as ledger:
            assert schema_version(ledger.connection) == VERSION
            states = [row.state for row in replicas.replica_states(ledger, run.id)]
            assert states == ["Queued", "Unconfirmed", "Rejected", "Unknown", "Running"]
            counts = runs.summaries(ledger, [run])[0].counts
            assert {state: count for state, count in counts.items() if count} == dict.fromkeys(states, 1)
            (attempt,) = attempts.attempts_of(ledger, run.id)
            assert (attempt.state, attempt.ambiguous_sends, attempt.resolved_ambiguous) == ("Unconfirmed", 3, 1)
            assert attempts.known_among(ledger, ["abc"])


def test_a_damaged_one_is_reported_and_never_overwritten(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledgers.add(ledger, ledgers.job("fits", 500))
    damaged = bytearray((tmp_path / FILE).read_bytes())
    damaged[0:16] = b"this is not SQLi"
    (tmp_path / FILE).write_bytes(damaged)
    for opened in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match="damaged") as caught:
            opened(tmp_path)
        assert "--adopt" in str(caught.value.hint)
    assert (tmp_path / FILE).read_bytes() == bytes(damaged)


@pytest.mark.once
@pytest.mark.parametrize(
    ("column", "content"),
    [("image", b"\xff\xfe"), ("content", b'{"image": "a'), ("limits", b"[1, 2, 3, 4, 5]"), ("after", b"[" * 100_000)],
    ids=["not UTF-8", "not JSON", "another shape", "nested"],
)
def test_a_damaged_row_is_reported_by_every_command(here: Workplace, column: str, content: bytes) -> None:
    here.run("apply", here.job("fits", "true"), "--wait")
    path = here.state / FILE
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE runs SET {column} = CAST(? AS TEXT)", (content,))
    for words in (("get", "jobs", "--cached"), ("apply", "fits.toml"), ("logs", "fits")):
        told = here.run(*words, expect=2).stderr
        assert f"{path}: the local record is damaged" in told
        assert f"mv {path} {path}.damaged" in told


@pytest.mark.once
@pytest.mark.parametrize("table", ["replicas", "attempts"])
def test_an_unknown_state_is_reported_as_damage(here: Workplace, table: str) -> None:
    here.run("apply", here.job("fits", "true"), "--wait")
    path = here.state / FILE
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {table} SET state = 'Ended'")
    for words in (
        ("get", "replicas", "fits", "--cached"),
        ("apply", "fits.toml"),
        ("resume", "fits"),
        ("logs", "fits"),
    ):
        told = here.run(*words, expect=2).stderr
        assert f"{path}: the local record is damaged: 'Ended' is not a state" in told


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with read_ledger(tmp_path / "none") as ledger:
        assert runs.job_keys(ledger) == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.once
@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "dangling ledger"])
def test_a_state_directory_that_cannot_exist_is_not_an_empty_one(here: Workplace, kind: str) -> None:
    missing, state = here.root / "missing", here.write("file", "") if "file" in kind else here.state
    if kind == "dangling link":
        state.symlink_to(missing)
    elif kind == "dangling ledger":
        state.mkdir()
        (state / FILE).symlink_to(missing)
    here.extra["SKAHACTL_STATE_DIR"] = str(state / "below" if kind == "below a file" else state)
    for done in here.each("get jobs", "get -A", "describe fits", "logs fits", "prune --dry-run"):
        assert (done.returncode, done.stdout) == (2, "")
        assert "the state directory cannot be used" in done.stderr
        assert "SKAHACTL_STATE_DIR" in done.stderr
    assert not missing.exists()


def test_relative_directories_of_xdg_are_ignored_and_a_relative_home_is_absolute() -> None:
    assert state_dir({"HOME": "/h", "XDG_STATE_HOME": "x"}) == Path("/h/.local/state/skahactl")
    assert config_dir({"HOME": "/h", "XDG_CONFIG_HOME": "./x"}) == Path("/h/.config/skahactl")
    assert state_dir({"HOME": "/h", "XDG_STATE_HOME": "/x"}) == Path("/x/skahactl")
    assert state_dir({"HOME": "h"}) == Path.cwd() / "h/.local/state/skahactl"


def test_runs_are_numbered_and_forgotten(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first, second = (ledgers.add(ledger, ledgers.job("fits", 3)) for _ in range(2))
        assert (first.number, second.number) == (1, 2)
        ledgers.start(ledger, first, [1, 2])
        runs.forget(ledger, [first.id], ledgers.NOW, 3600)
        assert [run.number for run in runs.runs_of(ledger, first.key)] == [2]
        for table in ("replicas", "attempts", "sends", "tallies"):
            assert not ledger.rows(f"SELECT 1 FROM {table} WHERE run = ?", first.id), table
        runs.forget(ledger, [second.id], ledgers.NOW, 3600)
        assert runs.job_keys(ledger) == ()


def test_sessions_of_a_forgotten_run_are_known_while_they_may_be_listed(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 3))
        ledgers.start(ledger, run, [1, 2])
        ledgers.move(ledger, run, dict.fromkeys((1, 2), (State.COMPLETED, ledgers.NOW, ledgers.NOW + 10)))
        ids = {ledgers.session_of(run, number) for number in (1, 2)}
        runs.forget(ledger, [run.id], ledgers.NOW + 20, 3600)
        assert attempts.known_among(ledger, {*ids, "another1"}) == ids
        for since, first in ((3600, "fits-1-abcde-2"), (3620, "fits-1-abcde")):
            run = ledgers.add(ledger, ledgers.job("fits", 3))
            with ledger.transaction():
                intent = attempts.intend(ledger, run.id, 1, ledgers.NOW + since)
            assert intent is not None
            assert intent.name == first
            runs.forget(ledger, [run.id], ledgers.NOW + since, 3600)
        assert attempts.known_among(ledger, ids) == frozenset()
        ended_long_ago = ledgers.add(ledger, ledgers.job("fits", 1))
        ledgers.start(ledger, ended_long_ago, [1])
        runs.forget(ledger, [ended_long_ago.id], ledgers.NOW + 9000, 3600)
        assert not ledger.rows("SELECT 1 FROM forgotten")


def test_no_intent_for_what_is_being_deleted(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 3))
        replicas.request_delete(ledger, run.id, [1])
        with ledger.transaction():
            assert attempts.intend(ledger, run.id, 1, 1.0) is None
            assert attempts.intend(ledger, run.id, 2, 1.0) is not None
        replicas.request_delete(ledger, run.id, None)
        with ledger.transaction():
            assert attempts.intend(ledger, run.id, 3, 1.0) is None


class Read(tuple[int, ...]):
    """Numbers that count how often they are read through."""

    times = 0

    def __iter__(self) -> Iterator[int]:
        self.times += 1
        return super().__iter__()

    def __contains__(self, number: object) -> bool:
        self.times += 1
        return super().__contains__(number)


def test_thousands_of_replicas_are_not_compared_with_each_of_thousands(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 50))
        numbers = Read(range(1, 41))
        replicas.request_delete(ledger, run.id, numbers)
        assert numbers.times == 1
        again = Read(range(1, 41))
        assert mark_results(ledger, run, State.COMPLETED, again, None, 2.0).replicas == tuple(range(1, 41))
        assert again.times == 1
        assert [row.number for row in replicas.replica_states(ledger, run.id) if row.state == State.QUEUED] == [
            *range(41, 51)
        ]


def test_the_owner_of_sessions_is_asked_of_those_alone(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 50))
        ledgers.start(ledger, run, range(1, 51))
        asked = [ledgers.session_of(run, 7), "a1b2c3d4"]
        assert attempts.known_sessions(ledger, asked) == {ledgers.session_of(run, 7): (run.id, 7, 1)}


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        names = []
        for _ in range(3):
            run = ledgers.add(ledger, ledgers.job("fits", 1, attempts=2))
            for _ in range(2):
                with ledger.transaction():
                    intent = attempts.intend(ledger, run.id, 1, 1.0)
                    assert intent is not None
                    attempts.settle(ledger, intent, CreateResult(CreateOutcome.CREATED, id=f"i{len(names)}"), 2.0, None)
                names.append(intent.name)
                row = attempts.attempts_of(ledger, run.id, 1)[-1]
                attempts.set_attempt(ledger, row, state=State.FAILED)
        assert names == ["fits-1-abcde"] + [f"fits-1-abcde-{n}" for n in range(2, 7)]


def test_a_create_of_a_driver_that_died_is_unconfirmed(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 2))
        with ledger.transaction():
            attempts.intend(ledger, run.id, 1, 1.0)
        assert attempts.close_open_sends(ledger, run.id, 5.0) == 1
        assert attempts.close_open_sends(ledger, run.id, 6.0) == 0
        (row,) = attempts.attempts_of(ledger, run.id)
        assert (row.ambiguous_sends, row.last_ambiguous_at, row.state) == (1, 5.0, State.UNCONFIRMED)


def test_an_attempt_of_each_runs_what_did_not_end_well(tmp_path: Path) -> None:
    made = ledgers.job("fits", 1, items=[["a", "b", "c"]])
    made = ledgers.with_each(made, Each("true", (("a",), ("b",), ("c",))))
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, made)
        (row,) = replicas.replicas_of(ledger, run.id)
        assert replicas.positions_to_run(ledger, run.id, row) == (1, 2, 3)
        replicas.record_items(ledger, run.id, 1, 1, [(1, 0), (2, 3)])
        assert replicas.positions_to_run(ledger, run.id, row) == (2, 3)
        replicas.record_items(ledger, run.id, 1, 2, [(2, 0)])
        assert replicas.positions_to_run(ledger, run.id, row) == (3,)
        replicas.allow_again(ledger, run.id, {1: (1,)})
        assert replicas.positions_to_run(ledger, run.id, row) == (1,)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(moves=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(STATES)), max_size=30))
def test_tallies_are_what_counting_gives(tmp_path: Path, moves: list[tuple[int, str]]) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("fits", 6, items=[["x"] * n for n in range(1, 7)]))
        for number, state in moves:
            replicas.set_states(ledger, run.id, [number], state, None)
        (summary,) = runs.summaries(ledger, [run])
        rows = replicas.replica_states(ledger, run.id)
        assert summary.counts == zero_filled({s: sum(r.state == s for r in rows) for s in STATES})
        done = sum(row.number for row in rows if row.state == State.COMPLETED)
        assert (summary.items["total"], summary.items["completed"]) == (21, done)


def _hold(state: Path, ready: object, release: object) -> None:
    with open_ledger(state) as ledger:
        lock = acquire(ledger, KEY, 1.0)
        ready.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]
        lock.check()
        os._exit(0)


def test_one_driver_a_job_known_to_be_gone_when_it_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release), daemon=True)
    holder.start()
    assert ready.wait(20)
    with open_ledger(tmp_path) as ledger:
        with pytest.raises(BusyError, match=f"process {holder.pid}"):
            acquire(ledger, KEY, 2.0)
        driver = living_driver(ledger, KEY)
        assert driver is not None
        assert driver.pid == holder.pid
        release.set()
        holder.join()
        assert living_driver(ledger, KEY) is None
        lock = acquire(ledger, KEY, 3.0)
        lock.check()
        lock.release()
        assert living_driver(ledger, KEY) is None
    holder.close()


def test_looking_for_a_driver_creates_nothing_and_is_not_a_driver(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        lock = acquire(ledger, KEY, 1.0)
        (row,) = ledger.rows("SELECT * FROM drivers")
        lock.release()
        ledger.connection.execute("INSERT INTO drivers VALUES (?,?,?,?,?)", tuple(row))
        (path,) = (tmp_path / "locks").iterdir()
        with path.open("rb") as another:
            fcntl.flock(another, fcntl.LOCK_SH)  # as a command has it that looks at the same time
            assert living_driver(ledger, KEY) is None
        path.unlink()
        path.parent.rmdir()
        assert living_driver(ledger, KEY) is None
        assert not path.parent.exists()


def test_a_holder_on_another_machine_is_never_presumed_dead(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        lock = acquire(ledger, KEY, 1.0)
        with ledger.transaction() as connection:
            connection.execute("UPDATE drivers SET host = 'elsewhere', boot = 'other', pid = 1")
        lock.release()
        with pytest.raises(BusyError, match="elsewhere") as caught:
            acquire(ledger, KEY, 2.0)
        assert "--break-lock" in str(caught.value.hint)
        mine = acquire(ledger, KEY, 3.0, break_lock=True)
        mine.check()
        mine.release()


def test_a_read_only_state_directory_is_reported(tmp_path: Path) -> None:
    """As nobody, since root may write everywhere."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o555)
    code = f"""
import os, sys
from pathlib import Path
from skahactl.ledger.database import open_ledger
from skahactl.errors import LedgerError
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    open_ledger(Path({str(state)!r}) / "below")
except LedgerError as error:
    print(error.message, error.where, error.hint)
    sys.exit(7)
"""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "SKAHACTL_STATE_DIR" in done.stdout


@pytest.mark.once
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_ctrl_c_takes_effect_while_another_process_holds_the_ledger(here: Workplace, lock: str) -> None:
    process = here.start("apply", here.job("long", "sleep 100"), "--wait")
    wait_for(lambda: here.recorded("long") == ["Running"])
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", isolation_level=None, timeout=20)) as other:
        other.execute(f"BEGIN {lock}")
        time.sleep(1.5)  # by now the driver waits for the ledger
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert time.monotonic() - begun < 3, "it waits for the ledger, not for the signal"
        other.execute("ROLLBACK")
    assert process.returncode in (130, -signal.SIGINT)
    here.clear("long")


@pytest.mark.once
def test_a_command_waits_until_the_ledger_is_free(here: Workplace) -> None:
    here.run("apply", here.job("quick", "true"), "--wait")
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process = here.start("get", "jobs", "--cached", "-o", "json")
        time.sleep(2)
        assert process.poll() is None
        other.execute("ROLLBACK")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert '"quick"' in out
