"""The texts of a job with their placeholders: command, environment, resources, session name."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.errors import Guess, Problem
from skahactl.manifest.load import Draft
from skahactl.manifest.placeholders import BUILT_IN, Placeholder, Template, each_variable, parse_template
from skahactl.manifest.schema import SHELLS
from skahactl.manifest.syntax import Path
from skahactl.model import Secret
from skahactl.spelling import did_you_mean

if TYPE_CHECKING:
    from skahactl.manifest.items import Items

ALL_ITEMS = Template((Placeholder("items"),))

_FOR_A_SHELL = re.compile(r"\$\{?[A-Za-z_]|[>|*]")
_UNSAFE = re.compile(r"[^A-Za-z0-9_@%+=:,./-]")  # characters that a shell can interpret
_SPLIT_PIPELINE = re.compile(r"\bskahactl(?:\s+-\S+)*\s+split\b(?:[^\n;&|]|\\\n)*\|(?!\|)")
_LIKE_A_WORD = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of the requests of a job. ``words`` are the placeholders used anywhere, also those mistyped."""

    command: tuple[Template, ...]
    env: tuple[tuple[str, Template | Secret], ...]
    resources: Mapping[str, Template | float]
    session_name: Template
    words: frozenset[str]
    item_words: frozenset[str]  # the known words for an item or a part of it

    def uses_item(self, template: Template) -> bool:
        return bool(template.words & self.item_words)


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """The input of ``read_templates``: the draft, the words of [vars], and the items, if any.

    ``words_unknown``: because of other mistakes, not all placeholders are known, so no word is reported as unknown.
    """

    draft: Draft
    variables: Mapping[str, str]
    items: Items | None
    words_unknown: bool = False

    @property
    def each(self) -> bool:
        table = self.draft.table.items
        return table is not None and table.each

    @property
    def has_items(self) -> bool:
        return self.draft.table.items is not None or "items" in self.draft.flaws

    @property
    def item_words(self) -> frozenset[str]:
        columns = self.items.columns if self.items else ()
        plain = {column for column in columns if column not in BUILT_IN}
        return frozenset({"item", *plain, *(f"item.{column}" for column in columns)})

    @property
    def known(self) -> frozenset[str]:
        return self.item_words | frozenset(BUILT_IN) | frozenset(self.variables)


def read_templates(job: TemplateSource, resources: Mapping[str, float | str], session_name: str) -> Templates:
    """Return the templates of a job; ``template_problems`` reports the mistakes in them."""
    table, known = job.draft.table, job.known
    argv = table.command or (["bash", "-c", table.shell] if table.shell else [])
    command = tuple(parse_template(word, known) for word in argv)
    env = tuple((key, _env(key, value, job, known)) for key, value in table.env.items())
    sized = {key: parse_template(value, known) if isinstance(value, str) else value for key, value in resources.items()}
    name = parse_template(session_name, known)
    every = [t for t in (*command, name, *(t for _, t in env), *sized.values()) if isinstance(t, Template)]
    words = frozenset(word for template in every for word in (*template.words, *dict(template.mistyped).values()))
    return Templates(command, env, sized, name, words, job.item_words)


def template_problems(texts: Templates, job: TemplateSource) -> Iterator[Problem]:
    """Report placeholders that are in the wrong place, unknown or mistyped."""
    places = job.draft.places
    for path, template in _templates(texts, job.draft):
        whole = template == ALL_ITEMS and path[0] == "command"
        if "items" in template.words and not (whole and not job.each and job.has_items):
            yield places.problem(path, "{items} is not allowed here", _about_items(job, whole))
        if "item" in template.words and not job.has_items:
            yield places.problem(path, "{item} needs [items]", "for the text {item}: {{item}}")
        if job.words_unknown:
            continue
        if path[0] in ("session-name", "resources"):
            yield from _strict(template, path, job)
        else:
            for word, guess in template.mistyped:
                hint = Guess(f"did you mean {{{guess}}}? For the text {{{word}}}, write {{{{{word}}}}}")
                yield places.problem(path, f"unknown placeholder {{{word}}}", hint)


def template_warnings(texts: Templates, job: TemplateSource) -> Iterator[str]:
    """Yield warnings about texts that are valid, but rarely intended."""
    places, table = job.draft.places, job.draft.table
    for path, template in _templates(texts, job.draft):
        for word in template.unknown:
            if job.items and _is_whole_word(word, path, table.command, table.shell):
                known = ", ".join(f"{{{one}}}" for one in sorted(job.item_words))
                yield f"{places.where(path)}: {{{word}}} is not a placeholder, and stays; the items give {known}"
    yield from _pasted_words(texts, job)
    yield from _one_word(job)
    yield from _pipelines(job)
    for number, word in enumerate(table.command or []):
        found = None if _has_shell(table.command or [], number) else _FOR_A_SHELL.search(word)
        if found:
            shell = "sh -c '...' after --" if job.draft.manifest is None else "shell = '''...''' instead of command"
            sign = re.search(r"\$\{?\w+\}?|[>|*]", word)
            yield (
                f"{places.where(('command', number))}: '{sign[0] if sign else found[0]}' is passed on as it is; "
                f"no shell reads it. To use a shell, write {shell}"
            )
            return


def _is_whole_word(word: str, path: Path, command: list[str] | None, shell: str | None) -> bool:
    """Return whether ``{word}`` is a whole word of a command or the value of an option, so not code (as for awk)."""
    if path[0] not in ("command", "shell") or not _LIKE_A_WORD.fullmatch(word):
        return False
    if path[0] == "command" and command:
        number = int(path[1])
        if _has_shell(command, number) or command[0].endswith("awk"):
            return False
        return bool(re.search(rf"(?:^|=)\{{{re.escape(word)}\}}$", command[number]))
    return bool(re.search(rf'(?:^|[\s="])\{{{re.escape(word)}\}}(?=["\s]|$)', shell or ""))


def _pipelines(job: TemplateSource) -> Iterator[str]:
    """Warn of a pipeline that begins with skahactl split: without pipefail, a failure of split is not noticed."""
    table = job.draft.table
    argv = table.command or []
    texts = [("shell", table.shell)] if table.shell else []
    texts += [("command", word) for number, word in enumerate(argv) if _is_script(argv, number)]
    for key, text in texts:
        found = _SPLIT_PIPELINE.search(text or "")
        if found and "pipefail" not in (text or "")[: found.start()] and "pipefail" not in argv:
            yield (
                f"{job.draft.places.where((key,))}: if skahactl split fails, this pipeline does not: its exit code is "
                "that of its last command; begin the text with: set -o pipefail"
            )
            return


def _pasted_words(texts: Templates, job: TemplateSource) -> Iterator[str]:
    """Warn of an item in the text of a shell that the shell would interpret."""
    items, argv = job.items, job.draft.table.command or []
    for path, template in _templates(texts, job.draft) if items else ():
        if path[0] != "shell" and not (path[0] == "command" and _is_script(argv, int(path[1]))):
            continue
        for word in sorted(template.words & job.item_words):
            found = _first_unsafe(job, word)
            if items and found:
                position, value = found
                where, shown = job.draft.places.where(path), json.dumps(value, ensure_ascii=False)
                yield (
                    f"{where}: '{{{word}}}' becomes part of the shell text, and {shown} "
                    f"({items.place(position)}) is not a plain word; {_safe_way(job, word)}"
                )
                return


def _first_unsafe(job: TemplateSource, word: str) -> tuple[int, str] | None:
    """Return the first value of a word that is not a plain word of a shell, with the position of its item."""
    items = job.items
    assert items is not None
    column = word.removeprefix("item.")
    if word == "item" or column not in items.columns:
        values: Iterator[str] = iter(items.texts)
    else:
        place = items.columns.index(column)
        values = (row[place] for row in items.rows)
    return next(((position, value) for position, value in enumerate(values) if _UNSAFE.search(value)), None)


def _safe_way(job: TemplateSource, word: str) -> str:
    if word != "item":
        return f'write "${each_variable(word.removeprefix("item."))}", which the shell leaves unchanged'
    if job.each:
        return 'write "$ITEM", which the shell leaves unchanged'
    return f'write TILE = "{{{word}}}" below [env], and "$TILE" here, which the shell leaves unchanged'


def _one_word(job: TemplateSource) -> Iterator[str]:
    """Warn of a command of one element that looks like several."""
    argv = job.draft.table.command or []
    if (
        len(argv) != 1
        or not re.search(r"\S\s+\S", argv[0])
        or os.path.exists(os.path.join(job.draft.directory, argv[0]))
    ):
        return
    try:
        listed = ", ".join(json.dumps(word, ensure_ascii=False) for word in shlex.split(argv[0]))
    except ValueError:
        listed = "..."
    where, word = job.draft.places.where(("command", 0)), json.dumps(argv[0], ensure_ascii=False)
    yield f"{where}: {word} is one word, a program with spaces in its name; for several, write command = [{listed}]"


def of_one_item(texts: Templates, draft: Draft, each: bool) -> Iterator[tuple[Path, Template]]:
    """Yield the templates, with their keys, that need exactly one item per replica.

    With ``each``, command, shell and [env] are left out: the script of the replica fills in one item after the other.
    """
    for path, template in _templates(texts, draft):
        if texts.uses_item(template) and not (each and path[0] in ("command", "shell", "env")):
            yield path, template


def _env(key: str, value: str | dict[str, str], job: TemplateSource, known: frozenset[str]) -> Template | Secret:
    if isinstance(value, str):
        return parse_template(value, known)
    if "from-env" in value:
        return Secret("env", value["from-env"])
    written = value["from-file"]
    given = job.draft.places.is_set(("env", key))
    from skahactl.manifest.items import resolve_path

    return Secret("file", resolve_path(written, job.draft.directory, given), written)


def _templates(texts: Templates, draft: Draft) -> Iterator[tuple[Path, Template]]:
    """Yield each template with its key."""
    for number, template in enumerate(texts.command):
        if draft.table.command:
            yield ("command", number), template
        elif number == 2:
            yield ("shell",), template
    for key, value in texts.env:
        if isinstance(value, Template):
            yield ("env", key), value
    for key, amount in texts.resources.items():
        if isinstance(amount, Template):
            yield ("resources", key), amount
    yield ("session-name",), texts.session_name


def _about_items(job: TemplateSource, whole: bool) -> str:
    if not job.has_items:
        return "{items} needs [items]; for the text {items}: {{items}}"
    if whole:
        return "with each = true, use {item}"
    return "an element of command that is exactly {items} becomes one element per item; for the text {items}: {{items}}"


def _strict(template: Template, path: Path, job: TemplateSource) -> Iterator[Problem]:
    """Report unknown placeholders where they are errors."""
    places = job.draft.places
    for word in template.unknown:
        hint = did_you_mean(word, job.known) or "known: " + ", ".join(sorted(f"{{{word}}}" for word in job.known))
        yield places.problem(path, f"unknown placeholder {{{word}}}", hint)
    text = "".join(part for part in template.parts if isinstance(part, str))
    if not template.unknown and ("{" in text or "}" in text):
        yield places.problem(path, "unmatched brace", "a placeholder is a known word in braces, for example {name}")


def _is_script(argv: list[str], number: int) -> bool:
    """Return whether the word is the text of ``bash -c``."""
    return (
        number >= 2
        and re.fullmatch(r"-[a-z]*c", argv[number - 1]) is not None
        and argv[number - 2].rpartition("/")[2] in SHELLS
    )


def _has_shell(argv: list[str], number: int) -> bool:
    """Return whether a shell, ``-c`` or ``-e`` comes before the word, so that a program may interpret it as code."""
    before = argv[:number]
    return any(word.rpartition("/")[2] in SHELLS for word in before) or any(word in ("-c", "-e") for word in before)
