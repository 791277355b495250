"""A worker: runs sessions of the queue one after another, and leaves when there are none.

    python -m skahactl.local.worker ROOT WORKER LOCK-FD KILL-AFTER

Started by skahactl.local.launch, detached, with its lock as an open file. For every session a child is forked ahead
that waits at a pipe; one transaction notes the end of the last session and claims the next one as that child's process
group; then the child is told what to run. So nothing ever runs that is not on record, and a worker that dies on the way
takes an untold child with it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import sys
import time

from skahactl.local import processes, queue, workers
from skahactl.local.child import PreforkedChild
from skahactl.local.store import FAILED, QUEUED, connect, immediate, lock_path, log_path

#: Seconds between two looks for a deletion, a deadline, and dead fellow workers.
LOOK = 0.3
#: Seconds that a worker without work stays: a client creates sessions one by one, and starting a worker takes longer
#: than a small session. While it stays, it looks every GLANCE seconds.
LINGER, GLANCE = 1.0, 0.01
#: Seconds for which a full disk is waited out before the worker gives up, and what it ran is Failed.
PATIENCE = 60.0

#: A session's end: id, state, exit code, reason.
End = tuple[str, str, "int | None", str]


def main(argv: list[str]) -> None:
    root, worker, lock, kill_after = argv[0], argv[1], int(argv[2]), float(argv[3])
    if os.fork():
        os._exit(0)  # the command that started us waits for this one: no zombie is left to it
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

    def run(self) -> None:
        """Until the queue has been empty for a while, and nothing of a dead worker is left to end."""
        spare, done = PreforkedChild(self.lock), None
        idle: float | None = None
        while True:
            leave = idle is not None and time.monotonic() - idle >= LINGER
            session, more = self._next(done, spare, leave)
            done = None
            if session is not None:
                running, spare, idle = self._start(session, spare), PreforkedChild(self.lock), None
                done = (session["id"], *self._follow(session["id"], running))
            elif more:
                idle = time.monotonic() if idle is None else idle
                self._linger(idle + LINGER)
            else:
                spare.dismiss()
                return

    def _start(self, session: sqlite3.Row, spare: PreforkedChild) -> PreforkedChild:
        argv, env = json.loads(session["argv"]), json.loads(session["env"])
        spare.start(argv, env, session["directory"], log_path(self.root, session["id"]))
        return spare

    def _linger(self, until: float) -> None:
        """Until there is work, or the time is up; then help to end what dead workers left."""
        query = "SELECT EXISTS (SELECT 1 FROM sessions WHERE state = ?)"
        while time.monotonic() < until:
            if self.store.execute(query, (QUEUED,)).fetchone()[0]:
                return
            self._wait(GLANCE)
        if workers.worker_ending(self.store):
            self._wait()
        self._help()

    def _next(self, done: End | None, spare: PreforkedChild, leave: bool) -> tuple[sqlite3.Row | None, bool]:
        """Note the last end, claim the next session; (None, True): nothing to claim; (None, False): left for good."""
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                return self._turn(done, spare, leave)
            except sqlite3.OperationalError:
                if time.monotonic() > limit:
                    raise
                time.sleep(1)

    def _turn(self, done: End | None, spare: PreforkedChild, leave: bool) -> tuple[sqlite3.Row | None, bool]:
        with immediate(self.store):
            now = time.time()
            if done is not None:
                session, state, code, reason = done
                queue.end(self.store, self.root, session, state, now, code, reason)
            claimed = queue.claim(self.store, self.worker, (spare.pid, spare.born, processes.boot_marker()), now)
            if claimed is not None or not leave or workers.worker_ending(self.store):
                return claimed, True
            self.store.execute("DELETE FROM workers WHERE id = ?", (self.worker,))
        os.unlink(lock_path(self.root, self.worker))
        return None, False

    def _follow(self, session: str, running: PreforkedChild) -> tuple[str, int | None, str]:
        """Wait for a session's process; end it when it is deleted or too old. State, exit code and reason."""
        while (status := running.poll()) is None:
            if not self._wait():
                self._help()
                verdict = self._verdict(session)
                if verdict is not None:
                    self._end(running)
                    return FAILED, None, verdict
        return queue.end_of_status(status)

    def _verdict(self, session: str) -> str | None:
        """Why the session must end now, or None."""
        row = self.store.execute("SELECT deleted, expires FROM sessions WHERE id = ?", (session,)).fetchone()
        if row is None or row["deleted"]:
            return "deleted"
        return "its deadline passed" if row["expires"] <= time.time() else None

    def _end(self, running: PreforkedChild) -> None:
        """TERM, ``kill_after`` seconds, KILL; the children of a process that is gone are killed as in a container."""
        processes.signal_group(running.pid, signal.SIGTERM)
        limit = time.monotonic() + self.kill_after
        while running.poll() is None:
            left = limit - time.monotonic()
            if left <= 0:
                processes.signal_group(running.pid, signal.SIGKILL)
                running.wait()
                return
            self._wait(min(left, LOOK))

    def _wait(self, seconds: float = LOOK) -> bool:
        """Until a child ends, at most ``seconds``; whether one did."""
        if not select.select([self.bell], [], [], seconds)[0]:
            return False
        os.read(self.bell, 4096)
        return True

    def _help(self) -> None:
        workers.reap(self.store, self.root, self.kill_after, time.time())


if __name__ == "__main__":
    main(sys.argv[1:])
