"""What is known about sessions at one moment: a list, and answers to requests for single ids.

A single list proves nothing about what it lacks: it may be empty, stale or incomplete (faults 1.13 to 1.17). The id
alone is proof: ``GET /session/ID`` answers 404 for a session that does not exist (skaha-api 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skahactl.ledger.records import AttemptRow
    from skahactl.skaha.models import Listing, ServerSession

#: Two lists that lack a session must be this far apart, in seconds, before it counts as gone.
AGREEMENT = 10.0
#: If more sessions than this many, or than this share of them, vanish at once, two lists do not suffice either.
FEW, SHARE = 5, 0.2


#: An id that was recorded so many seconds after the list was received is from before the clock was set back.
LATE = 300.0


class Presence(Enum):
    """What the evidence says about one session id."""

    PRESENT = auto()  # listed, or the answer to its id
    ABSENT = auto()  # its id is answered with 404, and the list lacks it
    UNSEEN = auto()  # the list lacks it
    UNJUDGED = auto()  # the id was recorded after the list was requested


@dataclass(frozen=True, slots=True)
class Evidence:
    """``answers``: by id, what ``GET /session/ID`` answered; None for 404."""

    listing: Listing
    answers: Mapping[str, ServerSession | None] = field(default_factory=dict)
    by_id: Mapping[str, ServerSession] = field(init=False)

    def __post_init__(self) -> None:
        found = {id: session for id, session in self.answers.items() if session is not None}
        found.update((session.id, session) for session in self.listing.sessions)
        object.__setattr__(self, "by_id", found)

    def presence(self, session: str, recorded: float | None) -> Presence:
        """``recorded``: when the ledger learned the id."""
        if session in self.by_id:
            return Presence.PRESENT
        if session in self.answers:
            return Presence.ABSENT
        if self.listing.requested <= (recorded or 0.0) <= self.listing.received + LATE:
            return Presence.UNJUDGED
        return Presence.UNSEEN

    def of(self, attempts: Iterable[AttemptRow]) -> dict[str, Presence]:
        """The presence of every session of these attempts."""
        return {a.session: self.presence(a.session, a.recorded) for a in attempts if a.session is not None}


def is_mass(missing: int, expected: int) -> bool:
    """Return whether so many of the expected sessions are missing that the list itself is unreliable."""
    return missing > FEW or missing > SHARE * expected
