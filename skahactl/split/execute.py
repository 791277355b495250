"""A request for ``skahactl split`` as a value, and its execution."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter, RawIOBase
from itertools import cycle, islice
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from skahactl.errors import Exit, UsageError, output_error
from skahactl.split.shares import Share, bounds
from skahactl.split.sources import SWAP, Source, open_list, shown_path
from skahactl.split.strategies import (
    chunk,
    everything,
    held_within_limit,
    item_of,
    lines,
    lines_with_count,
    number_of_lines,
    stripe,
)
from skahactl.system import handled_signals

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


BUFFER = 128 * 1024


@contextmanager
def open_output(fd: int, null: bool) -> Iterator[BinaryIO]:
    """Open a stream to ``fd`` for lines in internal form, which end with newlines or, with ``null``, with NULs.

    If the body raises, buffered bytes are dropped. Raises BrokenPipeError, and SkahactlError for any other failure to
    write.
    """
    raw = _Descriptor(fd, null)
    stream = BufferedWriter(raw, BUFFER)
    try:
        yield stream
        stream.flush()
    finally:
        raw.dropped = True


class _Descriptor(RawIOBase):
    def __init__(self, fd: int, null: bool):
        self.fd = fd
        self.null = null
        self.dropped = False

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        block = memoryview(bytes(data).translate(SWAP)) if self.null else memoryview(data)
        at, size = 0, len(block)
        while at < size and not self.dropped:
            at += self._written(block[at:])
        return size

    def _written(self, block: memoryview) -> int:
        try:
            return os.write(self.fd, block)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise output_error(error) from error


class SplitRequest(NamedTuple):
    """One call of ``split``.

    ``share`` selects the replica (None: all items; ``every`` and ``counts`` use only its total). ``output`` is
    ``table`` (one item per line), ``json`` or ``jsonl``. With ``command``, that command runs once per item instead.
    """

    sources: tuple[Source, ...]
    strategy: str
    share: Share
    finished: FinishedItems | None = None
    null: bool = False
    every: bool = False
    counts: bool = False
    output: str = "table"
    command: tuple[str, ...] | None = None

    @property
    def structured(self) -> bool:
        """Return whether the output can represent items that contain newlines."""
        return self.null or self.output != "table" or self.command is not None


def execute(order: SplitRequest, stdout: int, warn: Callable[[str], None]) -> Exit:
    """Print the share, or run the command. Raises UsageError, before any output if the error is known by then."""
    if order.command is not None:
        failed = run_each(order.command, (item_of(line, True) for line in _remaining(order)), warn)
        return Exit.NO if failed else Exit.DONE
    with open_output(stdout, order.null) as stream:
        if order.counts or order.every or order.output != "table":
            _print_rows(order, stream)
        elif order.finished:
            stream.writelines(_remaining(order))
        else:
            for piece in _pieces(order):
                stream.write(piece)
    return Exit.DONE


def _pieces(order: SplitRequest) -> Iterator[bytes]:
    """Yield the lines of the share, in pieces of any size."""
    if order.strategy == "size":
        return (line for replica, line, _ in _everybody(order) if replica == order.share.replica)
    if order.share.total == 1:
        return everything(order.sources, order.structured)
    strategy = stripe if order.strategy == "stripe" else chunk
    return strategy(order.sources, order.share, order.structured)


def _remaining(order: SplitRequest) -> Iterator[bytes]:
    """Yield the lines of the share without finished items.

    Finished items are removed after all items are assigned, so that all replicas compute the same assignment.
    """
    return (line for line in lines(_pieces(order)) if not _is_finished(order, line))


def _is_finished(order: SplitRequest, line: bytes) -> bool:
    return order.finished is not None and order.finished.has(item_of(line, order.structured))


def _everybody(order: SplitRequest) -> Iterator[tuple[int, bytes, int | None]]:
    """Yield (replica, line, size if known) of every item, in the order of the list."""
    total = order.share.total
    if order.strategy == "size":
        from skahactl.split.strategies import owned_items

        yield from owned_items(order.sources, total, order.structured)
        return
    if order.strategy == "stripe":
        found: Iterable[bytes] = lines(everything(order.sources, order.structured))
        yield from ((replica, line, None) for replica, line in zip(cycle(range(1, total + 1)), found))
        return
    count, found = lines_with_count(order.sources, order.structured)
    for replica in range(1, total + 1):
        start, stop = bounds(count, replica, total)
        yield from ((replica, line, None) for line in islice(found, stop - start))


def _print_rows(order: SplitRequest, stream: BinaryIO) -> None:
    if order.output != "table":
        write_json(_counts(order) if order.counts else _named(order), order.output, stream)
    elif order.counts:
        for row in _counts(order):
            stream.write("\t".join(str(value) for value in row.values() if value is not None).encode() + b"\n")
    else:
        for replica, line in _owned_lines(order):
            stream.write(b"%d\t%b\n" % (replica, line.removesuffix(b"\n")))


def _owned_lines(order: SplitRequest) -> Iterator[tuple[int, bytes]]:
    """Yield (replica, line) of the unfinished items of all replicas, or of the share."""
    if not order.every:
        return ((order.share.replica, line) for line in _remaining(order))
    return ((replica, line) for replica, line, _ in _everybody(order) if not _is_finished(order, line))


def _named(order: SplitRequest) -> Iterator[dict[str, object]]:
    for replica, line in _owned_lines(order):
        yield {"replica": replica, "item": os.fsdecode(item_of(line, True))}


def _counts(order: SplitRequest) -> list[dict[str, object]]:
    """Return for each replica the numbers of unfinished and finished items.

    With ``size``, add the bytes of the unfinished items. Otherwise, at most one byte per item is held.
    """
    total = order.share.total
    if order.strategy == "size":
        return _weighed_counts(order)
    flags = b""
    if order.finished is None:
        count = number_of_lines(everything(order.sources, order.structured))
    else:
        found = lines(everything(order.sources, order.structured))
        flags = bytes(map(order.finished.has, (item_of(line, order.structured) for line in found)))
        count = len(flags)
    rows: list[dict[str, object]] = []
    for replica in range(1, total + 1):
        start, stop = bounds(count, replica, total)
        share = slice(start, stop) if order.strategy == "chunk" else slice(replica - 1, None, total)
        size, excluded = len(range(*share.indices(count))), flags[share].count(1)
        rows.append({"replica": replica, "items": size - excluded, "excluded": excluded, "bytes": None})
    return rows


def _weighed_counts(order: SplitRequest) -> list[dict[str, object]]:
    left, taken, weights = ([0] * (order.share.total + 1) for _ in range(3))
    for replica, line, size in _everybody(order):
        if _is_finished(order, line):
            taken[replica] += 1
        else:
            left[replica] += 1
            weights[replica] += size or 0
    return [
        {"replica": r, "items": left[r], "excluded": taken[r], "bytes": weights[r]}
        for r in range(1, order.share.total + 1)
    ]


def write_json(rows: Iterable[Mapping[str, object]], output: str, stream: BinaryIO) -> None:
    """Write one object per line as they come (``jsonl``), or one array of the same objects (``json``). Pure ASCII.

    Bytes that are not UTF-8 become lone surrogates (``\\udcff`` for 0xFF); ``os.fsencode`` restores the bytes.
    """
    if output == "jsonl":
        for row in rows:
            stream.write(json.dumps(row).encode() + b"\n")
        return
    before = b"[\n"
    for row in rows:
        stream.write(before + json.dumps(row).encode())
        before = b",\n"
    stream.write(b"[]\n" if before == b"[\n" else b"\n]\n")


_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class FinishedItems(NamedTuple):
    """The items that count as finished.

    ``named`` are the items in the ``--exclude`` files (``sources``). ``result`` is the path of an item's result, with
    ``{}`` in place of the item.
    """

    named: frozenset[bytes]
    result: bytes | None
    sources: tuple[Source, ...] = ()

    def has(self, item: bytes) -> bool:
        """Return whether the item is listed, or its result is a file that is not empty."""
        return item in self.named or (self.result is not None and _written(self.result.replace(b"{}", item)))


def read_finished(excludes: Sequence[str], unless: str | None, stdin: int) -> FinishedItems:
    """Return the items that ``--exclude`` and ``--unless`` select. Raises UsageError for a file that cannot be read."""
    if unless is not None and "{}" not in unless:
        raise UsageError(
            f"--unless '{shown_path(unless)}' has no {{}}: every item would have the same result",
            hint="write {} in place of the item, for example --unless '/arc/out/{}.OK'",
        )
    if "-" in excludes:
        raise UsageError("--exclude needs a file", hint="in bash, --exclude <(command) reads the output of a command")
    sources = tuple(open_list(name, stdin) for name in excludes)
    named = frozenset(item_of(line, True) for source in sources for line in lines(_held([source])))
    return FinishedItems(named, None if unless is None else os.fsencode(os.path.expanduser(unless)), sources)


def _held(sources: Sequence[Source]) -> Iterable[bytes]:
    pieces = everything(sources, True)
    return pieces if all(source.begin is not None for source in sources) else list(held_within_limit(pieces))


def _written(path: bytes) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _ABSENT:
            return False
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--unless cannot check this file: {reason}", where=shown_path(path)) from error
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


SHELL = b"/bin/sh"
LONGEST = 1000  # bytes of an item shown in a message


def run_each(command: Sequence[str], items: Iterable[bytes], warn: Callable[[str], None]) -> int:
    """Run ``command`` for one item after the other. After a failure, report it with ``warn`` and continue.

    ``{}`` is replaced by the item everywhere; a command without it gets the item as its last argument. The standard
    input of the command is /dev/null, because ours can be the list. Returns the number of failures. Raises UsageError
    if the command cannot be started at all, and BrokenPipeError if it ended because the reader of its output exited.
    """
    words = [os.fsencode(word) for word in command]
    if not any(b"{}" in word for word in words[1:]):
        words.append(b"{}")
    progress = _Progress(warn)
    try:
        for item in items:
            progress.running = item
            end = _run([word.replace(b"{}", item) for word in words], progress)
            progress.running = None
            progress.done += 1
            if end:
                progress.failed += 1
                warn(f"skahactl split: {end}: {_name(item)}")
    except KeyboardInterrupt:
        progress.interrupted()
        raise
    if progress.failed:
        from skahactl.text import count_noun

        warn(f"skahactl split: {progress.failed} of {count_noun(progress.done, 'item')} failed")
    return progress.failed


@dataclass(slots=True)
class _Progress:
    """The progress of ``run_each``, which is reported once when a signal ends it."""

    warn: Callable[[str], None]
    done: int = 0
    failed: int = 0
    running: bytes | None = None
    is_reported: bool = False

    def interrupted(self) -> None:
        if self.is_reported:
            return
        self.is_reported = True
        where = "" if self.running is None else f" during item {self.done + 1}: {_name(self.running)}"
        failed = f" ({self.failed} of them failed)" if self.failed else ""
        self.warn(f"skahactl split: interrupted{where}; items done before: {self.done}{failed}")


def _run(words: list[bytes], progress: _Progress) -> str | None:
    """Run one command; return None on success, else how it ended. Signals are passed on to it from its start."""
    signal.signal(signal.SIGCHLD, _noted)
    awaited = {*handled_signals(), signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        code = os.waitstatus_to_exitcode(_waited(_started(words, before), awaited, progress))
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
    """The arguments for one item are longer than the system allows."""


def _started(words: list[bytes], mask: Iterable[int]) -> int:
    """Start the process and return its pid. sh runs a script without an interpreter line, as in execvp."""
    try:
        return os.posix_spawnp(
            words[0],
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE],  # Python ignores it; the command must not
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise _CommandTooLong from error
        from shutil import which

        path = which(words[0]) if error.errno == errno.ENOEXEC and words[0] != SHELL else None
        if path is not None:
            return _started([SHELL, path, *words[1:]], mask)
        raise UsageError(f"cannot run this command: {error.strerror}", where=shown_path(words[0])) from error


def _nobody_reads() -> bool:
    """Return whether the reader of our stdout or stderr exited. SIGPIPE can also come from within the command."""
    from select import POLLERR, POLLHUP, poll

    asked = poll()
    for fd in (1, 2):
        asked.register(fd, 0)
    return any(events & (POLLERR | POLLHUP) for _, events in asked.poll(0))


def _name(item: bytes) -> str:
    return shown_path(item) if len(item) <= LONGEST else f"{shown_path(item[:LONGEST])}... ({len(item)} bytes)"


def _waited(pid: int, signals: Collection[int], progress: _Progress) -> int:
    """Wait for the command and return its wait status. Pass signals on to it, and raise the last one here afterwards.

    The code waits for signals instead of handling them: a handled signal that arrives just before ``waitpid`` would
    take effect only after the command ended.
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
                progress.interrupted()
                signal.raise_signal(interruption)  # still blocked here: it is delivered when the old mask is restored
            return ended[1]


def _next(numbers: Collection[int]) -> tuple[int, bool]:
    """Return the next of these signals, and whether the terminal sent it to the command too (Ctrl-C)."""
    if not hasattr(signal, "sigwaitinfo"):
        return signal.sigwait(numbers), False
    info = signal.sigwaitinfo(numbers)
    return info.si_signo, info.si_code > 0  # positive: from the kernel


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing. Without a handler, some systems discard a blocked SIGCHLD."""
