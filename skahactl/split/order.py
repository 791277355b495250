"""What ``skahactl split`` was asked for, as a value, and the carrying out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from skahactl.errors import Exit
from skahactl.split.lines import chunk, everything, item, lines, stripe
from skahactl.split.output import open_output
from skahactl.split.shares import Share, bounds

if TYPE_CHECKING:
    from skahactl.split.finished import FinishedItems
    from skahactl.split.sources import Source


class SplitRequest(NamedTuple):
    """``share``: whose items (None: everybody's; for ``every`` and ``counts`` its total alone is looked at).

    ``output`` is ``table`` (items, one a line), ``json`` or ``jsonl``; ``command`` is run instead of printing.
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
        """Does the output tell items apart by more than newlines?"""
        return self.null or self.output != "table" or self.command is not None


def execute(order: SplitRequest, stdout: int, warn: Callable[[str], None]) -> Exit:
    """Prints, or runs the command. Raises UsageError before the first byte for whatever can be known by then."""
    if order.command is not None:
        from skahactl.split.runs import run_each

        failed = run_each(order.command, (item(line, True) for line in _remaining(order)), warn)
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
    """The share's lines, in pieces of any size."""
    if order.strategy == "size":
        return (line for replica, line, _ in _everybody(order) if replica == order.share.replica)
    if order.share.total == 1:
        return everything(order.sources, order.structured)
    strategy = stripe if order.strategy == "stripe" else chunk
    return strategy(order.sources, order.share, order.structured)


def _remaining(order: SplitRequest) -> Iterator[bytes]:
    """The share's lines without what is finished; taken out after assignment, so that replicas never disagree."""
    return (line for line in lines(_pieces(order)) if not _is_finished(order, line))


def _is_finished(order: SplitRequest, line: bytes) -> bool:
    return order.finished is not None and order.finished.has(item(line, order.structured))


def _everybody(order: SplitRequest) -> Iterator[tuple[int, bytes, int | None]]:
    """(replica, line, size if known) of every item, in the order of the list."""
    total = order.share.total
    if order.strategy == "size":
        from skahactl.split.sizes import owned_items

        yield from owned_items(order.sources, total, order.structured)
        return
    found: Iterable[bytes] = lines(everything(order.sources, order.structured))
    if order.strategy == "stripe":
        yield from ((replica, line, None) for replica, line in zip(cycle(range(1, total + 1)), found))
        return
    found = list(found)
    for replica in range(1, total + 1):
        start, stop = bounds(len(found), replica, total)
        yield from ((replica, line, None) for line in found[start:stop])


def _print_rows(order: SplitRequest, stream: BinaryIO) -> None:
    if order.output != "table":
        from skahactl.split.rows import write_json

        write_json(_counts(order) if order.counts else _named(order), order.output, stream)
    elif order.counts:
        for row in _counts(order):
            stream.write("\t".join(str(value) for value in row.values() if value is not None).encode() + b"\n")
    else:
        for replica, line in _owned_lines(order):
            stream.write(b"%d\t%b\n" % (replica, line.removesuffix(b"\n")))


def _owned_lines(order: SplitRequest) -> Iterator[tuple[int, bytes]]:
    """(replica, line) of everybody's, or of the share's, unfinished items."""
    if not order.every:
        return ((order.share.replica, line) for line in _remaining(order))
    return ((replica, line) for replica, line, _ in _everybody(order) if not _is_finished(order, line))


def _named(order: SplitRequest) -> Iterator[dict[str, object]]:
    for replica, line in _owned_lines(order):
        yield {"replica": replica, "item": os.fsdecode(item(line, True))}


def _counts(order: SplitRequest) -> list[dict[str, object]]:
    """For each replica the unfinished items, the finished ones, and with ``size`` the bytes of the unfinished."""
    total = order.share.total
    left, taken, weights = ([0] * (total + 1) for _ in range(3))
    for replica, line, size in _everybody(order):
        if _is_finished(order, line):
            taken[replica] += 1
        else:
            left[replica] += 1
            weights[replica] += size or 0
    weighed = order.strategy == "size"
    return [
        {"replica": r, "items": left[r], "excluded": taken[r], "bytes": weights[r] if weighed else None}
        for r in range(1, total + 1)
    ]
