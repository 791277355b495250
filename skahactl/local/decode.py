"""The server's template step: what it makes of ``cmd``, ``args`` and ``env``, letter by letter (skaha-api 3.6, a to f).

The server pastes the text into a YAML template without escaping, through a Java replacement string, parses it, and
writes it again. Then another YAML library reads it, and Kubernetes expands it.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from skahactl.local.http import HttpRefusal
from skahactl.skaha.encoding import is_reread

#: The value of $0: the text that the pattern of the server matched.
PLACEHOLDER = "${headless.image.bundle}"


def split_args(text: str, separator: str) -> list[str]:
    """Split ``text`` as Java's String.split does: empty parts at the end vanish, unless nothing was split."""
    if separator not in text:
        return [text]
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def replace_text(text: str) -> str:
    r"""Return what Java's Matcher.appendReplacement makes of ``text``, for a pattern without groups.

    A backslash takes the next character literally, ``$0`` is the matched text, and any other ``$`` is an error.
    Raises HttpRefusal with the server's status and message.
    """

    def replacement(match: re.Match[str]) -> str:
        token = match[0]
        if token == "\\":
            raise HttpRefusal(400, "character to be escaped is missing\n")
        if token[0] == "\\":
            return token[1]
        if token.startswith("$0"):
            return PLACEHOLDER
        raise HttpRefusal(400, "Illegal group reference\n")

    return re.sub(r"\\.?|\$0*", replacement, text, flags=re.DOTALL)


_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@dataclass(frozen=True, slots=True)
class DecodedSession:
    """What the container runs: ``command`` and ``args`` (None: the image's own), and the user's variables in order."""

    command: str | None
    args: tuple[str, ...] | None
    env: tuple[tuple[str, str], ...]

    @property
    def argv(self) -> tuple[str, ...]:
        return (*(() if self.command is None else (self.command,)), *(self.args or ()))


def template_message(job: str = "skaha-headless-job") -> HttpRefusal:
    """Return the reply for a Job that Kubernetes rejects: creating it fails silently, and then the Job is not found."""
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
    return HttpRefusal(
        500,
        "unexpected exception: java.lang.RuntimeException: io.kubernetes.client.openapi.ApiException: "
        f"Message: Not Found\nHTTP response code: 404\nHTTP response body: {body}\n",
    )


def check_host_name(name: str, job: str) -> None:
    """Raise HttpRefusal if Kubernetes rejects the name as the host name of the pod, which must be a DNS label."""
    if len(name) > 63 or name.endswith("-") or name in ("y", "n"):
        raise template_message(job)


def decode_request(
    cmd: str | None,
    args: str | None,
    env: Sequence[str],
    *,
    user: str = "user",
    job: str = "skaha-headless-job",
    platform: Sequence[tuple[str, str]] = (),
) -> DecodedSession:
    """Return what the container runs for these parameters. Raises HttpRefusal with the server's status and message.

    ``platform``: the variables that the platform sets after the user's. ``$(NAME)`` in the command may name them; they
    are not part of the result's ``env``.
    """
    text = replace_text(_assembled(cmd, args, env)).replace("${skaha.userid}", user)
    command, arguments, variables = _parsed(text)
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
    """Return the lines of the template, without their indentation (step a)."""
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


def _parsed(text: str) -> tuple[list[str] | None, list[str] | None, list[tuple[str, str]]]:
    """Return the command, the arguments and the variables of the template (step c).

    Text that closes its quotes and adds other YAML keys would change the Job on a real server. It is rejected here.
    """
    root = _composed(text)
    if set(root) - {"command", "args", "env"} or "env" not in root:
        raise _broken("a block mapping")
    return (
        _sequence(root["command"]) if "command" in root else None,
        _sequence(root["args"]) if "args" in root else None,
        [_variable(entry) for entry in root["env"].value] if root["env"].value else [],
    )


def _composed(text: str) -> dict[str, yaml.Node]:
    """Return the nodes of the template by key."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise HttpRefusal(500, f"unexpected exception: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise _broken("a block mapping")
    found = {key.value: value for key, value in root.value if isinstance(key, yaml.ScalarNode)}
    if len(found) != len(root.value):
        raise _broken("a block mapping")
    return found


def _sequence(node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise _broken("a flow sequence")
    return [_quoted(one) for one in node.value]


def _variable(node: yaml.Node) -> tuple[str, str]:
    """Return the name of a variable as the second YAML library reads it, and its value."""
    if not isinstance(node, yaml.MappingNode) or [key.value for key, _ in node.value] != ["name", "value"]:
        raise _broken("a block mapping")
    (_, name), (_, value) = node.value
    kind = name.tag.rpartition(":")[2]
    if not isinstance(name, yaml.ScalarNode) or kind not in ("str", "bool"):
        return "", _quoted(value)  # a null or a number, which Kubernetes rejects as a name
    if kind == "bool":
        return str(name.value.lower() in ("yes", "true", "on")).lower(), _quoted(value)
    return name.value, _quoted(value)


def _quoted(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.style != '"':
        raise _broken("a flow sequence")
    return str(node.value)


def _broken(what: str) -> HttpRefusal:
    return HttpRefusal(
        500, f"unexpected exception: while parsing {what}\nexpected <block end>, but found something else"
    )


def _check(command: list[str] | None, args: list[str] | None, variables: Sequence[tuple[str, str]], job: str) -> None:
    """Raise HttpRefusal for values and names that change when written and read again (d, e), and for invalid names."""
    values = [*(command or ()), *(args or ()), *(value for _, value in variables)]
    if any(is_reread(value) for value in values):
        raise template_message(job)
    for name, _ in variables:
        if not _ENV_NAME.fullmatch(name) or is_reread(name):
            raise template_message(job)


def _expanded_env(variables: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the variables with expanded values (step f); a value may name variables defined before it."""
    known: dict[str, str] = {}
    result: list[tuple[str, str]] = []
    for name, value in variables:
        known[name] = expand_variables(value, known)
        result.append((name, known[name]))
    return result


def expand_variables(text: str, mapping: Mapping[str, str]) -> str:
    """Expand text as Kubernetes does: ``$(NAME)`` if NAME is known, ``$$`` to one ``$``; everything else stays."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return mapping.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def local_user() -> str:
    """Return the user that the platform reports: the name of the local user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def base_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what replaces the environment of the image: PATH with our directory first, the locale, TZ and TMPDIR."""
    kept = [(name, value) for name, value in environ.items() if _kept(name)]
    return (("PATH", session_path(environ)), *kept)


def _kept(name: str) -> bool:
    return name in ("LANG", "LANGUAGE", "TZ", "TMPDIR") or name.startswith("LC_")


def session_path(environ: Mapping[str, str]) -> str:
    """Return the search path: the directory of skahactl, then the PATH of the creator, then the usual directories."""
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
    """Return the variables that the platform sets after those of the user, in the order of the server."""
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
