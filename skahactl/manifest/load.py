"""Read manifests: files, directories, standard input; and check what needs neither a profile nor items."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pydantic import ValidationError

from skahactl.errors import Guess, ManifestError, Problem, UsageError
from skahactl.manifest.problems import (
    Finding,
    SourceMap,
    SourceText,
    dotted_key,
    known_keys,
    rule_findings,
    validation_findings,
)
from skahactl.manifest.schema import JobTable, check_word, show_value
from skahactl.manifest.syntax import parse_toml
from skahactl.system import read_limited, read_stream
from skahactl.text import did_you_mean, nearest
from skahactl.toml import toml_tables

Table = dict[str, Any]

_RIVALS: dict[str, tuple[frozenset[str], ...]] = {
    "": (frozenset({"command", "shell"}),),
    "items": (frozenset({"file", "glob", "values", "range", "csv", "matrix"}),),
    "env.*": (frozenset({"from-env", "from-file"}),),
}
_DOTTED = re.compile(r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\.(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*""")


def overlay_table(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return the merged table: keys of ``over`` win, table by table; a key replaces another that it excludes."""
    merged = _merged(under, over, "")
    items, below = over.get("items"), merged.get("items")
    if isinstance(items, dict) and "replicas" not in over and items.keys() & {"per-replica", "csv", "matrix"}:
        merged.pop("replicas", None)
    if "replicas" in over and isinstance(below, dict) and not (isinstance(items, dict) and "per-replica" in items):
        merged["items"] = {key: value for key, value in below.items() if key != "per-replica"}
    return merged


def parse_setting(text: str) -> tuple[tuple[str, ...], Table]:
    """Parse ``KEY=VALUE`` to the parts of the key and a table. The value is TOML, or else a string.

    Raises:
        ValueError: it is not KEY=VALUE, or the key is not dotted names.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _DOTTED.fullmatch(key):
        raise ValueError(f"expected KEY=VALUE, for example resources.cores=8; found '{text}'")
    plain = tomllib.loads(f"{key} = {json.dumps(value)}")
    keys = _keys(plain, key)
    try:
        made = toml_tables(f"{key} = {value}")
    except ValueError:  # not TOML, or more than Python can hold
        return keys, plain
    wanted = len(made) == 1 and not (keys[-2:-1] in (("env",), ("vars",)) and _has_spellings(made, keys, value))
    return keys, made if wanted else plain


def _has_spellings(table: Table, keys: tuple[str, ...], written: str) -> bool:
    """Return whether the value is a number or a date, which as text could be written in several ways."""
    here: Any = table
    for name in keys:
        here = here[name]
    if isinstance(here, int) and not isinstance(here, bool):
        return str(here) != written.strip()
    return not isinstance(here, str | int | dict | list)


def env_variables(texts: Sequence[str]) -> dict[str, str]:
    """Return ``--var K=V`` as a mapping; the last value of a name counts.

    Raises:
        UsageError: one is not K=V.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--var {text}: expected K=V, for example survey=dr6")
        found[name] = value
    return found


def _keys(table: Table, key: str) -> tuple[str, ...]:
    parts: tuple[str, ...] = ()
    here: Any = table
    for _ in re.findall(r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)""", key):
        name, here = next(iter(here.items()))
        parts = (*parts, name)
    return parts


def _merged(under: Mapping[str, Any], over: Mapping[str, Any], path: str) -> Table:
    merged = dict(under)
    for rivals in _RIVALS.get(path, ()):
        if rivals & over.keys():
            merged = {key: value for key, value in merged.items() if key not in rivals or key in over}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _merged(below, value, _inside_table(path, key))
        merged[key] = value
    return merged


def _inside_table(path: str, key: str) -> str:
    return "env.*" if path == "env" else f"{path}.{key}".lstrip(".")


_KEYS = ("common", "job", "vars")


def job_tables(
    data: Mapping[str, Any], places: SourceMap, found: list[Problem]
) -> Iterator[tuple[dict[str, Any], SourceMap]]:
    """Return the tables of the jobs of a file, with the common defaults, and the positions of their keys."""
    if "job" not in data and (other := _list_of_tables(data)) is not None:
        found.append(places.problem((other,), "unknown table", Guess("did you mean [[job]]?"), at_key=True))
        return
    if "job" not in data and "common" not in data:
        if data:
            yield dict(data), places
        else:
            what = "standard input" if places.file == STDIN else "the manifest"
            found.append(Problem(places.file, f"{what} is empty", hint="name and image are required"))
        return
    found += _top_problems(data, places)
    common, tables = data.get("common", {}), data.get("job", [])
    if not isinstance(common, dict) or not isinstance(tables, list):
        return
    shared = overlay_table({"vars": data["vars"]} if "vars" in data else {}, common)
    for number, table in enumerate(tables):
        if isinstance(table, dict):
            name = table.get("name")
            label = f"{name}." if isinstance(name, str) and name else f"[[job]] {number + 1}, "
            roots = (("job", number), ("common",), ())
            yield overlay_table(shared, table), replace(places, roots=roots, label=label)


def _list_of_tables(data: Mapping[str, Any]) -> str | None:
    """Return the first unknown key that is written like ``[[job]]``."""
    lists = (key for key, value in data.items() if isinstance(value, list) and isinstance((value or [None])[0], dict))
    return next((key for key in lists if key not in known_keys()), None)


def problems_of_jobs(raw: Sequence[tuple[Mapping[str, Any], SourceMap]]) -> Iterator[Problem]:
    """Report duplicate names, and jobs that wait for each other, in tables as read."""
    named = [(name_of(table), table, places) for table, places in raw if isinstance(table.get("name"), str)]
    first: dict[str, SourceMap] = {}
    for name, _, places in named:
        if name in first:
            line = first[name].line(("name",))
            where = first[name].file + (f", line {line}" if line else "")
            yield places.problem(("name",), f"duplicate job name '{name}'", f"the first one is in {where}")
        first.setdefault(name, places)
    after = {name: _names(table.get("after")) for name, table, _ in reversed(named)}
    for name, places in first.items():
        circle = _circle(name, after)
        if len(circle) > 1 and min(circle) == name:
            yield places.problem(("after",), f"circular after: {' -> '.join([*circle, name])}")


def name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a job, in lower case; of a table as it was read."""
    return str(table.get("name")).lower()


def _top_problems(data: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    for key in data:
        if key not in _KEYS:
            yield places.problem(
                (key,),
                "only [common], [[job]] and [vars] are allowed at the top level of a file with several jobs",
                "move it into [common] or a [[job]]",
                at_key=True,
            )
    common, tables = data.get("common", {}), data.get("job")
    if not isinstance(common, dict):
        yield places.problem(("common",), f"expected a table, found {show_value(common)}")
    elif "name" in common:
        yield places.problem(("common", "name"), "each job needs its own name", "move it into a [[job]]")
    if tables is None:
        yield places.problem((), "the file has no [[job]]", "a job begins with the line [[job]]")
    elif tables == []:
        yield places.problem(("job",), "the list of jobs is empty", "a job begins with the line [[job]]")
    elif not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        yield places.problem(
            ("job",),
            f"expected [[job]] tables, found {show_value(tables)}",
            "write [[job]] with double brackets" if isinstance(tables, dict) else None,
        )


def _circle(name: str, after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the jobs on a path from ``name`` back to itself, or nothing."""
    ways: list[list[str]] = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for other in after.get(way[-1], ()):
            if other == name:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def _names(after: object) -> list[str]:
    return [name.lower() for name in after if isinstance(name, str)] if isinstance(after, list) else []


STDIN = "-"
MAX_MANIFEST = 16 << 20  # bytes

#: A whole number of TOML that is not written as a plain decimal.
_ODD = re.compile(r"[+-]?\d+(?:_\d+)+|\+\d+|-0|0x[\da-fA-F_]+|0o[0-7_]+|0b[01_]+")


@dataclass(frozen=True, slots=True)
class Draft:
    """One job as its manifest says it, checked, but not yet resolved against a profile.

    Attributes:
        manifest: The file as it was given, ``-`` for standard input, None without a file.
        directory: Where its relative paths begin.
        warnings: What was changed, such as a name with capitals.
        flaws: The keys at the top of the table that have mistakes. ``table`` has none of them: such a draft is only
            checked for further mistakes, so that all are reported at once.
    """

    name: str
    table: JobTable
    places: SourceMap
    directory: str
    manifest: str | None = None
    warnings: tuple[str, ...] = ()
    flaws: frozenset[str] = frozenset()


def load(
    paths: Sequence[str],
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> tuple[Draft, ...]:
    """Return the jobs of files, directories (their ``*.toml``, sorted) and ``-``, in order.

    ``sets`` are ``KEY=VALUE``: a dotted key of every job, or ``JOB.KEY`` for one of several jobs; a key takes
    precedence over a job of the same name. ``variables`` are those of ``--var``; only their names are used here.

    Raises:
        ManifestError: with every problem of every file.
    """
    found: list[Problem] = []
    drafts = collect_files(paths, found, sets=sets, variables=variables or {}, stdin=stdin)
    if found:
        raise ManifestError(order_jobs(found))
    return drafts


def draft(
    data: Mapping[str, Any],
    *,
    directory: str | None = None,
    file: str = "command line",
    options: Mapping[str, str] | None = None,
    entry_point: bool = False,
) -> Draft:
    """Return a job without a file, from the table of a manifest; messages call it ``file``.

    ``options`` are the options of the command line that gave the keys: messages name these instead.
    With ``entry_point``, an empty first element of the command is the image's own entry point.

    Raises:
        ManifestError: with every problem.
    """
    found: list[Problem] = []
    words = data.get("command")
    keeps_entry_point = entry_point and isinstance(words, list) and words[:1] == [""]
    table = {**data, "command": ["entry-point", *words[1:]]} if words and keeps_entry_point else dict(data)
    made = _draft(table, SourceMap(file, options=options or {}), directory or os.getcwd(), None, found)
    if found:
        raise ManifestError(order_jobs(found))
    if keeps_entry_point:
        command = ["", *(made.table.command or [])[1:]]
        made = replace(made, table=made.table.model_copy(update={"command": command}))
    return made


def collect_files(
    paths: Sequence[str],
    found: list[Problem],
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> tuple[Draft, ...]:
    """``load``, with the problems put into ``found``; drafts with problems have ``flaws``."""
    found += _variable_problems(variables or {})
    files = list(_files(paths, found))
    raw = [job for file in files for job in _jobs(file, stdin, found)]
    raw = _set(raw, sets, found)
    drafts = [_draft(job.table, job.places, job.directory, job.manifest, found) for job in raw]
    found += problems_of_jobs([(job.table, job.places) for job in raw])
    found.sort(key=lambda problem: files.index(problem.file) if problem.file in files else len(files))
    return tuple(drafts)


def order_jobs(found: Sequence[Problem]) -> tuple[Problem, ...]:
    """Sort the problems by file and line, those without a line last; each once."""
    files = list(dict.fromkeys(problem.file for problem in found))
    return tuple(
        sorted(
            dict.fromkeys(found),
            key=lambda one: (files.index(one.file), one.line is None, one.line or 0, one.column or 0),
        )
    )


@dataclass(frozen=True, slots=True)
class _RawDraft:
    """The table of a job as read, with the defaults of ``[common]``."""

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
    """Return the manifests of a directory, as ``DIRECTORY/*.toml`` does in a shell.

    A broken link is one of them, so that it is reported.
    """
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".toml") and not name.startswith("."))
    except OSError as error:
        found.append(Problem(given, f"cannot be read: {error.strerror}"))
        return []
    names = [os.path.join(given, name) for name in names if _is_file(os.path.join(path, name))]
    if not names:
        found.append(
            Problem(given, "this directory contains no *.toml file", hint="manifests have names that end with .toml")
        )
    return names


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _jobs(file: str, stdin: BinaryIO | None, found: list[Problem]) -> Iterator[_RawDraft]:
    text = _text(file, stdin, found)
    if text is None:
        return
    data = parse_toml(file, text)
    if isinstance(data, Problem):
        found.append(data)
        return
    source = SourceText.of(text, is_valid=True)
    found += _odd_numbers(file, source)
    for table, places in job_tables(data, SourceMap(file, source), found):
        yield _RawDraft(table, places, _directory(file), file)


def _odd_numbers(file: str, source: SourceText) -> Iterator[Problem]:
    """Report whole numbers in [env] and [vars] that would arrive in another form."""
    for path, span in source.spans.items():
        if path[-2:-1] not in (("env",), ("vars",)):
            continue
        written = source.text[span.value : span.value_end]
        if _ODD.fullmatch(written):
            line, column, width, row = source.place(span.value, span.value_end)
            message = f"{written} would arrive as {int(written, 0)}"
            yield Problem(
                file, message, line, dotted_key(path), f'write it as a string: "{written}"', column, width, row
            )


def _directory(file: str) -> str:
    """Return the directory of relative paths: that of the file, or the working directory for a stream (``-``)."""
    path = os.path.abspath(os.path.expanduser(file))
    return os.path.dirname(path) if file != STDIN and os.path.isfile(path) else os.getcwd()


def _text(file: str, stdin: BinaryIO | None, found: list[Problem]) -> str | None:
    try:
        if file == STDIN:
            data = read_stream(stdin or sys.stdin.buffer, MAX_MANIFEST)
        else:
            data = read_limited(os.path.expanduser(file), MAX_MANIFEST)
    except OSError as error:
        found.append(Problem(file, f"cannot be read: {error.strerror}", hint=_nearest(file)))
        return None
    if len(data) > MAX_MANIFEST:
        hint = "for long lists of items: [items] file"
        found.append(Problem(file, f"not a manifest: it has more than {MAX_MANIFEST >> 20} MiB", hint=hint))
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found.append(Problem(file, "not UTF-8 (TOML must be UTF-8)", line))
        return None


def _nearest(file: str) -> str | None:
    """Return the name of a similar manifest in the same directory, if the file does not exist."""
    folder, name = os.path.split(os.path.expanduser(file))
    if os.path.lexists(os.path.join(folder, name)):
        return None
    try:
        beside = [one.removesuffix(".toml") for one in os.listdir(folder or ".") if one.endswith(".toml")]
    except OSError:
        return None
    guess = nearest(name.removesuffix(".toml"), beside)
    return None if guess is None else Guess(f"did you mean '{os.path.join(os.path.dirname(file), guess)}.toml'?")


def _set(raw: list[_RawDraft], sets: Sequence[str], found: list[Problem]) -> list[_RawDraft]:
    for text in sets:
        try:
            keys, table = parse_setting(text)
        except ValueError as error:
            found.append(Problem("--set", str(error)))
            continue
        names = [name_of(job.table) for job in raw]
        known = known_keys()
        if keys[0] in known or not (keys[0] in names and len(keys) > 1):
            if keys[0] not in known and len(keys) > 1:
                guess = did_you_mean(keys[0], [*known, *names])
                hint = guess or f"{'the job is' if len(names) == 1 else 'the jobs are'} {', '.join(names)}"
                found.append(Problem("--set", f"there is no job and no key '{keys[0]}'", None, ".".join(keys), hint))
                continue
            raw = [_with(job, keys, table) for job in raw]
        else:
            raw = [_with(job, keys[1:], table[keys[0]]) if name_of(job.table) == keys[0] else job for job in raw]
    return raw


def _with(job: _RawDraft, keys: tuple[str, ...], table: dict[str, Any]) -> _RawDraft:
    places = replace(job.places, sets=job.places.sets | {".".join(keys)})
    return replace(job, table=overlay_table(job.table, table), places=places)


def _draft(
    table: dict[str, Any], places: SourceMap, directory: str, manifest: str | None, found: list[Problem]
) -> Draft:
    wrong = list(rule_findings(table, from_file=manifest is not None))
    try:
        made = JobTable.model_validate(table)
    except ValidationError as error:
        invalid = list(validation_findings(error, table))
        made = _valid_part(table, invalid)
        wrong += invalid
    first = {finding.path: finding for finding in reversed(wrong)}
    found += [places.problem(*finding) for finding in first.values()]
    flaws = frozenset(str(finding.path[0]) for finding in wrong)
    given = table.get("name")
    lowered = "name" not in flaws and given != made.name
    warnings = (f"{places.where(('name',))}: the job's name is '{made.name}', in lower case",) if lowered else ()
    return Draft(made.name, made, places, directory, manifest, warnings, flaws)


def _valid_part(table: Mapping[str, Any], invalid: Sequence[Finding]) -> JobTable:
    """Return the table without its invalid keys, a name and an image in place of missing ones."""
    flaws = {str(finding.path[0]) for finding in invalid}
    rest = {key: value for key, value in table.items() if key not in flaws}
    return JobTable.model_validate({"name": "unnamed", "image": "unknown:0", **rest})


def _variable_problems(variables: Mapping[str, str]) -> Iterator[Problem]:
    for name in variables:
        try:
            check_word(name)
        except ValueError as error:
            yield Problem("--var", str(error), None, name)
