"""``mark``: what a person found out about replicas ends them, and a run of which nothing goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from skahactl.engine.plan import plan_run
from skahactl.engine.record import snapshot_of
from skahactl.engine.retry import mark_results
from skahactl.errors import NegativeResult
from skahactl.ledger import attempts, replicas, runs
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.records import Run
from skahactl.model import Each, State
from tests import ledgers
from tests.workplace import Workplace


def failed(ledger: Ledger, log: str) -> Run:
    """A run whose first replica failed, with an attempt left, and whose second completed."""
    run = ledgers.add(ledger, ledgers.job("tiles", 2, attempts=2), user="", now=time.time())
    ledgers.start(ledger, run, [1, 2], time.time())
    ledgers.move(ledger, run, {1: (State.FAILED, 1.0, 2.0), 2: (State.COMPLETED, 1.0, 2.0)})
    for attempt in attempts.attempts_of(ledger, run.id):
        attempts.set_attempt(ledger, attempt, {"log": log})
    return run


def test_what_is_marked_is_not_tried_again_and_the_run_has_ended(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    with open_ledger(here.state) as ledger:
        run = failed(ledger, "lost")
        before = plan_run(snapshot_of(ledger, run.id), time.time())
        assert [step.action for step in before] == ["retry", "keep"]
        here.run("mark", "tiles", "failed", "-r", "1")
        after = plan_run(snapshot_of(ledger, run.id), time.time())
        assert [step.action for step in after] == ["keep", "keep"]
        (summary,) = runs.summaries(ledger, runs.runs_of(ledger, run.key))
        assert (summary.status, summary.run.ended is None) == (State.FAILED, False)


def test_a_log_that_was_not_read_yet_keeps_the_run_open(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = failed(ledger, "none")
        mark_results(ledger, run, State.FAILED, [1], None, 5.0)
        assert snapshot_of(ledger, run.id).run.ended is None


def test_what_continues_keeps_the_run_open(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = failed(ledger, "lost")
        ledgers.move(ledger, run, {2: (State.RUNNING, 1.0, None)})
        with pytest.raises(NegativeResult, match="the result of replica 1 of tiles was observed"):
            mark_results(ledger, run, State.COMPLETED, [1], None, 5.0)
        assert mark_results(ledger, run, State.COMPLETED, [1], None, 5.0, force=True).replicas == (1,)
        assert snapshot_of(ledger, run.id).run.ended is None


def test_a_mark_against_the_observed_result_can_be_withdrawn(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = failed(ledger, "lost")
        for _ in range(2):
            forced = mark_results(ledger, run, State.COMPLETED, [1], None, 5.0, force=True)
            assert forced.changed == ("replica 1",)
        assert mark_results(ledger, run, State.COMPLETED, [1], None, 5.0).replicas == (1,)  # it is Completed already
        back = mark_results(ledger, run, State.FAILED, [1], None, 5.0)
        assert (back.text, back.changed) == ("replica 1 marked Failed", ())
        with pytest.raises(NegativeResult, match="the result of replica 1 of tiles was observed"):
            mark_results(ledger, run, State.COMPLETED, [1], None, 5.0)


def of_items(ledger: Ledger) -> Run:
    """A run whose first replica failed for its items b and c, with an attempt left, and whose second completed."""
    made = ledgers.with_each(
        ledgers.job("tiles", 2, items=["abc", "d"], attempts=2), Each("x", (("a",), ("b",), ("c",)))
    )
    run = ledgers.add(ledger, made, user="", now=time.time())
    ledgers.start(ledger, run, [1, 2], time.time())
    ledgers.move(ledger, run, {1: (State.FAILED, 1.0, 2.0), 2: (State.COMPLETED, 1.0, 2.0)})
    replicas.record_items(ledger, run.id, 1, 1, [(1, 0), (2, 1), (3, 1)])
    return run


def test_a_marked_item_leaves_a_replica_failed_that_failed_for_another(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = of_items(ledger)
        with pytest.raises(NegativeResult, match="the result of item b of tiles was observed"):
            mark_results(ledger, run, State.COMPLETED, [], ["b"], 5.0)
        first = mark_results(ledger, run, State.COMPLETED, [], ["a", "b"], 5.0, force=True)
        assert first.text == "items a, b marked Completed; replica 1 is still Failed"
        assert (first.replicas, first.changed) == ((), ("item b",))
        row = replicas.replica(ledger, run.id, 1)
        assert (row.state, row.reason, row.allowed) == (State.FAILED, None, 2)
        last = mark_results(ledger, run, State.COMPLETED, [], ["c"], 5.0, force=True)
        assert (last.text, last.replicas) == ("item c marked Completed; replica 1 is Completed", (1,))


def test_the_item_of_a_replica_without_marks_ended_as_the_replica(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = of_items(ledger)
        with pytest.raises(NegativeResult, match="the result of item d of tiles was observed"):
            mark_results(ledger, run, State.FAILED, [], ["d"], 5.0)


def test_an_empty_list_of_items_is_nothing_to_do(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    with open_ledger(here.state) as ledger:
        of_items(ledger)
    here.write("none.txt", "\n")
    for words, said in ((["retry", "tiles"], "nothing to retry"), (["mark", "tiles", "failed"], "nothing marked")):
        done = here.run(*words, "--items", "none.txt")
        assert "note: none.txt contains no items" in done.stderr
        assert said in done.stderr


def test_a_changed_result_is_printed_beside_data(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    with open_ledger(here.state) as ledger:
        failed(ledger, "lost")
    done = here.run("mark", "tiles", "completed", "-r", "1", "--force", "-o", "json")
    assert "the observed result of replica 1 was Failed" in done.stderr


def test_the_items_of_a_replica_that_is_marked_failed_fail_and_run_again(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    manifest = here.job("tiles", "test {item} != c", 2, "[items]\nvalues = ['a', 'b', 'c', 'd']\neach = true")
    here.run("apply", manifest, "--wait", expect=1)
    here.run("mark", "tiles", "failed", "-r", "1", "--force")
    (job,) = here.data("get", "jobs", "tiles")
    assert (job["counts"]["Failed"], job["items"]) == (2, {"total": 4, "completed": 1, "failed": 3})
    here.run("mark", "tiles", "failed", "-r", "2")  # it failed because of c, and d completed
    states = {row["item"]: row["state"] for row in here.data("get", "items", "tiles")}
    assert states == {"a": "Failed", "b": "Failed", "c": "Failed", "d": "Completed"}
    here.run("mark", "tiles", "completed", "-r", "1,2", "--force")
    assert {row["state"] for row in here.data("get", "items", "tiles")} == {"Completed"}
