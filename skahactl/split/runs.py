"""Running a command once an item."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from skahactl.errors import UsageError
from skahactl.split.sources import shown

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_each(command: Sequence[str], items: Iterable[bytes], warn: Callable[[str], None]) -> int:
    """Runs ``command`` for one item after the other and goes on after failures, which ``warn`` names.

    ``{}`` is the item, wherever it stands; a command without it gets the item as its last argument. The command
    reads nothing (its stdin is /dev/null: the list may be on ours). Returns how many failed. Raises UsageError
    if the command cannot be started at all.
    """
    words = [os.fsencode(word) for word in command]
    if not any(b"{}" in word for word in words[1:]):
        words.append(b"{}")
    done = failed = 0
    for item in items:
        done += 1
        if end := _run([word.replace(b"{}", item) for word in words]):
            failed += 1
            warn(f"skahactl split: {end}: {shown(item)}")
    if failed:
        warn(f"skahactl split: {failed} of {done} items failed")
    return failed


def _run(words: list[bytes]) -> str | None:
    """None, or how it ended when that was not well. What interrupts us reaches the command, from its start on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        code = os.waitstatus_to_exitcode(_waited(_started(words, before), before))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code == 0:
        return None
    return f"failed with exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _started(words: list[bytes], mask: Iterable[int]) -> int:
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
        raise UsageError(f"cannot run this command: {error.strerror}", where=shown(words[0])) from error


def _waited(pid: int, mask: Iterable[int]) -> int:
    """Its wait status; what interrupts us is passed on to it, and its end awaited."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return os.waitpid(pid, 0)[1]
    except BaseException as interruption:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGINT if isinstance(interruption, KeyboardInterrupt) else signal.SIGTERM)
            os.waitpid(pid, 0)
        raise
