"""What the server makes of cmd, args and env (skaha-api 3.6), written from that page and from nothing of the client.

The text is pasted into a template as a Java replacement string, read as YAML 1.1, written again, read by go-yaml, and
its ``$(NAME)`` are expanded by Kubernetes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from tests.skaha_server.messages import opaque, words

#: Command, arguments, and names and values of the environment.
Parts = tuple[list[str], list[str], list[tuple[str, str]]]


@dataclass
class Container:
    """What the container gets: ``argv`` (empty: the image's own), and the user's environment in order."""

    argv: list[str]
    env: list[tuple[str, str]]


class JobRefused(Exception):
    """kubectl or the API server would refuse the Job; the server does not see it (3.3 row 18)."""


def container(
    cmd: str | None, args: str | None, env: list[str], platform: dict[str, str], *, decode: str = "real"
) -> Container:
    """The decoded container; ``platform``: the variables that the platform adds, and the user's name for placeholders.

    Raises Refusal (400 or 500 by the server) or JobRefused.
    """
    if decode == "escaped":
        command, arguments, entries = _escaped(cmd, args, env)
    else:
        command, arguments, entries = plain(cmd, args, env) or parsed(assembled(cmd, args, env), platform)
    for word in (*command, *arguments, *(value for _, value in entries)):
        if decode != "escaped" and misread(word):
            raise JobRefused(word)
    return _expanded(command + arguments, entries, platform)


def _escaped(cmd: str | None, args: str | None, env: list[str]) -> Parts:
    entries = [(key, value) for key, _, value in (entry.partition("=") for entry in env)]
    return ([cmd] if cmd is not None else []), (java_split(args, " ") if args is not None else []), entries


# (a) assembly


def assembled(cmd: str | None, args: str | None, env: list[str]) -> str:
    lines = []
    if cmd is not None:
        lines.append(f'command: ["{cmd}"]')
    if args is not None:
        quoted = ", ".join(f'"{arg}"' for arg in java_split(args, " "))
        lines.append(f"args: [{quoted}]")
    lines.append("env:")
    for entry in env:
        parts = java_split(entry, "=")
        if len(parts) == 2:
            lines += [f"- name: {parts[0]}", f'  value: "{parts[1]}"']
    return "\n".join(lines) + "\n"


def java_split(text: str, separator: str) -> list[str]:
    """``String.split``: trailing empty strings are dropped; the empty text gives itself."""
    if text == "":
        return [""]
    parts = text.split(separator)
    while parts and parts[-1] == "":
        parts.pop()
    return parts


#: Text to which none of the steps (b) to (c) does anything, and names that YAML reads as themselves.
_PLAIN_TEXT = re.compile(r"[ -~]*")
_PLAIN_NAME = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z_][a-z0-9_]*", re.I)


def plain(cmd: str | None, args: str | None, env: list[str]) -> Parts | None:
    """What ``parsed`` makes of text without quotes, backslashes, dollars and the like, in a tenth of its time: the
    server of a benchmark must not be what is measured. None: it takes the long way."""
    for text in (cmd or "", args or "", *env):
        if not _PLAIN_TEXT.fullmatch(text) or '"' in text or "\\" in text or "$" in text:
            return None
    pairs = [(parts[0], parts[1]) for parts in (java_split(entry, "=") for entry in env) if len(parts) == 2]
    if not all(_PLAIN_NAME.fullmatch(name) for name, _ in pairs):
        return None
    return ([cmd] if cmd is not None else []), (java_split(args, " ") if args is not None else []), pairs


# (b) Java replacement strings


def java_replacement(text: str, whole: str) -> str:
    """``Matcher.appendReplacement`` for a pattern without groups; ``whole`` is what ``$0`` stands for."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            if at == len(text):
                raise words(400, "character to be escaped is missing")
            out.append(text[at])
            at += 1
        elif char == "$":
            at = _group(text, at, out, whole)
        else:
            out.append(char)
    return "".join(out)


def _group(text: str, at: int, out: list[str], whole: str) -> int:
    if at == len(text):
        raise words(400, "Illegal group reference: group index is missing")
    if text[at] == "{":
        name = re.compile(r"[A-Za-z0-9]*").match(text, at + 1)
        assert name is not None
        if name.group() == "" and text[name.end() : name.end() + 1] == "}":
            raise words(400, "named capturing group has 0 length name")
        if text[name.end() : name.end() + 1] != "}":
            raise words(400, "named capturing group is missing trailing '}'")
        raise words(400, f"No group with name {{{name.group()}}}")
    if text[at] not in "0123456789":
        raise words(400, "Illegal group reference")
    if text[at] != "0":
        raise opaque(f"java.lang.IndexOutOfBoundsException: No group {text[at]}")
    while at < len(text) and text[at] == "0":
        at += 1
    out.append(whole)
    return at


# (c) YAML


def parsed(text: str, platform: dict[str, str]) -> Parts:
    text = java_replacement(text, "${headless.image.bundle}")
    text = text.replace("${skaha.userid}", platform.get("skaha_username", ""))
    if re.search(r"(?<!\\)(?:\\\\)*\\/", text):
        raise opaque("while scanning a double-quoted scalar\nfound unknown escape character /(47)")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        if "special characters" in str(error):
            raise opaque("special characters are not allowed") from error
        raise opaque(f"while parsing {error}") from error
    except (ValueError, OverflowError) as error:
        raise opaque(f"while scanning a double-quoted scalar {error}") from error
    command, arguments = _strings(data.get("command") or []), _strings(data.get("args") or [])
    return command, arguments, [_entry(entry) for entry in data["env"] or []]


def _strings(data: object) -> list[str]:
    if not isinstance(data, list) or not all(isinstance(word, str) for word in data):
        raise JobRefused(str(data))
    return data


def _entry(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict) or set(entry) != {"name", "value"}:
        raise JobRefused(str(entry))
    name, value = entry["name"], entry["value"]
    if isinstance(name, bool):
        name = str(name).lower()  # the job text is dumped and loaded once more
    if not isinstance(name, str) or not isinstance(value, str) or not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", name):
        raise JobRefused(str(entry))
    return name, value


# (d, e) what is written plain and read again as a boolean or a number


def misread(word: str) -> bool:
    """Is a scalar that SnakeYAML writes plain, and go-yaml does not read as a string?"""
    return bool(_MISREAD.fullmatch(word)) or _stray_underscore(word)


_MISREAD = re.compile(r"[yYnN]|[-+]?0o[0-7]+|[-+]?0O[0-7]+|[-+]?0B[01]+|[-+]?0X[0-9a-fA-F]+|[-+]0[0-9]*[89][0-9]*")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_YAML_NUMBER = re.compile(
    r"[-+]?0[0-7_]+|[-+]?[1-9][0-9_]*|[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
)


def _stray_underscore(word: str) -> bool:
    number = "_" in word and word[0] in "+-.0123456789" and _NUMBER.fullmatch(word.replace("_", ""))
    return bool(number) and not _YAML_NUMBER.fullmatch(word)


# (f) Kubernetes


def _expanded(words_: list[str], entries: list[tuple[str, str]], platform: dict[str, str]) -> Container:
    known: dict[str, str] = {}
    env = []
    for name, value in entries:
        known[name] = kubernetes(value, known)
        env.append((name, known[name]))
    known.update(platform)
    return Container([kubernetes(word, known) for word in words_], env)


def kubernetes(text: str, known: dict[str, str]) -> str:
    """``$(NAME)`` of known names, ``$$`` to ``$``; anything else stays."""
    return re.sub(r"\$(?:(\$)|\(([^)]*)\))", lambda found: _meant(found, known), text)


def _meant(found: re.Match[str], known: dict[str, str]) -> str:
    if found.group(1):
        return "$"
    return known.get(found.group(2), found.group())
