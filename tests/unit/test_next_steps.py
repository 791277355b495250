"""The commands that the program advises for jobs that are not driven or were deleted."""

from __future__ import annotations

from pathlib import Path

from skahactl.engine.outcome import deleted_hint, skip_hint
from skahactl.ledger import replicas, runs
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.records import REPLACED, Run
from skahactl.model import State
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
        skipped = "later was skipped because tiles is Deleted. "
        assert skip_hint(ledger, later) == f"{skipped}Run {again}, then: skahactl apply later.toml --wait"
        replicas.request_delete(ledger, run.id, None)
        assert deleted_hint(ledger, fresh(ledger, run)) == (
            "run 1 was deleted by another command. To start the next run: skahactl apply tiles.toml"
        )
        replicas.request_delete(ledger, run.id, None, mark=REPLACED)
        assert deleted_hint(ledger, fresh(ledger, run)) == (
            "run 1 was deleted by another command, to start run 2. To see it: skahactl get jobs tiles"
        )
