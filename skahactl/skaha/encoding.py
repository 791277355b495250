"""Encode a request so that the command and the environment arrive byte for byte (skaha-api 3.6).

The server pastes ``cmd``, ``args`` and ``env`` into a YAML template as the replacement text of a regular expression,
splits ``args`` on spaces, and Kubernetes expands ``$(NAME)``. Therefore a character outside the safe alphabet is
written as two backslashes and a YAML escape: the regular expression removes one backslash, YAML reads the escape. ``$``
is doubled for Kubernetes. An empty element is written as two backslashes and a newline: an escaped line break.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import replace
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote_plus

from skahactl.errors import UsageError
from skahactl.model import EnvValue, Request, RequestProblem, Secret

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Iterator, Mapping

T = TypeVar("T")

LARGEST_SECRET = 64 * 1024  # bytes
SECRET_SECONDS = 10.0
LARGEST_ELEMENT = 128 * 1024 - 1  # Linux: one string of execve, without its NUL
LARGEST_REQUEST = 1024 * 1024  # Kubernetes rejects objects of about 1.5 MiB
LARGEST_BODY = 2 * 1024 * 1024  # Tomcat: a larger form is not read
MOST_FIELDS = 1000  # Tomcat silently ignores further parameters

_SURROGATE = re.compile("[\ud800-\udfff]")
# Not printable in YAML; and U+0085, which SnakeYAML writes unescaped and go-yaml reads as a line end.
_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_IMAGE = re.compile(r"[A-Za-z0-9._:/@-]+")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REREAD_NAMES = frozenset("yYnN")  # booleans for kubectl, quoted or not (skaha-api 16)
# Names that YAML reads as booleans or as nothing; in quotes they arrive as they are (skaha-api 16).
_QUOTED_NAMES = frozenset(
    name
    for word in ("no", "yes", "on", "off", "true", "false", "null")
    for name in (word, word.capitalize(), word.upper())
)
_OVERRIDDEN = re.compile(r"OMP_NUM_THREADS|HOME|PWD|skaha_.*")

# A scalar that SnakeYAML writes without quotes and go-yaml then reads as a number (skaha-api 3.6 d, e): the second
# pattern matches what go-yaml reads as a number without "_", the first what SnakeYAML puts into quotes.
_QUOTED_AGAIN = re.compile(
    r"""[-+]?0b_*[01][01_]* | [-+]?0_*[0-7][0-7_]* | [-+]?(?:0|[1-9][0-9_]*) | [-+]?0x_*[0-9a-fA-F][0-9a-fA-F_]*
    | [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    | [-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)? | 0[0-9_]+""",
    re.VERBOSE,
)
_REREAD = re.compile(
    r"""[-+]?(?:0[xX][0-9a-fA-F]+ | 0[bB][01]+ | 0[oO][0-7]+ | 0[0-7]* | [1-9][0-9]*
    | (?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?) | -?0b[-+][01]+""",
    re.VERBOSE,
)


def value_problem(text: str) -> str | None:
    """Return why this argument or value cannot be sent, as the rest of a sentence; None if it can."""
    if "\0" in text:
        return "contains a NUL character, which no program can receive; write it as an escape that the command decodes"
    if _SURROGATE.search(text):
        return "is not valid Unicode text; encode its bytes, for example with base64, and decode them in the command"
    found = _CONTROL.search(text)
    if found:
        code = ord(found.group())
        return (
            f"contains the control character U+{code:04X}, which the platform does not pass on; "
            f"write it as an escape that the command decodes, for example {_bash(code)} in bash"
        )
    if is_reread(text):
        return (
            f'is "{text}" as a whole, which the platform reads as a boolean or a number and then rejects; '
            f"make it part of a longer text: a shell line, an option as --option={text}, or an item such as item-{text}"
        )
    size = len(text.encode())
    if size > LARGEST_ELEMENT:
        return f"is {size} bytes long, but Linux allows at most {LARGEST_ELEMENT}; put it into a file"
    return None


def is_reread(text: str) -> bool:
    """Return whether the platform reads this whole element as a boolean or a number, and then rejects the session."""
    if text in ("y", "Y", "n", "N"):
        return True
    if not text or text[0] not in "+-0123456789":
        return False
    return bool(_REREAD.fullmatch(text.replace("_", ""))) and not _QUOTED_AGAIN.fullmatch(text)


def _bash(code: int) -> str:
    return f"$'\\x{code:02x}'" if code < 0x80 else f"$'\\u{code:04x}'"


def _problems(request: Request, body_size: int) -> Iterator[RequestProblem]:
    if not _IMAGE.fullmatch(request.image):
        message = f'the image "{request.image}" has characters that are not allowed in an image reference'
        yield RequestProblem(("image",), message)
    for position, text in enumerate(request.command):
        problem = value_problem(text)
        if problem:
            yield RequestProblem(("command", position), f"command, element {position + 1}: {problem}")
    for name, value in request.env:
        for message in _variable_problems(name, value):
            yield RequestProblem(("env", name), message)
    yield from _size_problems(request, body_size)


def _variable_problems(name: str, value: EnvValue) -> Iterator[str]:
    if not _ENV_NAME.fullmatch(name):
        yield f'[env] "{name}" is not a valid name of a variable; use letters, digits and _'
    elif name in _REREAD_NAMES:
        yield f'[env] {name}: the platform reads the name "{name}" as a boolean; use a longer one'
    elif _OVERRIDDEN.fullmatch(name):
        yield (
            f"[env] {name} is set by the platform, which overrides it; "
            f'set it inside the command: command = ["env", "{name}=...", ...]'
        )
    problem = value_problem(value) if isinstance(value, str) else None
    if problem:
        yield f"[env] {name} {problem}"
    elif isinstance(value, str) and len(f"{name}={value}".encode()) > LARGEST_ELEMENT:
        yield f"[env] {name} is longer than the {LARGEST_ELEMENT} bytes that Linux allows; put it into a file"


def _size_problems(request: Request, body_size: int) -> Iterator[RequestProblem]:
    values = [value for _, value in request.env if isinstance(value, str)]
    size = sum(len(text.encode(errors="surrogatepass")) for text in (*request.command, *values))
    advice = "put the long parts into a file that the command reads, or use more replicas"
    if size > LARGEST_REQUEST:
        message = f"command and [env] of one replica take {size} bytes, but the platform stores at most 1 MiB; {advice}"
        yield RequestProblem((), message, too_large=True)
    elif body_size > LARGEST_BODY:
        message = f"the request of one replica takes {body_size} bytes, but the platform reads at most 2 MiB; {advice}"
        yield RequestProblem((), message, too_large=True)
    if len(request.env) > MOST_FIELDS - 10:
        message = f"[env] has {len(request.env)} variables, but the platform reads at most {MOST_FIELDS - 10}"
        yield RequestProblem(("env",), message)


def reveal_secrets(key: str, content: EnvValue, environ: Mapping[str, str]) -> str:
    """Return the value of the variable ``key``. Raises UsageError for a secret that cannot be read or sent."""
    if not isinstance(content, Secret):
        return content
    text = read_secret(content, environ, what=f"[env] {key}")
    problem = value_problem(text)
    if problem:
        if text in problem:
            problem = "is a single word that the platform reads as a boolean or a number, and then rejects"
        raise UsageError(f"[env] {key}: the secret {content.reference()} {problem}", code="secret")
    return text


def read_secret(secret: Secret, environ: Mapping[str, str], *, what: str) -> str:
    """Return the value of the secret: the variable as it is, or the file without its last line end.

    Raises UsageError.
    """
    if secret.source == "env":
        if secret.name not in environ:
            raise UsageError(
                f"{what}: the variable {secret.name} is not set",
                hint=f"set it before the command: export {secret.name}=...",
                code="secret",
            )
        return environ[secret.name]
    try:
        text = _regular_file(secret.name).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{what}: cannot read the secret file {secret.name}: {reason}", code="secret") from None
    return text.removesuffix("\n").removesuffix("\r")


def _regular_file(path: str) -> bytes:
    """Return the content of a regular file of at most LARGEST_SECRET bytes. Raises OSError for any other file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = os.pread(descriptor, LARGEST_SECRET + 1, 0)
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_SECRET:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_SECRET // 1024} KiB")
    return data


class SecretReader:
    """Reads the secrets of a command: each once, in a thread, and within SECRET_SECONDS."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._known: dict[Hashable, Any] = {}
        self._lock: asyncio.Lock | None = None

    async def reveal(self, request: Request) -> Request:
        """Return the request with the values of its secrets. Raises UsageError with code ``secret``."""
        env = [(key, await self._value(key, content)) for key, content in request.env]
        return replace(request, env=tuple(env))

    async def _value(self, key: str, content: EnvValue) -> str:
        if not isinstance(content, Secret):
            return content
        what = f"[env] {key}: cannot read the secret {content.reference()}"
        return await self.once(content, what, lambda: reveal_secrets(key, content, self.environ))

    async def once(self, key: Hashable, what: str, read: Callable[[], T]) -> T:
        """Return the result of ``read`` for this key, from the cache after the first call. Failures are not cached.

        Raises what ``read`` raises, and a UsageError that begins with ``what`` if it takes too long.
        """
        import asyncio

        if self._lock is None:
            self._lock = asyncio.Lock()
        try:
            async with asyncio.timeout(SECRET_SECONDS), self._lock:
                if key not in self._known:
                    self._known[key] = await asyncio.to_thread(read)
        except TimeoutError:
            raise UsageError(f"{what} within {SECRET_SECONDS:.0f} s", code="secret") from None
        found: T = self._known[key]
        return found


CONTENT_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"

_SAFE = ascii_letters + digits + "_./:,@%+-'()[]{}*?!~;<>&|^#"
_NOTHING = "\\\\\n"

Fields = list[tuple[str, str]]


class _Encoding(dict[int, str]):
    """A table for str.translate that computes and caches the escape of each unsafe character."""

    def __init__(self, safe: str) -> None:
        super().__init__((ord(character), character) for character in safe)

    def __missing__(self, code: int) -> str:
        self[code] = written = _escape(code)
        return written


_ARGUMENT = _Encoding(_SAFE + "=")
_VALUE = _Encoding(_SAFE)  # without "=": the server drops a variable with a second one


def fields(request: Request, name: str) -> Fields:
    """Return the form of one create, in order. A secret that was not revealed appears as its reference."""
    resources = request.resources
    form = [("name", name), ("image", request.image)]
    if resources.cores is not None:
        form.append(("cores", number(resources.cores)))
    if resources.ram is not None:
        form.append(("ram", number(resources.ram)))
    form.append(("type", request.kind))
    if resources.gpus:  # the server rejects 0
        form.append(("gpus", str(resources.gpus)))
    if request.command and request.command[0]:  # empty: the image's own entry point, with arguments
        form.append(("cmd", argument(request.command[0])))
    if len(request.command) > 1:
        form.append(("args", " ".join(argument(text) for text in request.command[1:])))
    for key, content in request.env:
        text = f"<{content.reference()}>" if isinstance(content, Secret) else value(content)
        form.append(("env", f"{variable_name(key)}={text}"))
    return form


def body(form: Fields) -> bytes:
    """Return the form as the body of a POST, in ASCII."""
    return "&".join(f"{key}={quote_plus(text, errors='surrogatepass')}" for key, text in form).encode("ascii")


def problems(request: Request) -> tuple[RequestProblem, ...]:
    """Return why this request cannot be sent, with alternatives. Secrets are checked when they are read."""
    return tuple(_problems(request, len(body(fields(request, "x" * 50)))))


def needs_encoding(request: Request) -> bool:
    """Return whether the request contains text that needs the encoding. Secrets are not checked."""
    words = request.command if all(request.command[:1]) else request.command[1:]
    if any(argument(text) != text for text in words) or any(key in _QUOTED_NAMES for key, _ in request.env):
        return True
    return any(isinstance(content, str) and value(content) != content for _, content in request.env)


def argument(text: str) -> str:
    """Encode one element of the command."""
    return text.translate(_ARGUMENT) if text else _NOTHING


def variable_name(name: str) -> str:
    """Return the name of an environment variable, in quotes if YAML would read it as something else."""
    return f'"{name}"' if name in _QUOTED_NAMES else name


def value(text: str) -> str:
    """Encode the value of an environment variable."""
    return text.translate(_VALUE) if text else _NOTHING


def number(amount: float) -> str:
    """Return 8.0 as "8" and 1.5 as "1.5", as other clients do."""
    return str(int(amount)) if float(amount).is_integer() else repr(float(amount))


def secret_texts(request: Request, revealed: Request) -> list[str]:
    """Return the values of the secrets of ``request``, raw and encoded: a reply may repeat either."""
    pairs = zip(request.env, revealed.env, strict=True)
    texts = [str(text) for (_, content), (_, text) in pairs if isinstance(content, Secret)]
    return [text for secret in texts for text in (secret, value(secret))]


def _escape(code: int) -> str:
    if code == ord("$"):
        return "\\\\x24\\\\x24"
    if code <= 0xFF:
        return f"\\\\x{code:02x}"
    return f"\\\\u{code:04x}" if code <= 0xFFFF else f"\\\\U{code:08x}"
