"""Starting workers: detached from the command that starts them, with nothing of it but their lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import skahactl


def launch(root: str, bookings: Sequence[tuple[str, int]], kill_after: float) -> None:
    """Start the workers booked by workers.reserve, and close our copies of their locks.

    Each forks away at once, so that it is nobody's zombie. One that cannot be started has let go of its lock, which
    the next request sees.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for worker, lock in bookings:
            started.append(_start(root, worker, lock, kill_after))
    except OSError:
        return  # no process to be had now; what is queued stays queued
    finally:
        for _, lock in bookings:
            os.close(lock)
        for process in started:
            process.wait()


def _start(root: str, worker: str, lock: int, kill_after: float) -> subprocess.Popen[bytes]:
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
