"""Explain what is wrong in a text that is not TOML: plain messages with the place, and what to write instead."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import Any

from skahactl.errors import Problem
from skahactl.manifest.problems import SourceText
from skahactl.toml import LONG_NUMBER, toml_tables

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
_WORD = re.compile(r"[^\s,\]}#]+")
_NAMES = re.compile(r"'((?:[^'\\]|\\.)*)'")
_HEADER = re.compile(r"[ \t]*(\[.*?\]+)([^\n#]*)")
_FIRST_LINE = re.compile(r"^(?![ \t]*#)[ \t]*\S.*", re.MULTILINE)
_TOML_LINE = re.compile(r"^[ \t]*(?:\[\[?\w|[\w.-]+[ \t]*=)", re.MULTILINE)
_YAML_LINE = re.compile(r"---|-\s|[\w.-]+:(?:\s|$)")

_OPEN_STRING = ("Unterminated string", 'Expected "\'"', "Expected \"'''\"")

_MESSAGES = {
    "Unclosed array": ("the list is not closed", "a list ends with ], and its elements have commas between them"),
    "Unclosed inline table": ("the { is not closed", "an inline table ends with }, on the same line"),
    "Invalid statement": ("expected KEY = VALUE or [TABLE]", None),
    "Expected newline or end of document after a statement": (
        "text after the value",
        "write one KEY = VALUE per line; to have quotes in a string, write it in '...'",
    ),
    "Unescaped '\\' in a string": (
        'in "..." a backslash begins an escape',
        "write the string in '...', where a backslash is only a backslash",
    ),
    "Cannot overwrite a value": ("the key is given twice", "keep one of the two"),
    "Invalid date or datetime": ("invalid date or time", "write it as a string, in quotes"),
    "Invalid initial character for a key part": ("invalid character in a key", "write the key in quotes"),
}


def parse_toml(file: str, text: str) -> dict[str, Any] | Problem:
    """Return the tables of a TOML text, or what is wrong with it."""
    try:
        return toml_tables(text)
    except tomllib.TOMLDecodeError as error:
        return _explain(file, text, str(error))
    except ValueError as error:
        found = LONG_NUMBER.search(text)
        if found is None:
            return Problem(file, str(error))
        return _at(file, text, found.start(), str(error), "write it as a string")


def _explain(file: str, text: str, error: str) -> Problem:
    position = _POSITION.search(error)
    message = error[: position.start()] if position else error
    at = _offset(text, position)
    if re.search(r"^#SBATCH\s", text, re.MULTILINE):
        where = "-" if file == "-" else shlex.quote(file)
        hint = f"convert it: skahactl init --from-sbatch {where} > job.toml"
        return Problem(file, "this is a Slurm batch script, not a manifest", hint=hint)
    if text.startswith("#!"):
        return Problem(file, "this is a script, not a manifest", hint="name it in the command of a manifest")
    if (other := _other_format(text)) is not None:
        return Problem(file, f"this is {other}, and a manifest is TOML", hint="to begin: skahactl init > job.toml")
    if message.startswith("Illegal character") or message in _OPEN_STRING:
        return _open_string(file, text, at, message)
    if message == "Invalid value":
        return _invalid_value(file, text, at)
    if message.startswith("Expected '=' after a key"):
        return _missing_equals(file, text, at)
    if message.startswith("Expected newline") and (header := _HEADER.match(text, text.rfind("\n", 0, at) + 1)):
        pair = header[2].strip()
        return _at(file, text, at, "text after a table header", f"write {pair} on a line of its own, below {header[1]}")
    if names := _NAMES.findall(message.partition("(")[2]):
        return _repeated(file, text, at, message, ".".join(names))
    explained, advice = _MESSAGES.get(message, (f"{message[:1].lower()}{message[1:]}", None))
    return _at(file, text, at, explained, advice)


def _other_format(text: str) -> str | None:
    """Return the format of a text that has no line of TOML."""
    first = _FIRST_LINE.search(text)
    if first is None or _TOML_LINE.search(text):
        return None
    return "JSON" if first[0].startswith("{") else "YAML" if _YAML_LINE.match(first[0]) else None


def _offset(text: str, position: re.Match[str] | None) -> int:
    if position is None or position[1] is None:
        return max(0, len(text.rstrip()) - 1)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return starts[int(position[1]) - 1] + int(position[2]) - 1


def _at(file: str, text: str, at: int, message: str, hint: str | None = None, width: int = 1) -> Problem:
    line, column, width, source = SourceText.of(text).place(at, at + width)
    return Problem(file, f"not TOML: {message}", line, None, hint, column, width, source)


def _open_string(file: str, text: str, at: int, message: str) -> Problem:
    """Points to the quote that opens the string."""
    begin = text.rfind("\n", 0, at) + 1
    line = text[begin:].split("\n", 1)[0]
    rest = _STRING.sub(lambda match: "." * len(match[0]), line)
    quote = re.search("[\"']", rest)
    if not message.startswith("Illegal") and (long := max(text.rfind('"""'), text.rfind("'''"))) >= 0:
        return _at(file, text, long, "the string is not closed", f"it ends with {text[long : long + 3]}", 3)
    if quote is None:
        return _at(file, text, at, "a control character", "write it as an escape such as \\u0007")
    hint = f"close it with {quote[0]} on the same line; write a text of several lines in '''...'''"
    return _at(file, text, begin + quote.start(), "the string is not closed", hint, len(rest) - quote.start())


def _invalid_value(file: str, text: str, at: int) -> Problem:
    word = _WORD.match(text, at)
    if word is None:
        return _at(file, text, at, "the value is missing")
    lowered = word[0].lower()
    if lowered in ("true", "false", "yes", "no", "on", "off", "none", "null"):
        hint = "write true or false" if lowered not in ("none", "null") else "leave the key out"
    elif word[0][0] in "“”‘’«»":
        hint = "use straight quotes: \" or '"
    else:
        rest = text[at:].split("\n", 1)[0].partition("#")[0].strip()
        plain = "," not in rest and not {'"', "'", "\\"} & set(rest)
        hint = f'write text in quotes: "{rest if plain else word[0]}"'
    return _at(file, text, at, "invalid value", hint, len(word[0]))


def _missing_equals(file: str, text: str, at: int) -> Problem:
    begin = text.rfind("\n", 0, at) + 1
    key = re.match(r"\s*([\w.-]+)", text[begin:])
    name = key[1] if key else "KEY"
    return _at(file, text, at, f"expected = after {name}", f"TOML writes {name} = ...")


def _repeated(file: str, text: str, at: int, message: str, name: str) -> Problem:
    """Return a table or key that is given twice, or added to after it was complete."""
    begin = text.rfind("\n", 0, at) + 1
    width = len(text[begin:].split("\n", 1)[0].rstrip())
    if message.startswith("Cannot declare"):
        first = re.search(rf"^\s*\[\[?\s*{re.escape(name)}\s*\]", text, re.MULTILINE)
        line = text.count("\n", 0, first.end()) + 1 if first and first.start() < begin else None
        where = f" (the first is in line {line})" if line else ""
        hint = f"put all its keys below one [{name}]"
        return _at(file, text, begin, f"[{name}] is given twice{where}", hint, width)
    hint = f"write all keys of {name} in one place"
    return _at(file, text, begin, f"{name} is complete already, and nothing can be added to it", hint, width)
