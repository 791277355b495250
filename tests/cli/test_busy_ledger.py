"""Another process holds the ledger for long: a command waits for it, and still reacts to Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time

import pytest

from tests.workplace import Workplace, wait_for

pytestmark = pytest.mark.once


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_ctrl_c_takes_effect_while_another_process_holds_the_ledger(here: Workplace, lock: str) -> None:
    process = here.start("apply", here.job("long", "sleep 100"), "--wait")
    wait_for(lambda: here.recorded("long") == ["Running"])
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", isolation_level=None, timeout=20)) as other:
        other.execute(f"BEGIN {lock}")
        time.sleep(1.5)  # by now the driver waits for the ledger
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert time.monotonic() - begun < 3, "it waits for the ledger, not for the signal"
        other.execute("ROLLBACK")
    assert process.returncode in (130, -signal.SIGINT)
    here.clear("long")


def test_a_command_waits_until_the_ledger_is_free(here: Workplace) -> None:
    here.run("apply", here.job("quick", "true"), "--wait")
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process = here.start("get", "jobs", "--cached", "-o", "json")
        time.sleep(2)
        assert process.poll() is None
        other.execute("ROLLBACK")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert '"quick"' in out
