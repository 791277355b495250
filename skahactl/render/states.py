"""How states look: their order in a count, and their colours."""

from __future__ import annotations

from skahactl.model import State

#: The order in which counts are shown.
COUNT_ORDER = (
    State.COMPLETED,
    State.RUNNING,
    State.PENDING,
    State.CREATING,
    State.UNCONFIRMED,
    State.QUEUED,
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.DELETED,
    State.SKIPPED,
)

#: Of the colours that every theme, light or dark, chooses for itself, those that can be read on both: yellow and the
#: bright ones vanish on white, blue on black. What waits has none.
STYLES: dict[str, str] = {
    State.QUEUED: "",
    State.CREATING: "",
    State.UNCONFIRMED: "magenta",
    State.PENDING: "",
    State.RUNNING: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "bold red",
    State.REJECTED: "bold red",
    State.UNKNOWN: "magenta",
    State.DELETED: "",
    State.SKIPPED: "",
}
_CODES = {"magenta": "35", "cyan": "36", "green": "32", "bold red": "1;31"}


def in_colour(text: str, state: str) -> str:
    """Return ``text`` with the escape sequences for the colour of a state."""
    code = _CODES.get(STYLES.get(state, ""))
    return f"\x1b[{code}m{text}\x1b[0m" if code else text
