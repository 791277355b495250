"""Which replica gets which items: pure arithmetic on counts, positions and weights.

Replicas count from 1, positions in a list from 0. This module reads no list, so that the command, the manifest and
:mod:`skahactl.helpers.distributed` give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

REPLICA_ID = "REPLICA_ID"
REPLICA_COUNT = "REPLICA_COUNT"
SESSION_IDS = ("skaha_sessionid", "SKAHA_SESSIONID")  # the platform sets one of them in every session's container


class Share(NamedTuple):
    """Replica ``replica`` of ``total``; 1 <= replica <= total."""

    replica: int
    total: int


def share(replica: int | None, total: int | None, environ: Mapping[str, str]) -> Share | None:
    """Return the requested share. ``REPLICA_ID`` and ``REPLICA_COUNT`` replace arguments that are None.

    Returns None outside a session if there are neither arguments nor variables.

    Raises:
        ValueError: one of the two is missing, is not a whole number, or is outside 1..total; or both are missing inside
            a session of the platform, where every replica would process the whole list.
    """
    number = _variable(environ, REPLICA_ID) if replica is None else replica
    count = _variable(environ, REPLICA_COUNT) if total is None else total
    if number is None and count is None:
        if any(name in environ for name in SESSION_IDS):
            raise ValueError(
                f"{REPLICA_ID} and {REPLICA_COUNT} are not set in this session: every replica would process all items"
            )
        return None
    if number is None:
        raise ValueError(f"{REPLICA_ID} is not set, but the number of replicas is ({count})")
    if count is None:
        raise ValueError(f"{REPLICA_COUNT} is not set, but the number of this replica is ({number})")
    return checked(number, count)


def known_total(total: int | None, environ: Mapping[str, str]) -> int:
    """Return the number of replicas. ``REPLICA_COUNT`` replaces None; raises ValueError if it is not set."""
    count = _variable(environ, REPLICA_COUNT) if total is None else total
    if count is None:
        raise ValueError(f"the number of replicas is unknown: {REPLICA_COUNT} is not set")
    return checked(1, count).total


def checked(replica: int, total: int) -> Share:
    """Return the share ``replica`` of ``total``. Raises ValueError unless 1 <= replica <= total."""
    if total < 1:
        raise ValueError(f"the number of replicas must be at least 1, not {total}")
    if replica < 1:
        raise ValueError(f"replica {replica} does not exist: replicas count from 1")
    if replica > total:
        raise ValueError(f"replica {replica} of {total} does not exist (replicas: 1 to {total})")
    return Share(replica, total)


def whole_number(text: str, what: str) -> int:
    """Parse an integer: ASCII digits with an optional sign and surrounding spaces. The ValueError names ``what``."""
    digits = text.strip()
    unsigned = digits[1:] if digits[:1] in ("-", "+") else digits
    if not (unsigned.isascii() and unsigned.isdigit()):
        raise ValueError(f"{what} is not a whole number: {text!r}")
    return int(digits)


def bounds(count: int, replica: int, total: int) -> tuple[int, int]:
    """Return the chunk of ``replica`` among ``count`` items: positions start..stop-1.

    Sizes differ by at most one, and longer chunks come first, as in ``numpy.array_split``.
    """
    size, longer = divmod(count, total)
    start = (replica - 1) * size + min(replica - 1, longer)
    return start, start + size + (replica <= longer)


def balanced(weights: Sequence[int], total: int) -> list[int]:
    """Return the replica (from 1) of each position, balanced by weight: longest processing time first.

    Items are assigned from the heaviest to the lightest, each to the lightest replica. Ties are broken by position, by
    the number of items and by the replica number, so that every replica computes the same answer, and no replica stays
    empty while another has two items of weight 0. The heaviest share is at most 4/3 - 1/(3 total) times the best
    possible one.
    """
    from heapq import heapify, heapreplace

    loads = [(0, 0, replica) for replica in range(1, total + 1)]
    heapify(loads)
    owners = [0] * len(weights)
    for position in sorted(range(len(weights)), key=lambda position: -weights[position]):
        load, items, replica = loads[0]
        owners[position] = replica
        heapreplace(loads, (load + weights[position], items + 1, replica))
    return owners


def _variable(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    return None if text is None else whole_number(text, name)
