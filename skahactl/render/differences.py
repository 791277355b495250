"""The differences between a run and a manifest as a unified diff, with the words that changed marked."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from skahactl.engine.outcome import JobOutcome
from skahactl.engine.plan import NEXT_RUN
from skahactl.invocation import Invocation, has_colour, one_line, shows_unicode
from skahactl.render.outcomes import counts_text
from skahactl.render.styles import paint

if TYPE_CHECKING:
    from typing import TextIO

    from skahactl.model import Difference, Job

#: A part of a line and its kind: "old", "new", or "" for unchanged text.
Part = tuple[str, str]

_ALIKE = 0.5  # values that are more similar than this are one line with the changed words marked
_CONTEXT = 24  # unchanged characters beside a change
_WORD = re.compile(r"\w+|\s+|.")
_SOURCE = "manifest"
#: Text to print instead of a hash, which means nothing to a reader.
_HASHES = {
    "items.hash": "items = other ones than those recorded, as many",
    "items.shares": "items are shared out differently, since their sizes changed",
}


def difference_lines(context: Invocation, job: JobOutcome, stream: TextIO) -> list[str]:
    """Return the lines for ``stream``: old values after ``-``, new ones after ``+``; a value that changed in part is
    one line with ``[-old-]`` and ``{+new+}``. Empty if there are no differences."""
    listed = _without_hashes(job.differences)
    if not listed:
        return []
    colour = has_colour(stream, context.environ)
    old, new = _titles(job)
    lines = [_styled([(f"--- {old}", "old")], colour), _styled([(f"+++ {new}", "new")], colour)]
    ellipsis = "…" if shows_unicode(stream) else "..."
    for difference in listed:
        lines += [_styled(parts, colour) for parts in _lines(difference, ellipsis)]
    return lines


def _titles(job: JobOutcome) -> tuple[str, str]:
    standing = f" ({job.status}: {counts_text(job.counts)})" if job.status else ""
    number = job.run - 1 if job.run is not None and job.action in NEXT_RUN else job.run  # the existing run
    new = f" (run {job.run})" if number != job.run else ""
    return one_line(f"{job.name}, run {number}{standing}"), one_line(f"{job.manifest or 'the manifest'}{new}")


def _without_hashes(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences without the hashes of items if the number of items differs too."""
    counted = any(difference.path == "items.count" for difference in differences)
    return [one for one in differences if not (counted and one.path in _HASHES)]


def _lines(difference: Difference, ellipsis: str) -> Iterator[list[Part]]:
    path, old, new = difference.path, difference.old, difference.new
    source = "" if difference.source == _SOURCE else f"  # {difference.source}"
    if path in _HASHES:
        yield [(" ", ""), (_HASHES[path], "new"), (source, "")]
        return
    if old is not None and new is not None:
        before, after = _value(old), _value(new)
        if len(before) > _CONTEXT and difflib.SequenceMatcher(None, before, after).quick_ratio() > _ALIKE:
            yield [(f" {path} = ", ""), *_changed_words(before, after, ellipsis), (source, "")]
            return
    if old is not None:
        yield [(f"-{path} = {_value(old)}", "old")]
    if new is not None:
        yield [(f"+{path} = {_value(new)}{source}", "new")]


def _changed_words(before: str, after: str, ellipsis: str) -> Iterator[Part]:
    """Yield the parts of a value with its changed words; long unchanged parts are shortened."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for place, (kind, first, last, start, end) in enumerate(steps):
        if kind == "equal":
            yield _shortened("".join(old[first:last]), place == 0, place == len(steps) - 1, ellipsis), ""
            continue
        if last > first:
            yield f"[-{''.join(old[first:last])}-]", "old"
        if end > start:
            yield f"{{+{''.join(new[start:end])}+}}", "new"


def _shortened(text: str, is_first: bool, is_last: bool, ellipsis: str) -> str:
    """Shorten unchanged text between two changes, before the first or after the last one."""
    if len(text) <= 2 * _CONTEXT:
        return text
    head = text[: _CONTEXT if not (is_first and is_last) else None]
    tail = text[-_CONTEXT:]
    return f"{head}{ellipsis}{tail}"


def _value(value: object) -> str:
    """Format a value as TOML on one line; JSON writes strings, numbers, booleans and lists in the same way."""
    return one_line(json.dumps(value, ensure_ascii=False))


_STYLES = {"old": "red", "new": "green", "": ""}


def _styled(parts: Iterable[Part], colour: bool) -> str:
    """Join the parts, old ones in red and new ones in green."""
    return "".join(paint(text, _STYLES[kind], colour) for text, kind in parts)


def run_diff_program(context: Invocation, command: str, outcomes: Sequence[JobOutcome], jobs: Sequence[Job]) -> None:
    """Run ``command`` (SKAHACTL_DIFF) with two directories, which hold a JOB.toml for every job that differs: the
    content of its run, and that of its manifest. Raises UsageError if the command cannot be run."""
    import shlex
    import subprocess
    import tempfile
    from pathlib import Path

    import tomli_w

    from skahactl.errors import UsageError

    known = {job.name: job for job in jobs}
    changed = [part for part in outcomes if part.differences and part.summary is not None and part.name in known]
    if not changed:
        return
    context.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="skahactl-diff-") as folder:
        places = [Path(folder, name) for name in ("run", "manifest")]
        for place in places:
            place.mkdir()
        for part in changed:
            assert part.summary is not None
            for place, content in zip(places, (part.summary.run.content, known[part.name].content), strict=True):
                (place / f"{part.name}.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
        try:
            words = shlex.split(command)
            subprocess.run([*words, *map(str, places)], check=False, cwd=folder)
        except (OSError, ValueError) as error:
            raise UsageError(f"SKAHACTL_DIFF: '{command}' cannot be run: {error}") from None
