"""Find out which workers are alive, and end the sessions of dead workers.

A worker is alive exactly while its lock (flock on its own file) is held. The command that reserves the worker takes the
lock before it commits the reservation, and passes it to the worker as an open file. Therefore a worker that will run
always has a lock, and the lock of a lost reservation is always free.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import skahactl
from skahactl.local.queue import FAILED, QUEUED, RUNNING, end, immediate, lock_path

if TYPE_CHECKING:
    import subprocess

LINUX = sys.platform.startswith("linux")


@cache
def boot_marker() -> str:
    """Return an id of the current boot of the machine."""
    if LINUX:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    return _output("sysctl", "-n", "kern.boottime")


def start_time(pid: int) -> str | None:
    """Return the start time of the process, for comparison; None if it does not exist or is a zombie."""
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    return _output("ps", "-o", "lstart=", "-p", str(pid)) or None


def session_members(leader: int, when: str, machine: str) -> list[int]:
    """Return the living processes of the session (setsid) of ``leader``, if it was started ``when`` on this boot.

    A session outlives process groups: ``timeout``, ``set -m`` and setpgid make new groups in it. Elsewhere than on
    Linux, only the process group of ``leader`` is found.
    """
    if machine != boot_marker():
        return []
    started = start_time(leader)
    if started is not None and started != when:
        return []  # the number belongs to another process now
    if not LINUX:
        rows = (line.split() for line in _output("ps", "-A", "-o", "pid=,pgid=,stat=").splitlines())
        return [int(row[0]) for row in rows if len(row) > 2 and row[1] == str(leader) and row[2][0] != "Z"]
    members = []
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields and fields[0] not in "ZX" and fields[3] == str(leader) and int(fields[19]) >= int(when or 0):
            members.append(int(name))
    return members


def descendants(pid: int) -> list[int]:
    """Return the children of a process and all their descendants; empty where the system does not list children."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def children(pid: int) -> list[int]:
    """Return the children of a process; empty where the system does not list them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group, if it still exists."""
    _send(os.killpg, pid, number)


def signal_processes(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        _send(os.kill, pid, number)


def _send(send: Callable[[int, int], None], pid: int, number: int) -> None:
    try:
        send(pid, number)
        if number == signal.SIGTERM:
            send(pid, signal.SIGCONT)  # a stopped process receives TERM only when it continues
    except (ProcessLookupError, PermissionError):
        return


def session_usage(pids: Collection[int]) -> dict[int, tuple[int, float]]:
    """Return the memory (bytes, now) and CPU time (seconds) of each session (setsid), by the pid of its leader.

    The CPU time includes that of ended children. Sessions without a process are left out. Memory that processes share
    counts once for each of them.
    """
    import psutil

    found: dict[int, tuple[int, float]] = {}
    for pid in psutil.pids() if pids else ():
        try:
            leader = os.getsid(pid)
            if leader not in pids:
                continue
            process = psutil.Process(pid)
            with process.oneshot():
                memory, times = process.memory_info().rss, process.cpu_times()
        except (psutil.Error, OSError):  # it ended meanwhile
            continue
        seconds = times.user + times.system
        seconds += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        before = found.get(leader, (0, 0.0))
        found[leader] = (before[0] + memory, before[1] + seconds)
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third (the state); None if the process does not exist."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("latin-1")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _output(*command: str) -> str:
    import subprocess

    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, check=False)
    return done.stdout.decode("ascii", "replace").strip()


#: Seconds after KILL. Processes that still exist then are stuck in the kernel and are given up.
GIVE_UP = 5.0


def take_lock(root: str, worker: str) -> int | None:
    """Take the lock of a worker and return its descriptor (close it to release it); None if the worker is alive."""
    lock = os.open(lock_path(root, worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def reserve(store: sqlite3.Connection, root: str, slots: int, now: float) -> list[tuple[str, int]]:
    """Reserve the workers that queue and slots allow, and return (id, lock) of each. Call it within a transaction."""
    live = _count(store, "SELECT count(*) FROM workers WHERE NOT dead")
    if live >= slots:
        return []
    queued = _count(store, "SELECT count(*) FROM sessions WHERE state = ?", QUEUED)
    busy = _count(
        store,
        "SELECT count(*) FROM sessions JOIN workers ON worker = workers.id WHERE state = ? AND NOT dead",
        RUNNING,
    )
    wanted = min(slots - live, queued - (live - busy))
    if wanted <= 0 and live == 0 and worker_ending(store):
        wanted = 1
    booked: list[tuple[str, int]] = []
    try:
        for _ in range(wanted):
            booked.append(_book(store, root, now))
    except BaseException:
        release(root, booked)
        raise
    return booked


def release(root: str, booked: list[tuple[str, int]]) -> None:
    """Release the locks of workers that will not be started."""
    for worker, lock in booked:
        os.unlink(lock_path(root, worker))
        os.close(lock)


def missing_workers(store: sqlite3.Connection, slots: int) -> bool:
    """Return whether workers may have to be reserved, without locking the queue."""
    if _count(store, "SELECT count(*) FROM workers WHERE NOT dead") >= slots:
        return False
    waiting = "SELECT EXISTS (SELECT 1 FROM sessions WHERE state = ?) OR EXISTS (SELECT 1 FROM workers WHERE dead)"
    return bool(_count(store, waiting, QUEUED))


def _count(store: sqlite3.Connection, query: str, *values: object) -> int:
    return int(store.execute(query, values).fetchone()[0])


def _book(store: sqlite3.Connection, root: str, now: float) -> tuple[str, int]:
    worker = secrets.token_hex(8)
    lock = take_lock(root, worker)
    assert lock is not None, "this name is new"
    store.execute("INSERT INTO workers (id, since) VALUES (?, ?)", (worker, now))
    return worker, lock


def worker_ending(store: sqlite3.Connection) -> bool:
    """Return whether sessions of dead workers are still being ended."""
    return store.execute("SELECT 1 FROM workers WHERE dead LIMIT 1").fetchone() is not None


def reap(store: sqlite3.Connection, root: str, kill_after: float, now: float, wait: float = 0.0) -> None:
    """End the sessions of dead workers (TERM, KILL after ``kill_after`` s) and mark them Failed; never requeue them.

    Sessions that do not end within ``wait`` seconds are left to a later call, by any request or worker.
    """
    limit = time.monotonic() + wait
    while True:
        known = store.execute("SELECT id FROM workers").fetchall()
        done = [_reap_one(store, root, str(row[0]), kill_after, now) for row in known]
        if all(done) or time.monotonic() >= limit:
            return
        time.sleep(0.01)


def _reap_one(store: sqlite3.Connection, root: str, worker: str, kill_after: float, now: float) -> bool:
    """Clean up after a worker if it is dead. Return True if it is alive, or if nothing of it is left."""
    lock = take_lock(root, worker)
    if lock is None:
        return True
    try:
        with immediate(store):
            store.execute("UPDATE workers SET dead = 1 WHERE id = ?", (worker,))
            session = store.execute(
                "SELECT * FROM sessions WHERE worker = ? AND state = ?", (worker, RUNNING)
            ).fetchone()
            if session is not None and not _ended(store, session, kill_after, now):
                return False
            if session is not None:
                end(store, root, session["id"], FAILED, now, None, "its worker was killed")
            store.execute("DELETE FROM workers WHERE id = ?", (worker,))
        os.unlink(lock_path(root, worker))
    except FileNotFoundError:
        return True
    finally:
        os.close(lock)
    return True


def _ended(store: sqlite3.Connection, session: sqlite3.Row, kill_after: float, now: float) -> bool:
    """Send the next signal to the processes of a lost session; return True when none is left, or they are given up."""
    members = session_members(session["pid"], session["born"], session["boot"])
    if not members:
        return True
    termed = session["termed"]
    if termed is None:
        store.execute("UPDATE sessions SET termed = ? WHERE id = ?", (now, session["id"]))
        signal_processes(members, signal.SIGTERM)
        return False
    if now - termed >= kill_after:
        signal_processes(members, signal.SIGKILL)
    return bool(now - termed >= kill_after + GIVE_UP)


def launch(root: str, bookings: Sequence[tuple[str, int]], kill_after: float) -> None:
    """Start the workers that ``reserve`` has reserved, and close our copies of their locks.

    Each worker forks immediately, so that it never becomes a zombie of ours. If a worker cannot be started, its lock is
    released, which the next request notices.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for worker, lock in bookings:
            started.append(_start(root, worker, lock, kill_after))
    except OSError:
        return  # no process can be started now; queued sessions stay queued
    finally:
        for _, lock in bookings:
            os.close(lock)
        for process in started:
            process.wait()


def _start(root: str, worker: str, lock: int, kill_after: float) -> subprocess.Popen[bytes]:
    import subprocess

    package = os.path.dirname(os.path.dirname(os.path.abspath(skahactl.__file__)))
    complaints = os.open(
        os.path.join(root, "workers.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        return subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "skahactl.local.worker", root, worker, str(lock), repr(kill_after)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            cwd="/",
            env={"PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath},
            pass_fds=(lock,),
            start_new_session=True,
        )
    finally:
        os.close(complaints)
