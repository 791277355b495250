"""Did you mean: the nearest known word."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``word``, or None if none is like it."""
    import difflib

    known = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return known[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """A hint such as ``did you mean 'cores'?``, or None."""
    found = nearest(word, candidates)
    return f"did you mean '{found}'?" if found else None


def count_noun(number: int, noun: str, plural: str | None = None) -> str:
    """``1 replica``, ``3 replicas``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def format_size(count: int) -> str:
    """Bytes as people read them: ``512 B``, ``1.4 MB``, ``23 GB`` (powers of 1000)."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "B" and size < 10 else f"{size:.0f} {unit}"
