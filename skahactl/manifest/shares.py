"""Which items go to which replica: positions from 0, by the arithmetic that ``skahactl split`` uses too."""

from __future__ import annotations

from collections.abc import Sequence

from skahactl.split.shares import balanced, bounds


def share_items(count: int, total: int, strategy: str, weights: Sequence[int] = ()) -> list[Sequence[int]]:
    """The positions of each replica, 1 to ``total``; ``weights`` are the items' sizes, for ``size`` alone."""
    if strategy == "stripe":
        return [range(replica, count, total) for replica in range(total)]
    if strategy == "size":
        made: list[list[int]] = [[] for _ in range(total)]
        for position, replica in enumerate(balanced(weights, total)):
            made[replica - 1].append(position)
        return list(made)
    return [range(*bounds(count, replica, total)) for replica in range(1, total + 1)]
