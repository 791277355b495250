"""The picture of a driver's progress: header, bar, counts, one cell per replica, and failures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from skahactl.engine.progress import retry_text
from skahactl.engine.runtime import FailedReplica, RunProgress
from skahactl.invocation import one_line
from skahactl.model import ENDED, State
from skahactl.profile import Profile
from skahactl.render.styles import STYLES
from skahactl.render.tables import shorten_middle
from skahactl.render.terminal import Size
from skahactl.text import about_duration, amounts, count_noun, format_duration, format_ranges, without_numbers

#: Failed, with attempts left: displayed as a state of its own, since nothing is lost yet.
RETRYING = "Retrying"

#: A different character for every state, so that no colour is needed: (with Unicode, without).
CELLS: dict[str, tuple[str, str]] = {
    State.COMPLETED: ("■", "#"),
    State.RUNNING: ("▸", ">"),
    State.PENDING: ("○", "o"),
    State.CREATING: ("+", "+"),
    State.UNCONFIRMED: ("?", "?"),
    RETRYING: ("↻", "r"),
    State.QUEUED: ("·", "."),
    State.FAILED: ("✗", "x"),
    State.REJECTED: ("!", "!"),
    State.UNKNOWN: ("~", "~"),
    State.DELETED: ("-", "-"),
    State.SKIPPED: ("/", "/"),
}

#: The states in order of importance: one cell for several replicas shows the first of their states.
_TELLING = (
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.UNCONFIRMED,
    RETRYING,
    State.RUNNING,
    State.PENDING,
    State.CREATING,
    State.QUEUED,
    State.SKIPPED,
    State.DELETED,
    State.COMPLETED,
)
_RANK = {state: rank for rank, state in enumerate(_TELLING)}
_STYLES = {**STYLES, RETRYING: "magenta"}

_GROUP = 10  # cells between blanks
_MARGIN = "  "
_MOST_FAILURES = 6  # lines of failures of one job
_RESERVED = 6  # lines below the cells of one job that are kept free
_SLOW = 60.0  # the slowest replicas are named if the longest run time is at least this, in seconds
_LONG = 2.5  # a run time of more than this many medians gets a remark
_SPINNER = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\")
_BARS = (("━", "━", "─", "┈"), ("=", "x", "-", "."))  # completed, failed, running, the rest


def draw(runs: Sequence[RunProgress], size: Size, unicode: bool = True, tick: int = 0) -> Text:
    """Return the picture for a terminal of ``size`` (columns, lines). The display cuts lines that are too long.
    ``tick`` turns the spinner."""
    columns, lines = size
    room = lines - 1
    parts = [_Part(run, columns, unicode, tick) for run in runs]
    spare = room - sum(len(part.above) for part in parts) - (len(runs) - 1)
    fewest = int(len(runs) == 1)
    if spare < fewest:
        return _crowded(runs, room, unicode)
    most = max(fewest, (spare - sum(part.least for part in parts)) // len(runs))
    spare -= sum(part.add_below(most) for part in parts)
    shown: list[Text] = []
    for place, part in enumerate(parts):
        grid = part.grid(spare // (len(parts) - place))
        spare -= len(grid)
        shown += [*([Text()] if place else []), *part.above, *grid, *part.below]
    return Text("\n").join(shown)


class _Part:
    """The lines of one job: ``above`` its cells, and ``below`` them. ``least``: rows of cells that failures must
    leave."""

    def __init__(self, run: RunProgress, columns: int, unicode: bool, tick: int):
        self._run = run
        self._columns = columns
        self._unicode = unicode
        self._states = [RETRYING if n in run.retrying else s for n, s in enumerate(run.states, 1)]
        self.above = [_header(run, unicode), _bar_line(run, columns, unicode, tick), *_counts(run, columns, unicode)]
        self.below: list[Text] = []
        rows = -(-len(self._states) // _cells_in(columns - self._label))
        self.least = 0 if len(self._states) < 2 else min(rows, 3)

    def add_below(self, most: int) -> int:
        """Add failures and remarks, at most ``most`` lines. Return how many lines to keep for them: with room for later
        ones, so that the scale of the cells stays the same."""
        if most > 0:
            remarks = _remarks(self._run, self._columns)
            lines = min(_MOST_FAILURES, max(1, most - len(remarks)))
            failures = _failure_lines(self._run, self._columns, self._unicode, lines)
            self.below = [*failures, *remarks][:most]
        return max(len(self.below), min(most, _RESERVED))

    @property
    def _label(self) -> int:
        return len(str(len(self._states))) + 4

    def grid(self, room: int) -> list[Text]:
        """Return rows of cells, one cell per replica, each row with the number of its first replica. If ``room``
        (lines) is short, a cell is several replicas; if it is too short, there are no rows."""
        states, columns = self._states, self._columns
        if room < 1 or len(states) < 2:
            return []
        label = self._label
        width = _cells_in(columns - label)
        share = -(-len(states) // (width * room))
        if share > 1:
            if room < 2:
                return []
            share = -(-len(states) // (width * (room - 1)))
        cells = (
            states if share == 1 else [_most_telling(states[at : at + share]) for at in range(0, len(states), share)]
        )
        rows = [self._row(cells, first, width, share, label) for first in range(0, len(cells), width)]
        if share > 1:
            rows.append(Text(f"  each cell is {count_noun(share, 'replica')} and shows the worst of them", style="dim"))
        return rows

    def _row(self, cells: Sequence[str], first: int, width: int, share: int, label: int) -> Text:
        row = Text(f"{first * share + 1:>{label - 2}}  ")
        row.stylize("dim")
        for state, alike in itertools.groupby(enumerate(cells[first : first + width]), key=lambda pair: pair[1]):
            mark = CELLS[state][not self._unicode]
            marks = (f" {mark}" if at and at % _GROUP == 0 else mark for at, _ in alike)
            row.append("".join(marks), style=_STYLES[state])
        return row


def _header(run: RunProgress, unicode: bool) -> Text:
    """Return a line such as ``survey  run 2 · canfar (ws-uv.canfar.net) · shapepipe:1.1 · 2 cores, 4 GB``."""
    made = run.summary.run
    profile = Profile(made.profile, made.key.server)
    wanted = made.content.get("resources")
    resources = ", ".join(amounts(wanted)) if isinstance(wanted, dict) else ""
    parts = [f"run {made.number}", f"{profile.name} ({profile.host})", made.image.rsplit("/", 1)[-1], resources]
    about = one_line((" · " if unicode else " - ").join(part for part in parts if part))
    return Text.assemble((one_line(made.key.name), "bold"), f"  {about}")


def _bar_line(run: RunProgress, columns: int, unicode: bool, tick: int) -> Text:
    """Return a line such as ``⠹ ━━━━━━━━━┈┈┈┈┈   68 %  00:42:10  about 18 min left``."""
    done, failed, running, total = _shares(run)
    frames = _SPINNER[not unicode]
    is_over = all(state in ENDED for state in run.states) and not run.retrying
    spinner = " " if is_over else frames[tick % len(frames)]
    after = f"  {percent(run):>3} %  {_elapsed(run)}"
    left = run.left
    about = f"  about {about_duration(left)} left" if left is not None and not is_over else ""
    width = max(5, min(columns - len(spinner) - 1 - len(after) - len("  about 99 min 99 s left"), 60))
    *marks, empty = _BARS[not unicode]
    line = Text.assemble((spinner, "cyan"), " ")
    used = 0
    for amount, style, mark in zip((done, failed, running), ("green", "bold red", "cyan"), marks, strict=True):
        cells = 0 if not total else min(width - used, round(width * amount / total) or (amount > 0))
        line.append(mark * cells, style=style)
        used += cells
    line.append(empty * (width - used), style="dim")
    return line.append(after).append(about, style="bold")


def percent(run: RunProgress) -> int:
    """Return the percentage of items (without items: of replicas) that completed, rounded down."""
    done, _, _, total = _shares(run)
    return 0 if not total else int(100 * done / total)


def _shares(run: RunProgress) -> tuple[int, int, int, int]:
    """Return the numbers of completed, failed, running and all items; of replicas if the job has no items."""
    counts, items = run.summary.counts, run.summary.items
    replicas = sum(counts.values())
    lost = sum(counts[state] for state in (State.FAILED, State.REJECTED, State.UNKNOWN, State.SKIPPED))
    lost -= len(run.retrying)
    if items.get("total"):
        running = round(counts[State.RUNNING] * items["total"] / max(1, replicas))
        total = items["total"]
        is_lost = not run.retrying and not any(failure.retried for failure in run.failures)
        failed = min(items["failed"] if is_lost else 0, total - items["completed"])
        return items["completed"], failed, min(running, total - items["completed"] - failed), total
    return counts[State.COMPLETED], max(0, lost), counts[State.RUNNING], replicas


def _elapsed(run: RunProgress) -> str:
    began = run.summary.run.started or run.started
    seconds = 0 if began is None else max(0, int(run.now - began))
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def _counts(run: RunProgress, columns: int, unicode: bool) -> list[Text]:
    """Return the counts on as many lines as they need:
    ``✓ 812/1200 items   ▸ 60 running   · 32 queued (limit of 64 sessions)   ✗ 3 failed``."""
    lines = [Text()]
    for part in _count_parts(run, unicode):
        if lines[-1].cell_len and lines[-1].cell_len + 3 + part.cell_len > columns:
            lines.append(Text())
        lines[-1].append("   " if lines[-1].cell_len else _MARGIN).append_text(part)
    return lines


def _count_parts(run: RunProgress, unicode: bool) -> Iterator[Text]:
    counts, items = run.summary.counts, run.summary.items
    check = "✓" if unicode else "ok"
    total = sum(counts.values())
    if items.get("total"):
        yield Text(f"{check} {items['completed']}/{items['total']} items", style=STYLES[State.COMPLETED])
    else:
        yield Text(f"{check} {counts[State.COMPLETED]}/{total}", style=STYLES[State.COMPLETED])
    retried = len(run.retrying)
    for state in CELLS:
        number = retried if state == RETRYING else counts.get(state, 0) - (retried if state == State.FAILED else 0)
        if state == State.COMPLETED or number < 1:
            continue
        word = f"{number} {state.lower()}" if state != RETRYING else retry_text(run) or ""
        if state == State.QUEUED and run.queued_for:
            word += f" ({one_line(run.queued_for)})" if len(run.queued_for) <= 40 else ""
        yield Text(f"{CELLS[state][not unicode]} {word}", style=_STYLES[state])


def _failure_lines(run: RunProgress, columns: int, unicode: bool, most: int) -> list[Text]:
    """Return a line for each failure; similar failures are one line with a count."""
    groups: dict[tuple[object, ...], list[FailedReplica]] = {}
    for failure in run.failures:
        groups.setdefault(
            (
                failure.exit_code,
                without_numbers(failure.line or failure.reason or ""),
                failure.hint,
                failure.running,
                failure.retried,
            ),
            [],
        ).append(failure)
    ranked = sorted(
        groups.values(), key=lambda alike: (alike[0].retried, alike[0].running, -len(alike), alike[0].replica)
    )
    shown = ranked if len(ranked) <= most else ranked[: max(1, most - 1)]
    who = [_who(alike, columns) for alike in shown]
    widths = [max((cell_len(parts[place]) for parts in who), default=0) for place in range(3)]
    lines = [_failure_line(alike, parts, widths, unicode) for alike, parts in zip(shown, who, strict=True)]
    if most > len(shown) < len(ranked):
        rest = [one.replica for alike in ranked[len(shown) :] for one in alike]
        ranges = format_ranges(rest)
        named = f": {ranges}" if len(ranges) < columns - 40 else ""
        lines.append(Text(f"{_MARGIN}and {count_noun(len(rest), 'more failed replica')}{named}", style="red"))
    return lines


def _who(alike: Sequence[FailedReplica], columns: int) -> tuple[str, str, str]:
    """Return the replicas, the item and the exit code of failures with the same reason."""
    first = alike[0]
    ranges = format_ranges(one.replica for one in alike)
    if len(ranges) > 24:
        ranges = f"{first.replica}, ..."
    name = f"replica {ranges}" if len(alike) == 1 else f"{len(alike)} replicas ({ranges})"
    item = one_line(first.item or "") if len(alike) == 1 else ""
    return (
        name,
        shorten_middle(item, max(10, columns // 4)),
        "" if first.exit_code is None else f"exit {first.exit_code}",
    )


def _failure_line(alike: Sequence[FailedReplica], who: tuple[str, str, str], widths: list[int], unicode: bool) -> Text:
    first = alike[0]
    padded = (text + " " * (width - cell_len(text)) for text, width in zip(who, widths, strict=True) if width)
    columns = "  ".join(padded)
    state = RETRYING if first.retried else State.FAILED
    mark = CELLS[state][not unicode]
    style = "red" if first.running and not first.retried else _STYLES[state]
    line = Text.assemble(_MARGIN, (f"{mark} {columns}", style))
    return line.append(one_line(f"  {first.words}")) if first.words else line


def _remarks(run: RunProgress, columns: int) -> list[Text]:
    """Return lines for lost replicas without a line of their own, the slowest replicas, and why replicas are
    Pending."""
    lines: list[Text] = []
    listed = {failure.replica for failure in run.failures}
    other = [number for number in _lost(run) if number not in listed]
    if other:
        word = "failed" if any(run.states[n - 1] == State.FAILED for n in other) else "rejected"
        lines.append(Text(f"{_MARGIN}{word}: {format_ranges(other)}", style=STYLES[State.FAILED]))
    slow = _slowest(run, columns)
    if slow:
        lines.append(Text(slow))
    for number, words in run.why[:2]:
        lines.append(Text(one_line(f"{_MARGIN}replica {number} is Pending: {words}")))
    return lines


def _lost(run: RunProgress) -> list[int]:
    """Return the numbers of replicas that failed or were rejected and are not retried."""
    bad = {State.FAILED.value, State.REJECTED.value}
    return [number for number, state in enumerate(run.states, 1) if state in bad and number not in run.retrying]


def _slowest(run: RunProgress, columns: int) -> str:
    """Return a line with as many of the slowest replicas as fit, and how many times the median they ran if that is
    much; or ""."""
    text = ""
    if not run.longest or run.longest[0][1] < _SLOW:
        return text
    for number, seconds in run.longest:
        times = f", {seconds / run.median:.0f} x the median" if run.median and seconds > _LONG * run.median else ""
        more = f"{', ' if text else f'{_MARGIN}slowest: '}{number} ({format_duration(seconds)}{times})"
        if text and len(text) + len(more) > columns:
            break
        text += more
    return text


def _cells_in(columns: int) -> int:
    """Return how many cells fit in a row of ``columns``, with a blank after each group; if a group fits, only whole
    groups."""
    whole = (columns + 1) // (_GROUP + 1) * _GROUP
    return whole or max(1, columns)


def _most_telling(chosen: Sequence[str]) -> str:
    return min(set(chosen), key=_RANK.__getitem__)


def _crowded(runs: Sequence[RunProgress], room: int, unicode: bool) -> Text:
    """Return one line per job, unfinished jobs first, for a terminal that is too small for more."""
    ranked = sorted(runs, key=lambda run: all(state in ENDED for state in run.states))
    width = max(len(run.summary.run.key.name) for run in runs)
    lines = [_one_line(run, width, unicode) for run in ranked]
    if len(lines) > room:
        hidden = len(lines) - max(0, room - 1)
        lines = [*lines[: max(0, room - 1)], Text(f"and {count_noun(hidden, 'more job', 'more jobs')}", style="dim")]
    return Text("\n").join(lines)


def _one_line(run: RunProgress, width: int, unicode: bool) -> Text:
    """Return a line such as ``merge    0 %  Queued     ✓ 0/1 · 1 queued (after shards)``."""
    status = run.summary.status
    line = Text.assemble((one_line(run.summary.run.key.name).ljust(width), "bold"), f"  {percent(run):>3} %  ")
    line.append(f"{status:<9}", style=STYLES.get(status, "")).append(" ")
    for part in _count_parts(run, unicode):
        line.append(" ").append_text(part)
    lost = _lost(run)
    return line.append(f": {format_ranges(lost)}", style=STYLES[State.FAILED]) if lost else line
