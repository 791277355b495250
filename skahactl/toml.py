"""TOML: texts as tables, and values as text."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import tomli_w

#: A whole number of TOML that may have more digits than Python converts to text (4300).
LONG_NUMBER = re.compile(r"0x[\da-fA-F_]{3500,}|0o[0-7_]{4500,}|0b[01_]{14000,}|\d[\d_]{4299,}")


def toml_tables(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises TOMLDecodeError, or another ValueError that says what Python cannot
    hold."""
    try:
        tables = tomllib.loads(text)
        if LONG_NUMBER.search(text):
            repr(tables)  # a number that is not decimal can be read, and not be written again
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("tables or lists are nested too deeply") from None
    except ValueError:
        raise ValueError("a number with too many digits") from None
    return tables


def toml_value(value: str | int) -> str:
    """Return ``value`` as TOML, on one line."""
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def toml_text(text: str) -> str:
    """Return a text of several lines as TOML: unchanged where possible, otherwise with escapes."""
    plain = "'''" not in text and not text.endswith("'") and not any(c < " " and c not in "\t\n" for c in text)
    if plain and "\x7f" not in text:
        return f"'''\n{text}'''"
    return tomli_w.dumps({"x": text}, multiline_strings=True).removeprefix("x = ").rstrip("\n")
