"""The order and the colours of states, and the escape sequences of styles."""

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
_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "bold red": "1;31",
    "green": "32",
    "bold blue": "1;34",
    "magenta": "35",
    "cyan": "36",
}


def paint(text: str, style: str, colour: bool) -> str:
    """Return ``text`` with the escape sequences of ``style``; unchanged without a style or colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and style else text


def paint_state(text: str, state: str, colour: bool) -> str:
    """Return ``text`` in the colour of a state."""
    return paint(text, STYLES.get(state, ""), colour)
