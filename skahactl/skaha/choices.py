"""Which sessions a Python call means: by ids, kind, status or name; in the words of older clients as well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from skahactl.errors import UsageError
from skahactl.words import did_you_mean

KINDS = ("headless", "notebook", "desktop", "carta", "firefly", "contributed", "desktop-app")
STATUSES = ("Pending", "Running", "Terminating", "Completed", "Failed")

#: What older servers and clients say, and what it is called since.
_FORMER = {"succeeded": "completed", "error": "failed"}


def session_ids(given: str | Iterable[str]) -> list[str]:
    """One id, or several."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        found = list(given)
        if all(isinstance(one, str) for one in found):
            return found
    raise UsageError("ids are the id of a session, or a list of them", hint='as create gives them: ["k9p2x0aa"]')


def known_kind(asked: str) -> str:
    """In small letters; UsageError for one that does not exist."""
    return _known(asked, "kind", KINDS)


def known_status(asked: str) -> str:
    """In small letters and today's words; UsageError for one that does not exist."""
    return current_options(_known(asked, "status", (*STATUSES, *map(str.capitalize, _FORMER))))


def current_options(told: str) -> str:
    """A status that a server told, likewise; whatever it is."""
    return _FORMER.get(told.lower(), told.lower())


def name_pattern(prefix: str) -> re.Pattern[str]:
    """What to search names for: a regular expression if it looks like one, else how they begin."""
    if not isinstance(prefix, str):
        raise UsageError(f"a prefix is text, not {prefix!r}")
    try:
        return re.compile(prefix if re.search(r"[.^$*+?{}\[\]()|\\]", prefix) else "^" + re.escape(prefix))
    except re.error as error:
        raise UsageError(f"'{prefix}' is no regular expression: {error}") from error


def _known(asked: str, what: str, words: tuple[str, ...]) -> str:
    if isinstance(asked, str) and asked.lower() in map(str.lower, words):
        return asked.lower()
    hint = isinstance(asked, str) and did_you_mean(asked, words)
    raise UsageError(f"there is no {what} of sessions {asked!r}", hint=hint or f"there are {', '.join(words)}")
