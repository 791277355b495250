"""The options that go everywhere, taken from argv before or after the verb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skahactl.context import OUTPUTS, LogFile
from skahactl.errors import UsageError
from skahactl.words import nearest

_VALUED = {"-p": "profile", "--profile": "profile", "-o": "output", "--output": "output", "--log-file": "log_file"}
_FLAGS = {
    "-q": ("quiet", 1),
    "--quiet": ("quiet", 1),
    "-v": ("verbose", 1),
    "--verbose": ("verbose", 1),
    "-vv": ("verbose", 2),
    "-vvv": ("verbose", 2),
}

#: The verbs whose words are manifests: after ``--`` each is a file, whatever it begins with.
_OF_FILES = ("apply", "diff", "validate")


def take_globals(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields of Context that argv sets, and the words that remain. Nothing after ``--`` is an option."""
    taken: dict[str, Any] = {}
    words: list[str] = []
    at = 0
    if argv[:1] == ["__complete"]:
        return taken, list(argv)
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            if words[:1] == ["split"]:  # which has lists before it, of any number
                taken["command"] = tuple(argv[at:])
                break
            rest = argv[at:]
            if words[:1] and words[0] in _OF_FILES:
                rest = [f"./{one}" if one.startswith("-") and one != "-" else one for one in rest]
            words += [word, *rest]
            break
        name, equals, value = _parts(word)
        if word in _FLAGS:
            field, amount = _FLAGS[word]
            taken[field] = True if field == "quiet" else taken.get(field, 0) + amount
        elif name in _VALUED and (equals or word == name):
            if not equals:
                if at == len(argv):
                    raise UsageError(f"{word} needs a value")
                value = argv[at]
                at += 1
            taken[_VALUED[name]] = LogFile(value) if name == "--log-file" else value
        else:
            words.append(word)
    if taken.get("output", "table") not in OUTPUTS:
        guess = nearest(taken["output"], OUTPUTS)
        raise UsageError(
            f"there is no output format '{taken['output']}'",
            hint=(f"did you mean '{guess}'? " if guess else "") + "the formats are " + ", ".join(OUTPUTS),
        )
    return taken, words


def asked_page(words: Sequence[str]) -> str | None:
    """The verb whose help page is asked for."""
    return next((word for word in words if not word.startswith("-")), None) if asks_for_help(words) else None


def asks_for_help(words: Sequence[str]) -> bool:
    """Is it a help page that will be shown? Without any word it is that of all."""
    asked = words[: words.index("--")] if "--" in words else words
    return not words or not {"--help", "-h"}.isdisjoint(asked)


def _parts(word: str) -> tuple[str, str, str]:
    """``--output=json``, and ``-ojson`` as kubectl has it."""
    if word[:2] in ("-o", "-p") and len(word) > 2 and word[2] != "=":
        return word[:2], "=", word[2:]
    return word.partition("=")
