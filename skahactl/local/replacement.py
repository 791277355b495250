"""The server's text steps around java.util.regex: String.split, and replacement strings (skaha-api 3.6 a, b)."""

from __future__ import annotations

#: What $0 stands for: the text that the server's pattern matched.
PLACEHOLDER = "${headless.image.bundle}"


class GroupError(ValueError):
    """A replacement string that Java refuses; ``illegal``: an IllegalArgumentException, else IndexOutOfBounds."""

    def __init__(self, message: str, *, illegal: bool = True):
        super().__init__(message)
        self.illegal = illegal


def split_args(text: str, separator: str) -> list[str]:
    """Java's String.split for a plain separator: trailing empty parts vanish, unless nothing was split."""
    if separator not in text:
        return [text]
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def replace_text(text: str) -> str:
    """What Matcher.appendReplacement makes of ``text`` for a pattern without groups that matched PLACEHOLDER."""
    result: list[str] = []
    cursor = 0
    while cursor < len(text):
        char = text[cursor]
        if char == "\\":
            if cursor + 1 == len(text):
                raise GroupError("character to be escaped is missing")
            result.append(text[cursor + 1])
            cursor += 2
        elif char == "$":
            cursor = _reference(text, cursor + 1)
            result.append(PLACEHOLDER)
        else:
            result.append(char)
            cursor += 1
    return "".join(result)


def _reference(text: str, cursor: int) -> int:
    """Where a reference to group 0 ends that began before ``cursor``; anything else is refused."""
    if cursor == len(text):
        raise GroupError("Illegal group reference: group index is missing")
    if text[cursor] == "{":
        raise GroupError(_named(text, cursor + 1))
    if text[cursor] not in "0123456789":
        raise GroupError("Illegal group reference")
    if text[cursor] != "0":
        raise GroupError(f"No group {text[cursor]}", illegal=False)
    cursor += 1
    while cursor < len(text) and text[cursor] == "0":
        cursor += 1  # 00 is still group 0; a further digit would be a group that is not there, and so is text
    return cursor


def _named(text: str, cursor: int) -> str:
    """The complaint about a named reference, of which there can be none."""
    end = cursor
    while end < len(text) and text[end].isascii() and text[end].isalnum():
        end += 1
    name = text[cursor:end]
    if not name:
        return "named capturing group has 0 length name"
    if end == len(text) or text[end] != "}":
        return "named capturing group is missing trailing '}'"
    if name[0].isdigit():
        return f"capturing group name {{{name}}} starts with digit character"
    return f"No group with name {{{name}}}"
