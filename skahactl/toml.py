"""Values as TOML text."""

from __future__ import annotations

import tomli_w


def toml_value(value: str | int) -> str:
    """Return ``value`` as TOML, on one line."""
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def toml_text(text: str) -> str:
    """Return a text of several lines as TOML: unchanged where possible, otherwise with escapes."""
    plain = "'''" not in text and not text.endswith("'") and not any(c < " " and c not in "\t\n" for c in text)
    if plain and "\x7f" not in text:
        return f"'''\n{text}'''"
    return tomli_w.dumps({"x": text}, multiline_strings=True).removeprefix("x = ").rstrip("\n")
