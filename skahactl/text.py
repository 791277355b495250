"""Durations, times, ranges and names as people write and read them, and lines that fit a terminal."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_WHOLE = re.compile(r"\s*(?:\d+(?:\.\d+)?\s*[smhd]?\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse_duration(text: str | int | float) -> float:
    """Parse ``30``, ``30s``, ``5m``, ``2h``, ``1d`` or ``1h30m`` to seconds. Raises ValueError with examples."""
    if isinstance(text, bool) or (not isinstance(text, int | float) and not _WHOLE.fullmatch(text)):
        raise ValueError(f"invalid duration '{text}' (examples: 30s, 5m, 2h, 1d, 1h30m)")
    if isinstance(text, int | float):
        return float(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """Format a duration with at most two units: ``45 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 60:
        rest = total % 60
        return f"{minutes} min" + (f" {rest} s" if rest and minutes < 10 else "")
    if hours < 24:
        rest = minutes % 60
        return f"{hours} h" + (f" {rest} min" if rest else "")
    rest = hours % 24
    return f"{days} d" + (f" {rest} h" if rest else "")


def about_duration(seconds: float) -> str:
    """Format an estimate no more exactly than it can be: ``45 s``, ``2 min``, ``2 h 10 min``."""
    step = 1 if seconds < 60 else 10 if seconds < 120 else 60 if seconds < 7200 else 600
    return format_duration(max(1, round(seconds / step) * step))


@lru_cache(maxsize=1024)  # rows of one poll share most of their times
def iso_time(epoch: float | None) -> str | None:
    """Format a time as ISO 8601 UTC with seconds; None stays None."""
    return None if epoch is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def time_ago(epoch: float | None, now: float) -> str:
    """Return ``3 min ago``; ``-`` for None."""
    return "-" if epoch is None else f"{format_duration(now - epoch)} ago"


_RANGE = re.compile(r"(\d+)(?:\s*(-|\.\.|:)\s*(\d*))?")


def parse_ranges(text: str, top: int | None = None) -> tuple[int, ...]:
    """Return the numbers of ``1-10,17`` in order, each once. ``top`` is the largest number allowed.

    A range is also written ``1..10`` or ``1:10``; with ``top``, ``17-`` ends there and ``*`` means every number.
    ValueError names the invalid part.
    """
    chosen: set[int] = set()
    for part in (word.strip() for word in text.split(",")):
        found = _RANGE.fullmatch("1-" if part == "*" else part)
        if found is None or (found[2] and not found[3] and top is None):
            raise ValueError(f"'{part}' is not a replica range (examples: 3, 1-10, 17-, 1-10,17)")
        low = int(found[1])
        high = int(found[3] or top or low) if found[2] else low
        if low < 1 or (found[3] and high < low):
            raise ValueError(f"'{part}' is not a replica range: numbers start at 1, the smaller one comes first")
        if top is not None and max(low, high) > top:
            raise ValueError(f"replica {max(low, high)} does not exist: the job has replicas 1 to {top}")
        chosen.update(range(low, high + 1))
    return tuple(sorted(chosen))


def format_ranges(numbers: Iterable[int]) -> str:
    """Format 1, 2, 3, 7 as ``1-3,7``."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(set(numbers)), None]:
        if run and number != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if number is not None:
            run.append(number)
    return ",".join(parts)


def join_words(words: Sequence[str], before_last: str = "and") -> str:
    """Join words as ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} {before_last} {last}" if others else last


def name_replicas(numbers: Collection[int], noun: str = "replica") -> str:
    """Return ``replica 2`` or ``replicas 1-3,7``."""
    return f"{noun if len(numbers) == 1 else noun + 's'} {format_ranges(numbers)}"


def count_noun(number: float, noun: str, plural: str | None = None) -> str:
    """Return ``1 replica``, ``3 replicas``, ``0.5 cores``."""
    return f"{f'{number:g}' if isinstance(number, float) else number} {noun if number == 1 else plural or noun + 's'}"


def no_driver(queued: int = 0, failed: int = 0, job: str = "this job") -> str:
    """Return the statement that no command drives ``job``, and what will not happen to its ``queued`` replicas and to
    its ``failed`` ones with attempts left."""
    waits = [f"{count_noun(queued, 'queued replica')} will not start"] if queued else []
    waits += [f"{count_noun(failed, 'failed replica')} will not be retried"] if failed else []
    return f"no command is driving {job}{': ' * bool(waits)}{', and '.join(waits)}"


def left_undriven(jobs: Sequence[str], alive: int, queued: int, failed: int) -> str:
    """Return what happens to jobs that no command drives any more. ``alive``: the number of their sessions that
    exist."""
    names, one = " ".join(jobs), len(jobs) == 1
    undriven = no_driver(queued, failed, "it" if one else "them")
    return (
        f"{names} {'keeps' if one else 'keep'} running, but {undriven}"
        if alive
        else (f"no session of {names} is alive, and {undriven}")
    )


#: An amount of memory without or with its unit: ``4``, ``4G``, ``4 GiB``.
GB_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(|G|GB|Gi|GiB)\s*")


def amounts(wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a session requests: ``1 core``, ``4 GB``, ``1 GPU``. An amount of a manifest can be a placeholder."""
    for key, unit, plural in (("cores", "core", "cores"), ("ram", "GB", "GB"), ("gpus", "GPU", "GPUs")):
        amount = wanted.get(key)
        if amount:
            yield f"{amount} {plural}" if isinstance(amount, str) else count_noun(amount, unit, plural)


def format_resources(wanted: Mapping[str, Any], flexible: str = "flexible") -> str:
    """Return the amounts that a session requests; without cores and RAM, they begin with ``flexible``."""
    words = [flexible] if wanted.get("cores") is None and wanted.get("ram") is None else []
    return ", ".join([*words, *amounts(wanted)])


def format_amount(value: float) -> str:
    """Format cores or GB: ``0.002``, ``0.93``, ``3.1``, ``12``."""
    return f"{value:.1g}" if value < 0.1 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def format_size(count: int) -> str:
    """Format bytes: ``512 B``, ``1.4 MB``, ``23 GB`` (powers of 1000)."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "B" and size < 10 else f"{size:.0f} {unit}"


_DIGITS = re.compile(r"\d+")


def without_numbers(text: str) -> str:
    """Replace every number by ``#``, so that texts that differ only in numbers become equal."""
    return _DIGITS.sub("#", text)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def display_width(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes. Escape sequences for colours take none."""
    plain = _COLOUR.sub("", text)
    if plain.isascii():
        return len(plain)
    from rich.cells import cell_len

    return cell_len(plain)


_COMMAND = ": skahactl "


def wrapped(text: str, columns: int, margin: int = 2) -> list[str]:
    """Wrap a message at blanks to lines of ``columns``, with a ``margin`` before all lines but the first. A command at
    its end gets its own line, to paste. Long words stay whole."""
    if display_width(text) <= columns:
        return [text]
    head, colon, command = text.rpartition(_COMMAND)
    words = re.findall(r"\s*\S+", f"{head}:" if colon else text)
    plain = _COLOUR.sub("", text)
    indent = " " * (len(plain) - len(plain.lstrip()) + margin)
    lines = words[:1]
    for word in words[1:]:
        rest, used = indent + word.lstrip(), display_width(lines[-1])
        if used > columns:  # the terminal shows the rest in its next line
            used = used % columns or columns
        if used + display_width(word) <= columns or display_width(rest) > columns:
            lines[-1] += word
        else:
            lines.append(rest)
    return [*lines, f"{indent}  skahactl {command}"] if colon else lines


#: Options of this call that a suggested call must repeat to mean the same jobs: ("-p", "canfar").
call_options: ContextVar[tuple[str, ...]] = ContextVar("skahactl_call_options", default=())


def suggest(*arguments: str) -> str:
    """Return a call of skahactl with these arguments, to paste into a shell: with the profile option of this call."""
    import shlex

    return shlex.join(["skahactl", *call_options.get(), *arguments])


def storable_path(path: str | None) -> str | bytes | None:
    """Return a path for SQLite: as bytes if it is not UTF-8."""
    if path is None:
        return None
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def stored_path(value: str | bytes | None) -> str | None:
    """Return the path that ``storable_path`` stored."""
    return os.fsdecode(value) if isinstance(value, bytes) else value
