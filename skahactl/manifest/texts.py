"""The texts of a job with their placeholders found and checked: command, environment, resources, session name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from skahactl.errors import Problem
from skahactl.job import Secret
from skahactl.manifest.files import Draft
from skahactl.manifest.lists import Items, located
from skahactl.manifest.places import Path
from skahactl.manifest.template import BUILT_IN, Template, Word, parse
from skahactl.words import did_you_mean, nearest

ALL_ITEMS = Template((Word("items"),))

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "csh", "tcsh"})
_FOR_A_SHELL = re.compile(r"\$\{?[A-Za-z_]|[>|*]")
_LIKE_A_WORD = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Texts:
    """What each replica's request is made of. ``words`` are the placeholders used anywhere."""

    command: tuple[Template, ...]
    env: tuple[tuple[str, Template | Secret], ...]
    resources: Mapping[str, Template | float]
    session_name: Template
    words: frozenset[str]
    item_words: frozenset[str]  # of the known words, those that stand for an item or a part of it

    def uses_item(self, template: Template) -> bool:
        return bool(template.words & self.item_words)


@dataclass(frozen=True, slots=True)
class Job:
    """What the texts are read with: the draft, the words of [vars], the items, if any."""

    draft: Draft
    variables: Mapping[str, str]
    items: Items | None

    @property
    def each(self) -> bool:
        table = self.draft.table.items
        return table is not None and table.each

    @property
    def item_words(self) -> frozenset[str]:
        columns = self.items.columns if self.items else ()
        plain = {column for column in columns if column not in BUILT_IN}
        return frozenset({"item", *plain, *(f"item.{column}" for column in columns)})

    @property
    def known(self) -> frozenset[str]:
        return self.item_words | frozenset(BUILT_IN) | frozenset(self.variables)


def read(job: Job, resources: Mapping[str, float | str], session_name: str) -> Texts:
    """The templates of a job; what is wrong in them, ``problems`` tells."""
    table, known = job.draft.table, job.known
    argv = table.command or (["bash", "-c", table.shell] if table.shell else [])
    command = tuple(parse(word, known) for word in argv)
    env = tuple((key, _env(key, value, job, known)) for key, value in table.env.items())
    sized = {key: parse(value, known) if isinstance(value, str) else value for key, value in resources.items()}
    name = parse(session_name, known)
    every = [*command, name, *(t for _, t in env), *sized.values()]
    words = frozenset(word for template in every if isinstance(template, Template) for word in template.words)
    return Texts(command, env, sized, name, words, job.item_words)


def problems(texts: Texts, job: Job) -> Iterator[Problem]:
    """Placeholders that cannot be where they are."""
    places = job.draft.places
    for path, template in _templates(texts, job.draft):
        whole = template == ALL_ITEMS and path[0] == "command"
        if "items" in template.words and not (whole and not job.each and job.items):
            yield places.problem(path, "{items} cannot stand here", _about_items(job, whole))
        if "item" in template.words and job.draft.table.items is None:
            yield places.problem(path, "{item} stands for an item, and there is no [items]", "{{item}} gives {item}")
        if path[0] in ("session-name", "resources"):
            yield from _strict(template, path, job)


def warnings(texts: Texts, job: Job) -> Iterator[str]:
    """What is allowed, but hardly meant."""
    places, table = job.draft.places, job.draft.table
    for path, template in _templates(texts, job.draft):
        for word in template.unknown:
            guess = nearest(word, job.known) if _LIKE_A_WORD.fullmatch(word) else None
            if guess and path[0] not in ("session-name", "resources"):
                yield f"{places.where(path)}: '{{{word}}}' stays as it is; did you mean '{{{guess}}}'?"
    for number, word in enumerate(table.command or []):
        found = None if _has_shell(table.command or [], number) else _FOR_A_SHELL.search(word)
        if found:
            sign = re.search(r"\$\{?\w+\}?|[>|*]", word)
            yield (
                f"{places.where(('command', number))}: '{sign[0] if sign else found[0]}' is passed on as it is, "
                "no shell reads it; if one should, write shell = '''...''' instead of command"
            )
            return


def of_one_item(texts: Texts, draft: Draft, each: bool) -> Iterator[tuple[Path, Template]]:
    """The templates that need to know one item when the request is made; with ``each``, the rest is done in it."""
    for path, template in _templates(texts, draft):
        if texts.uses_item(template) and not (each and path[0] in ("command", "shell", "env")):
            yield path, template


def _env(key: str, value: str | dict[str, str], job: Job, known: frozenset[str]) -> Template | Secret:
    if isinstance(value, str):
        return parse(value, known)
    if "from-env" in value:
        return Secret("env", value["from-env"])
    written = value["from-file"]
    given = job.draft.places.is_set(("env", key))
    return Secret("file", located(written, job.draft.directory, given), written)


def _templates(texts: Texts, draft: Draft) -> Iterator[tuple[Path, Template]]:
    """Each template with the key it stands at."""
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


def _about_items(job: Job, whole: bool) -> str:
    if job.draft.table.items is None:
        return "there is no [items]; {{items}} gives {items}"
    if whole:
        return "with each = true it is {item}"
    return "only an element of command that is exactly {items} becomes one element an item; {{items}} gives {items}"


def _strict(template: Template, path: Path, job: Job) -> Iterator[Problem]:
    """Where an unknown placeholder is an error."""
    places = job.draft.places
    for word in template.unknown:
        hint = did_you_mean(word, job.known) or "known: " + ", ".join(sorted(f"{{{word}}}" for word in job.known))
        yield places.problem(path, f"unknown placeholder {{{word}}}", hint)
    text = "".join(part for part in template.parts if isinstance(part, str))
    if not template.unknown and ("{" in text or "}" in text):
        yield places.problem(path, "a brace that belongs to no placeholder", "a placeholder is a known word in { }")


def _has_shell(argv: list[str], number: int) -> bool:
    """Whether the word is, or comes after, the text of a ``-c`` or ``-e``, or a shell's: those read it themselves."""
    before = argv[:number]
    return any(word.rpartition("/")[2] in _SHELLS for word in before) or any(word in ("-c", "-e") for word in before)
