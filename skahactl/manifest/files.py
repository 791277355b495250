"""Reads manifests: files, directories, standard input. Checked here: all that needs no profile and no items."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pydantic import ValidationError

from skahactl.errors import ManifestError, Problem
from skahactl.manifest import rules, several, tables, values, wording
from skahactl.manifest.places import Path, SourceMap, dotted_key, scan_source
from skahactl.manifest.schema import JobTable
from skahactl.words import did_you_mean, nearest

STDIN = "-"

#: At the end of a line a whole number of TOML that is no plain decimal.
_ODD = re.compile(r"=\s*((?:[+-]?\d+(?:_\d+)+|\+\d+|-0|0x[\da-fA-F_]+|0o[0-7_]+|0b[01_]+))\s*(?:#.*)?$")


@dataclass(frozen=True, slots=True)
class Draft:
    """One job as its manifest says it, checked, but not yet resolved against a profile.

    ``manifest`` is the file as it was given, ``-`` for standard input, None without a file; ``directory`` is where
    its relative paths begin.
    """

    name: str
    table: JobTable
    places: SourceMap
    directory: str
    manifest: str | None = None


def load(
    paths: Sequence[str],
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> tuple[Draft, ...]:
    """The jobs of files, directories (their ``*.toml``, sorted) and ``-``, in order.

    ``sets`` are ``KEY=VALUE``: a dotted key of every job, or of one job of several as ``JOB.KEY``; a key goes before
    a job of the same name. ``variables`` are those of ``--var``; only their names are looked at here.

    Raises:
        ManifestError: with every problem of every file.
    """
    found: list[Problem] = []
    drafts = collect_files(paths, found, sets=sets, variables=variables or {}, stdin=stdin)
    if found:
        raise ManifestError(order_jobs(found))
    return drafts


def draft(data: Mapping[str, Any], *, directory: str | None = None, file: str = "command line") -> Draft:
    """A job that no file describes, from the table a manifest would have; ``file`` stands for it in messages.

    Raises:
        ManifestError: with every problem.
    """
    found: list[Problem] = []
    made = _draft(dict(data), SourceMap(file), directory or os.getcwd(), None, found)
    if made is None or found:
        raise ManifestError(order_jobs(found))
    return made


def collect_files(
    paths: Sequence[str],
    found: list[Problem],
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> tuple[Draft, ...]:
    """``load``, with the problems put into ``found``: the drafts are those of the jobs without one."""
    found += _variable_problems(variables or {})
    files = list(_files(paths, found))
    raw = [job for file in files for job in _jobs(file, stdin, found)]
    raw = _set(raw, sets, found)
    drafts = [_draft(job.table, job.places, job.directory, job.manifest, found) for job in raw]
    found += several.problems_of_jobs([(job.table, job.places) for job in raw])
    found.sort(key=lambda problem: files.index(problem.file) if problem.file in files else len(files))
    return tuple(one for one in drafts if one is not None)


def order_jobs(found: Sequence[Problem]) -> tuple[Problem, ...]:
    """The problems of each file together, by line, those without one last in it; each once."""
    files = list(dict.fromkeys(problem.file for problem in found))
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (files.index(one.file), one.line is None, one.line or 0)))


@dataclass(frozen=True, slots=True)
class _RawDraft:
    """A job's table as it was read, ``[common]`` under it."""

    table: dict[str, Any]
    places: SourceMap
    directory: str
    manifest: str


def _files(paths: Sequence[str], found: list[Problem]) -> Iterator[str]:
    seen: set[str] = set()
    for given in paths:
        if not given:
            found.append(Problem("command line", "the name of a manifest is empty"))
            continue
        path = os.path.expanduser(given)
        names = [given]
        if given != STDIN and os.path.isdir(path):
            names = _inside(given, path, found)
        for name in names:
            real = name if name == STDIN else os.path.realpath(os.path.expanduser(name))
            if real in seen:
                found.append(Problem(name, "given twice"))
                continue
            seen.add(real)
            yield name


def _inside(given: str, path: str, found: list[Problem]) -> list[str]:
    """The manifests of a directory, as names that begin with how it was given: what ``*.toml`` gives in a shell.

    A link that leads nowhere is one of them, so that it is told of.
    """
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".toml") and not name.startswith("."))
    except OSError as error:
        found.append(Problem(given, f"cannot be read: {error.strerror}"))
        return []
    names = [os.path.join(given, name) for name in names if _is_file(os.path.join(path, name))]
    if not names:
        found.append(Problem(given, "no manifest in this directory", hint="manifests are called *.toml"))
    return names


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _jobs(file: str, stdin: BinaryIO | None, found: list[Problem]) -> Iterator[_RawDraft]:
    text = _text(file, stdin, found)
    if text is None:
        return
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found.append(_syntax(file, text, str(error)))
        return
    lines = scan_source(text)
    found += _odd_numbers(file, text, lines)
    for table, places in several.job_tables(data, SourceMap(file, lines), found):
        yield _RawDraft(table, places, _directory(file), file)


def _odd_numbers(file: str, text: str, lines: Mapping[Path, int]) -> Iterator[Problem]:
    """Whole numbers of [env] and [vars] in another spelling than the one that would arrive."""
    rows = text.split("\n")
    for path, line in lines.items():
        written = _ODD.search(rows[line - 1]) if path[-2:-1] in (("env",), ("vars",)) else None
        if written is not None:
            message = f"{written[1]} would arrive as {int(written[1], 0)}"
            yield Problem(file, message, line, dotted_key(path), f'quote it: "{written[1]}"')


def _directory(file: str) -> str:
    """Where relative paths begin: beside the file, or here for what is only a stream (``-``, ``<(make-manifest)``)."""
    path = os.path.abspath(os.path.expanduser(file))
    return os.path.dirname(path) if file != STDIN and os.path.isfile(path) else os.getcwd()


def _text(file: str, stdin: BinaryIO | None, found: list[Problem]) -> str | None:
    try:
        if file == STDIN:
            data = (stdin or sys.stdin.buffer).read()
        else:
            with open(os.path.expanduser(file), "rb") as stream:
                data = stream.read()
    except OSError as error:
        found.append(Problem(file, f"cannot be read: {error.strerror}", hint=_nearest(file)))
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found.append(Problem(file, "not UTF-8, as TOML must be", line))
        return None


def _nearest(file: str) -> str | None:
    """The manifest beside it that may be meant, where there is no such file."""
    folder, name = os.path.split(os.path.expanduser(file))
    if os.path.lexists(os.path.join(folder, name)):
        return None
    try:
        beside = [one.removesuffix(".toml") for one in os.listdir(folder or ".") if one.endswith(".toml")]
    except OSError:
        return None
    guess = nearest(name.removesuffix(".toml"), beside)
    return None if guess is None else f"did you mean '{os.path.join(os.path.dirname(file), guess)}.toml'?"


def _syntax(file: str, text: str, message: str) -> Problem:
    """A syntax error in tomllib's words, with its line, and a guess at the usual mistakes."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = None if place is None else int(place[1] or text.rstrip().count("\n") + 1)
    words = message[: place.start()] if place else message
    hint = None
    if words == "Invalid value":
        hint = "text stands in quotes"
    elif line is not None and (found := re.match(r"\s*([\w.-]+)\s*:", text.split("\n")[line - 1])):
        hint = f"TOML writes {found[1]} = ..."
    return Problem(file, f"not TOML: {words}", line, None, hint)


def _set(raw: list[_RawDraft], sets: Sequence[str], found: list[Problem]) -> list[_RawDraft]:
    for text in sets:
        try:
            keys, table = tables.parse_setting(text)
        except ValueError as error:
            found.append(Problem("--set", str(error)))
            continue
        names = [str(job.table.get("name")) for job in raw]
        known = wording.known_keys()
        if keys[0] in known or not (keys[0] in names and len(keys) > 1):
            if keys[0] not in known and len(keys) > 1 and (guess := did_you_mean(keys[0], [*known, *names])):
                found.append(Problem("--set", "unknown key or job", None, ".".join(keys), guess))
                continue
            raw = [_with(job, keys, table) for job in raw]
        else:
            raw = [_with(job, keys[1:], table[keys[0]]) if job.table.get("name") == keys[0] else job for job in raw]
    return raw


def _with(job: _RawDraft, keys: tuple[str, ...], table: dict[str, Any]) -> _RawDraft:
    places = replace(job.places, sets=job.places.sets | {".".join(keys)})
    return replace(job, table=tables.overlay_table(job.table, table), places=places)


def _draft(
    table: dict[str, Any], places: SourceMap, directory: str, manifest: str | None, found: list[Problem]
) -> Draft | None:
    wrong = list(rules.rule_problems(table, places))
    made: JobTable | None = None
    try:
        made = JobTable.model_validate(table)
    except ValidationError as error:
        wrong += wording.validation_problems(error, places, table)
    found += wrong
    return None if made is None or wrong else Draft(made.name, made, places, directory, manifest)


def _variable_problems(variables: Mapping[str, str]) -> Iterator[Problem]:
    for name in variables:
        try:
            values.check_word(name)
        except ValueError as error:
            yield Problem("--var", str(error), None, name)
