"""Read manifests: files, directories, standard input; and check what needs neither a profile nor items."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, BinaryIO

from skahactl.errors import Guess, ManifestError, Problem, UsageError
from skahactl.manifest.file_format import Finding, show_value
from skahactl.manifest.overlay import overlay_table, parse_setting
from skahactl.manifest.schema import ENTRY_POINT, KINDS, MANIFEST, SOURCES, JobTable, check_word
from skahactl.manifest.syntax import (
    Path,
    SourceMap,
    SourceText,
    dotted_key,
    explain_other_format,
    order_problems,
    parse_toml,
    read_text,
)
from skahactl.spelling import did_you_mean, nearest

Table = dict[str, Any]

_KEYS = ("common", "job", "vars")


def job_tables(
    data: Mapping[str, Any], places: SourceMap, found: list[Problem]
) -> Iterator[tuple[dict[str, Any], SourceMap]]:
    """Yield the tables of the jobs of a file, with the common defaults, and the positions of their keys."""
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
    # keys of a job at the top level are reported above; they count as [common], so that they are not missing, too
    top = {key: data[key] for key in MANIFEST.keys_at() if key in data and key != "name"}
    shared = overlay_table(top, common)
    for number, table in enumerate(tables):
        if isinstance(table, dict):
            name = table.get("name")
            label = f"{name}." if isinstance(name, str) and name else f"[[job]] {number + 1}, "
            roots = (("job", number), ("common",), ())
            yield overlay_table(shared, table), replace(places, roots=roots, label=label)


def _list_of_tables(data: Mapping[str, Any]) -> str | None:
    """Return the first unknown key that is written like ``[[job]]``."""
    lists = (key for key, value in data.items() if isinstance(value, list) and isinstance((value or [None])[0], dict))
    return next((key for key in lists if key not in MANIFEST.keys_at()), None)


def _problems_of_jobs(raw: Sequence[_RawDraft]) -> Iterator[Problem]:
    """Report duplicate names, and jobs that wait for each other. The tables are not validated yet."""
    named = [(name_of(job.table), job.table, job.places) for job in raw if isinstance(job.table.get("name"), str)]
    first: dict[str, SourceMap] = {}
    for name, _, places in named:
        if name in first:
            line = first[name].line(("name",))
            where = first[name].file + (f", line {line}" if line else "")
            yield places.problem(("name",), f"duplicate job name '{name}'", f"the first one is in {where}")
        first.setdefault(name, places)
    after = {name: _names(table.get("after")) for name, table, _ in reversed(named)}
    if circle := _circle(after):
        yield first[circle[0]].problem(("after",), f"circular after: {' -> '.join([*circle, circle[0]])}")


def name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a job in lower case, from its table as read from the file."""
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


def _circle(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Return jobs that wait for each other in a circle, beginning with the first by name; empty if there are none."""
    try:
        TopologicalSorter({job: {*before} - {job} for job, before in after.items()}).prepare()
    except CycleError as error:
        jobs: list[str] = error.args[1][:0:-1]
        begin = jobs.index(min(jobs))
        return [*jobs[begin:], *jobs[:begin]]
    return []


def _names(after: object) -> list[str]:
    return [name.lower() for name in after if isinstance(name, str)] if isinstance(after, list) else []


STDIN = "-"
MAX_MANIFEST = 16 << 20  # bytes

#: A whole number of TOML that is not written as a plain decimal.
_ODD = re.compile(r"[+-]?\d+(?:_\d+)+|\+\d+|-0|0x[\da-fA-F_]+|0o[0-7_]+|0b[01_]+")


@dataclass(frozen=True, slots=True)
class Draft:
    """One job of a manifest, checked, but not yet resolved with a profile.

    Attributes:
        manifest: The file as it was given, ``-`` for standard input, None without a file.
        directory: Where its relative paths begin.
        warnings: Notes on what was changed, such as a name with capitals.
        flaws: The top-level keys with mistakes. ``table`` contains only what is valid of them. A draft with flaws is
            only checked further, so that all mistakes are reported at once.
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
        raise ManifestError(order_problems(found))
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
    context = ENTRY_POINT if entry_point else None
    made = _draft(data, SourceMap(file, options=options or {}), directory or os.getcwd(), None, found, context)
    if found:
        raise ManifestError(order_problems(found))
    return made


def collect_files(
    paths: Sequence[str],
    found: list[Problem],
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> tuple[Draft, ...]:
    """Return the drafts as ``load`` does, but add the problems to ``found``; drafts with problems have ``flaws``."""
    found += _variable_problems(variables or {})
    files = list(_files(paths, found))
    raw = [job for file in files for job in _jobs(file, stdin, found)]
    raw = _set(raw, sets, found)
    drafts = [_draft(job.table, job.places, job.directory, job.manifest, found) for job in raw]
    found += _problems_of_jobs(raw)
    found.sort(key=lambda problem: files.index(problem.file) if problem.file in files else len(files))
    return tuple(drafts)


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
    names = [os.path.join(given, name) for name in names if _is_file_or_broken_link(os.path.join(path, name))]
    if not names:
        found.append(
            Problem(given, "this directory contains no *.toml file", hint="manifests have names that end with .toml")
        )
    return names


def _is_file_or_broken_link(path: str) -> bool:
    """Return whether a name in a directory is to be read. A pipe of that name would never end."""
    return os.path.isfile(path) or not os.path.exists(path)


def _jobs(file: str, stdin: BinaryIO | None, found: list[Problem]) -> Iterator[_RawDraft]:
    stream = (stdin or sys.stdin.buffer) if file == STDIN else None
    text = read_text(file, os.path.expanduser(file), "a manifest", MAX_MANIFEST, stream)
    if isinstance(text, Problem):
        found.append(replace(text, hint=_nearest(file)))
        return
    tables = parse_toml(file, text)
    if isinstance(tables, Problem):
        found.append(explain_other_format(file, text) or tables)
        return
    source = SourceText.of(text, is_valid=True)
    found += _odd_numbers(file, source)
    for table, places in job_tables(tables, SourceMap(file, source), found):
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
    """Return where relative paths start: the directory of the file, or the working directory for a stream (``-``)."""
    path = os.path.abspath(os.path.expanduser(file))
    return os.path.dirname(path) if file != STDIN and os.path.isfile(path) else os.getcwd()


def _nearest(file: str) -> str | None:
    """Return a hint with a similar manifest in the same directory; None if the file exists or there is none."""
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
        known = MANIFEST.keys_at()
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
    table: Mapping[str, Any],
    places: SourceMap,
    directory: str,
    manifest: str | None,
    found: list[Problem],
    context: object = None,
) -> Draft:
    wrong = list(rule_findings(table, from_file=manifest is not None))
    made = MANIFEST.validate(table, context)
    if isinstance(made, list):
        wrong += made
        made = _valid_part(table, made)
    first = {finding.path: finding for finding in reversed(wrong)}
    found += [places.problem(*finding) for finding in first.values()]
    flaws = frozenset(str(finding.path[0]) for finding in wrong)
    given = table.get("name")
    lowered = "name" not in flaws and given != made.name
    warnings = (f"{places.where(('name',))}: the job's name is '{made.name}', in lower case",) if lowered else ()
    return Draft(made.name, made, places, directory, manifest, warnings, flaws)


def _valid_part(table: Mapping[str, Any], invalid: Sequence[Finding]) -> JobTable:
    """Return the table without its invalid keys; a missing name or image is replaced by a stand-in."""
    rest = dict(table)
    for finding in invalid:
        key, inner = str(finding.path[0]), finding.path[1:2]
        if inner and isinstance(rest.get(key), Mapping):
            rest[key] = {name: value for name, value in rest[key].items() if name != inner[0]}
        else:
            rest.pop(key, None)
    return JobTable.model_validate({"name": "unnamed", "image": "unknown:0", **rest})


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


def _variable_problems(variables: Mapping[str, str]) -> Iterator[Problem]:
    for name in variables:
        try:
            check_word(name)
        except ValueError as error:
            yield Problem("--var", str(error), None, name)


_HEADLESS_ONLY = ("command", "shell", "env", "items", "retry")
_TOP = ("name", "image", "kind", "command", "shell", "replicas", "session-name", "after")


def rule_findings(table: Mapping[str, Any], *, from_file: bool) -> Iterator[Finding]:
    """Yield a finding for every violated rule between keys. ``from_file``: the table comes from a file."""
    if "command" in table and "shell" in table:
        yield Finding(("shell",), "command and shell exclude each other", "delete one of the two", at_key=True)
    resources, retry = table.get("resources"), table.get("retry")
    if isinstance(resources, Mapping) and isinstance(retry, Mapping) and "ram" in resources and "ram" in retry:
        yield Finding(
            ("retry", "ram"),
            "resources.ram and retry.ram exclude each other",
            "retry.ram includes attempt 1",
            at_key=True,
        )
    yield from _kind(table, from_file)
    yield from _items(table)
    name, after = table.get("name"), table.get("after")
    if isinstance(after, list) and name in after:
        yield Finding(("after", after.index(name)), f"'{name}' cannot wait for itself")
    if from_file:
        yield from _misplaced(table)


def _misplaced(table: Mapping[str, Any]) -> Iterator[Finding]:
    """Report keys of the manifest below [env].

    A variable can have the name of a key if the manifest sets that key, too.
    """
    env = table.get("env")
    for name in env if isinstance(env, Mapping) else ():
        if name in _TOP and name not in table:
            message = f"'{name}' is a key of the manifest, but is below [env]"
            yield Finding(("env", name), message, "move it above the first [table]", at_key=True)


def _kind(table: Mapping[str, Any], from_file: bool) -> Iterator[Finding]:
    kind = table.get("kind", "headless")
    if kind == "headless" or kind not in KINDS:
        return
    for key in _HEADLESS_ONLY:
        if table.get(key):
            message = f"the platform ignores it for a {kind} session"
            headless = 'write kind = "headless"' if from_file else "use: skahactl create headless ..."
            yield Finding((key,), message, f"delete it, or {headless}", at_key=True)
    replicas = table.get("replicas")
    if isinstance(replicas, int) and replicas > 1:
        yield Finding(("replicas",), f"a {kind} job can have only one replica", 'only kind = "headless" allows several')


def _items(table: Mapping[str, Any]) -> Iterator[Finding]:
    items = table.get("items")
    if not isinstance(items, Mapping):
        items = {}
    given = [key for key in items if key in SOURCES]
    if "items" in table and not given:
        yield Finding(("items",), "[items] needs a source", f"give one of {', '.join(SOURCES)}")
    for other in given[1:]:
        yield Finding(("items", other), f"both {given[0]} and {other} are given", "delete one of the two", at_key=True)
    yield from _share(table, items, given)


def _share(table: Mapping[str, Any], items: Mapping[str, Any], given: list[str]) -> Iterator[Finding]:
    """Report how the items are divided: by replicas at the top, or by per-replica in [items]."""
    rows = [source for source in given if source in ("csv", "matrix")]
    keys = {key for key in ("replicas", "per-replica") if key in table or key in items}
    if len(keys) == 2:
        message = "both replicas and per-replica are given"
        hint = (
            "replicas, above the first [table], is the number of sessions; per-replica, in [items], is the number of "
            "items of each session; keep one of the two"
        )
        below = "replicas" if "replicas" in items else "per-replica"
        at: Path = ("per-replica",) if "per-replica" in table else ("items", below)
        yield Finding(at, message, hint, at_key=True)
    elif "replicas" in table and rows:
        what = "row" if rows == ["csv"] else "combination"
        message = f"with {rows[0]}, one {what} is one replica"
        yield Finding(("replicas",), message, "delete replicas; for several, write per-replica in [items]", at_key=True)
    elif given and not rows and not keys:
        message = "set replicas or items.per-replica: how many replicas share the items"
        yield Finding(("items",), message, "replicas = 10 above the first [table], or per-replica = 1 in [items]")
