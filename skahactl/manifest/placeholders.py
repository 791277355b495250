"""Placeholders: ``{word}`` in texts of a manifest.

A placeholder is a known word in braces without ``$`` or ``{`` before it. ``{{word}}`` produces ``{word}``. Every other
brace stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from skahactl.text import is_typo

_BRACES = re.compile(r"(?<![${])(?:\{\{([^{}]+)\}\}|\{([^{}]+)\})")
_LIKE_A_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

#: Words that every manifest knows; ``{items}`` is only for a whole element of ``command``.
BUILT_IN = ("name", "replica", "replicas", "index", "item", "items")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text in parts: literal texts and placeholders, in order.

    ``unknown`` are the words in braces that were left as they are; ``mistyped`` those of them that are nearly a known
    word, with that word.
    """

    parts: tuple[str | Placeholder, ...]
    unknown: tuple[str, ...] = ()
    mistyped: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> frozenset[str]:
        return frozenset(part.name for part in self.parts if isinstance(part, Placeholder))

    @property
    def literal(self) -> str | None:
        """Return the text if it contains no placeholder, else None."""
        return None if any(isinstance(part, Placeholder) for part in self.parts) else self.render({})

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with the values of the placeholders. Raises KeyError for a missing value."""
        return "".join([part if isinstance(part, str) else values[part.name] for part in self.parts])

    def shell(self, values: Mapping[str, str], word: Callable[[str], str]) -> str:
        """Return the text as one quoted word of sh; ``word`` returns values of placeholders that ``values`` lacks."""
        pieces: list[str] = []
        text = ""
        for part in self.parts:
            if isinstance(part, str):
                text += part
            elif part.name in values:
                text += values[part.name]
            else:
                pieces += [shlex.quote(text)] * bool(text) + [word(part.name)]
                text = ""
        return "".join(pieces + [shlex.quote(text)] * bool(text or not pieces))


def parse_template(text: str, known: Collection[str]) -> Template:
    """Parse ``text`` into parts."""
    parts: list[str | Placeholder] = []
    unknown: list[str] = []
    mistyped: list[tuple[str, str]] = []
    literal, at = "", 0
    for braces in _BRACES.finditer(text):
        escaped, word = braces.groups()
        if (escaped or word) not in known:
            guess = intended_word(escaped or word, known)
            if word is not None:
                unknown.append(word)
                mistyped += [] if guess is None else [(word, guess)]
            if word is not None or guess is None:
                continue
        literal += text[at : braces.start()]
        at = braces.end()
        if escaped:
            literal += f"{{{escaped}}}"
            continue
        parts += [literal] * bool(literal) + [Placeholder(word)]
        literal = ""
    literal += text[at:]
    return Template((*parts, *[literal] * bool(literal)), tuple(unknown), tuple(mistyped))


def intended_word(word: str, known: Collection[str] = BUILT_IN) -> str | None:
    """Return the known word that ``word`` is with a typing error, or None."""
    if not _LIKE_A_WORD.fullmatch(word):
        return None
    return next((one for one in sorted(known) if is_typo(word, one)), None)


def escape_placeholders(text: str) -> str:
    """``text`` with the braces of placeholders, and of what is nearly one, doubled, so that it arrives unchanged."""

    def doubled(match: re.Match[str]) -> str:
        word = match[2]
        is_placeholder = word is not None and (word in BUILT_IN or intended_word(word) is not None)
        return f"{{{match[0]}}}" if is_placeholder else match[0]

    return _BRACES.sub(doubled, text)
