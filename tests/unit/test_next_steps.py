"""The commands that the program advises: for jobs that are not driven or were deleted, for a retry, with -p."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skahactl.engine.outcome import continuing, deleted_hint, skip_hint, undriven_before, unfinished_counts
from skahactl.engine.retry import choose_retries, nothing_to_retry
from skahactl.invocation import Invocation, enter
from skahactl.ledger import replicas, runs
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.lock import acquire
from skahactl.ledger.records import REPLACED, Run
from skahactl.model import Resources, State
from skahactl.text import left_undriven, suggest
from tests import ledgers


def fresh(ledger: Ledger, run: Run) -> Run:
    found = runs.run_by_id(ledger, run.id)
    assert found is not None
    return found


def test_deleted_replicas_are_retried_and_a_deleted_run_is_applied(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("tiles", 3))
        later = ledgers.add(ledger, ledgers.job("later", 1, after=("tiles",)))
        replicas.set_states(ledger, run.id, [1], State.COMPLETED, None)
        replicas.request_delete(ledger, run.id, [2, 3])
        again = "skahactl retry tiles/2-3 --wait"
        assert deleted_hint(ledger, fresh(ledger, run)) == f"replicas 2-3 were deleted. To run them: {again}"
        assert skip_hint(ledger, later).split("\n") == [
            "later was skipped because tiles is Deleted",
            f"to run tiles: {again}",
            "then to run later: skahactl apply later.toml --wait",
        ]
        replicas.request_delete(ledger, run.id, None)
        assert deleted_hint(ledger, fresh(ledger, run)) == (
            "run 1 was deleted. To start the next run: skahactl apply tiles.toml"
        )
        replicas.request_delete(ledger, run.id, None, mark=REPLACED)
        assert deleted_hint(ledger, fresh(ledger, run)) == (
            "run 1 was deleted, to start run 2. To see it: skahactl get jobs tiles"
        )


def test_a_job_that_waits_is_resumed_after_those_before_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first, second, third = (
            ledgers.add(ledger, ledgers.job(name, 1, after=after))
            for name, after in (("a", ()), ("b", ("a",)), ("c", ("a", "b")))
        )
        assert continuing(ledger, [third]) == "skahactl resume a && skahactl resume b && skahactl resume c"
        assert continuing(ledger, [second, third]) == "the same command again"
        lock = acquire(ledger, first.key, ledgers.NOW)  # by this command, which ends
        assert undriven_before(ledger, second) == ["a"]
        lock.release()
        replicas.set_states(ledger, first.id, [1], State.COMPLETED, None)
        assert continuing(ledger, [third]) == "skahactl resume b && skahactl resume c"


def test_retries_that_no_command_starts_are_counted(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("tiles", 3, attempts=2))
        ledgers.start(ledger, run, [1, 2])
        replicas.set_states(ledger, run.id, [1, 2], State.FAILED, None)
        counts = unfinished_counts(ledger, [run])
        assert counts == (0, 1, 2)
        assert left_undriven(["tiles"], *counts) == (
            "no session of tiles is alive, and no command is driving it: 1 queued replica will not start, and "
            "2 failed replicas will not be retried"
        )


@pytest.mark.parametrize(
    ("resources", "options"),
    [(None, ""), (Resources(ram=4.0), " --ram 4"), (Resources(1.5, 4.0), " --ram 4 --cores 1.5")],
)
def test_the_advice_for_rejected_replicas_keeps_the_size(
    tmp_path: Path, resources: Resources | None, options: str
) -> None:
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("tiles", 1))
        ledgers.refuse(ledger, run, 1, "too large")
        chosen = replace(choose_retries(ledger, run, None, frozenset(), None), resources=resources)
        part = nothing_to_retry(ledger, run, chosen, False, False)
        assert part.hint == f"Rejected: replica 1. To retry: skahactl retry tiles --rejected{options}"


def test_a_suggested_call_has_the_profile_option_of_this_call() -> None:
    enter(Invocation(profile="my profile"))
    try:
        assert suggest("retry", "tiles", "--wait") == "skahactl -p 'my profile' retry tiles --wait"
    finally:
        enter(Invocation())
    assert suggest("logs", "a b") == "skahactl logs 'a b'"
