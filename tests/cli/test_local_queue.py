"""The local platform's queue and workers: real processes, killed at bad moments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from skahactl.local.transport import LocalTransport
from skahactl.profile import LocalSettings
from tests.local_platform import alive_workers, create, ended, platform, processes, sessions, until
from tests.workplace import wait_for

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


def rows(state: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(state / "local" / "queue.db")) as store:
        return store.execute(query).fetchall()


@pytest.mark.once
def test_two_hundred_sessions_on_two_slots(tmp_path: Path) -> None:
    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            most[0] = max(most[0], alive_workers(tmp_path))

    async def run() -> dict[str, str]:
        async with platform(tmp_path) as client:
            line = "echo + >> marks; echo $0 >> names; echo - >> marks"
            await asyncio.gather(*(create(client, f"job-{n}", "sh", "-c", line, str(n)) for n in range(200)))
            return await ended(client)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        statuses = asyncio.run(run())
    finally:
        stop.set()
        thread.join()
    assert len(statuses) == 200
    assert set(statuses.values()) == {"Completed"}
    assert sorted(map(int, (tmp_path / "names").read_text().split())) == list(range(200))
    assert deepest((tmp_path / "marks").read_text().split()) <= 2
    assert 1 <= most[0] <= 2
    started = [row[0] for row in rows(tmp_path, "SELECT started FROM sessions ORDER BY seq")]
    assert started == sorted(started)  # type: ignore[type-var]


def deepest(marks: list[str]) -> int:
    depth = most = 0
    for mark in marks:
        depth += 1 if mark == "+" else -1
        most = max(most, depth)
    return most


def test_workers_leave_when_the_queue_is_empty_and_are_not_left_as_zombies(tmp_path: Path) -> None:
    before = children()

    async def run() -> None:
        async with platform(tmp_path) as client:
            await create(client, "one", "true")
            await ended(client)

    asyncio.run(run())
    wait_for(lambda: alive_workers(tmp_path) == 0)
    assert rows(tmp_path, "SELECT * FROM workers") == []
    assert list((tmp_path / "local" / "workers").iterdir()) == []
    assert children() <= before


def children() -> set[int]:
    """The processes whose parent this one is, zombies included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


@LINUX
def test_a_killed_worker_is_noticed_and_what_it_ran_is_ended(tmp_path: Path) -> None:
    tag = f"{tmp_path}-stubborn"
    stubborn = (
        "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' \"$0\" & wait; while :; do sleep 0.1; done"
    )

    async def run() -> None:
        async with platform(tmp_path, slots=1) as client:
            first = await create(client, "first", "sh", "-c", stubborn, tag)
            await create(client, "second", "true")
            await until(lambda: sessions(client), lambda seen: seen["first"] == "Running")
            await until(lambda: asyncio.sleep(0, len(processes(tag))), lambda n: n >= 2)
            [(pid,)] = rows(tmp_path, "SELECT pid FROM sessions WHERE state = 'Running'")
            os.kill(parent(int(str(pid))), signal.SIGKILL)
            await until(lambda: sessions(client), lambda seen: seen["second"] == "Completed")
            await until(lambda: sessions(client), lambda seen: seen["first"] == "Failed")
            assert processes(tag) == []
            table = (await client.get(f"/session/{first}", params={"view": "events"})).text
            assert "its worker was killed" in table

    asyncio.run(run())


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@LINUX
def test_delete_ends_a_process_that_ignores_term_and_its_children(tmp_path: Path) -> None:
    tag = f"{tmp_path}-deleted"
    stubborn = "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' \"$0\" & while :; do sleep 0.1; done"

    async def run() -> None:
        async with platform(tmp_path) as client:
            session = await create(client, "stubborn", "sh", "-c", stubborn, tag)
            await until(lambda: asyncio.sleep(0, len(processes(tag))), lambda n: n >= 2)
            reply = await client.delete(f"/session/{session}")
            assert (reply.status_code, reply.text) == (200, "")
            assert await sessions(client) == {}
            assert (await client.get(f"/session/{session}")).status_code == 404
            assert (await client.get(f"/session/{session}", params={"view": "logs"})).text == ""
            await until(lambda: asyncio.sleep(0, processes(tag)), lambda left: not left)
            await until(lambda: asyncio.sleep(0, rows(tmp_path, "SELECT id FROM sessions")), lambda left: not left)
            assert list((tmp_path / "local" / "logs").iterdir()) == []

    asyncio.run(run())


@LINUX
def test_children_left_behind_end_with_their_session(tmp_path: Path) -> None:
    tag = f"{tmp_path}-left"

    async def run() -> None:
        async with platform(tmp_path) as client:
            await create(client, "leaves", "sh", "-c", 'sh -c "while :; do sleep 0.1; done" "$0" & exit 0', tag)
            assert await ended(client) == {"leaves": "Completed"}
            await until(lambda: asyncio.sleep(0, processes(tag)), lambda left: not left)

    asyncio.run(run())


@LINUX
@pytest.mark.parametrize(
    "line",
    [
        "timeout 300 sleep {word}",
        "set -m; sleep {word} & sleep {word}",
        "setsid sleep {word} & setsid sleep {word}; wait",
        "(setsid sleep {word} &); exec sleep {word}",
    ],
)
def test_delete_ends_processes_in_other_groups_and_sessions(tmp_path: Path, line: str) -> None:
    word = f"3{time.time_ns() % 10**9}"

    async def run() -> None:
        async with platform(tmp_path) as client:
            session = await create(client, "one", "bash", "-c", line.format(word=word))
            await until(lambda: asyncio.sleep(0, processes(word)), lambda found: len(found) >= line.count("sleep"))
            (await client.delete(f"session/{session}")).raise_for_status()
            await until(lambda: asyncio.sleep(0, processes(word)), lambda found: not found)

    asyncio.run(run())


@LINUX
def test_a_daemon_left_behind_ends_with_its_session(tmp_path: Path) -> None:
    word = f"3{time.time_ns() % 10**9}"

    async def run() -> None:
        async with platform(tmp_path) as client:
            await create(client, "one", "bash", "-c", f"setsid sleep {word} & echo done")
            assert list((await ended(client)).values()) == ["Completed"]
            await until(lambda: asyncio.sleep(0, processes(word)), lambda found: not found)

    asyncio.run(run())


EARLY = """
import os, signal
from skahactl.local.worker import PreforkedChild
lock = os.open(os.devnull, os.O_RDONLY)
for _ in range(100):
    child = PreforkedChild(os.dup(lock))
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait() == signal.SIGTERM
"""


def test_a_signal_to_the_group_of_a_session_is_never_too_early() -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", EARLY], env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_deleting_what_is_queued_means_it_never_runs(tmp_path: Path) -> None:
    async def run() -> None:
        async with platform(tmp_path, slots=1) as client:
            await create(client, "blocks", "sleep", "0.5")
            waiting = await create(client, "waits", "touch", "ran")
            assert (await sessions(client))["waits"] == "Pending"
            await client.delete(f"/session/{waiting}")
            assert await ended(client) == {"blocks": "Completed"}
            assert not (tmp_path / "ran").exists()

    asyncio.run(run())


def test_ended_sessions_are_remembered_for_as_long_as_set(tmp_path: Path) -> None:
    shift = [0.0]

    async def run() -> None:
        async with platform(tmp_path, memory=60, now=lambda: time.time() + shift[0]) as client:
            session = await create(client, "short", "echo", "hello")
            await ended(client)
            shift[0] = 55
            assert (await client.get(f"/session/{session}", params={"view": "logs"})).text == "hello\n"
            shift[0] = 65
            assert (await client.get(f"/session/{session}")).text == f"session {session} not found\n"
            assert await sessions(client) == {}
            assert (await client.get(f"/session/{session}", params={"view": "logs"})).text == ""
            assert (await client.get(f"/session/{session}", params={"view": "events"})).status_code == 404
            assert list((tmp_path / "local" / "logs").iterdir()) == []

    asyncio.run(run())


def test_everything_kept_is_private_and_environments_are_blanked(tmp_path: Path) -> None:
    async def run() -> None:
        async with platform(tmp_path) as client:
            await create(client, "secret", "sh", "-c", 'test "$TOKEN" = s3cr3t-value', env={"TOKEN": "s3cr3t-value"})
            assert await ended(client) == {"secret": "Completed"}

    asyncio.run(run())
    local = tmp_path / "local"
    assert [path for path in (local, *local.rglob("*")) if path.stat().st_mode & 0o077] == []
    assert [path for path in local.rglob("*") if path.is_file() and b"s3cr3t-value" in path.read_bytes()] == []


CREATOR = """
import asyncio, sys
from pathlib import Path
from tests.local_platform import create, platform
async def run(state, label, count):
    async with platform(Path(state), slots=2) as client:
        for number in range(count):
            name = f"{label}-{number}"
            print(await create(client, name, "sh", "-c", "echo $0 >> names", name), flush=True)
asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def creator(state: Path, label: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CREATOR, str(state), label, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.once
def test_several_processes_create_at_once(tmp_path: Path) -> None:
    creators = [creator(tmp_path, f"by{n}", 25) for n in range(4)]
    ids = [line for process in creators for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in creators] == [0, 0, 0, 0]
    assert len(set(ids)) == 100

    async def run() -> dict[str, str]:
        async with platform(tmp_path) as client:
            return await ended(client)

    assert set(asyncio.run(run()).values()) == {"Completed"}
    ran = (tmp_path / "names").read_text().split()
    assert sorted(ran) == sorted(f"by{n}-{number}" for n in range(4) for number in range(25))


@pytest.mark.once
def test_a_creator_killed_at_any_moment_neither_doubles_nor_loses(tmp_path: Path) -> None:
    chance = random.Random(20)
    told: list[str] = []
    for turn in range(6):
        process = creator(tmp_path, f"turn{turn}", 500)
        assert process.stdout is not None
        told.append(process.stdout.readline().strip())
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        told += process.communicate(timeout=120)[0].split("\n")[:-1]

    async def run() -> list[dict[str, str]]:
        async with platform(tmp_path) as client:
            await ended(client)
            return list((await client.get("/session")).json())

    listed = asyncio.run(run())
    assert {row["status"] for row in listed} == {"Completed"}
    assert set(told) <= {row["id"] for row in listed}, "what was answered exists"
    assert sorted((tmp_path / "names").read_text().split()) == sorted(row["name"] for row in listed)
    assert alive_workers(tmp_path) <= 2


def test_a_cancelled_create_is_settled_when_it_returns(tmp_path: Path) -> None:
    async def run() -> None:
        async with platform(tmp_path) as client:
            chance = random.Random(7)
            for number in range(40):
                task = asyncio.create_task(create(client, f"cancelled-{number}", "true"))
                await asyncio.sleep(chance.uniform(0, 0.004))
                task.cancel()
                await asyncio.wait([task])
                before = await sessions(client)
                await asyncio.sleep(0.01)
                assert (await sessions(client)).keys() == before.keys()
                assert task.cancelled() or f"cancelled-{number}" in before
            await ended(client)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("sh", "-c", "exit 3"), "Failed", "exit code 3"),
        (("sh", "-c", "kill -9 $$"), "Failed", "killed by signal 9"),
        (("no-such-command",), "Failed", "exit code 127"),
        (("/etc/passwd",), "Failed", "exit code 126"),
    ],
)
def test_ends(tmp_path: Path, argv: tuple[str, ...], status: str, words: str) -> None:
    async def run() -> None:
        async with platform(tmp_path) as client:
            session = await create(client, "ends", *argv)
            assert await ended(client) == {"ends": status}
            assert words in (await client.get(f"/session/{session}", params={"view": "events"})).text
            log = (await client.get(f"/session/{session}", params={"view": "logs"})).text
            assert ("executable file not found in $PATH" in log) == (argv[0] == "no-such-command")

    asyncio.run(run())


def test_the_environment_is_built_not_inherited(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody", "LC_TIME": "C", "TZ": "UTC", "SECRET": "no"}

    async def run() -> dict[str, str]:
        async with platform(tmp_path, environ=environ) as client:
            session = await create(client, "env", "env", "-0", env={"MINE": "a=b\nc", "HOME": "/mine"})
            await ended(client)
            raw = (await client.get(f"/session/{session}", params={"view": "logs"})).text
            assert f"skaha_sessionid={session}" in raw
            return dict(line.split("=", 1) for line in raw.split("\0") if line)

    seen = asyncio.run(run())
    assert set(seen) == {"PATH", "LC_TIME", "TZ", "MINE", "HOME", "PWD", "OMP_NUM_THREADS"} | {
        "skaha_hostname", "skaha_username", "skaha_sessionid"
    }  # fmt: skip
    assert seen["MINE"] == "a=b\nc"
    assert seen["HOME"] == "/home/somebody", "the platform's come after the user's, and win"
    assert seen["PWD"] == str(tmp_path)
    assert seen["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_directory_that_is_gone_fails_the_session_and_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        settings = LocalSettings(slots=1, directory=str(tmp_path / "gone"))
        transport = LocalTransport(tmp_path, settings, str(tmp_path), os.environ)
        async with httpx.AsyncClient(transport=transport, base_url="http://local/skaha/v1") as client:
            session = await create(client, "lost", "true")
            assert await ended(client) == {"lost": "Failed"}
            log = (await client.get(f"/session/{session}", params={"view": "logs"})).text
            assert f"cannot change to the directory {tmp_path / 'gone'}" in log

    asyncio.run(run())


def test_a_worker_imports_little() -> None:
    code = "import sys, skahactl.local.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"httpx", "pydantic", "rich", "cyclopts", "asyncio", "subprocess", "dataclasses", "email", "logging"}
    assert heavy & set(done.stdout.split()) == set()


@LINUX
def test_arbitrary_arguments_reach_real_processes(tmp_path: Path) -> None:
    chance = random.Random(3)
    alphabet = "ab \t\n\r\"'\\\\$(){}[]=#:,|&;<>*?!%éπ😀\u2028\x85\xa0"
    texts = [["".join(chance.choices(alphabet, k=chance.randrange(9))) for _ in range(4)] for _ in range(40)]
    show = "import os, sys; print(ascii((sys.argv[1:], os.environ['VALUE'])))"

    async def run() -> list[str]:
        async with platform(tmp_path) as client:
            ids = [
                await create(client, f"t-{n}", sys.executable, "-c", show, *words, env={"VALUE": words[0]})
                for n, words in enumerate(texts)
            ]
            await ended(client)
            return [(await client.get(f"/session/{id_}", params={"view": "logs"})).text for id_ in ids]

    assert asyncio.run(run()) == [ascii((words, words[0])) + "\n" for words in texts]


@pytest.mark.once
@LINUX
def test_workers_killed_again_and_again(tmp_path: Path) -> None:
    """Nothing runs twice, what is Completed did run to its end, the order holds, and never are there too many."""
    chance, killed = random.Random(11), 0

    async def run() -> dict[str, str]:
        nonlocal killed
        async with platform(tmp_path, kill_after=0.3) as client:
            line = "echo $0 >> names; until [ -e go ]; do sleep 0.02; done; sleep 0.05; echo $0 >> done"
            for number in range(60):
                await create(client, f"job-{number}", "sh", "-c", line, str(number))
            while True:
                seen = await sessions(client)
                assert alive_workers(tmp_path) <= 2
                if set(seen.values()) <= {"Completed", "Failed"}:
                    return seen
                workers = processes(f"skahactl.local.worker\0{tmp_path}/")
                if workers and (not killed or chance.random() < 0.4):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    killed += 1
                    (tmp_path / "go").touch()
                await asyncio.sleep(chance.uniform(0, 0.1))

    statuses = asyncio.run(run())
    begun = [int(number) for number in (tmp_path / "names").read_text().split()]
    done = (tmp_path / "done").read_text().split()
    assert killed > 0
    assert len(statuses) == 60
    assert len(set(begun)) == len(begun)
    assert {name for name, status in statuses.items() if status == "Completed"} <= {f"job-{number}" for number in done}
    assert sum(status == "Failed" for status in statuses.values()) <= killed
    started = rows(tmp_path, "SELECT started FROM sessions WHERE started IS NOT NULL ORDER BY seq")
    assert started == sorted(started)


@LINUX
def test_only_the_session_that_fills_the_disk_is_ended_and_it_can_be_deleted(tmp_path: Path) -> None:
    """A file system of 12 MB; the session writes until nothing is free."""
    disk, go = tmp_path / "disk", str(tmp_path / "go")
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small file system")

    async def run() -> None:
        async with platform(disk) as client:
            quiet = await create(client, "quiet", "sh", "-c", 'echo result; until [ -e "$0" ]; do sleep 0.1; done', go)
            session = await create(client, "full", "sh", "-c", "trap '' PIPE; while :; do yes | head -c 100000; done")
            await until(lambda: sessions(client), lambda found: found == {"quiet": "Running", "full": "Failed"})
            assert os.statvfs(disk).f_bavail > 0
            log = (await client.get(f"/session/{session}?view=logs")).text
            assert log.endswith("[skahactl: the disk is full; the end of the log was cut off to make room]\n")
            assert log.startswith("y\ny\n")
            os.close(os.open(go, os.O_CREAT))
            assert await ended(client) == {"quiet": "Completed", "full": "Failed"}
            assert (await client.get(f"/session/{quiet}?view=logs")).text == "result\n"
            (await client.delete(f"/session/{session}")).raise_for_status()
            await until(
                lambda: asyncio.sleep(0, rows(disk, "SELECT id FROM sessions WHERE name = 'full'")),
                lambda left: not left,
            )

    try:
        asyncio.run(run())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
