"""One driver per job: a kernel lock on this machine, and a row in the ledger for other machines."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from skahactl.errors import BusyError
from skahactl.ledger.records import DriverRecord, JobKey
from skahactl.ledger.runs import job_id
from skahactl.system import make_private
from skahactl.text import iso_time, suggest

if TYPE_CHECKING:
    from skahactl.ledger.database import Ledger


class JobLock:
    """The lock of a job, held until ``release`` or the end of the process."""

    def __init__(self, ledger: Ledger, key: JobKey, job: int, stream: IO[bytes], driver: DriverRecord):
        self._ledger = ledger
        self.key = key
        self._job = job
        self._stream = stream
        self.driver = driver

    def release(self) -> None:
        if self._stream.closed:
            return
        with self._ledger.transaction() as connection:
            connection.execute(
                "DELETE FROM drivers WHERE job = ? AND host = ? AND pid = ?",
                (self._job, self.driver.host, self.driver.pid),
            )
        self._stream.close()

    def check(self) -> None:
        """Raise BusyError if another command took the lock with --break-lock."""
        holder = _recorded_driver(self._ledger, self._job)
        if holder is None or (holder.host, holder.pid) != (self.driver.host, self.driver.pid):
            raise _busy(self.key, holder)


def acquire(ledger: Ledger, key: JobKey, now: float, *, break_lock: bool = False) -> JobLock:
    """Take the lock of a job. Raise BusyError, which names the holder, if another command holds it.

    The kernel shows whether a holder on this machine is alive. A holder on another machine counts as alive unless
    ``break_lock`` is set.
    """
    me = DriverRecord(socket.gethostname(), boot_id(), os.getpid(), now)
    with ledger.transaction() as connection:
        job = job_id(ledger, key)
        holder = _recorded_driver(ledger, job)
        if holder is not None and not _is_here(holder) and not break_lock:
            raise _busy(key, holder)
        stream = _patient_lock(ledger.state_dir, job)
        if stream is None:
            raise _busy(key, holder)
        connection.execute(
            "INSERT OR REPLACE INTO drivers (job, host, boot, pid, since) VALUES (?,?,?,?,?)",
            (job, me.host, me.boot, me.pid, me.since),
        )
    return JobLock(ledger, key, job, stream, me)


def _recorded_driver(ledger: Ledger, job: int) -> DriverRecord | None:
    row = ledger.row("SELECT host, boot, pid, since FROM drivers WHERE job = ?", job)
    return None if row is None else DriverRecord(*row)


def living_driver(ledger: Ledger, key: JobKey) -> DriverRecord | None:
    """Return the driver of the job; None if no driver is running, as far as this machine knows.

    A recorded driver on another machine counts as running.
    """
    row = ledger.row(
        "SELECT drivers.host, drivers.boot, drivers.pid, drivers.since, drivers.job FROM drivers JOIN jobs"
        " ON jobs.id = drivers.job WHERE server = ? AND user = ? AND name = ?",
        key.server,
        key.user,
        key.name,
    )
    if row is None:
        return None
    driver = DriverRecord(*row[:4])
    if _is_here(driver) and not _is_held(ledger.state_dir, row["job"]):
        return None
    return driver


def other_driver(ledger: Ledger, key: JobKey) -> DriverRecord | None:
    """Return the driver of the job if it is not this command, so that it continues when this command ends."""
    driver = living_driver(ledger, key)
    is_own = driver is not None and (driver.host, driver.pid) == (socket.gethostname(), os.getpid())
    return None if is_own else driver


def _is_here(driver: DriverRecord) -> bool:
    """Return whether a driver started on this machine. The boot id identifies a machine that was renamed since."""
    return driver.host == socket.gethostname() or (driver.boot != "" and driver.boot == boot_id())


def boot_id() -> str:
    """Return an id that changes with every boot of the machine; "" if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _patient_lock(state_dir: Path, job: int) -> IO[bytes] | None:
    """Take the kernel lock; return None if it stays taken.

    Try for a moment, because a command that checks for a driver holds the lock briefly.
    """
    for _ in range(5):
        stream = _kernel_lock(state_dir, job)
        if stream is not None:
            return stream
        time.sleep(0.02)
    return None


def _kernel_lock(state_dir: Path, job: int) -> IO[bytes] | None:
    path = _lock_path(state_dir, job)
    make_private(path.parent)
    stream = open(path, "ab")  # noqa: SIM115 (held as long as the lock)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _is_held(state_dir: Path, job: int) -> bool:
    """Return whether a process on this machine holds the kernel lock, without writing anything."""
    try:
        with open(_lock_path(state_dir, job), "rb") as stream:
            fcntl.flock(
                stream, fcntl.LOCK_SH | fcntl.LOCK_NB
            )  # a shared lock: some file systems refuse other locks to readers
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):  # without permission to check, trust the ledger
        return True
    return False


def _lock_path(state_dir: Path, job: int) -> Path:
    return state_dir / "locks" / f"{job}.lock"


def _busy(key: JobKey, holder: DriverRecord | None) -> BusyError:
    who = "" if holder is None else f": process {holder.pid} on {holder.host} since {iso_time(holder.since)}"
    return BusyError(
        f"another command is driving {key.name}{who}",
        hint=f"it continues the job; to watch it: {suggest('get', 'replicas', key.name, '-w')}\n"
        "if that machine no longer exists, use --break-lock",
    )
