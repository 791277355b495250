"""A worker: runs sessions of the queue one after another, and exits when the queue is empty.

    python -m skahactl.local.worker ROOT WORKER LOCK-FD KILL-AFTER

It is started detached, with its lock as an open file. For every session, a child is forked in advance and waits at a
pipe. One transaction records the end of the last session and claims the next one as the process group of that child;
then the child gets its command. So nothing runs without a record. If the worker dies, its waiting child ends, too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import marshal
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from skahactl.local import queue, workers
from skahactl.local.queue import FAILED, QUEUED, RUNNING, connect, immediate, lock_path, log_path

#: Signals with default actions in a container. Python changes some; the caller may ignore some (nohup, ``&``).
_DEFAULT = (
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGQUIT,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)


class PreforkedChild:
    """A child in its own session and process group that runs nothing until ``start``."""

    def __init__(self, lock: int):
        gate, self._gate = os.pipe()
        begun, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _wait_for_command(gate, ready, (lock, self._gate, begun))
        os.close(gate)
        os.close(ready)
        os.read(begun, 1)  # wait for its group: an earlier signal to the group would be lost
        os.close(begun)
        self.born = workers.start_time(self.pid) or ""

    def start(self, argv: Sequence[str], env: Sequence[tuple[str, str]], directory: str, log: str) -> None:
        """Run a command in the child; its output goes to the file ``log``, created for this user only."""
        order = marshal.dumps((list(argv), dict(env), directory, log))
        try:
            with open(self._gate, "wb") as gate:
                gate.write(len(order).to_bytes(8, "big") + order)
        except BrokenPipeError:
            return  # it was killed, as its wait status shows

    def dismiss(self) -> None:
        """End the child without a command."""
        os.close(self._gate)
        os.waitpid(self.pid, 0)

    def poll(self) -> int | None:
        """Return the wait status of the child, None while it runs. Before it is reaped, its group is killed."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        status = self._reap(0)
        assert status is not None
        return status

    def _reap(self, flags: int) -> int | None:
        if hasattr(os, "waitid"):  # while the zombie holds the number, the group id cannot be reused
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | flags) is None:
                return None
            workers.signal_group(self.pid, signal.SIGKILL)
            return os.waitpid(self.pid, 0)[1]
        pid, status = os.waitpid(self.pid, flags)
        if pid == 0:
            return None
        workers.signal_group(self.pid, signal.SIGKILL)
        return status


def _wait_for_command(gate: int, ready: int, others: Sequence[int]) -> NoReturn:
    """Wait in the child for the command, then exec it. Never returns.

    Closes ``ready`` as soon as signals to the group reach the child.
    """
    try:
        os.setsid()
        for other in others:
            os.close(other)
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT:
            signal.signal(number, signal.SIG_DFL)
        os.close(ready)
        with open(gate, "rb") as pipe:
            data = pipe.read()
        if len(data) > 8 and len(data) - 8 == int.from_bytes(data[:8], "big"):
            _exec(*marshal.loads(data[8:]))
    finally:
        os._exit(127)


def _exec(argv: list[str], env: dict[str, str], directory: str, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    try:
        os.chdir(directory)
        os.execvpe(argv[0], argv, env)
    except (OSError, ValueError) as error:
        os.write(2, (_complaint(argv[0], directory, error) + "\n").encode("utf-8", "surrogateescape"))
        os._exit(126 if isinstance(error, PermissionError) else 127)


def _complaint(program: str, directory: str, error: Exception) -> str:
    """Return why the command could not be started, with the messages of a container runtime."""
    if isinstance(error, OSError) and error.filename == directory:
        return f"skahactl: cannot change to the directory {directory}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENOENT and "/" not in program:
        return f'skahactl: exec: "{program}": executable file not found in $PATH'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'skahactl: exec: "{program}": {reason}'


#: Seconds between two checks for a deletion, a deadline, and dead workers.
LOOK = 0.3
#: Seconds that an idle worker waits for work, because a client creates sessions one by one, and starting a worker takes
#: longer than a small session. It checks every GLANCE seconds.
LINGER, GLANCE = 1.0, 0.01
#: Seconds that a worker waits for free space on a full disk before it gives up; its session is Failed then.
PATIENCE = 60.0

#: Bytes that must stay free on the disk of the logs. With less, the running session with the largest log is ended, as
#: a pod is evicted, and the end of its log is cut off, so that the queue can be written again.
LEAST_FREE = 1 << 20
#: Bytes of a cut log that remain at most; skahactl saves no more of a log (logs.keep.MAX_BYTES).
LONGEST = 1 << 30
#: The reason of such an end, which is also the last line of the log.
DISK_FULL = "the disk is full; the end of the log was cut off to make room"

#: The end of a session: id, state, exit code, reason.
End = tuple[str, str, "int | None", str]


def _adopt_orphans() -> None:
    """Become the parent of orphaned processes of sessions, on Linux (child subreaper)."""
    if workers.LINUX:
        import ctypes

        set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def main(argv: list[str]) -> None:
    root, worker, lock, kill_after = argv[0], argv[1], int(argv[2]), float(argv[3])
    if os.fork():
        os._exit(0)  # the command that started us waits for this process, so that no zombie remains
    os.set_inheritable(lock, False)
    store = connect(root)
    try:
        Worker(store, root, worker, lock, kill_after).run()
    finally:
        store.close()


class Worker:
    def __init__(self, store: sqlite3.Connection, root: str, worker: str, lock: int, kill_after: float):
        self.store, self.root, self.worker, self.lock, self.kill_after = store, root, worker, lock, kill_after
        self.bell, ring = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _adopt_orphans()

    def run(self) -> None:
        """Run sessions until the queue has been empty for LINGER seconds, and no dead worker is left to clean up."""
        spare, done = PreforkedChild(self.lock), None
        idle: float | None = None
        while True:
            leave = idle is not None and time.monotonic() - idle >= LINGER
            session, more = self._next(done, spare, leave)
            done = None
            if session is not None:
                running, spare, idle = self._start(session, spare), PreforkedChild(self.lock), None
                done = (session["id"], *self._follow(session["id"], running, spare))
                self._kill_orphans(spare)
            elif more:
                idle = time.monotonic() if idle is None else idle
                self._linger(idle + LINGER)
            else:
                spare.dismiss()
                return

    def _start(self, session: sqlite3.Row, spare: PreforkedChild) -> PreforkedChild:
        argv, env = json.loads(session["argv"]), json.loads(session["env"])
        spare.start(argv, env, os.fsdecode(session["directory"]), log_path(self.root, session["id"]))
        return spare

    def _linger(self, until: float) -> None:
        """Wait for a queued session until ``until`` (monotonic); without one, help to end those of dead workers."""
        query = "SELECT EXISTS (SELECT 1 FROM sessions WHERE state = ?)"
        while time.monotonic() < until:
            if self.store.execute(query, (QUEUED,)).fetchone()[0]:
                return
            self._wait(GLANCE)
        if workers.worker_ending(self.store):
            self._wait()
        self._help()

    def _next(self, done: End | None, spare: PreforkedChild, leave: bool) -> tuple[sqlite3.Row | None, bool]:
        """Record the last end and claim the next session; try again while the queue cannot be written.

        Returns (None, True) if there is nothing to claim, and (None, False) if the worker must exit.
        """
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                return self._turn(done, spare, leave)
            except sqlite3.OperationalError:
                if time.monotonic() > limit:
                    raise
                if done is not None and (size := self._size_to_keep(done[0])) is not None:
                    self._cut_log(done[0], size)
                    self._mark_cut(done[0])
                time.sleep(1)

    def _turn(self, done: End | None, spare: PreforkedChild, leave: bool) -> tuple[sqlite3.Row | None, bool]:
        with immediate(self.store):
            now = time.time()
            if done is not None:
                session, state, code, reason = done
                queue.end(self.store, self.root, session, state, now, code, reason)
            claimed = queue.claim(self.store, self.worker, (spare.pid, spare.born, workers.boot_marker()), now)
            if claimed is not None or not leave or workers.worker_ending(self.store):
                return claimed, True
            self.store.execute("DELETE FROM workers WHERE id = ?", (self.worker,))
        os.unlink(lock_path(self.root, self.worker))
        return None, False

    def _follow(self, session: str, running: PreforkedChild, spare: PreforkedChild) -> tuple[str, int | None, str]:
        """Wait for the process of a session, and return its state, exit code and reason.

        Ends the process if the session is deleted, its deadline passes, or its log fills the disk.
        """
        while (status := running.poll()) is None:
            if not self._wait():
                self._help()
                verdict = self._verdict(session)
                if verdict is None and (size := self._size_to_keep(session)) is not None:
                    verdict = DISK_FULL
                    workers.signal_group(running.pid, signal.SIGSTOP)
                    self._cut_log(session, size)
                if verdict is not None:
                    self._end(running, spare)
                    if verdict is DISK_FULL:
                        self._mark_cut(session)
                    return FAILED, None, verdict
        return queue.end_of_status(status)

    def _size_to_keep(self, session: str) -> int | None:
        """Return the bytes of a session's log that remain on a full disk; None if the log is left as it is.

        Only the largest log of all running sessions is cut, and not if it is small. A saved copy of the rest fits into
        the space that this frees.
        """
        disk = os.statvfs(self.root)
        if disk.f_bavail * disk.f_frsize >= LEAST_FREE:
            return None
        running = [row["id"] for row in self.store.execute("SELECT id FROM sessions WHERE state = ?", (RUNNING,))]
        sizes = {one: self._log_size(one) for one in running}
        size = min(sizes.get(session, 0) // 2, LONGEST) - LEAST_FREE
        return size if size > 0 and session == max(sizes, key=lambda one: (sizes[one], one)) else None

    def _log_size(self, session: str) -> int:
        try:
            return os.path.getsize(log_path(self.root, session))
        except FileNotFoundError:
            return 0

    def _cut_log(self, session: str, size: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.truncate(log_path(self.root, session), size)

    def _mark_cut(self, session: str) -> None:
        """Add a last line to a log that was cut. Without any free space, the log stays as it is."""
        with contextlib.suppress(OSError), open(log_path(self.root, session), "ab") as log:
            log.write(f"\n[skahactl: {DISK_FULL}]\n".encode())

    def _verdict(self, session: str) -> str | None:
        """Return why the session must end now, or None."""
        row = self.store.execute("SELECT deleted, expires FROM sessions WHERE id = ?", (session,)).fetchone()
        if row is None or row["deleted"]:
            return "deleted"
        return "its deadline passed" if row["expires"] <= time.time() else None

    def _kill_orphans(self, spare: PreforkedChild) -> None:
        """Kill every child except the waiting one (``spare``), as the end of a container kills its processes."""
        while left := [child for child in workers.children(os.getpid()) if child != spare.pid]:
            workers.signal_processes(left, signal.SIGKILL)
            for child in left:
                os.waitpid(child, 0)

    def _end(self, running: PreforkedChild, spare: PreforkedChild) -> None:
        """Send TERM to every process of the session, and KILL ``kill_after`` seconds later."""
        workers.signal_group(running.pid, signal.SIGTERM)
        others = set(workers.descendants(os.getpid())) - {running.pid, spare.pid}
        workers.signal_processes(others, signal.SIGTERM)
        limit = time.monotonic() + self.kill_after
        while running.poll() is None:
            left = limit - time.monotonic()
            if left <= 0:
                workers.signal_group(running.pid, signal.SIGKILL)
                running.wait()
                return
            self._wait(min(left, LOOK))

    def _wait(self, seconds: float = LOOK) -> bool:
        """Wait at most ``seconds`` for a child to end; return whether one did."""
        if not select.select([self.bell], [], [], seconds)[0]:
            return False
        os.read(self.bell, 4096)
        return True

    def _help(self) -> None:
        workers.reap(self.store, self.root, self.kill_after, time.time())


if __name__ == "__main__":
    main(sys.argv[1:])
