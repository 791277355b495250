"""Placeholders: ``{word}`` in texts of a manifest.

A placeholder is a known word in braces without ``$`` or ``{`` before it. ``{{word}}`` produces ``{word}``. Every other
brace stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from skahactl.model import Each
from skahactl.spelling import is_typo

_BRACES = re.compile(r"(?<![${])(?:\{\{([^{}]+)\}\}|\{([^{}]+)\})")
_LIKE_A_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

#: Words that every manifest knows; ``{items}`` is only for a whole element of ``command``.
BUILT_IN = ("name", "replica", "replicas", "index", "item", "items")


def replica_words(job: str, number: int, total: int) -> dict[str, str]:
    """Return the built-in placeholders of replica ``number`` of ``total``, without those of its items."""
    return {"name": job, "replica": str(number), "replicas": str(total), "index": str(number - 1)}


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
    """Return ``text`` with the braces of placeholders, also mistyped ones, doubled, so that it arrives unchanged."""

    def doubled(match: re.Match[str]) -> str:
        word = match[2]
        is_placeholder = word is not None and (word in BUILT_IN or intended_word(word) is not None)
        return f"{{{match[0]}}}" if is_placeholder else match[0]

    return _BRACES.sub(doubled, text)


#: The longest mark: positions have at most nine digits, exit codes at most three.
_LONGEST = len(b"::skahactl:abcdefgh item 123456789 exit 123\r")
_END = rb" item (\d{1,9}) exit (\d{1,3})\r?\n"
MARK = re.compile(rb"::skahactl(?::[a-z2-7]{8})?" + _END)

_SCRIPT = """\
skahactl_bad=0
trap 'trap "" TERM INT HUP; kill -TERM "$!" 2>/dev/null; wait; exit 143' TERM INT HUP
while [ "$#" -gt 0 ]; do
(
{exports}exec {command}
) &
wait "$!"
skahactl_code=$?
[ "$skahactl_code" -eq 0 ] || skahactl_bad=1
echo "::$0 item $1 exit $skahactl_code"
shift {width}
done
exit "$skahactl_bad"
"""


@dataclass(frozen=True, slots=True)
class ItemMarks:
    """The marks that count in the log of one attempt.

    Output cannot forge them: they carry the nonce of the attempt, and they count only in the order of the items.

    Attributes:
        due: The positions that the attempt runs, in its order.
        nonce: The nonce in the marks. "" for an attempt of skahactl 0.1, with plain marks. None if it is not known,
            because another local record created the attempt; then the nonce of the first mark counts.
    """

    due: tuple[int, ...]
    nonce: str | None = ""

    def reader(self) -> Callable[[Iterable[bytes]], Iterator[tuple[int, int]]]:
        """Return a function that takes pieces of the log (whole lines) and yields (position, exit code) of marks."""
        turns = {position: turn for turn, position in enumerate(self.due)}
        last, nonce = -1, self.nonce

        def read(chunks: Iterable[bytes]) -> Iterator[tuple[int, int]]:
            nonlocal last, nonce
            for position, code, found in _marks(chunks):
                nonce = found if nonce is None else nonce
                if found == nonce and turns.get(position, -1) > last:
                    last = turns[position]
                    yield position, code

        return read


def attempt_nonce(name: str, created: float) -> str:
    """Return the nonce of the marks of an attempt, from the name of its session and the time when it was recorded."""
    import hashlib  # most commands need none

    digest = hashlib.sha256(f"{name} {created!r}".encode()).digest()
    bits = int.from_bytes(digest[:5], "big")
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[bits >> shift & 31] for shift in range(35, -1, -5))


def has_nonce(script: str) -> bool:
    """Return whether the marks of this script carry a nonce; those of 0.1 did not."""
    return "::$0 item" in script


def each_command(each: Each, positions: Sequence[int], nonce: str = "") -> tuple[str, ...]:
    """Return the argv that runs the items at these positions (from 1) of a replica."""
    words: list[str] = ["sh", "-c", each.script, f"skahactl:{nonce}" if nonce else "skahactl"]
    for position in positions:
        words.append(str(position))
        words += each.rows[position - 1]
    return tuple(words)


def each_script(
    argv: Sequence[Template],
    env: Sequence[tuple[str, Template]],
    columns: Sequence[str],
    values: Mapping[str, str],
    *,
    joined: bool = False,
) -> str:
    """Return the script of one replica.

    ``env`` are the variables that differ by item; ITEM and ITEM_* are also exported. ``columns`` name the parameters of
    an item after its position, and are empty for a plain list. ``values`` are the words that all items share. The item
    is its first parameter, or with ``joined`` all of them, separated by commas.
    """
    parameters = _parameters(columns)
    shared = {word: text for word, text in values.items() if word not in parameters}
    parameters["item"] = _item_word(columns, joined)
    exports = [("ITEM", parameters["item"]), *((each_variable(name), parameters[f"item.{name}"]) for name in columns)]
    exports += [(key, template.shell(shared, parameters.__getitem__)) for key, template in env]
    return _SCRIPT.format(
        exports="".join(f"{key}={text}\nexport {key}\n" for key, text in exports),
        command=" ".join(template.shell(shared, parameters.__getitem__) for template in argv),
        width=1 + max(1, len(columns)),
    )


def each_variable(column: str) -> str:
    """Return the environment variable of a column: ``ITEM_RA_DEG`` for ``ra deg``."""
    return "ITEM_" + re.sub(r"[^A-Z0-9_]", "_", column.upper())


def each_ends(chunks: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Return (position, exit code) of each mark in a log, in order, with any nonce."""
    return ((position, code) for position, code, _ in _marks(chunks))


def _marks(chunks: Iterable[bytes]) -> Iterator[tuple[int, int, str]]:
    """Yield (position, exit code, nonce) of each mark in a log, in order. Between pieces, only a few bytes are kept.

    A mark counts when its line is complete: a mark that was cut may have lost a digit.
    """
    rest = b""
    for chunk in chunks:
        text = rest + chunk
        last = 0
        for mark in MARK.finditer(text):
            last = mark.end()
            nonce = mark[0][len(b"::skahactl") :].partition(b" ")[0].removeprefix(b":")
            yield int(mark[1]), int(mark[2]), nonce.decode("ascii")
        rest = text[max(last, len(text) - _LONGEST) :]


def _parameters(columns: Sequence[str]) -> dict[str, str]:
    """Return the value of ``{item.column}`` for each column, and of ``{column}`` unless that word is built in."""
    found: dict[str, str] = {}
    for place, name in enumerate(columns, start=2):
        found |= {word: f'"${{{place}}}"' for word in (f"item.{name}", name) if word not in BUILT_IN}
    return found


def _item_word(columns: Sequence[str], joined: bool) -> str:
    """Return the item itself: the only or first parameter, or all of them separated by commas."""
    return "','".join(f'"${{{2 + place}}}"' for place in range(len(columns) if joined else 1))
