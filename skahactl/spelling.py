"""Find the word that was probably meant, by the number of typing errors."""

from __future__ import annotations

from collections.abc import Iterable

from skahactl.errors import Guess


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate with the fewest typing errors (at most 2; in short words 1), or None."""
    known = {candidate.lower(): candidate for candidate in candidates}
    typed = word.lower()
    most = 2 if len(typed.strip("-")) > 3 else 1
    ranked = [(distance(typed, one), place, one) for place, one in enumerate(known) if abs(len(one) - len(typed)) <= 2]
    best = min((rank for rank in ranked if rank[0] <= most), default=None)
    return None if best is None else known[best[2]]


def distance(first: str, second: str) -> int:
    """Return the Damerau-Levenshtein distance: how many letters to insert, delete, replace or swap with a neighbour."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def did_you_mean(word: str, candidates: Iterable[str]) -> Guess | None:
    """Return a hint such as ``did you mean 'cores'?``, or None."""
    found = nearest(word, candidates)
    return Guess(f"did you mean '{found}'?") if found else None


def is_typo(word: str, known: str) -> bool:
    """Return whether ``word`` is ``known`` with one typing error, or two if it is long.

    A typing error is a missing, additional or different character, or two neighbours exchanged. Words of fewer than
    four characters are too much alike.
    """
    if len(known) < 4 or word == known:
        return False
    return distance(word, known) <= (2 if len(known) > 6 else 1)
