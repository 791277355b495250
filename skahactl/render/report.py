"""The report page: one HTML file with charts as inline SVG, which needs no network and no script to be read.

Everything that came from outside passes through Jinja2's autoescape. A content security policy allows no script but
the one of the page, so that text which slipped through could not act either.
"""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from skahactl.model import OBSERVED
from skahactl.render import charts
from skahactl.render.report_data import FailedAttempt, FailureGroup, Report, ReportAttempt, ReportJob, ReportUsage
from skahactl.text import format_duration, format_ranges

if TYPE_CHECKING:
    from jinja2 import Environment

_TOOLTIP_BYTES = 1_600_000  # of all tooltips of the page
_LOG_BYTES = 1_000_000  # of all log lines of the page
_MANIFEST_BYTES = 200_000  # of all manifests of the page
_MOST_BARS = 20_000  # of the page
_MOST_GROUPS = 30  # of a job
_MOST_SLOW = 15
_LONGEST_LABEL = 80
_LONGEST_LINE = 400

#: The order in which counts are shown, and the one in which states are drawn.
_ORDER = (
    "Completed", "Running", "Pending", "Creating", "Unconfirmed", "Queued", "Failed", "Rejected", "Unknown", "Deleted",
    "Skipped",
)  # fmt: skip
_BAD = ("Failed", "Rejected", "Unknown", "Skipped")
_LIVE = ("Running", "Pending", "Creating", "Unconfirmed", "Queued")

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_UNSHOWABLE = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def report_page(report: Report) -> str:
    """Return the whole page. Jinja2 is imported here, for no other command needs it."""
    environment = _environment()
    script = _source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    budget = _Budget(report)
    sections = [Section(job, report.generated, place, budget) for place, job in enumerate(report.jobs, 1)]
    return environment.get_template("report.html.j2").render(
        report=report,
        sections=sections,
        order=_order(report),
        title=", ".join(job.name for job in report.jobs),
        script=script,
        style=_source("report.css"),
        script_digest=digest,
    )


def _source(name: str) -> str:
    return files("skahactl.render").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        short=format_duration,
        clock=clock,
        count=lambda number: f"{number:,}",
        percent=lambda x: f"{x:.2f}".rstrip("0").rstrip("."),
        px=lambda y: f"{y:.1f}".rstrip("0").rstrip("."),
        counted=_counted,
        ranges=_short_ranges,
        clean=clean,
        label=lambda text: clipped(clean(text), _LONGEST_LABEL),
        kind=str.lower,
        time=charts.short_time,
    )
    return environment


def clock(epoch: float) -> str:
    """``2026-11-26 15:02:11 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def clean(text: str) -> str:
    """``text`` without terminal escapes, control characters and marks that change the direction of text."""
    return text if text.isascii() and text.isprintable() else _UNSHOWABLE.sub("\ufffd", _ESCAPES.sub("", text))


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _short_ranges(numbers: Sequence[int]) -> str:
    return clipped(format_ranges(numbers), 200)


class _Budget:
    """How much text the page has room for, shared by everything that is shown."""

    def __init__(self, report: Report):
        attempts = sum(len(job.attempts) for job in report.jobs)
        self.tooltip = _TOOLTIP_BYTES // max(1, min(attempts, _MOST_BARS))
        self.bars = min(1.0, _MOST_BARS / max(1, attempts))
        self.logs = _LOG_BYTES
        self.manifest = _MANIFEST_BYTES // max(1, len(report.jobs))

    def log_lines(self, lines: Sequence[str]) -> tuple[str, ...]:
        """Return the lines in a form that can be shown, without the oldest ones if they do not fit."""
        shown: list[str] = []
        for line in reversed(lines):
            text = clipped(clean(line[: 2 * _LONGEST_LINE]), _LONGEST_LINE)
            self.logs -= _bytes(text)
            if self.logs < 0:
                break
            shown.append(text)
        return tuple(reversed(shown))


def _bytes(text: str) -> int:
    """Return the size of the text in the page."""
    return len(escape(text).encode())


@dataclass(frozen=True, slots=True)
class Figure:
    """A number at the head of a section."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class CountPart:
    """A part of the bar of counts."""

    state: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class SlowItem:
    label: str
    replica: int
    attempt: int
    state: str
    seconds: float
    width: float  # percent of the slowest
    times_median: float


class Section:
    """What the template shows of one job. Charts are computed when the template asks for them."""

    def __init__(self, job: ReportJob, now: float, place: int, budget: _Budget):
        self.job = job
        self.id = f"job-{place}"
        #: What has not ended is drawn until the last poll, for nothing is known of it after that.
        self._now = now if job.observed is None else min(now, max(job.observed, job.created))
        self._budget = budget
        kept = job.attempts
        if budget.bars < 1:  # the failed ones first: they are what a reader looks for
            room = int(len(kept) * budget.bars)
            first = sorted(range(len(kept)), key=lambda at: (kept[at].state not in _BAD, at))[:room]
            kept = tuple(kept[at] for at in sorted(first))
        self.drawn = kept

    @property
    def verdict(self) -> str:
        """completed, failed, live or other: the colour and the sign of the section."""
        if self.job.status == "Completed":
            return "completed"
        if self.job.status == "Failed" or self.job.is_stopped:
            return "failed"
        return "live" if self.job.status in _LIVE else "other"

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        job, counts = self.job, self.job.counts
        total = sum(counts.values())
        if job.status == "Completed":
            return f"All {_counted(total, 'replica')} completed." if total > 1 else "The replica completed."
        bad = ", ".join(f"{counts[state]:,} {state}" for state in _ORDER if state != "Completed" and counts.get(state))
        reason = f" {job.reason[0].upper()}{job.reason[1:]}." if job.reason else ""
        return clean(f"{counts.get('Completed', 0):,} of {_counted(total, 'replica')} completed; {bad}.{reason}")

    @property
    def parts(self) -> tuple[CountPart, ...]:
        total = sum(self.job.counts.values()) or 1
        found: list[CountPart] = []
        x = 0.0
        for state in _ORDER:
            number = self.job.counts.get(state, 0)
            if number:
                found.append(CountPart(state, number, x, 100.0 * number / total))
                x += 100.0 * number / total
        return tuple(found)

    @property
    def figures(self) -> tuple[Figure, ...]:
        job = self.job
        total = sum(job.counts.values())
        figures = [Figure(f"{job.counts.get('Completed', 0):,}", f"of {_counted(total, 'replica')} completed")]
        if job.items.get("total") and job.items["total"] != total:
            every = _counted(job.items["total"], "item")
            figures.append(Figure(f"{job.items.get('completed', 0):,}", f"of {every} completed"))
        end = job.ended if job.ended is not None else self._now
        figures.append(Figure(format_duration(end - job.created), "from start to end" if job.ended else "so far"))
        if times := self._completed_times:
            note = f"{charts.short_time(times[0])} to {charts.short_time(times[-1])}" if len(times) > 1 else ""
            figures.append(Figure(charts.short_time(statistics.median(times)), "median run time", note))
        if waits := [max(0.0, one.started - one.created) for one in job.attempts if one.started is not None]:
            figures.append(Figure(charts.short_time(statistics.median(waits)), "median wait for a start"))
        figures.append(
            Figure(f"{self.concurrency.peak:,}" if self.concurrency else "0", "ran at the same time, at most")
        )
        work = sum(charts.run_time(one) or 0.0 for one in job.attempts)
        if work:
            note = f"{work * job.cores / 3600:,.1f} core hours" if job.cores else ""
            figures.append(Figure(format_duration(work), "of run time in total", note))
        more = len(job.attempts) - len({one.replica for one in job.attempts})
        if more > 0:
            figures.append(Figure(f"{more:,}", "further attempt" if more == 1 else "further attempts"))
        return tuple(figures)

    @cached_property
    def scale(self) -> charts.TimeScale | None:
        spans = [charts.span_of(one, self._now) for one in self.job.attempts]
        return charts.TimeScale(spans) if spans else None

    @cached_property
    def timeline(self) -> charts.Timeline | None:
        return None if self.scale is None else charts.timeline(self.drawn, self.scale, self._now)

    @cached_property
    def concurrency(self) -> charts.Concurrency | None:
        return None if self.scale is None else charts.concurrency(self.job.attempts, self.scale, self._now)

    @property
    def drawn_states(self) -> tuple[str, ...]:
        present = {one.state for one in self.drawn}
        return tuple(state for state in _ORDER if state in present)

    @cached_property
    def _completed_times(self) -> list[float]:
        times = (charts.run_time(one) for one in self.job.attempts if one.state == "Completed")
        return sorted(one for one in times if one is not None)

    @cached_property
    def times(self) -> charts.Histogram | None:
        """Run times of the attempts that ended."""
        found = [(charts.run_time(one), one.state) for one in self.job.attempts]
        return charts.histogram_of_times([(seconds, state) for seconds, state in found if seconds is not None])

    @property
    def usage(self) -> list[tuple[ReportUsage, charts.Histogram]]:
        found = [(usage, charts.histogram_of_values(usage)) for usage in self.job.usage]
        return [(usage, histogram) for usage, histogram in found if histogram is not None]

    @property
    def slowest(self) -> tuple[SlowItem, ...]:
        timed = sorted(self.job.timed, key=lambda one: one.seconds, reverse=True)
        if not timed or not timed[0].seconds:
            return ()
        median = statistics.median(one.seconds for one in timed) or timed[0].seconds
        return tuple(
            SlowItem(
                one.label,
                one.replica,
                one.attempt,
                one.state,
                one.seconds,
                100.0 * one.seconds / timed[0].seconds,
                one.seconds / median,
            )
            for one in timed[:_MOST_SLOW]
        )

    @cached_property
    def failures(self) -> tuple[FailureGroup, ...]:
        """The largest groups, with log lines as far as there is room."""
        shown = []
        for group in self.job.failures[:_MOST_GROUPS]:
            examples = tuple(self._with_room(one) for one in group.examples)
            shown.append(replace(group, reason=clipped(clean(group.reason), 300), examples=examples))
        return tuple(shown)

    def _with_room(self, one: FailedAttempt) -> FailedAttempt:
        return replace(one, lines=self._budget.log_lines(one.lines))

    @property
    def more_failures(self) -> int:
        """Replicas in the groups that are not shown."""
        return sum(len(group.replicas) for group in self.job.failures[_MOST_GROUPS:])

    @property
    def manifest(self) -> str:
        text = clean(self.job.manifest)
        if _bytes(text) <= self._budget.manifest:
            return text
        room = self._budget.manifest // 6  # even if every character is escaped
        return f"{text[:room]}\n# ... {len(text) - room:,} more characters are not shown"

    time_text = staticmethod(charts.short_time)

    @staticmethod
    def plain_text(value: float) -> str:
        return f"{value:.4g}"

    def tooltip(self, one: ReportAttempt) -> str:
        """Return lines about one attempt: what it is, how long it took, what it wrote last."""
        ending = one.state if one.exit_code is None else f"{one.state}, exit code {one.exit_code}"
        attempt = f", attempt {one.number}" if one.number > 1 else ""
        lines = [f"Replica {one.replica}{attempt}: {ending}"]
        if one.items:
            lines.append(clipped(clean(one.items), _LONGEST_LABEL))
        lines.append(self._times_of(one))
        text = "\n".join(lines)
        room = self._budget.tooltip - _bytes(text) - 1
        if one.last_line and room > 20:
            text += f"\n{_fitting(clean(one.last_line[:_LONGEST_LINE]), min(room, 240))}"
        return text

    def _times_of(self, one: ReportAttempt) -> str:
        first, last = charts.span_of(one, self._now)
        start = f"{format_duration(first - self.scale.start)} after the first create" if self.scale else ""
        if one.started is None and one.state in OBSERVED:  # it ended while no command polled
            return f"ended {charts.short_time(last - first)} after its create, start unknown; created {start}"
        if one.started is None:
            return f"waited {charts.short_time(last - first)}, {start}"
        waited = charts.short_time(max(0.0, one.started - first))
        ran = charts.short_time(max(0.0, last - one.started))
        if one.finished is None:
            return f"waited {waited}, running for {ran}"
        about = "at most " if one.finished_after is not None and one.finished_after < one.finished - 1 else ""
        return f"waited {waited}, ran {about}{ran}, {start}"


def _fitting(text: str, room: int) -> str:
    """As much of the text as fits in this many bytes of the page."""
    while _bytes(text) > room:
        text = clipped(text, max(2, len(text) * 2 // 3))
        if len(text) <= 2:
            break
    return text


@dataclass(frozen=True, slots=True)
class OrderRow:
    name: str
    target: str
    verdict: str
    x: float
    width: float
    after: tuple[str, ...]
    times: str


@dataclass(frozen=True, slots=True)
class Order:
    rows: tuple[OrderRow, ...]
    ticks: tuple[charts.Tick, ...]
    idle: tuple[charts.Idle, ...]


def _order(report: Report) -> Order | None:
    """Return when each of several jobs ran, on one scale."""
    if len(report.jobs) < 2:
        return None
    ends = [max(job.created, report.generated if job.ended is None else job.ended) for job in report.jobs]
    begins = [min((one.created for one in job.attempts), default=job.created) for job in report.jobs]
    spans = [(begin, max(begin, end)) for begin, end in zip(begins, ends, strict=True)]
    scale = charts.TimeScale(spans)
    budget = _Budget(report)
    rows = []
    for place, (job, (begin, end)) in enumerate(zip(report.jobs, spans, strict=True), 1):
        width = max(0.4, scale.x(end) - scale.x(begin))
        section = Section(job, report.generated, place, budget)
        times = f"started {format_duration(begin - scale.start)} after the first, took {format_duration(end - begin)}"
        rows.append(
            OrderRow(job.name, section.id, section.verdict, min(scale.x(begin), 100 - width), width, job.after, times)
        )
    return Order(tuple(rows), scale.ticks, scale.idle)
