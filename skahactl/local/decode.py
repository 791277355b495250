"""What the server makes of ``cmd``, ``args`` and ``env``: its template step, letter by letter (skaha-api 3.6).

The text is pasted into a YAML template without escaping, through a Java replacement string; parsed; written again;
read by another YAML library; and expanded by Kubernetes. Pure functions; nothing of the local platform is needed.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What $0 stands for: the text that the server's pattern matched.
PLACEHOLDER = "${headless.image.bundle}"


class GroupError(ValueError):
    """A replacement string that Java refuses; ``illegal``: an IllegalArgumentException, else IndexOutOfBounds."""

    def __init__(self, message: str, *, illegal: bool = True):
        super().__init__(message)
        self.illegal = illegal


def split_args(text: str, separator: str) -> list[str]:
    """Java's String.split for a plain separator: trailing empty parts vanish, unless nothing was split."""
    if separator not in text:
        return [text]
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def replace_text(text: str) -> str:
    """What Matcher.appendReplacement makes of ``text`` for a pattern without groups that matched PLACEHOLDER."""
    result: list[str] = []
    cursor = 0
    while cursor < len(text):
        char = text[cursor]
        if char == "\\":
            if cursor + 1 == len(text):
                raise GroupError("character to be escaped is missing")
            result.append(text[cursor + 1])
            cursor += 2
        elif char == "$":
            cursor = _reference(text, cursor + 1)
            result.append(PLACEHOLDER)
        else:
            result.append(char)
            cursor += 1
    return "".join(result)


def _reference(text: str, cursor: int) -> int:
    """Where a reference to group 0 ends that began before ``cursor``; anything else is refused."""
    if cursor == len(text):
        raise GroupError("Illegal group reference: group index is missing")
    if text[cursor] == "{":
        raise GroupError(_named(text, cursor + 1))
    if text[cursor] not in "0123456789":
        raise GroupError("Illegal group reference")
    if text[cursor] != "0":
        raise GroupError(f"No group {text[cursor]}", illegal=False)
    cursor += 1
    while cursor < len(text) and text[cursor] == "0":
        cursor += 1  # 00 is still group 0; a further digit would be a group that is not there, and so is text
    return cursor


def _named(text: str, cursor: int) -> str:
    """The complaint about a named reference, of which there can be none."""
    end = cursor
    while end < len(text) and text[end].isascii() and text[end].isalnum():
        end += 1
    name = text[cursor:end]
    if not name:
        return "named capturing group has 0 length name"
    if end == len(text) or text[end] != "}":
        return "named capturing group is missing trailing '}'"
    if name[0].isdigit():
        return f"capturing group name {{{name}}} starts with digit character"
    return f"No group with name {{{name}}}"


BREAKS = "\r\n\x85\u2028\u2029"
ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
CODES = {"x": 2, "u": 4, "U": 8}


class ScalarError(ValueError):
    """Text that is no YAML; the message is the parser's."""


def check_printable(text: str) -> None:
    """Raise on the first character that YAML does not allow."""
    for position, char in enumerate(text):
        code = ord(char)
        if not (
            0x20 <= code <= 0x7E
            or code in (0x09, 0x0A, 0x0D, 0x85)
            or 0xA0 <= code <= 0xD7FF
            or 0xE000 <= code <= 0xFFFD
            or code >= 0x10000
        ):
            raise ScalarError(
                f"unacceptable code point '{char}' (0x{code:X}) special characters are not allowed\n"
                f"in \"'string'\", position {position}"
            )


def parse_quoted(text: str, start: int) -> tuple[str, int]:
    """The scalar whose opening quote is at ``start``, and the place after its closing quote."""
    result: list[str] = []
    cursor = start + 1
    while True:
        plain = cursor
        while cursor < len(text) and text[cursor] not in ' \t"\\' + BREAKS:
            cursor += 1
        result.append(text[plain:cursor])
        if cursor == len(text):
            raise ScalarError("while scanning a quoted scalar\nfound unexpected end of stream")
        if text[cursor] == '"':
            return _paired("".join(result)), cursor + 1
        if text[cursor] == "\\":
            piece, cursor = _escape(text, cursor + 1)
        else:
            piece, cursor = _spaces(text, cursor)
        result.append(piece)


def _escape(text: str, cursor: int) -> tuple[str, int]:
    char = text[cursor : cursor + 1]
    if char in ESCAPES:
        return ESCAPES[char], cursor + 1
    if char in CODES:
        digits = text[cursor + 1 : cursor + 1 + CODES[char]]
        if len(digits) < CODES[char] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise ScalarError(
                "while scanning a double-quoted scalar\n"
                f"expected escape sequence of {CODES[char]} hexadecimal numbers, but found: {digits}"
            )
        if int(digits, 16) > 0x10FFFF:
            raise ScalarError(f"while scanning a double-quoted scalar\nfound unknown escape character {digits}")
        return chr(int(digits, 16)), cursor + 1 + len(digits)
    if char and char in BREAKS:
        return _more_breaks(text, _line_break(text, cursor)[1])
    raise ScalarError(
        f"while scanning a double-quoted scalar\nfound unknown escape character {char}({ord(char or chr(0)):X})"
    )


def _spaces(text: str, cursor: int) -> tuple[str, int]:
    """Blanks stay; a line break is folded, with the blanks around it, to one blank or to the empty lines it has."""
    blanks = cursor
    while cursor < len(text) and text[cursor] in " \t":
        cursor += 1
    white = text[blanks:cursor]
    if cursor == len(text):
        raise ScalarError("while scanning a quoted scalar\nfound unexpected end of stream")
    if text[cursor] not in BREAKS:
        return white, cursor
    line_break, cursor = _line_break(text, cursor)
    more, cursor = _more_breaks(text, cursor)
    if line_break != "\n":
        return line_break + more, cursor
    return more or " ", cursor


def _more_breaks(text: str, cursor: int) -> tuple[str, int]:
    result: list[str] = []
    while True:
        mark = text[cursor : cursor + 3]
        if mark in ("---", "...") and text[cursor + 3 : cursor + 4] in ("", " ", "\t", *BREAKS):
            raise ScalarError("while scanning a quoted scalar\nfound unexpected document separator")
        while cursor < len(text) and text[cursor] in " \t":
            cursor += 1
        if cursor == len(text) or text[cursor] not in BREAKS:
            return "".join(result), cursor
        line_break, cursor = _line_break(text, cursor)
        result.append(line_break)


def _line_break(text: str, cursor: int) -> tuple[str, int]:
    if text.startswith("\r\n", cursor):
        return "\n", cursor + 2
    return ("\n" if text[cursor] in "\r\n\x85" else text[cursor]), cursor + 1


def _paired(text: str) -> str:
    """Java holds UTF-16: two escapes of a surrogate pair are one character, and half a pair is none."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ScalarError("special characters are not allowed") from None


def parse_sequence(text: str, start: int) -> tuple[list[str], int]:
    """The flow sequence of quoted scalars whose bracket is at ``start``, and the place after its closing bracket."""
    items: list[str] = []
    cursor = _skip(text, start + 1)
    while text[cursor : cursor + 1] != "]":
        if text[cursor : cursor + 1] != '"':
            raise ScalarError("while parsing a flow sequence\nexpected ',' or ']', but got something else")
        item, cursor = parse_quoted(text, cursor)
        items.append(item)
        cursor = _skip(text, cursor)
        if text[cursor : cursor + 1] == ",":
            cursor = _skip(text, cursor + 1)
        elif text[cursor : cursor + 1] != "]":
            raise ScalarError("while parsing a flow sequence\nexpected ',' or ']', but got something else")
    return items, cursor + 1


def _skip(text: str, cursor: int) -> int:
    """Past blanks, line breaks, and comments, which begin after one of them."""
    while cursor < len(text):
        if text[cursor] == "#" and text[cursor - 1] in " \t" + BREAKS:
            while cursor < len(text) and text[cursor] not in BREAKS:
                cursor += 1
        elif text[cursor] not in " \t" + BREAKS:
            break
        else:
            cursor += 1
    return cursor


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


_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
#: Names that YAML reads as something else, unquoted as the template writes them.
_NOT_TEXT = re.compile(
    r"(?i:yes|no|true|false|on|off|null|y|n|\.inf|\.nan|-+|\.\.\.)|[-.][0-9][0-9._]*(?i:e[-+]?[0-9]+)?"
)


class TemplateRejected(Exception):
    """The server does not make the session: HTTP status and the whole body it answers."""

    def __init__(self, status: int, body: str):
        super().__init__(body)
        self.status, self.body = status, body


@dataclass(frozen=True, slots=True)
class DecodedSession:
    """What the container gets: ``argv`` (None: the image's own), and the user's environment in order."""

    command: str | None
    args: tuple[str, ...] | None
    env: tuple[tuple[str, str], ...]

    @property
    def argv(self) -> tuple[str, ...]:
        return (*(() if self.command is None else (self.command,)), *(self.args or ()))


def template_message(job: str = "skaha-headless-job") -> TemplateRejected:
    """What a request gets whose Job Kubernetes refused: the create fails unseen, then the Job is not found."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'jobs.batch "{job}" not found',
        "reason": "NotFound",
        "details": {"name": job, "group": "batch", "kind": "jobs"},
        "code": 404,
    }
    body = json.dumps(status, separators=(",", ":"))
    return TemplateRejected(
        500,
        "unexpected exception: java.lang.RuntimeException: io.kubernetes.client.openapi.ApiException: "
        f"Message: Not Found\nHTTP response code: 404\nHTTP response body: {body}\n",
    )


def decode_request(
    cmd: str | None,
    args: str | None,
    env: Sequence[str],
    *,
    user: str = "user",
    job: str = "skaha-headless-job",
    platform: Sequence[tuple[str, str]] = (),
) -> DecodedSession:
    """What runs for these parameters, or Rejected with the server's words.

    ``platform``: the variables that the platform sets after the user's, which ``$(NAME)`` in the command may name;
    they are not part of the result's ``env``.
    """
    text = _replaced(_assembled(cmd, args, env)).replace("${skaha.userid}", user)
    try:
        command, arguments, variables = _parsed(text)
    except ScalarError as error:
        raise TemplateRejected(500, f"unexpected exception: {error}") from None
    _check(command, arguments, variables, job)
    values = _expanded_env([*variables, *platform])
    mapping = dict(values)
    return DecodedSession(
        None if not command else expand_variables(command[0], mapping),
        None
        if arguments is None
        else tuple(expand_variables(argument, mapping) for argument in (*(command or ())[1:], *arguments)),
        tuple(values[: len(variables)]),
    )


def _assembled(cmd: str | None, args: str | None, env: Sequence[str]) -> str:
    """(a) The lines of the template, without their indentation."""
    rows: list[str] = []
    if cmd is not None:
        rows.append(f'command: ["{cmd}"]')
    parts = [] if args is None else split_args(args, " ")
    if parts:
        rows.append("args: [" + ", ".join(f'"{part}"' for part in parts) + "]")
    rows.append("env:")
    for entry in env:
        pair = split_args(entry, "=")
        if len(pair) == 2:
            rows += [f"- name: {pair[0]}", f'  value: "{pair[1]}"']
    return "\n".join(rows) + "\n"


def _replaced(text: str) -> str:
    """(b) The text as a Java replacement string."""
    try:
        return replace_text(text)
    except GroupError as error:
        if error.illegal:
            raise TemplateRejected(400, f"{error}\n") from None
        raise TemplateRejected(500, f"unexpected exception: java.lang.IndexOutOfBoundsException: {error}") from None


def _parsed(text: str) -> tuple[list[str] | None, list[str] | None, list[tuple[str, str]]]:
    """(c) The template's own structure; what breaks it is a parse error.

    Text that closes its quotes and goes on with other YAML keys would change the Job; it is refused here.
    """
    check_printable(text)
    command: list[str] | None = None
    args: list[str] | None = None
    cursor = 0
    if text.startswith("command: ["):
        command, cursor = parse_sequence(text, len("command: "))
        cursor = _end_of_line(text, cursor)
    if text.startswith("args: [", cursor):
        args, cursor = parse_sequence(text, cursor + len("args: "))
        cursor = _end_of_line(text, cursor)
    return command, args, _variables(text, cursor)


def _variables(text: str, cursor: int) -> list[tuple[str, str]]:
    if not text.startswith("env:\n", cursor):
        raise ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
    cursor += len("env:\n")
    pairs: list[tuple[str, str]] = []
    while cursor < len(text):
        line = text.find("\n", cursor)
        if not text.startswith("- name: ", cursor) or not text.startswith('  value: "', line + 1):
            raise ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
        name = text[cursor + len("- name: ") : line].strip(" \t")
        value, cursor = parse_quoted(text, line + 1 + len("  value: "))
        cursor = _end_of_line(text, cursor)
        pairs.append((name, value))
    return pairs


def _end_of_line(text: str, cursor: int) -> int:
    """The start of the next line; nothing may stand before it but blanks and a comment."""
    line = text.find("\n", cursor)
    rest = text[cursor:line]
    if rest.strip(" \t\r") and not re.match(r"[ \t]+#", rest):
        raise ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
    return line + 1


def _check(command: list[str] | None, args: list[str] | None, variables: Sequence[tuple[str, str]], job: str) -> None:
    """(d, e) What is read as something else after it was written again, and names that Kubernetes refuses."""
    values = [*(command or ()), *(args or ()), *(value for _, value in variables)]
    if any(is_reread_word(value) for value in values):
        raise template_message(job)
    for name, _ in variables:
        if not _ENV_NAME.fullmatch(name) or _NOT_TEXT.fullmatch(name):
            raise template_message(job)


def _expanded_env(variables: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(f) Each value may name variables defined before it."""
    known: dict[str, str] = {}
    result: list[tuple[str, str]] = []
    for name, value in variables:
        known[name] = expand_variables(value, known)
        result.append((name, known[name]))
    return result


def expand_variables(text: str, mapping: Mapping[str, str]) -> str:
    """Kubernetes' expansion: ``$(NAME)`` where NAME is known, ``$$`` as one ``$``; everything else stays."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return mapping.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def local_user() -> str:
    """Whom the platform says we are: the local user's name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def base_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What stands in for the image's own environment: PATH with skahactl's directory first, language, TZ, TMPDIR."""
    kept = [(name, value) for name, value in environ.items() if _kept(name)]
    return (("PATH", session_path(environ)), *kept)


def _kept(name: str) -> bool:
    return name in ("LANG", "LANGUAGE", "TZ", "TMPDIR") or name.startswith("LC_")


def session_path(environ: Mapping[str, str]) -> str:
    """The search path: where skahactl and its Python are, then the creator's, then the usual places."""
    program = os.path.abspath(sys.argv[0])
    scripts = os.path.dirname(program) if os.path.basename(program) == "skahactl" else sysconfig.get_path("scripts")
    wanted = [
        scripts,
        os.path.dirname(sys.executable),
        *environ.get("PATH", "").split(os.pathsep),
        *os.defpath.split(":"),
    ]
    return os.pathsep.join(dict.fromkeys(place for place in wanted if place))


def platform_environment(
    session: str, cores: float | None, directory: str, environ: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """What the platform sets after the user's own entries, in the server's order."""
    home = environ.get("HOME") or os.path.expanduser("~")
    threads = 1 if cores is None else max(1, int(cores))
    return (
        ("skaha_hostname", "localhost"),
        ("skaha_username", local_user()),
        ("skaha_sessionid", session),
        ("HOME", home),
        ("PWD", directory),
        ("OMP_NUM_THREADS", str(threads)),
    )
