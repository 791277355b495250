"""The report page: one HTML file with charts as inline SVG, which can be read without network and script.

All data passes through Jinja2's autoescape. As a second protection, a content security policy allows no script except
that of the page.
"""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from skahactl.model import ALIVE, ENDED, OBSERVED, State
from skahactl.profile import Profile
from skahactl.render import charts
from skahactl.render.styles import COUNT_ORDER
from skahactl.render.timeline import AttemptSpan, spans
from skahactl.text import format_duration, format_ranges, format_resources

if TYPE_CHECKING:
    from jinja2 import Environment

    from skahactl.engine.usage import RunUsage
    from skahactl.ledger.records import AttemptRow, RunSummary
    from skahactl.model import Resources

_TOOLTIP_CHARS = 200_000  # of the last lines in all tooltips of the page
_LOG_BYTES = 1_000_000  # of all log lines of the page
_MANIFEST_CHARS = 100_000  # of all manifests of the page
_MOST_BARS = 20_000  # of the page
_MOST_GROUPS = 30  # of a job
_MOST_SLOW = 15
_LONGEST_LABEL = 80
_LONGEST_LINE = 400
_BAD = (State.FAILED, State.REJECTED, State.UNKNOWN, State.SKIPPED)

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_UNSHOWABLE = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """The end of the log of one failed attempt."""

    row: AttemptRow
    lines: tuple[str, ...]  # the last lines, oldest first; empty if there is no log
    log: str  # the path of the log; without lines, why there are none


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Replicas with similar failures."""

    state: str  # Failed, Rejected, Unknown or Skipped
    reason: str
    replicas: tuple[int, ...]
    examples: tuple[FailedAttempt, ...]


@dataclass(frozen=True, slots=True)
class ReportJob:
    """One run of a job with everything that its section shows."""

    summary: RunSummary
    attempts: tuple[AttemptRow, ...]  # by replica and number; ``last_line`` of every one that has a log
    items: Mapping[int, Sequence[str]]  # of each replica
    resources: Resources | None  # of each replica; None if they differ
    failures: tuple[FailureGroup, ...]  # the largest group first
    usage: RunUsage
    manifest: str  # TOML


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page."""

    jobs: tuple[ReportJob, ...]  # in the order in which they ran
    generated: float  # epoch seconds
    version: str  # of skahactl


def report_page(report: Report) -> str:
    """Return the whole page. Jinja2 is imported here, because only this command needs it."""
    environment = _environment()
    script = _source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    budget = _Budget(report)
    sections = [Section(job, report, place, budget) for place, job in enumerate(report.jobs, 1)]
    return environment.get_template("report.html.j2").render(
        report=report,
        sections=sections,
        order=_order(sections),
        title=", ".join(section.name for section in sections),
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
    """Format a time as ``2026-11-26 15:02:11 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def clean(text: str) -> str:
    """Return ``text`` without terminal escapes, with control characters and changes of the text direction replaced."""
    return text if text.isascii() and text.isprintable() else _UNSHOWABLE.sub("\ufffd", _ESCAPES.sub("", text))


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _short_ranges(numbers: Sequence[int]) -> str:
    return clipped(format_ranges(numbers), 200)


class _Budget:
    """How much text the page has room for, shared by all its sections."""

    def __init__(self, report: Report):
        attempts = sum(len(job.attempts) for job in report.jobs)
        self.bars = min(1.0, _MOST_BARS / max(1, attempts))
        self.logs = _LOG_BYTES
        self.last_line = min(240, _TOOLTIP_CHARS // max(1, attempts))
        self.manifest = _MANIFEST_CHARS // max(1, len(report.jobs))

    def log_lines(self, lines: Sequence[str]) -> tuple[str, ...]:
        """Return the lines cleaned and shortened, without the oldest ones if they do not fit."""
        shown: list[str] = []
        for line in reversed(lines):
            text = clipped(clean(line[: 2 * _LONGEST_LINE]), _LONGEST_LINE)
            self.logs -= len(escape(text).encode())
            if self.logs < 0:
                break
            shown.append(text)
        return tuple(reversed(shown))


class Figure(NamedTuple):
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


class SlowReplica(NamedTuple):
    label: str
    row: AttemptRow
    seconds: float
    width: float  # percent of the slowest
    times_median: float


class UsageChart(NamedTuple):
    """One quantity that the platform measured."""

    quantity: str
    measure: str  # which value of each replica: Peak or Mean
    unit: str
    values: tuple[float, ...]
    requested: float | None  # None for flexible sessions
    advice: str | None

    @property
    def histogram(self) -> charts.Histogram | None:
        return charts.histogram_of_values(self.values, self.requested)


class Section:
    """The data of one job for the template. Charts are computed when the template needs them."""

    def __init__(self, job: ReportJob, report: Report, place: int, budget: _Budget):
        self.job = job
        self.summary = job.summary
        self.run = job.summary.run
        self.name = self.run.key.name
        self.id = f"job-{place}"
        self.generated = report.generated
        self._budget = budget
        #: Live attempts are drawn until the last poll, since nothing later is known.
        observed = self.run.observed
        until = report.generated if observed is None else min(report.generated, max(observed, self.run.created))
        self._until = until
        self.spans = spans(job.attempts, until)
        self.drawn = self.spans
        if budget.bars < 1:  # failed ones take precedence: readers look for them
            kept = sorted(enumerate(self.spans), key=lambda pair: pair[1].row.state not in _BAD)
            self.drawn = [span for _, span in sorted(kept[: int(len(kept) * budget.bars)])]

    @property
    def where(self) -> str:
        return f"{self.run.profile} ({Profile(self.run.profile, self.run.key.server).host})"

    @property
    def resources(self) -> str:
        if self.job.resources is None:
            return "resources differ by replica"
        return format_resources(asdict(self.job.resources), "flexible resources")

    @property
    def status(self) -> str:
        """The status of the job; "Stopped" if [limits] failures stopped it."""
        return self.summary.status if self.summary.stop_reason is None else "Stopped"

    @property
    def verdict(self) -> str:
        """ "completed", "failed", "live" or "other": selects the colour and the sign of the section."""
        if self.status in (State.FAILED, "Stopped"):
            return "failed"
        if self.status == State.COMPLETED:
            return "completed"
        return "other" if self.status in ENDED else "live"

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        counts, total = self.summary.counts, self.run.total
        if self.status == State.COMPLETED:
            return f"All {_counted(total, 'replica')} completed." if total > 1 else "The replica completed."
        bad = ", ".join(f"{counts[state]:,} {state}" for state in COUNT_ORDER[1:] if counts[state])
        reason = self.run.reason or self.summary.stop_reason
        why = f" {reason[0].upper()}{reason[1:]}." if reason else ""
        return clean(f"{counts[State.COMPLETED]:,} of {_counted(total, 'replica')} completed; {bad}.{why}")

    @property
    def parts(self) -> list[CountPart]:
        found: list[CountPart] = []
        x = 0.0
        for state in COUNT_ORDER:
            if number := self.summary.counts[state]:
                width = 100.0 * number / self.run.total
                found.append(CountPart(state, number, x, width))
                x += width
        return found

    @property
    def figures(self) -> list[Figure]:
        summary, total, items = self.summary, self.run.total, self.summary.items
        figures = [Figure(f"{summary.counts[State.COMPLETED]:,}", f"of {_counted(total, 'replica')} completed")]
        if items.get("total") and items["total"] != total:
            figures.append(Figure(f"{items['completed']:,}", f"of {_counted(items['total'], 'item')} completed"))
        end = self._until if summary.ended is None else summary.ended
        figures.append(
            Figure(
                format_duration(end - (self.run.started or self.run.created)),
                "from start to end" if summary.ended else "so far",
            )
        )
        if times := sorted(span.ran for span in self._ended if span.row.state == State.COMPLETED):
            note = f"{charts.short_time(times[0])} to {charts.short_time(times[-1])}" if len(times) > 1 else ""
            figures.append(Figure(charts.short_time(statistics.median(times)), "median run time", note))
        if waits := [span.waited for span in self.spans if span.started is not None]:
            figures.append(Figure(charts.short_time(statistics.median(waits)), "median wait for a start"))
        peak = self.concurrency.peak if self.concurrency else 0
        figures.append(Figure(f"{peak:,}", "ran at the same time, at most"))
        if work := sum(span.ran for span in self._ended):
            cores = self.job.resources.cores if self.job.resources else None
            note = f"{work * cores / 3600:,.1f} core hours" if cores else ""
            figures.append(Figure(format_duration(work), "of run time in total", note))
        more = len(self.spans) - len({span.row.replica for span in self.spans})
        if more > 0:
            figures.append(Figure(f"{more:,}", "further attempt" if more == 1 else "further attempts"))
        return figures

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands to run next: (purpose, command)."""
        counts = self.summary.counts
        call = "skahactl" if self.run.profile == "local" else f"skahactl -p {self.run.profile}"
        if self.summary.ended is None and self.status != "Stopped":
            return [("continue", f"{call} resume {self.name}")]
        found = []
        if counts[State.FAILED]:
            found = [("why", f"{call} logs {self.name} --failed"), ("again", f"{call} retry {self.name} --wait")]
        if counts[State.UNKNOWN]:
            found.append(("unknown results", f"{call} retry {self.name} --unknown --wait"))
        return found

    @cached_property
    def _ended(self) -> list[AttemptSpan]:
        """The attempts that ran and have ended."""
        return [span for span in self.spans if span.started is not None and span.row.state not in ALIVE]

    @cached_property
    def scale(self) -> charts.TimeScale | None:
        return charts.TimeScale((span.created, span.ended) for span in self.spans) if self.spans else None

    @cached_property
    def timeline(self) -> charts.Timeline | None:
        return None if self.scale is None else charts.timeline(self.drawn, self.scale)

    @cached_property
    def concurrency(self) -> charts.Concurrency | None:
        return None if self.scale is None else charts.concurrency(self.spans, self.scale)

    @property
    def drawn_states(self) -> list[str]:
        present = {span.row.state for span in self.drawn}
        return [state for state in COUNT_ORDER if state in present]

    @cached_property
    def times(self) -> charts.Histogram | None:
        """Run times of the attempts that ended."""
        return charts.histogram_of_times([(span.ran, span.row.state) for span in self._ended])

    @property
    def usage(self) -> list[UsageChart]:
        used = self.job.usage
        found = (
            UsageChart("Memory", "Peak", "GB", used.ram, used.ram_requested, used.advice),
            UsageChart("CPU", "Mean", "cores", used.cpu, used.cpu_requested, None),
        )
        return [one for one in found if one.values]

    @property
    def timed_noun(self) -> str:
        """What a run time belongs to: "item" if every replica has exactly one, else "replica"."""
        items = self.job.items.values()
        return "item" if items and all(len(one) == 1 for one in items) else "replica"

    @property
    def slowest(self) -> list[SlowReplica]:
        timed = [span for span in self._ended if span.row.state in (State.COMPLETED, State.FAILED)]
        timed.sort(key=lambda span: -span.ran)
        if not timed or not timed[0].ran:
            return []
        longest = timed[0].ran
        median = statistics.median(span.ran for span in timed) or longest
        return [
            SlowReplica(
                self._timed_label(span.row.replica), span.row, span.ran, 100.0 * span.ran / longest, span.ran / median
            )
            for span in timed[:_MOST_SLOW]
        ]

    def _timed_label(self, replica: int) -> str:
        items = self.items_of(replica)
        if self.timed_noun == "item":
            return items
        return f"{replica} ({items})" if items else str(replica)

    def items_of(self, replica: int) -> str:
        """Return a replica's items in a few words; "" if it has none."""
        items = self.job.items.get(replica, ())
        if len(items) <= 1:
            return items[0] if items else ""
        return f"{len(items)} items: {items[0]} to {items[-1]}"

    @cached_property
    def failures(self) -> list[FailureGroup]:
        """The largest groups of failures, with as many log lines as fit."""
        shown = []
        for group in self.job.failures[:_MOST_GROUPS]:
            examples = tuple(replace(one, lines=self._budget.log_lines(one.lines)) for one in group.examples)
            shown.append(replace(group, reason=clipped(clean(group.reason), 300), examples=examples))
        return shown

    @property
    def more_failures(self) -> int:
        """The number of replicas in the groups that are not shown."""
        return sum(len(group.replicas) for group in self.job.failures[_MOST_GROUPS:])

    @property
    def manifest(self) -> str:
        text, room = clean(self.job.manifest), self._budget.manifest
        more = len(text) - room
        return text if more <= 0 else f"{text[:room]}\n# ... {more:,} more characters are not shown"

    time_text = staticmethod(charts.short_time)

    @staticmethod
    def plain_text(value: float) -> str:
        return f"{value:.4g}"

    def tooltip(self, span: AttemptSpan) -> str:
        """Return lines about one attempt: replica, items, times and last log line."""
        row = span.row
        ending = row.state if row.exit_code is None else f"{row.state}, exit code {row.exit_code}"
        attempt = f", attempt {row.number}" if row.number > 1 else ""
        lines = [f"Replica {row.replica}{attempt}: {ending}"]
        if items := self.items_of(row.replica):
            lines.append(clipped(clean(items), _LONGEST_LABEL))
        lines.append(self._times_of(span))
        if row.last_line and self._budget.last_line > 20:
            lines.append(clipped(clean(row.last_line[:_LONGEST_LINE]), self._budget.last_line))
        return "\n".join(lines)

    def _times_of(self, span: AttemptSpan) -> str:
        row = span.row
        start = f"{format_duration(span.created - self.scale.start)} after the first create" if self.scale else ""
        waited, ran = charts.short_time(span.waited), charts.short_time(span.ran)
        if span.started is None and row.state in OBSERVED:  # it ended while no command polled
            return f"ended {waited} after its create, start unknown; created {start}"
        if span.started is None:
            return f"waited {waited}, {start}"
        if row.state in ALIVE:
            return f"waited {waited}, running for {ran}"
        return f"waited {waited}, ran {'at most ' * span.is_late}{ran}, {start}"


class OrderRow(NamedTuple):
    section: Section
    x: float
    width: float
    times: str


class Order(NamedTuple):
    """When each of several jobs ran, on a common scale."""

    rows: list[OrderRow]
    scale: charts.TimeScale


def _order(sections: Sequence[Section]) -> Order | None:
    if len(sections) < 2:
        return None
    times = [_alive(section) for section in sections]
    scale = charts.TimeScale(times)
    rows = []
    for section, (begin, end) in zip(sections, times, strict=True):
        width = max(0.4, scale.x(end) - scale.x(begin))
        words = f"started {format_duration(begin - scale.start)} after the first, took {format_duration(end - begin)}"
        rows.append(OrderRow(section, min(scale.x(begin), 100 - width), width, words))
    return Order(rows, scale)


def _alive(section: Section) -> tuple[float, float]:
    """Return the start and the end of the work on a job; the end is now if it has not ended."""
    ended = section.generated if section.summary.ended is None else section.summary.ended
    begin = min((span.created for span in section.spans), default=section.run.created)
    return begin, max(begin, section.run.created, ended)
