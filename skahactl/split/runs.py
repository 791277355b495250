"""Running a command once an item."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Collection, Iterable, Sequence
from types import FrameType

from skahactl.errors import UsageError
from skahactl.signals import handled_signals
from skahactl.split.sources import shown_path

SHELL = b"/bin/sh"
LONGEST = 1000  # bytes of an item in a message


def run_each(command: Sequence[str], items: Iterable[bytes], warn: Callable[[str], None]) -> int:
    """Runs ``command`` for one item after the other and goes on after failures, which ``warn`` names.

    ``{}`` is the item, wherever it stands; a command without it gets the item as its last argument. The command
    reads nothing (its stdin is /dev/null: the list may be on ours). Returns how many failed. Raises UsageError
    if the command cannot be started at all, and BrokenPipeError when one ended because nobody reads what it prints.
    """
    words = [os.fsencode(word) for word in command]
    if not any(b"{}" in word for word in words[1:]):
        words.append(b"{}")
    done = failed = 0
    for item in items:
        done += 1
        if end := _run([word.replace(b"{}", item) for word in words]):
            failed += 1
            warn(f"skahactl split: {end}: {_name(item)}")
    if failed:
        warn(f"skahactl split: {failed} of {done} items failed")
    return failed


def _run(words: list[bytes]) -> str | None:
    """None, or how it ended when that was not well. What interrupts us reaches the command, from its start on."""
    signal.signal(signal.SIGCHLD, _noted)
    awaited = {*handled_signals(), signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        code = os.waitstatus_to_exitcode(_waited(_started(words, before), awaited))
    except _CommandTooLong:
        return "too long for a command"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code == 0:
        return None
    if code == -signal.SIGPIPE and _nobody_reads():
        raise BrokenPipeError
    return f"failed with exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


class _CommandTooLong(Exception):
    """The words of one item are more than the system passes to a command."""


def _started(words: list[bytes], mask: Iterable[int]) -> int:
    """Its process; a script that does not say what runs it is run by sh, as a shell and execvp do."""
    try:
        return os.posix_spawnp(
            words[0],
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE],  # which Python ignores, and the command should not
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise _CommandTooLong from error
        path = _found(words[0]) if error.errno == errno.ENOEXEC and words[0] != SHELL else None
        if path is not None:
            return _started([SHELL, path, *words[1:]], mask)
        raise UsageError(f"cannot run this command: {error.strerror}", where=shown_path(words[0])) from error


def _found(command: bytes) -> bytes | None:
    from shutil import which

    return which(command)


def _nobody_reads() -> bool:
    """Has the reader of our stdout or stderr gone away? A command can be killed by a pipe or a socket of its own."""
    from select import POLLERR, POLLHUP, poll

    asked = poll()
    for fd in (1, 2):
        asked.register(fd, 0)
    return any(events & (POLLERR | POLLHUP) for _, events in asked.poll(0))


def _name(item: bytes) -> str:
    return shown_path(item) if len(item) <= LONGEST else f"{shown_path(item[:LONGEST])}... ({len(item)} bytes)"


def _waited(pid: int, signals: Collection[int]) -> int:
    """Its wait status; interruptions are passed on to it, its end awaited, and the last of them then ours again.

    The signals are waited for, not handled: one that came just before a ``waitpid`` began would be heard only after
    the command's own end.
    """
    interruption = 0
    while True:
        number, everybody = _next(signals)
        if number != signal.SIGCHLD:
            interruption = number
            if not everybody:
                os.kill(pid, number)
        elif (ended := os.waitpid(pid, os.WNOHANG)) != (0, 0):
            if interruption:
                signal.raise_signal(interruption)  # still blocked here: it arrives with the old mask
            return ended[1]


def _next(numbers: Collection[int]) -> tuple[int, bool]:
    """The next of these signals, and whether the terminal sent it, which tells the command as well (Ctrl-C)."""
    if not hasattr(signal, "sigwaitinfo"):
        return signal.sigwait(numbers), False
    info = signal.sigwaitinfo(numbers)
    return info.si_signo, info.si_code > 0  # positive: from the kernel


def _noted(number: int, frame: FrameType | None) -> None:
    """Nothing to do; without a handler some systems throw a blocked SIGCHLD away."""
