"""A job as a Python call describes it, as the table that a manifest would have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from skahactl.errors import UsageError


def named_kind(asked: str) -> str:
    """In small letters; the manifest's rules judge it."""
    if not isinstance(asked, str):
        raise UsageError(f"a kind of session is text, not {asked!r}", hint='kind="headless"')
    return asked.lower()


def command_words(cmd: str | None, args: Iterable[Any] | str | None) -> dict[str, list[Any]]:
    """The ``command`` of a table, if there is one. A string of ``args`` is split on blanks; paths and whole numbers
    are written as text; everything else is judged as a manifest's."""
    words = args.split() if isinstance(args, str) else [_plain_word(one) for one in _several_words(args)]
    if cmd is None and words:
        raise UsageError("args need a cmd", hint='cmd="python", args=["script.py"]')
    if isinstance(cmd, str) and len(parts := cmd.split()) > 1 and not words:
        hint = f"cmd={json.dumps(parts[0])}, args={json.dumps(parts[1:])}"
        raise UsageError(f"cmd is one word, the program's, not {cmd!r}", hint=hint)
    return {} if cmd is None else {"command": [_plain_word(cmd), *words]}


def resource_table(cores: float | None, ram: float | None, gpus: int | None, gpu: int | None) -> dict[str, float]:
    """The ``resources`` of a table; ``gpu`` is another name of ``gpus``."""
    if gpus is not None and gpu is not None:
        raise UsageError("gpus and gpu are two names of one thing", hint="give one of the two")
    asked = {"cores": cores, "ram": ram, "gpus": gpu if gpus is None else gpus}
    return {key: value for key, value in asked.items() if value is not None}


def env_table(env: Mapping[str, Any] | None) -> dict[str, Any]:
    """The ``env`` of a table."""
    if env is not None and not isinstance(env, Mapping):
        raise UsageError(f"env is a mapping of names to values, not {type(env).__name__}", hint='env={"NAME": "value"}')
    for name, value in (env or {}).items():
        if value is None:
            raise UsageError(f"env: {name} has no value", hint='leave it out, or give it an empty one: ""')
    return dict(env or {})


def _several_words(args: Iterable[Any] | None) -> Iterable[Any]:
    if args is None:
        return ()
    if isinstance(args, Iterable) and not isinstance(args, Mapping | bytes):
        return args
    raise UsageError(f"args is a list of words, or text with blanks, not {args!r}", hint='args=["script.py", 3]')


def _plain_word(one: Any) -> Any:
    if isinstance(one, os.PathLike):
        return os.fspath(one)
    return str(one) if isinstance(one, int) and not isinstance(one, bool) else one
