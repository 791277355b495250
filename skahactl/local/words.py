"""Words that one YAML library writes plain and the next reads as a boolean or a number (skaha-api 3.6 d, e)."""

from __future__ import annotations

import math
import re

#: SnakeYAML's implicit integers and floats (YAML 1.1): these it quotes when it writes them as text.
_SNAKE = re.compile(
    r"[-+]?0b_*[01][01_]*|[-+]?0_*[0-7_]+|0[0-9_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x_*[0-9a-fA-F][0-9a-fA-F_]*"
    r"|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+"
    r"|[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"
)
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def is_reread_word(text: str) -> bool:
    """Whether text that was written as a plain scalar comes back as something else, and is refused by the API."""
    if text in ("y", "Y", "n", "N"):
        return True
    if not text or text[0] not in "+-.0123456789" or _SNAKE.fullmatch(text):
        return False
    return _number(text)


def _number(text: str) -> bool:
    """Whether go-yaml reads a number."""
    plain = text if text[0] == "." else text.replace("_", "")
    if _INTEGER.fullmatch(plain) and text[0] != ".":
        return True
    return bool(_FLOAT.fullmatch(plain)) and math.isfinite(float(plain))
