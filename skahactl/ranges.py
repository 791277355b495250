"""Replica ranges: ``1-10,17``."""

from __future__ import annotations

from collections.abc import Iterable


def parse_ranges(text: str, top: int | None = None) -> tuple[int, ...]:
    """The numbers of ``1-10,17`` in order, each once; ``top`` is the largest allowed. ValueError names the bad part."""
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"'{part}' is no replica range: write 3, 1-10 or 1-10,17")
        low, high = int(first), int(last or first)
        if low < 1 or high < low:
            raise ValueError(f"'{part}' is no replica range: replicas count from 1, the smaller first")
        if top is not None and high > top:
            raise ValueError(f"there is no replica {high}: the job has 1 to {top}")
        chosen.update(range(low, high + 1))
    return tuple(sorted(chosen))


def format_ranges(numbers: Iterable[int]) -> str:
    """``1-3,7`` of 1, 2, 3, 7."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(set(numbers)), None]:
        if run and number != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if number is not None:
            run.append(number)
    return ",".join(parts)
