"""What a retry that finds nothing to try again advises, from a ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skahactl.engine.retry import choose_retries, nothing_to_retry
from skahactl.ledger.database import open_ledger
from skahactl.model import Resources
from tests import ledgers


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
