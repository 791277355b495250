"""YAML 1.1 double-quoted scalars as SnakeYAML reads them (skaha-api 3.6 c), for text that a template put in quotes."""

from __future__ import annotations

BREAKS = "\r\n\x85\u2028\u2029"
ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
CODES = {"x": 2, "u": 4, "U": 8}


class ScalarError(ValueError):
    """Text that is no YAML; the message is the parser's."""


def check_printable(text: str) -> None:
    """Raise on the first character that YAML does not allow."""
    for position, char in enumerate(text):
        code = ord(char)
        if not (
            0x20 <= code <= 0x7E
            or code in (0x09, 0x0A, 0x0D, 0x85)
            or 0xA0 <= code <= 0xD7FF
            or 0xE000 <= code <= 0xFFFD
            or code >= 0x10000
        ):
            raise ScalarError(
                f"unacceptable code point '{char}' (0x{code:X}) special characters are not allowed\n"
                f"in \"'string'\", position {position}"
            )


def parse_quoted(text: str, start: int) -> tuple[str, int]:
    """The scalar whose opening quote is at ``start``, and the place after its closing quote."""
    result: list[str] = []
    cursor = start + 1
    while True:
        plain = cursor
        while cursor < len(text) and text[cursor] not in ' \t"\\' + BREAKS:
            cursor += 1
        result.append(text[plain:cursor])
        if cursor == len(text):
            raise ScalarError("while scanning a quoted scalar\nfound unexpected end of stream")
        if text[cursor] == '"':
            return _paired("".join(result)), cursor + 1
        if text[cursor] == "\\":
            piece, cursor = _escape(text, cursor + 1)
        else:
            piece, cursor = _spaces(text, cursor)
        result.append(piece)


def _escape(text: str, cursor: int) -> tuple[str, int]:
    char = text[cursor : cursor + 1]
    if char in ESCAPES:
        return ESCAPES[char], cursor + 1
    if char in CODES:
        digits = text[cursor + 1 : cursor + 1 + CODES[char]]
        if len(digits) < CODES[char] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise ScalarError(
                "while scanning a double-quoted scalar\n"
                f"expected escape sequence of {CODES[char]} hexadecimal numbers, but found: {digits}"
            )
        if int(digits, 16) > 0x10FFFF:
            raise ScalarError(f"while scanning a double-quoted scalar\nfound unknown escape character {digits}")
        return chr(int(digits, 16)), cursor + 1 + len(digits)
    if char and char in BREAKS:
        return _more_breaks(text, _line_break(text, cursor)[1])
    raise ScalarError(
        f"while scanning a double-quoted scalar\nfound unknown escape character {char}({ord(char or chr(0)):X})"
    )


def _spaces(text: str, cursor: int) -> tuple[str, int]:
    """Blanks stay; a line break is folded, with the blanks around it, to one blank or to the empty lines it has."""
    blanks = cursor
    while cursor < len(text) and text[cursor] in " \t":
        cursor += 1
    white = text[blanks:cursor]
    if cursor == len(text):
        raise ScalarError("while scanning a quoted scalar\nfound unexpected end of stream")
    if text[cursor] not in BREAKS:
        return white, cursor
    line_break, cursor = _line_break(text, cursor)
    more, cursor = _more_breaks(text, cursor)
    if line_break != "\n":
        return line_break + more, cursor
    return more or " ", cursor


def _more_breaks(text: str, cursor: int) -> tuple[str, int]:
    result: list[str] = []
    while True:
        mark = text[cursor : cursor + 3]
        if mark in ("---", "...") and text[cursor + 3 : cursor + 4] in ("", " ", "\t", *BREAKS):
            raise ScalarError("while scanning a quoted scalar\nfound unexpected document separator")
        while cursor < len(text) and text[cursor] in " \t":
            cursor += 1
        if cursor == len(text) or text[cursor] not in BREAKS:
            return "".join(result), cursor
        line_break, cursor = _line_break(text, cursor)
        result.append(line_break)


def _line_break(text: str, cursor: int) -> tuple[str, int]:
    if text.startswith("\r\n", cursor):
        return "\n", cursor + 2
    return ("\n" if text[cursor] in "\r\n\x85" else text[cursor]), cursor + 1


def _paired(text: str) -> str:
    """Java holds UTF-16: two escapes of a surrogate pair are one character, and half a pair is none."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ScalarError("special characters are not allowed") from None


def parse_sequence(text: str, start: int) -> tuple[list[str], int]:
    """The flow sequence of quoted scalars whose bracket is at ``start``, and the place after its closing bracket."""
    items: list[str] = []
    cursor = _skip(text, start + 1)
    while text[cursor : cursor + 1] != "]":
        if text[cursor : cursor + 1] != '"':
            raise ScalarError("while parsing a flow sequence\nexpected ',' or ']', but got something else")
        item, cursor = parse_quoted(text, cursor)
        items.append(item)
        cursor = _skip(text, cursor)
        if text[cursor : cursor + 1] == ",":
            cursor = _skip(text, cursor + 1)
        elif text[cursor : cursor + 1] != "]":
            raise ScalarError("while parsing a flow sequence\nexpected ',' or ']', but got something else")
    return items, cursor + 1


def _skip(text: str, cursor: int) -> int:
    """Past blanks, line breaks, and comments, which begin after one of them."""
    while cursor < len(text):
        if text[cursor] == "#" and text[cursor - 1] in " \t" + BREAKS:
            while cursor < len(text) and text[cursor] not in BREAKS:
                cursor += 1
        elif text[cursor] not in " \t" + BREAKS:
            break
        else:
            cursor += 1
    return cursor
