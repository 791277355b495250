"""What the server makes of ``cmd``, ``args`` and ``env``: its template step, letter by letter (skaha-api 3.6).

The text is pasted into a YAML template without escaping, through a Java replacement string; parsed; written again;
read by another YAML library; and expanded by Kubernetes. Pure functions; nothing of the local platform is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skahactl.local import replacement, scalar, words

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
    except scalar.ScalarError as error:
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
    parts = [] if args is None else replacement.split_args(args, " ")
    if parts:
        rows.append("args: [" + ", ".join(f'"{part}"' for part in parts) + "]")
    rows.append("env:")
    for entry in env:
        pair = replacement.split_args(entry, "=")
        if len(pair) == 2:
            rows += [f"- name: {pair[0]}", f'  value: "{pair[1]}"']
    return "\n".join(rows) + "\n"


def _replaced(text: str) -> str:
    """(b) The text as a Java replacement string."""
    try:
        return replacement.replace_text(text)
    except replacement.GroupError as error:
        if error.illegal:
            raise TemplateRejected(400, f"{error}\n") from None
        raise TemplateRejected(500, f"unexpected exception: java.lang.IndexOutOfBoundsException: {error}") from None


def _parsed(text: str) -> tuple[list[str] | None, list[str] | None, list[tuple[str, str]]]:
    """(c) The template's own structure; what breaks it is a parse error.

    Text that closes its quotes and goes on with other YAML keys would change the Job; it is refused here.
    """
    scalar.check_printable(text)
    command: list[str] | None = None
    args: list[str] | None = None
    cursor = 0
    if text.startswith("command: ["):
        command, cursor = scalar.parse_sequence(text, len("command: "))
        cursor = _end_of_line(text, cursor)
    if text.startswith("args: [", cursor):
        args, cursor = scalar.parse_sequence(text, cursor + len("args: "))
        cursor = _end_of_line(text, cursor)
    return command, args, _variables(text, cursor)


def _variables(text: str, cursor: int) -> list[tuple[str, str]]:
    if not text.startswith("env:\n", cursor):
        raise scalar.ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
    cursor += len("env:\n")
    pairs: list[tuple[str, str]] = []
    while cursor < len(text):
        line = text.find("\n", cursor)
        if not text.startswith("- name: ", cursor) or not text.startswith('  value: "', line + 1):
            raise scalar.ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
        name = text[cursor + len("- name: ") : line].strip(" \t")
        value, cursor = scalar.parse_quoted(text, line + 1 + len("  value: "))
        cursor = _end_of_line(text, cursor)
        pairs.append((name, value))
    return pairs


def _end_of_line(text: str, cursor: int) -> int:
    """The start of the next line; nothing may stand before it but blanks and a comment."""
    line = text.find("\n", cursor)
    rest = text[cursor:line]
    if rest.strip(" \t\r") and not re.match(r"[ \t]+#", rest):
        raise scalar.ScalarError("while parsing a block mapping\nexpected <block end>, but found something else")
    return line + 1


def _check(command: list[str] | None, args: list[str] | None, variables: Sequence[tuple[str, str]], job: str) -> None:
    """(d, e) What is read as something else after it was written again, and names that Kubernetes refuses."""
    values = [*(command or ()), *(args or ()), *(value for _, value in variables)]
    if any(words.is_reread_word(value) for value in values):
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
