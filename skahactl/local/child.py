"""The process of a session: forked ahead, held at a pipe until it is told what to run."""

from __future__ import annotations

import errno
import marshal
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from skahactl.local import processes
from skahactl.signals import INTERRUPTIONS

#: As in a container: what Python changed, and what whoever called us (nohup, a script's ``&``) may have ignored.
_DEFAULT = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT, *INTERRUPTIONS)


class PreforkedChild:
    """A child in a session and process group of its own, that runs nothing until ``start``."""

    def __init__(self, lock: int):
        gate, self._gate = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _wait_for_command(gate, (lock, self._gate))
        os.close(gate)
        self.born = processes.start_time(self.pid) or ""

    def start(self, argv: Sequence[str], env: Sequence[tuple[str, str]], directory: str, log: str) -> None:
        """Let it run a command; its output goes to the file ``log``, made for this user alone."""
        order = marshal.dumps((list(argv), dict(env), directory, log))
        try:
            with open(self._gate, "wb") as gate:
                gate.write(len(order).to_bytes(8, "big") + order)
        except BrokenPipeError:
            return  # it was killed: its wait status says so

    def dismiss(self) -> None:
        """Nothing to run: it ends."""
        os.close(self._gate)
        os.waitpid(self.pid, 0)

    def poll(self) -> int | None:
        """The wait status once the process has ended, None before; what it left in its group is killed first."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        status = self._reap(0)
        assert status is not None
        return status

    def _reap(self, flags: int) -> int | None:
        if hasattr(os, "waitid"):  # while the zombie keeps the number, the group cannot be another's
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | flags) is None:
                return None
            processes.signal_group(self.pid, signal.SIGKILL)
            return os.waitpid(self.pid, 0)[1]
        pid, status = os.waitpid(self.pid, flags)
        if pid == 0:
            return None
        processes.signal_group(self.pid, signal.SIGKILL)
        return status


def _wait_for_command(gate: int, others: Sequence[int]) -> NoReturn:
    """In the child: wait for the order, then become the command. Never returns."""
    try:
        os.setsid()
        for other in others:
            os.close(other)
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT:
            signal.signal(number, signal.SIG_DFL)
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
    """Why the command could not be started, in the words of a container runtime."""
    if isinstance(error, OSError) and error.filename == directory:
        return f"skahactl: cannot change to the directory {directory}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENOENT and "/" not in program:
        return f'skahactl: exec: "{program}": executable file not found in $PATH'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'skahactl: exec: "{program}": {reason}'
