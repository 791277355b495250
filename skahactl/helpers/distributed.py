"""This replica's share of the work, in a script that runs in every replica of a job.

    from skahactl.helpers import distributed

    for path in distributed.chunk(sorted(glob("/arc/projects/survey/*.fits"))):
        process(path)

skahactl sets ``REPLICA_ID`` (1..N) and ``REPLICA_COUNT`` (N) in each replica; both functions use them
unless you pass other values. Every replica must see the same items in the same order: sort the result of a glob or set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from operator import index
from typing import TypeVar

from skahactl.split import shares

__all__ = ["chunk", "stripe"]

T = TypeVar("T")


def chunk(iterable: Iterable[T], replica: int | None = None, total: int | None = None) -> Iterator[T]:
    """Yield this replica's block of consecutive items, in order.

    The sizes of the blocks differ by at most one, the longer blocks first. Of 1000 files, replica 1 of 100 gets
    files 0 to 9, replica 2 files 10 to 19. With fewer items than replicas, the first replicas get one item each
    and the others none.

    The older helper of the Skaha clients gave the whole remainder to the last replica: of 1023 items over 512
    replicas, the last one got 512 and each other one got 1. Here, 511 replicas get 2 and the last gets 1. Do not mix
    the two helpers within one job.

    Nothing is read before the first item is requested. Sequences, sets and mappings are read in place; any other
    iterable is held in memory, because its length determines the blocks (use ``stripe`` for very long ones).

    Args:
        iterable: The items, the same and in the same order in every replica.
        replica: Which replica this is, 1 to ``total``. Default: ``REPLICA_ID``.
        total: How many replicas there are. Default: ``REPLICA_COUNT``.
            With neither arguments nor variables, as on a laptop, all items are yielded.

    Raises:
        ValueError: At the call, not at the first item: ``replica`` is not in 1..``total``, ``total`` is less than
            1, one of the two is given or set and the other is not, a variable is not a whole number, or neither
            variable is set inside a session of the platform.
        TypeError: ``replica`` or ``total`` is not an integer.

    Examples:
        >>> list(chunk(range(10), replica=1, total=4))
        [0, 1, 2]
        >>> [list(chunk("abc", replica, 5)) for replica in range(1, 6)]
        [['a'], ['b'], ['c'], [], []]
    """
    mine = _share(replica, total)
    return iter(iterable) if mine is None else _block(iterable, mine)


def stripe(iterable: Iterable[T], replica: int | None = None, total: int | None = None) -> Iterator[T]:
    """Yield every ``total``-th item, starting with item number ``replica``.

    Of 1000 files, replica 1 of 100 gets files 0, 100, 200, ..., replica 2 files 1, 101, 201, .... Neighbours in
    the list go to different replicas, which balances lists of items that grow steadily. Lazy: it holds no item, and
    works on endless iterables. These are the lines that GNU ``split -n r/replica/total`` prints.

    Args:
        iterable: The items, the same and in the same order in every replica.
        replica: Which replica this is, 1 to ``total``. Default: ``REPLICA_ID``.
        total: How many replicas there are. Default: ``REPLICA_COUNT``.
            With neither arguments nor variables, as on a laptop, all items are yielded.

    Raises:
        ValueError: At the call, not at the first item, as for ``chunk``. (The older helper of the Skaha clients
            yielded nothing for a replica outside 1..``total``, so that a wrong number looked like success.)
        TypeError: ``replica`` or ``total`` is not an integer.

    Examples:
        >>> list(stripe(range(10), replica=1, total=3))
        [0, 3, 6, 9]
        >>> list(stripe(range(10), replica=3, total=3))
        [2, 5, 8]
    """
    mine = _share(replica, total)
    return iter(iterable) if mine is None else islice(iterable, mine.replica - 1, None, mine.total)


def _share(replica: int | None, total: int | None) -> shares.Share | None:
    return shares.share(_integer(replica, "replica"), _integer(total, "total"), os.environ)


def _integer(value: int | None, name: str) -> int | None:
    """Return ``value`` as an integer. Raises TypeError for booleans, floats and text; NumPy integers are accepted."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    return index(value)


def _block(iterable: Iterable[T], mine: shares.Share) -> Iterator[T]:
    # Only these have as many items as their length: a pandas DataFrame has the length of its rows,
    # and yields its columns.
    if not isinstance(iterable, (Sequence, Set, Mapping)):
        iterable = list(iterable)
    start, stop = shares.bounds(len(iterable), *mine)
    if isinstance(iterable, Sequence):
        for position in range(start, stop):
            yield iterable[position]
    else:
        yield from islice(iterable, start, stop)
