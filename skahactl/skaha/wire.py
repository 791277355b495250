"""How a request is written so that the command and the environment arrive byte for byte (skaha-api 3.6).

The server pastes ``cmd``, ``args`` and ``env`` into a YAML template as the replacement text of a regular expression,
splits ``args`` on blanks, and Kubernetes expands ``$(NAME)``. So a character outside the safe alphabet is written as
two backslashes and a YAML escape: the regular expression takes one backslash away, YAML reads the escape. ``$`` is
doubled for Kubernetes. Nothing as a whole element is two backslashes and a newline: an escaped line break.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters, digits
from urllib.parse import quote_plus

from skahactl.job import EnvValue, Request, Secret
from skahactl.skaha.secrets import reveal_secrets
from skahactl.skaha.unsendable import request_problems

CONTENT_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"

_SAFE = ascii_letters + digits + "_./:,@%+-'()[]{}*?!~;<>&|^#"
_NOTHING = "\\\\\n"

Fields = list[tuple[str, str]]


class _Encoding(dict[int, str]):
    """A table for str.translate that makes up, and keeps, what each unsafe character is written as."""

    def __init__(self, safe: str) -> None:
        super().__init__((ord(character), character) for character in safe)

    def __missing__(self, code: int) -> str:
        self[code] = written = _escape(code)
        return written


_ARGUMENT = _Encoding(_SAFE + "=")
_VALUE = _Encoding(_SAFE)  # a second "=" makes the server drop the variable


def fields(request: Request, name: str, environ: Mapping[str, str]) -> Fields:
    """The form of one create, in order, secrets read from ``environ`` and files.

    Raises UsageError for a secret that is not there or cannot be sent; the message never holds its value.
    """
    known = [(key, reveal_secrets(key, content, environ)) for key, content in request.env]
    return [*_head(request, name), *(("env", f"{key}={value(text)}") for key, text in known)]


def masked_fields(request: Request, name: str) -> Fields:
    """As ``fields``, with the reference in place of each secret: what a dry run shows."""
    return [*_head(request, name), *(("env", f"{key}={_masked(content)}") for key, content in request.env)]


def body(form: Fields) -> bytes:
    """The form as the body of a POST: ASCII, whatever was asked for."""
    return "&".join(f"{key}={quote_plus(text, errors='surrogatepass')}" for key, text in form).encode("ascii")


def problems(request: Request) -> tuple[str, ...]:
    """What of this request cannot be sent, each with the way round; secrets are looked at when they are read."""
    return request_problems(request, len(body(masked_fields(request, "x" * 50))))


def needs_encoding(request: Request) -> bool:
    """Does it hold anything that only the encoding brings over unchanged? (Of secrets it is not known.)"""
    if any(argument(text) != text for text in request.command):
        return True
    return any(isinstance(content, str) and value(content) != content for _, content in request.env)


def argument(text: str) -> str:
    """One element of the command, encoded."""
    return text.translate(_ARGUMENT) if text else _NOTHING


def value(text: str) -> str:
    """The value of an environment variable, encoded."""
    return text.translate(_VALUE) if text else _NOTHING


def number(amount: float) -> str:
    """8.0 as "8", 1.5 as "1.5": as other clients write them."""
    return str(int(amount)) if float(amount).is_integer() else repr(float(amount))


def secret_texts(request: Request, environ: Mapping[str, str]) -> list[str]:
    """The values of the request's secrets, as they are and as they are sent: a server's words may repeat either."""
    known = [reveal_secrets(key, content, environ) for key, content in request.env if isinstance(content, Secret)]
    return [text for secret in known for text in (secret, value(secret))]


def _head(request: Request, name: str) -> Fields:
    resources = request.resources
    form = [("name", name), ("image", request.image)]
    if resources.cores is not None:
        form.append(("cores", number(resources.cores)))
    if resources.ram is not None:
        form.append(("ram", number(resources.ram)))
    form.append(("type", request.kind))
    if resources.gpus:  # the server refuses 0
        form.append(("gpus", str(resources.gpus)))
    if request.command:
        form.append(("cmd", argument(request.command[0])))
    if len(request.command) > 1:
        form.append(("args", " ".join(argument(text) for text in request.command[1:])))
    return form


def _escape(code: int) -> str:
    if code == ord("$"):
        return "\\\\x24\\\\x24"
    if code <= 0xFF:
        return f"\\\\x{code:02x}"
    return f"\\\\u{code:04x}" if code <= 0xFFFF else f"\\\\U{code:08x}"


def _masked(content: EnvValue) -> str:
    return f"<{content.reference()}>" if isinstance(content, Secret) else value(content)
