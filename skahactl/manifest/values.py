"""Values of single keys: what each may be, and what is said of one that may not."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from pydantic_core import PydanticCustomError

from skahactl.manifest.template import BUILT_IN

KINDS = ("headless", "notebook", "desktop", "carta", "firefly", "contributed")
LONGEST_NAME = 63

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_IMAGE = re.compile(r"[A-Za-z0-9._:/@-]+")
_SHELL_ONLY = re.compile(r"[$|<>;&*`\n]")
_TOP = frozenset({"name", "image", "kind", "command", "shell", "replicas", "session-name", "after"})
_PLATFORM = frozenset({"OMP_NUM_THREADS", "HOME", "PWD"})
_EXAMPLE = {"OMP_NUM_THREADS": "4"}
_OURS = frozenset({"REPLICA_ID", "REPLICA_COUNT"})


def invalid(message: str, hint: str | None = None) -> PydanticCustomError:
    """An error in our words."""
    return PydanticCustomError("skahactl", "{message}", {"message": message, "hint": hint})


def show_value(value: object) -> str:
    """A value as a person wrote it, cut."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else text[:56] + '..."'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list) else str(value)


def check_job_name(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _NAME.fullmatch(value):
        better = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-0123456789")
        raise invalid(
            f"expected small letters, digits and '-', a letter first, found {show_value(value)}",
            f'for example name = "{better}"' if better else None,
        )
    if len(value) > LONGEST_NAME:
        raise invalid(f"{len(value)} characters long, the longest name has {LONGEST_NAME}")
    return value


def check_image(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise invalid("the image is empty")
    bad = sorted(set(_IMAGE.sub("", value)))
    if bad:
        shown = ", ".join(show_value(character) for character in bad[:5])
        raise invalid(f"{shown} cannot stand in an image reference: {show_value(value)}", "like host/project/image:tag")
    repository, _, digest = value.partition("@")
    head, slash, last = repository.rpartition("/")
    untagged = head + slash + last.partition(":")[0]
    parts = untagged.split("/")
    if "" in parts or value.endswith((":", "@")) or last.count(":") > 1 or "@" in digest:
        raise invalid(f"{show_value(value)} is no image reference", "like host/project/image:tag")
    if any(part != part.lower() for part in parts[1 if names_host(value) else 0 :]):
        raise invalid(f"image names are in small letters, only a tag may have others: {show_value(value)}")
    return value


def names_host(image: str) -> bool:
    """Whether the reference begins with a registry."""
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def check_command(value: object) -> object:
    """A list of texts; a string is answered with the list to paste."""
    if not isinstance(value, str):
        return value
    shell = "shell = '''" + value.strip("\n") + "'''" if "'''" not in value else "shell = ..."
    if _SHELL_ONLY.search(value):
        raise invalid("expected a list of words, found a string; what it says needs a shell", f"write {shell}")
    try:
        words = shlex.split(value)
    except ValueError:
        raise invalid("expected a list of words, found a string", f"write {shell}") from None
    if not words:
        raise invalid("the command is empty", "leave it out to run what the image starts by itself")
    listed = ", ".join(json.dumps(word, ensure_ascii=False) for word in words)
    raise invalid("expected a list of words, found a string", f"write command = [{listed}]")


def check_filled_command(value: list[str]) -> list[str]:
    if not value or not value[0]:
        raise invalid("the command is empty", "leave it out to run what the image starts by itself")
    return value


def check_shell(value: str) -> str:
    if not value.strip():
        raise invalid("the text is empty", "leave it out to run what the image starts by itself")
    return value


def check_variable(name: str) -> str:
    """A name in [env]."""
    if not isinstance(name, str):
        return name
    if name in _TOP:
        raise invalid(
            f"'{name}' is a key of the manifest, but stands below [env]", "move it up, above the first [table]"
        )
    if not _VARIABLE.fullmatch(name):
        raise invalid(f"{show_value(name)} is no name of a variable", "letters, digits and '_', no digit first")
    if name in _PLATFORM or name.startswith("skaha_"):
        raise invalid(
            "the platform sets this variable itself, after and over [env]",
            f'set it where the command starts: command = ["env", "{name}={_EXAMPLE.get(name, "...")}", ...]',
        )
    if name in _OURS or name.startswith("SKAHACTL_"):
        raise invalid(
            "skahactl sets this variable itself",
            f'give yours another name, or command = ["env", "{name}=...", ...]',
        )
    return name


def check_scalar(value: object) -> object:
    """Text from a string, an integer or a boolean; a float or a date is to be quoted, since it has many spellings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise invalid(f"expected text, a whole number, true or false, found {show_value(value)}")
    kind = "a number with a point" if isinstance(value, float) else "a date or time"
    raise invalid(f"{kind} can be written in more than one way, and only one arrives", f'quote it: "{value}"')


def check_env_value(value: object) -> object:
    """A scalar as text, or a table with from-env or from-file."""
    if not isinstance(value, dict):
        return check_scalar(value)
    keys = set(value)
    if len(keys) != 1 or not keys <= {"from-env", "from-file"}:
        raise invalid(
            "expected text, or a table with one of from-env and from-file",
            'for example { from-env = "TOKEN" }',
        )
    (key, source) = next(iter(value.items()))
    if not isinstance(source, str) or not source:
        raise invalid(f"expected text for {key}, found {show_value(source)}")
    if key == "from-env" and not _VARIABLE.fullmatch(source):
        raise invalid(
            f"{show_value(source)} is no name of a variable", "from-env names a variable of your own environment"
        )
    return value


def check_word(name: str) -> str:
    """A name in [vars]."""
    if not _WORD.fullmatch(name):
        raise invalid(f"{show_value(name)} cannot be a placeholder", "letters, digits, '_' and '-', no digit first")
    if name in BUILT_IN:
        raise invalid(f"'{{{name}}}' already means something", "give the word another name")
    return name


def check_amount(value: object) -> object:
    """Cores or GB: a number of at least 1, or text with a placeholder."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f'expected a number, or text with a placeholder such as "{{ram}}", found {show_value(value)}')
    if isinstance(value, str):
        return _placeholder(value, "a number")
    if not 1 <= value < 1e9:
        raise invalid(f"expected a number of at least 1, found {value}", "leave it out for flexible allocation")
    return value


def check_gpus(value: object) -> object:
    """A whole number, or text with a placeholder."""
    if isinstance(value, str):
        return _placeholder(value, "a whole number")
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(
            f'expected a whole number, or text with a placeholder such as "{{gpus}}", found {show_value(value)}'
        )
    if not 0 <= value < 1000:
        raise invalid(f"expected a whole number from 0, found {value}")
    return value


def check_duration(value: object) -> object:
    """Seconds of ``2h``."""
    from skahactl.durations import parse_duration

    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f'expected a duration such as "2h", found {show_value(value)}')
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise invalid(f"expected a duration: {error}") from None
    if seconds <= 0:
        raise invalid("expected a duration above zero", "leave it out to switch it off")
    return seconds


def _placeholder(value: str, expected: str) -> str:
    if "{" not in value:
        plain = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(|G|GB|Gi|GiB)\s*", value)
        unit = ", in GB" if plain and plain[2] else ""
        hint = None if plain is None else f"write it without quotes{unit}: {plain[1]}"
        raise invalid(
            f'expected {expected}, or text with a placeholder such as "{{ram}}", found {show_value(value)}', hint
        )
    return value
