"""How things look in text: summaries, outcomes, progress in lines and as a picture, timelines, tables."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len

from skahactl.engine.outcome import JobOutcome, Outcome, StepOutcome, StepResult, busy_seconds, time_taken
from skahactl.engine.plan import JobAction, StepAction
from skahactl.engine.runtime import FailedReplica
from skahactl.errors import UsageError
from skahactl.ledger.records import RunSummary
from skahactl.model import STATES, Difference, State, zero_filled
from skahactl.profile import LOCAL_SERVER, Profile
from skahactl.render.cells import CELLS, RETRYING, draw
from skahactl.render.columns import SHARE, columns_of, stats_rows
from skahactl.render.differences import difference_lines
from skahactl.render.outcomes import head, show_outcome, standing
from skahactl.render.progress import PlainReporter, reporter
from skahactl.render.styles import STYLES
from skahactl.render.tables import (
    cells,
    plain_lines,
    shorten_middle,
    show_rows,
    sort_rows,
    terminal_columns,
    terminal_lines,
)
from skahactl.render.timeline import run_times, timeline
from skahactl.skaha.models import ServerError
from skahactl.text import about_duration, display_width, wrapped
from tests.rendering import CANFAR, attempt, context, mixed, progress, run_of, written


def test_a_summary_begins_with_the_job_and_where() -> None:
    some = progress(mixed(completed=2, running=1, queued=3)).summary
    assert head("tiles", CANFAR) == "tiles on canfar (ws-uv.canfar.net)"
    assert standing(some.status, some.counts) == "Running: of 6 replicas, 2 Completed, 1 Running and 3 Queued"
    every = progress(mixed(completed=1)).summary
    local = Profile("local", LOCAL_SERVER)
    assert head("tiles", local) == "tiles on local (this machine)"
    assert standing(every.status, every.counts) == "Completed, 1 replica"
    assert standing("Failed", {"Rejected": 3}) == "Failed: 3 replicas, all Rejected"
    assert standing("Failed", {"Skipped": 1}) == "Failed: 1 replica, Skipped"


class Times:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_plain_lines_come_when_counts_change_and_not_too_often() -> None:
    stream, times = io.StringIO(), Times()
    plain = PlainReporter(stream, monotonic=times, interval=5)
    for second, running in ((0, 1), (1, 1), (2, 2), (4, 3), (6, 3), (60, 3), (61, 4), (62, 3), (70, 3)):
        times.at = float(second)
        plain.progress([progress(mixed(running=running, queued=5 - running))])
    lines = stream.getvalue().splitlines()
    assert [line.partition("replicas, ")[2] for line in lines] == [
        "1 Running and 4 Queued",
        "3 Running and 2 Queued",
        "4 Running and 1 Queued",
        "3 Running and 2 Queued",
    ]


def test_items_are_counted_only_while_replicas_run() -> None:
    """At the end, the logs of some replicas are still to be read."""
    stream = io.StringIO()
    for states in (mixed(completed=1, running=1), mixed(completed=2)):
        one = progress(states)
        items = {"total": 8, "completed": 4, "failed": 0}
        PlainReporter(stream).progress([replace(one, summary=replace(one.summary, items=items))])
    assert [line.endswith("; 4/8 items") for line in stream.getvalue().splitlines()] == [True, False]


def test_a_reason_that_is_not_from_the_log_is_not_called_its_last_line() -> None:
    stream = io.StringIO()
    failures = (
        FailedReplica(1, exit_code=37, line="cannot open 1.fits"),
        FailedReplica(2, exit_code=38, line="cannot open 2.fits"),
        FailedReplica(3, reason="Pending for more than 4 s (pending-timeout)"),
        FailedReplica(4, exit_code=137, hint="killed, out of memory?"),
        FailedReplica(5, exit_code=2),  # its log has not been read yet
    )
    PlainReporter(stream).progress([replace(progress(mixed(failed=5)), failures=failures)])
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()][1:] == [
        "replica 1 failed (exit 37); last line of its log: cannot open 1.fits",
        "replica 2 failed (exit 38); last line of its log: cannot open 2.fits",
        "replica 3 failed: Pending for more than 4 s (pending-timeout)",
        "replica 4 failed (exit 137: killed, out of memory?)",
    ]


def test_plain_lines_count_the_replicas_that_failed_alike() -> None:
    stream, times = io.StringIO(), Times()
    plain = PlainReporter(stream, monotonic=times, interval=5)
    failures = tuple(FailedReplica(n, exit_code=2, line=f"cannot open {n}.fits") for n in range(2, 9))
    for second, count in ((0, 1), (1, 2), (4, 4), (6, 4), (7, 5), (12, 5), (18, 5), (19, 7)):
        times.at = float(second)
        plain.progress([replace(progress(mixed(running=9)), failures=failures[:count])])
    plain.close(has_result=True)
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()][1:] == [
        "replica 2 failed (exit 2); last line of its log: cannot open 2.fits",
        "3 more replicas failed like replica 2: 3-5",
        "1 more replica failed like replica 2: 6",
        "2 more replicas failed like replica 2: 7-8",
    ]


@pytest.mark.parametrize("told", [False, True])
def test_the_last_change_is_reported_at_the_end_unless_the_command_does(told: bool) -> None:
    stream, times = io.StringIO(), Times()
    plain = PlainReporter(stream, monotonic=times, interval=5)
    plain.progress([progress(mixed(running=1))])
    plain.progress([progress(mixed(completed=1))])
    plain.say("a log\x1b[2J was lost\n")
    plain.close(has_result=told)
    plain.close()
    assert stream.getvalue().splitlines() == [
        "tiles on canfar (ws-uv.canfar.net): Running, 1 replica",
        "a log?[2J was lost ",
        *([] if told else ["tiles on canfar (ws-uv.canfar.net): Completed, 1 replica"]),
    ]


def test_which_reporter() -> None:
    assert isinstance(reporter(context()), PlainReporter)
    assert type(reporter(context(quiet=True))).__name__ == "QuietReporter"


def test_every_state_has_a_character_of_its_own() -> None:
    assert set(CELLS) == {*STATES, RETRYING}
    for style in (0, 1):
        assert len({pair[style] for pair in CELLS.values()}) == len(CELLS)
    assert all(pair[1].isascii() for pair in CELLS.values())


@pytest.mark.once
@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 10), (20, 5), (1, 2)])
@pytest.mark.parametrize("total", [1, 2, 70, 600, 5000])
def test_the_picture_is_never_higher_than_the_terminal(size: tuple[int, int], total: int) -> None:
    one = progress(
        mixed(completed=total // 2, failed=1, running=total - total // 2 - 1),
        longest=((1, 5.0), (2, 4.0)),
        why=((1, "x"), (2, "y")),
    )
    for count in (1, 3, 40):
        lines = draw([one] * count, size).plain.split("\n")
        assert len(lines) < max(2, size[1])
        if size[0] >= 80:
            assert all(len(line) <= size[0] for line in lines if line.startswith(" ") and line.lstrip()[:1].isdigit())


def test_a_grouped_cell_shows_the_worst() -> None:
    kinds = mixed(completed=5000)
    kinds[2500] = State.FAILED
    picture = draw([progress(kinds)], (80, 24), unicode=False).plain
    rows = [line.split(maxsplit=1)[1] for line in picture.split("\n") if line.lstrip()[:1].isdigit()]
    assert "".join(rows).count("x") == 1
    assert "each cell is" in picture
    assert picture.isascii()


def test_bars_are_as_long_as_the_times() -> None:
    rows = [
        attempt(1, State.COMPLETED, 0, 100, 200),
        attempt(2, State.COMPLETED, 0, 100, 1000),
        attempt(3, State.FAILED, 500, 500, 1000),
        attempt(4, State.PENDING, 0, None, None),
    ]
    lines = timeline(rows, 1000.0, width=100)
    bars = [line[3:].split("  waited")[0].split("  Failed")[0].split("  Pending")[0] for line in lines[1:5]]
    width = len(bars[1])
    assert bars[0].count("█") == pytest.approx(width / 10, abs=1)
    assert bars[1].count("█") == pytest.approx(width * 0.9, abs=1)
    assert bars[1].count("░") == pytest.approx(width / 10, abs=1)
    assert bars[2].count(" ") == pytest.approx(width / 2, abs=1)
    assert bars[2].strip(" ") == "█" * (len(bars[2].strip(" ")) - 1) + "x"
    assert set(bars[3]) == {"░"}
    assert all(len(line) <= 100 for line in lines)
    assert lines[2].endswith("waited 1 min 40 s, ran 15 min")


def test_long_pauses_are_named_in_the_time_that_a_job_took() -> None:
    rows = [attempt(1, State.FAILED, 0, 1, 10), attempt(2, State.COMPLETED, 5, 6, 20)]
    later = [attempt(1, State.COMPLETED, 50_000, 50_001, 50_010), attempt(3, State.PENDING, 60_000, None, None)]
    assert busy_seconds([*later, *rows]) == 30
    summary = progress(mixed(completed=3)).summary
    begun = summary.run.started or 0.0
    assert time_taken(summary, rows) is None
    assert time_taken(replace(summary, ended=begun + 21), rows) == "21 s"
    assert time_taken(replace(summary, ended=begun + 50_010), [*later, *rows]) == "13 h 53 min (30 s with sessions)"


def test_an_unbalanced_split_is_said() -> None:
    rows = [attempt(number, State.COMPLETED, 0, 0, 3600 if number == 7 else 300) for number in range(1, 11)]
    text, *histogram = run_times(rows, 4000.0)
    assert text == "min 5 min, median 5 min, max 1 h (replica 7): the split is unbalanced"
    assert len(histogram) == 8
    assert [line.split("  ")[-1].count("█") > 0 for line in histogram] == [True, *[False] * 6, True]
    assert run_times(rows[:2], 4000.0) == []


def test_of_many_attempts_the_extremes_are_drawn() -> None:
    rows = [attempt(number, State.COMPLETED, 0, 0, number) for number in range(1, 501)]
    lines = timeline(rows, 600.0, most=10)
    assert [int(line.split()[0]) for line in lines[1:11]] == [1, 2, *range(493, 501)]
    assert lines[11] == "the longest and shortest of 500 attempts; -o wide shows all"
    assert timeline([], 1.0) == []


def step(replica: int, action: str, outcome: str, message: str | None = None) -> StepResult:
    error = None if message is None else ServerError("rejected", 400, message)
    made = StepResult(replica, f"t-{replica}", StepAction(action), "not created yet", StepOutcome(outcome))
    return replace(made, attempt=1, error=error)


def made(**others: object) -> JobOutcome:
    counts = zero_filled({State.PENDING: 2, State.REJECTED: 1, State.QUEUED: 1})
    steps = [
        step(1, "create", "done"),
        step(2, "create", "done"),
        step(3, "create", "rejected", message="no such\nimage"),
        step(4, "hold", "queued"),
    ]
    job = JobOutcome("tiles", "create", "no run of it is known here", 1, "d", State.PENDING, counts, (), steps)
    return replace(job, **others)  # type: ignore[arg-type]


def test_an_outcome_in_words_goes_to_stderr() -> None:
    place = context()
    show_outcome(place, Outcome(CANFAR, False, [made(failed=(3,))]))
    out, err = written(place)
    assert out == ""
    assert err.splitlines() == [
        "tiles on canfar (ws-uv.canfar.net): 2 sessions created, 1 rejected; "
        "Pending: of 4 replicas, 2 Pending, 1 Queued and 1 Rejected",
        "  replica 3: no such image",
        "  not completed: replica 3. Why: skahactl get replicas tiles",
        "  to retry what was rejected: skahactl retry tiles --rejected",
        "  no command is driving this job: 1 queued replica will not start, and the server discards results and "
        "logs 1 h after a replica ends. To continue: skahactl resume tiles",
    ]


def with_run(**others: object) -> RunSummary:
    found = progress(mixed(completed=1)).summary
    return replace(found, run=replace(found.run, **others))  # type: ignore[arg-type]


def test_what_happens_without_a_driver_depends_on_the_job() -> None:
    shared = made(summary=with_run(shared="/arc/logs/tiles-r1-abcde"))
    for profile, job, words in (
        (
            Profile("local", LOCAL_SERVER),
            made(),
            "and the local platform discards results and logs 1 h after a replica ends",
        ),
        (
            CANFAR,
            shared,
            "will not start; the replicas write their logs and exit codes to /arc/logs/tiles-r1-abcde",
        ),
    ):
        place = context()
        show_outcome(place, Outcome(profile, False, [job]))
        assert words in written(place)[1]


def test_without_a_driver_the_retries_that_are_left_do_not_start() -> None:
    place = context()
    counts = zero_filled({State.FAILED: 2})
    job = made(status=State.QUEUED, counts=counts, steps=[], summary=replace(with_run(), retriable=2))
    show_outcome(place, Outcome(CANFAR, False, [replace(job, resume="skahactl resume a && skahactl resume tiles")]))
    _, told = written(place)
    assert "no command is driving this job: 2 failed replicas will not be retried, and the server discards" in told
    assert "To continue: skahactl resume a && skahactl resume tiles" in told


def test_a_deleted_job_says_what_starts_it_again() -> None:
    deleted = zero_filled({State.DELETED: 4})
    for following in (2, None):
        place = context()
        part = made(
            action=JobAction.DELETE,
            status=State.DELETED,
            counts=deleted,
            steps=[],
            next_run=following,
            has_driver=True,
        )
        show_outcome(place, Outcome(CANFAR, False, [part]))
        assert ("the next apply of tiles starts run 2" in written(place)[1]) == (following == 2)


def test_rejected_replicas_have_no_logs() -> None:
    place = context()
    show_outcome(place, Outcome(CANFAR, False, [made(failed=(3,))]))
    assert "logs tiles" not in written(place)[1]


def test_replicas_that_never_started_have_no_logs() -> None:
    counts = zero_filled({State.COMPLETED: 1, State.FAILED: 2})
    for unlogged, look in ((2, "Why: skahactl get replicas tiles"), (1, "Logs: skahactl logs tiles --failed")):
        place = context()
        part = made(status=State.FAILED, counts=counts, steps=[], failed=(2, 3), unlogged=unlogged)
        show_outcome(place, Outcome(CANFAR, False, [part]))
        assert f"not completed: replicas 2-3. {look}" in written(place)[1]


def test_a_rejected_retry_names_the_options_for_another_size() -> None:
    place = context()
    show_outcome(place, Outcome(CANFAR, False, [made(action=JobAction.RETRY)]))
    said = "to retry what was rejected (add --ram N or --cores N for another size): skahactl retry tiles --rejected\n"
    assert said in written(place)[1]


def test_a_dry_run_is_what_was_asked_for() -> None:
    place = context()
    difference = Difference("image", "a:1", None, "profile default")
    show_outcome(place, Outcome(CANFAR, True, [made(run=2, differences=(difference,), hint="do this")]))
    out, err = written(place)
    assert out.splitlines() == [
        "tiles on canfar (ws-uv.canfar.net): would create (run 2): no run of it is known here",
        "--- tiles, run 1 (Pending: 2 Pending, 1 Queued, 1 Rejected)",
        "+++ the manifest (run 2)",
        '-image = "a:1"',
        "  would create       1-3  not created yet",
        "  would stay Queued  4    not created yet",
    ]
    assert err == "  do this\n"


def test_names_of_an_outcome_are_targets() -> None:
    place = context(output="name")
    show_outcome(place, Outcome(CANFAR, False, [made(), made(name="all", steps=[step(1, "create", "done")])]))
    assert written(place)[0].split() == ["tiles/1", "tiles/2", "tiles/3", "all"]


def test_many_errors_are_reported_in_few_lines() -> None:
    place = context(quiet=True)
    steps = [step(number, "create", "rejected", message=f"error {number % 15}") for number in range(1, 601)]
    show_outcome(place, Outcome(CANFAR, False, [made(steps=steps)]))
    lines = written(place)[1].splitlines()
    assert len(lines) == 11
    assert lines[-1] == "  and 5 other errors; -o json has them all"


def session(name: str, **others: object) -> dict[str, object]:
    return {"id": "a1b2c3d4", "name": name, "type": "headless", "status": "Running", "skahactl": None, **others}


def test_states_have_their_colours_in_a_pipe_where_colour_is_asked_for() -> None:
    plain, coloured = context(), context(environ={"SKAHACTL_COLOR": "always"})
    for place in (plain, coloured):
        show_rows(place, "replicas", [replica(1, "Failed"), replica(2, "Queued")])
    text = written(coloured)[0]
    assert "  \x1b[1;31mFailed\x1b[0m  " in text
    assert text.replace("\x1b[1;31m", "").replace("\x1b[0m", "") == written(plain)[0]


def test_words_of_others_cannot_break_a_table() -> None:
    rows = [session("evil\x1b[31m\nname\ttab"), session("b")]
    columns = columns_of("sessions", False)
    lines = plain_lines(columns, cells(columns, rows, 0.0), True)
    assert lines[1].split("  ")[1] == "evil?[31m name tab"
    assert len(lines) == 3
    place = context(output="name")
    show_rows(place, "sessions", [session("b", id="x\x1by")])
    assert written(place)[0] == "x?y\n"


def test_numbers_that_json_lacks_are_null() -> None:
    for output in ("json", "jsonl"):
        place = context(output=output)
        show_rows(place, "stats", [], raw={"load": [float("nan"), {"limit": float("inf"), "used": 1.5}]})
        assert json.loads(written(place)[0]) == {"load": [None, {"limit": None, "used": 1.5}]}


def test_numbers_written_as_text_are_sorted_as_numbers() -> None:
    rows = [session(str(place), ramInUse=value) for place, value in enumerate(("10.5", "9.75", None, "1234"))]
    order = sort_rows("sessions", rows, "ramInUse")
    assert [row["name"] for row in order] == ["1", "0", "3", "2"]
    assert [row["name"] for row in sort_rows("sessions", rows, "-ramInUse")] == ["3", "0", "1", "2"]
    with pytest.raises(UsageError, match="sessions cannot be sorted by 'rams'"):
        sort_rows("sessions", rows, "rams")


def test_columns_are_two_blanks_apart_and_right_ones_end_together() -> None:
    rows = [{"job": "t", "run": n, "replica": n, "number": n, "position": n, "item": "i" * n, "state": "Failed",
             "attempt": n, "exit_code": 10**n} for n in (1, 2, 3)]  # fmt: skip
    columns = columns_of("items", True)
    lines = plain_lines(columns, cells(columns, rows, 0.0), True)
    ends = {line.index(str(10**n)) + len(str(10**n)) for line, n in zip(lines[1:], (1, 2, 3), strict=True)}
    assert len(ends) == 1
    assert all(len(pair[0].split("  ")) > 1 for pair in itertools.pairwise(lines))


def test_failures_that_differ_in_numbers_are_one_line_with_a_count() -> None:
    failures = tuple(FailedReplica(number, f"tile{number}", 1, f"cannot open {number}.fits") for number in range(1, 5))
    other = FailedReplica(9, "tile9", 137, "Killed", "out of memory? requested 4 GB")
    lines = draw([progress(mixed(failed=9), failures=(*failures, other))], (100, 24)).plain.split("\n")
    assert "  ✗ 4 replicas (1-4)         exit 1    cannot open 1.fits" in lines
    assert "  ✗ replica 9         tile9  exit 137  Killed (out of memory? requested 4 GB)" in lines
    assert "  failed: 5-8" in lines


def test_a_replica_that_will_be_retried_is_not_failed() -> None:
    picture = draw([progress(mixed(completed=1, failed=2), retrying=frozenset({2, 3}), retry_at=620.0)], (80, 24)).plain
    assert "↻ retrying 2 in 20 s" in picture
    assert "✗" not in picture
    assert "■↻↻" in picture
    item = FailedReplica(1, "b", 1, "cannot open b", running=True, retried=True)
    one = progress(mixed(running=2), failures=(item,))
    one = replace(one, summary=replace(one.summary, items={"total": 8, "completed": 3, "failed": 1}))
    drawn = draw([one], (80, 24))
    assert "  ↻ replica 1  b  exit 1  cannot open b" in drawn.plain
    assert "✗" not in drawn.plain
    assert not [span.style for span in drawn.spans if "red" in str(span.style)]
    stream = io.StringIO()
    PlainReporter(stream).progress([one])
    assert "an item of replica 1 failed (item b, exit 1) and will be retried; last line" in stream.getvalue()


def test_cells_keep_their_scale_when_failures_and_remarks_come() -> None:
    calm = progress(mixed(completed=1000, running=1000))
    failures = tuple(FailedReplica(n, None, n, f"reason {n}") for n in (1, 2, 3))
    busy = progress(
        mixed(completed=1000, running=1000), failures=failures, longest=((1500, 900.0),), why=((1501, "x"),)
    )
    rows = [
        [line for line in draw([one], (80, 24)).plain.split("\n") if line[:6].strip().isdigit()] for one in (calm, busy)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("count", [30, 300, 5000])
def test_three_jobs_on_a_small_terminal_show_their_cells_and_why_replicas_failed(count: int) -> None:
    failures = (FailedReplica(2, None, 4, "bad pixel map"), FailedReplica(7, None, 2, "no such tile"))
    one = progress(mixed(completed=1, failed=1, running=count - 2), failures=failures)
    lines = draw([one] * 3, (80, 24)).plain.split("\n")
    assert len(lines) <= 23
    assert sum("exit 4  bad pixel map" in line for line in lines) == 3
    assert sum(line[:6].split() == ["1"] and "▸" in line for line in lines) == 3


def test_no_state_has_a_colour_that_vanishes_on_a_light_or_a_dark_background() -> None:
    words = {word for style in STYLES.values() for word in style.split()}
    assert words <= {"bold", "red", "green", "cyan", "magenta"}


def test_alike_failures_are_one_line_however_long_their_numbers() -> None:
    failures = tuple(FailedReplica(number, None, 1, f"cannot open {number}.fits") for number in (3, 7, 11))
    assert "  ✗ 3 replicas (3,7,11)  exit 1  cannot open 3.fits" in draw(
        [progress(mixed(failed=11), failures=failures)], (80, 24)
    ).plain.split("\n")


def test_items_are_counted_where_there_are_items() -> None:
    one = progress(mixed(completed=1, running=1))
    one = replace(one, summary=replace(one.summary, items={"total": 1200, "completed": 812, "failed": 3}))
    picture = draw([one], (80, 24)).plain
    assert "✓ 812/1200 items   ▸ 1 running" in picture
    assert " 67 %  00:10:00" in picture


def replica(number: int, state: str = "Completed", **others: object) -> dict[str, object]:
    row: dict[str, object] = {
        "job": "psfex-survey-tiles", "run": 1, "replica": number, "state": state, "attempt": 1, "attempts": 1,
        "session": f"s{number}", "items": [], "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:24Z",
        "finished_after": "2026-01-01T00:00:04Z", "ran": 24.0, "observed": None, "reason": None,
    }  # fmt: skip
    return {**row, **others}


def test_replicas_of_one_job_are_numbers_below_a_title_on_a_terminal() -> None:
    rows = [replica(1), replica(12)]
    columns, title = terminal_columns("replicas", columns_of("replicas", False), rows, 1e9)
    assert title == "psfex-survey-tiles, run 1"
    assert [column.title for column in columns] == ["REPLICA", "STATE", "SESSION", "STARTED", "TIME"]
    _, none = terminal_columns("replicas", columns_of("replicas", False), [*rows, replica(1, job="merge")], 1e9)
    assert none is None


def test_a_late_end_is_marked() -> None:
    time = next(column for column in columns_of("replicas", False) if column.title == "TIME")
    assert time.cell(replica(1), 0.0) == "≤ 24 s"
    assert time.cell(replica(1, finished_after="2026-01-01T00:00:23Z"), 0.0) == "24 s"


def test_long_names_of_jobs_are_cut_in_the_middle_while_the_rows_stay_distinct() -> None:
    counts = zero_filled({State.FAILED: 120, State.COMPLETED: 880})
    rows: list[dict[str, object]] = [
        {"name": f"{'a' * 25}{end}{'z' * 25}", "run": 1, "status": "Failed", "replicas": 1000, "counts": counts}
        for end in "xy"
    ]
    columns = columns_of("jobs", False)[:8]
    whole = terminal_lines(columns, cells(columns, rows, 0.0), 120, colour=False)
    assert "a" * 25 + "x" + "z" * 25 in whole[1]
    assert terminal_lines(columns, cells(columns, rows, 0.0), 80, colour=False) == whole  # else they would be alike
    for row, end in zip(rows, "xy", strict=True):
        row["name"] = "a" * 50 + end
    lines = terminal_lines(columns, cells(columns, rows, 0.0), 80, colour=False)
    assert max(map(display_width, lines)) <= 80
    assert [line.split()[0][-4:] for line in lines[1:]] == ["aaax", "aaay"]
    assert "COMPLETED" in lines[0]
    owned = [session("s", skahactl={"job": "n" * 60, "replica": number}) for number in (1, 12)]
    columns = columns_of("sessions", False)
    lines = terminal_lines(columns, cells(columns, owned, 0.0), 80, colour=False)
    assert max(map(display_width, lines)) <= 80
    assert [line.rpartition("/")[2] for line in lines[1:]] == ["1", "12"]


def test_keys_are_never_cut_and_names_are_cut_in_the_middle() -> None:
    rows = [session(f"psfex-survey-tiles-{number}", id=f"abcdefgh{number}") for number in (1, 12)]
    columns = columns_of("sessions", False)
    lines = terminal_lines(columns, cells(columns, rows, 0.0), 64, colour=False)
    assert [line.split()[0] for line in lines[1:]] == ["abcdefgh1", "abcdefgh12"]
    assert [line.split()[1][-3:] for line in lines[1:]] == ["s-1", "-12"]
    assert all(len(line) <= 64 for line in lines)


@pytest.mark.parametrize("width", [3, 4, 7, 12])
def test_the_middle_is_cut_by_the_width_that_a_terminal_shows(width: int) -> None:
    for text in ("psfex-survey-tiles-12", "銀河-271.285-とても長い"):
        assert 0 < cell_len(shorten_middle(text, width)) <= width
    assert shorten_middle("short", 12) == "short"


def test_the_load_of_the_platform_is_reported_in_words() -> None:
    most = {"cpuCores": 32, "withRam": "147Gi"}
    stats = {
        "cores": {"requestedCPUCores": 377, "cpuCoresAvailable": 960, "maxCPUCores": most},
        "ram": {"requestedRAM": "1200G", "ramAvailable": "4000G", "maxRAM": {"ram": "147Gi", "withCPUCores": 32}},
    }
    assert [(row["name"], row["value"]) for row in stats_rows(stats)] == [
        ("cores", "377 of 960 in use, 39 %"),
        ("memory", "1200 of 4000 GB in use, 30 %"),
        ("largest session", "32 cores with 147 GB"),
    ]
    assert SHARE.cell(stats_rows(stats)[0], 0.0) == "███▉······"
    assert stats_rows({"instances": {"total": 3}}) == [{"name": "instances.total", "value": 3}]


def diff_of(*differences: Difference, **environ: str) -> list[str]:
    place = context(environ=environ)
    return difference_lines(place, made(differences=differences, manifest="tiles.toml"), place.stdout)[2:]


def test_a_changed_value_is_a_line_that_goes_and_one_that_comes() -> None:
    assert diff_of(
        Difference("replicas", 4, 5, "manifest"),
        Difference("resources.gpus", None, 1, "profile default"),
        Difference("env.A", "a -> b", None, "manifest"),
    ) == ["-replicas = 4", "+replicas = 5", "+resources.gpus = 1  # profile default", '-env.A = "a -> b"']


def test_a_diff_names_the_run_that_is_there_and_not_the_next_one() -> None:
    changed = (Difference("replicas", 4, 5, "manifest"),)
    titles = {
        action: difference_lines(context(), made(differences=changed, action=action, run=3), io.StringIO())[0]
        for action in (JobAction.CREATE, JobAction.REPLACE, JobAction.REFUSE)
    }
    assert [title.split(",")[1][:6] for title in titles.values()] == [" run 2", " run 2", " run 3"]


def test_changed_words_of_a_long_value_are_marked() -> None:
    before = ["sh", "-c", "for i in 1 2 3; do echo the same words again and again; sleep 1; done; echo " + "x" * 60]
    after = [*before[:2], before[2].replace("sleep 1", "sleep 2")]
    (line,) = diff_of(Difference("command", before, after, "manifest"))
    assert "sleep [-1-]{+2+}; done" in line
    assert line.startswith(' command = ["sh", "-c", "for i in 1')
    assert len(line) < 140
    (coloured,) = diff_of(Difference("command", before, after, "manifest"), SKAHACTL_COLOR="always")
    assert "\x1b[31m[-1-]\x1b[0m\x1b[32m{+2+}\x1b[0m" in coloured


def test_long_messages_are_wrapped_with_a_command_on_a_line_of_its_own() -> None:
    text = "no driver is running; the server discards results one hour after an end. To continue: skahactl resume x"
    *lines, last = wrapped(text, 60)
    assert last == "    skahactl resume x"
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(line.strip() for line in lines) == text[: text.index(" skahactl")]
    assert wrapped("short: skahactl resume x", 60) == ["short: skahactl resume x"]


def test_wrapped_lines_fit_where_characters_are_wide_and_in_colour() -> None:
    text = "  \x1b[1mwarning:\x1b[0m " + "銀河の画像 " * 12 + "/a/path/that/is/longer/than/the/whole/line"
    lines = wrapped(text, 30)
    assert max(map(display_width, lines[:-1])) <= 30
    assert all(line.startswith("    銀") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == text.strip()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (45.4, "45 s"), (61.0, "1 min"), (754.0, "13 min"), (9999.0, "2 h 50 min")]
)
def test_an_estimate_is_not_more_exact_than_it_can_be(seconds: float, words: str) -> None:
    assert about_duration(seconds) == words


def test_the_verdict_of_a_skipped_job_says_why() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    counts = zero_filled({State.SKIPPED: 1})
    place = context(environ={"TERM": "xterm", "NO_COLOR": "1"}, stderr=Screen())
    job = made(
        action=JobAction.CREATE, reason="", status="Failed", counts=counts, has_driver=True, hint="shards is Failed",
        summary=RunSummary(run_of(1), counts, "Failed", 0), steps=[step(1, StepAction.CREATE, StepOutcome.DONE)],
    )  # fmt: skip
    show_outcome(place, Outcome(CANFAR, False, [job]))
    assert "    why     shards is Failed" in written(place)[1].splitlines()


def test_the_verdict_of_an_unknown_job_names_both_ways_to_continue() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    counts = zero_filled({State.UNKNOWN: 1})
    place = context(environ={"TERM": "xterm", "NO_COLOR": "1"}, stderr=Screen())
    job = made(
        action=JobAction.RESUME, reason="", status="Unknown", counts=counts, has_driver=True,
        summary=RunSummary(run_of(1), counts, "Unknown", 0), steps=[],
    )  # fmt: skip
    show_outcome(place, Outcome(CANFAR, False, [job]))
    assert written(place)[1].splitlines()[1:] == [
        "    unknown check the results first, then run one of these:",
        "      done  skahactl mark tiles completed --unknown",
        "      again skahactl retry tiles --unknown --wait",
    ]
