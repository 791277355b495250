"""The last line of a log, and the reason that is made of it."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from skahactl.ledger import attempts
from skahactl.ledger.database import open_ledger
from skahactl.logs.copies import LastLine, last_line_of
from skahactl.logs.follow import SessionWatch
from skahactl.logs.select import Choice
from skahactl.model import Resources, State
from skahactl.shapes import FailedItem, failure_reason
from skahactl.skaha.models import Listing
from skahactl.targets import Target
from tests import ledgers
from tests.observed import session
from tests.rendering import attempt


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (b"", None),
        (b"\n  \n", None),
        (b"first\ncannot open x.fits\n\n \n", "cannot open x.fits"),
        (b"no newline at the end", "no newline at the end"),
        (b"10 %\r50 %\r100 %\n", "100 %"),
        (b"\x1b[31mERROR\x1b[0m: \x1b]0;title\x07bad\n", "ERROR: bad"),
        ("β Pic \x07failed\n".encode(), "β Pic  failed"),
        (b"x" * 600, "x" * 499 + "…"),
        (b"work\n::skahactl item 1 exit 0\n", "work"),
        (b"bad\n::skahactl item 1 exit 2\nfine\n::skahactl item 2 exit 0\n", "bad"),
        (b"\n::skahactl item 1 exit 2\n", None),
    ],
)
def test_the_last_line_that_says_something(log: bytes, line: str | None) -> None:
    assert last_line_of(io.BytesIO(log), marks=True) == line
    one_by_one = LastLine()
    for byte in log:
        one_by_one(bytes([byte]))
    assert one_by_one.text == line


def test_only_the_end_of_a_long_log_is_searched() -> None:
    assert last_line_of(io.BytesIO(b"early\n" + b"\n" * 20_000)) is None
    assert last_line_of(io.BytesIO(b"x\n" * 100_000 + b"late\n" + b"\n" * 1000)) == "late"


@pytest.mark.parametrize(
    ("code", "line", "item", "reason"),
    [
        (None, None, None, None),
        (None, "cannot open x.fits", None, "cannot open x.fits"),
        (2, "cannot open x.fits", None, "exit 2: cannot open x.fits"),
        (2, "cannot open x.fits", FailedItem("271.285", 3), "item 271.285: exit 3: cannot open x.fits"),
        (137, None, None, "exit 137 (killed, out of memory? requested 4 GB)"),
        (None, "line 3: 12 Killed", None, "line 3: 12 Killed (out of memory? requested 4 GB)"),
        (143, None, None, "exit 143 (terminated from outside)"),
    ],
)
def test_the_reason_of_a_failure(code: int | None, line: str | None, item: FailedItem | None, reason: str) -> None:
    from dataclasses import replace

    row = replace(attempt(1, State.FAILED, 0, 1, 2), exit_code=code, last_line=line)
    assert failure_reason(Resources(1, 4), row, item) == reason
    assert failure_reason(Resources(1, 4), replace(row, state=State.RUNNING), item) is None


@pytest.mark.parametrize(("listed", "is_used"), [(True, False), (False, True)])
def test_a_part_of_a_log_is_followed_only_where_the_platform_has_no_more(
    tmp_path: Path, listed: bool, is_used: bool
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(b"the beginning\n")
    with open_ledger(tmp_path) as ledger:
        run = ledgers.add(ledger, ledgers.job("one", 1))
        ledgers.start(ledger, run, [1])
        (row,) = attempts.attempts_of(ledger, run.id)
        attempts.set_attempt(
            ledger, row, {"log": "partial", "log_path": str(copy), "finished": 9.0}, state=State.COMPLETED
        )
        sessions = (session(row.session or "", row.name, "Completed"),) if listed else ()

        async def poll() -> Listing:
            return Listing(sessions, 9.0, 10.0, "alice")

        watch = SessionWatch(ledger, [Target(run, None, None, "one")], Choice(), poll, str)
        found = asyncio.run(watch.poll())
        assert found is not None
        assert [stream.kept for stream in found.streams] == [copy if is_used else None]
