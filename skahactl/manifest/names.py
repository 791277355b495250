"""What a replica's session is called: what it runs is in the name, on every machine alike.

A name is a text made legal and cut, and a tag: five base-32 characters of the SHA-256 of the job's name, the
replica's number and its resolved request. Secrets count by reference; the order of the environment does not count.
"""

from __future__ import annotations

import json
import re

from skahactl.job import Request, Secret

LONGEST_TEXT = 50
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_LATER = re.compile(r"-(?:[2-9]|[1-9][0-9]+)$")
_ILLEGAL = re.compile(r"[^a-z0-9-]+")


def session_name(text: str, job: str, number: int, request: Request) -> str:
    """The name of the first attempt of replica ``number``: ``tiles-17-k3x2a``."""
    return f"{legal_name(text)}-{name_tag(job, number, request)}"


def attempt_name(name: str, attempt: int) -> str:
    """The name of a later attempt: ``tiles-17-k3x2a-2``; the first has the whole name itself."""
    return name if attempt < 2 else f"{name}-{attempt}"


def base_session_name(name: str) -> str:
    """The whole name that ``attempt_name`` made this one from: ``tiles-17-k3x2a``, also of ``tiles-17-k3x2a-2``."""
    return _LATER.sub("", name)


def legal_name(text: str) -> str:
    """``text`` in lower case, other characters as ``-``, from a letter on, cut to LONGEST_TEXT characters."""
    made = _ILLEGAL.sub("-", text.lower()).strip("-")
    if not made[:1].isalpha():
        made = f"s-{made}"
    return made[:LONGEST_TEXT].rstrip("-")


def name_tag(job: str, number: int, request: Request) -> str:
    """Five base-32 characters in lower case."""
    import hashlib  # most commands make no name

    text = json.dumps([job, number, request_data(request)], separators=(",", ":"), ensure_ascii=True)
    bits = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:4], "big") >> 7
    return "".join(_DIGITS[bits >> shift & 31] for shift in (20, 15, 10, 5, 0))


def request_data(request: Request) -> list[object]:
    """The request as plain JSON data, secrets as references."""
    resources = request.resources
    return [
        request.kind,
        request.image,
        request.command,
        sorted((key, _plain(value)) for key, value in request.env),
        [_number(resources.cores), _number(resources.ram), resources.gpus],
    ]


def _plain(value: str | Secret) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else (value.source, value.reference())


def _number(amount: float | None) -> float | None:
    return int(amount) if amount is not None and float(amount).is_integer() else amount
