"""Placeholders: ``{word}`` in texts of a manifest.

A placeholder is a known word in braces with no ``$`` or ``{`` before it. ``{{word}}`` gives ``{word}``. Any other
brace stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

_BRACES = re.compile(r"(?<![${])(?:\{\{([^{}]+)\}\}|\{([^{}]+)\})")

#: Words that every manifest knows; ``{items}`` is for a whole element of ``command`` alone.
BUILT_IN = ("name", "replica", "replicas", "index", "item", "items")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text in parts: literal texts and placeholders, in order. ``unknown``: braces that were left as they are."""

    parts: tuple[str | Placeholder, ...]
    unknown: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        return frozenset(part.name for part in self.parts if isinstance(part, Placeholder))

    @property
    def literal(self) -> str | None:
        """The text, if no placeholder is in it."""
        return None if any(isinstance(part, Placeholder) for part in self.parts) else self.render({})

    def render(self, values: Mapping[str, str]) -> str:
        """The text with each placeholder's value; KeyError for one without."""
        return "".join([part if isinstance(part, str) else values[part.name] for part in self.parts])

    def shell(self, values: Mapping[str, str], word: Callable[[str], str]) -> str:
        """The text as one quoted word of sh; ``word`` gives what stands for a placeholder that ``values`` lacks."""
        pieces: list[str] = []
        text = ""
        for part in self.parts:
            if isinstance(part, str):
                text += part
            elif part.name in values:
                text += values[part.name]
            else:
                pieces += [escape_braces(text)] * bool(text) + [word(part.name)]
                text = ""
        return "".join(pieces + [escape_braces(text)] * bool(text or not pieces))


def parse_template(text: str, known: Container[str]) -> Template:
    """``text`` in parts."""
    parts: list[str | Placeholder] = []
    unknown: list[str] = []
    literal, at = "", 0
    for braces in _BRACES.finditer(text):
        escaped, word = braces.groups()
        if (escaped or word) not in known:
            unknown += [word] * (word is not None)
            continue
        literal += text[at : braces.start()]
        at = braces.end()
        if escaped:
            literal += f"{{{escaped}}}"
            continue
        parts += [literal] * bool(literal) + [Placeholder(word)]
        literal = ""
    literal += text[at:]
    return Template((*parts, *[literal] * bool(literal)), tuple(unknown))


def escape_braces(text: str) -> str:
    """``text`` as one word of sh, in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
