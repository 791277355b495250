"""Slurm's array syntax: ``1601-3385``, ``0-99:5``, ``1,3,7-9``, each optionally followed by ``%LIMIT``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_INDEX = 10**15 - 1  # larger numbers are typing errors
MAX_INDICES = 10_000_000

_PART = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?")
_LIMIT = re.compile(r"\s*[1-9][0-9]{0,8}\s*")


@dataclass(frozen=True, slots=True)
class IndexArray:
    """The indices of an array.

    Attributes:
        parts: The written parts as ranges, in their order.
        limit: The number after ``%``: how many tasks may run at once. None without it.
    """

    parts: tuple[range, ...]
    limit: int | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def first(self) -> int:
        return min(part[0] for part in self.parts)

    @property
    def last(self) -> int:
        return max(part[-1] for part in self.parts)

    @property
    def step(self) -> int:
        """The step of an array that is one range, otherwise 1, as Slurm reports it."""
        return self.parts[0].step if len(self.parts) == 1 else 1

    def texts(self) -> Sequence[str]:
        """Return each index as text, in the order written."""
        return [str(number) for number in itertools.chain.from_iterable(self.parts)]


def parse_array(text: str) -> IndexArray:
    """Return the indices that ``text`` describes.

    Raises:
        ValueError: ``text`` is not an array specification, or describes more than MAX_INDICES indices.
    """
    body, percent, limit = text.partition("%")
    if percent and not _LIMIT.fullmatch(limit):
        raise ValueError(f"'%{limit}' is not a limit (example: 1-100%16)")
    parts = tuple(_parse_part(part.strip()) for part in body.split(","))
    array = IndexArray(parts, int(limit) if percent else None)
    if len(array) > MAX_INDICES:
        raise ValueError(f"{len(array):,} numbers, more than {MAX_INDICES:,}")
    return array


def _parse_part(text: str) -> range:
    match = _PART.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a number or a range (examples: 1601-3385, 0-99:5, 1,3,7-9)")
    for number in match.groups():
        if number is not None and len(number) > len(str(MAX_INDEX)):
            raise ValueError(f"'{number[:20]}...' is too large")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    step = 1 if match[3] is None else int(match[3])
    if last < first:
        raise ValueError(f"'{text}' ends before it begins")
    if step == 0:
        raise ValueError(f"'{text}' has a step of 0")
    return range(first, last + 1, step)
