"""Memory and cores in use: read from a list, recorded by each poll, shown with advice."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from skahactl.engine.usage import run_usage
from skahactl.ledger.attempts import record_usage, usage_of
from skahactl.ledger.database import open_ledger
from skahactl.ledger.records import Usage
from skahactl.model import Resources
from skahactl.skaha.models import Listing, parse_cores, parse_ram, parse_sessions
from tests import ledgers
from tests.workplace import Workplace

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("0.001", 0.001),
        ("2", 2.0),
        ("250m", 0.25),
        ("1234u", 0.001234),
        ("3123456789n", 3.123456789),
        ("0", 0.0),
        ("", None),
        ("<none>", None),
        ("1234x", None),
        ("-1", None),
        ("nan", None),
        ("1e999", None),
        ("9" * 400, None),
        ("12Mi", None),
        (None, None),
    ],
)
def test_cores_are_read_in_every_unit(text: str | None, cores: float | None) -> None:
    assert parse_cores(text) == (None if cores is None else pytest.approx(cores))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0.22", 0.22e9),
        ("8.59", 8.59e9),
        ("101M", 101e6),
        ("16G", 16e9),
        ("16Gi", 16 * GIB),
        ("512Mi", 512 * 2**20),
        ("123456Ki", 123456 * 1024),
        ("<none>", None),
        ("16Q", None),
        ("much", None),
        (None, None),
    ],
)
def test_memory_is_read_in_every_unit(text: str | None, size: float | None) -> None:
    assert parse_ram(text) == (None if size is None else pytest.approx(size / GIB))


def listing(*rows: dict[str, object]) -> Listing:
    return Listing(parse_sessions(json.dumps(rows).encode()), ledgers.NOW, ledgers.NOW, "alice")


def test_a_server_that_reports_no_usage_is_not_an_error(tmp_path: Path) -> None:
    ledger, run = ledgers.survey(tmp_path)
    with ledger:
        session = ledgers.session_of(run, 4)
        record_usage(ledger, run.id, listing({"id": session, "status": "Running"}))
        record_usage(ledger, run.id, listing({"id": session, "ramInUse": "<none>", "cpuCoresInUse": "?"}))
        record_usage(ledger, run.id, listing())
        assert usage_of(ledger, run.id) == {}


def test_each_poll_adds_to_the_peak_and_the_mean(tmp_path: Path) -> None:
    ledger, run = ledgers.survey(tmp_path)
    with ledger:
        fourth, fifth = ledgers.session_of(run, 4), ledgers.session_of(run, 5)
        for ram, cores in (("1Gi", "0.5"), ("3Gi", "1500m"), ("2Gi", "<none>"), ("<none>", "1")):
            record_usage(
                ledger,
                run.id,
                listing(
                    {"id": fourth, "ramInUse": ram, "cpuCoresInUse": cores},
                    {"id": "another1", "ramInUse": "99Gi", "cpuCoresInUse": "9"},
                ),
            )
        record_usage(ledger, run.id, listing({"id": fifth, "cpuCoresInUse": "0.25"}))
        found = usage_of(ledger, run.id)
        assert found == {(4, 1): Usage(3.0, pytest.approx(1.0), 4), (5, 1): Usage(None, 0.25, 1)}
        ledger.connection.execute("DELETE FROM runs WHERE id = ?", (run.id,))
        assert usage_of(ledger, run.id) == {}


def test_the_time_of_a_poll_grows_with_the_number_of_sessions_alone(tmp_path: Path) -> None:
    """SQLite counts its own steps: with the square of the replicas they would be 16 times as many, not 4."""
    steps = {}
    for count in (200, 800):
        with open_ledger(tmp_path / str(count)) as ledger:
            run = ledgers.add(ledger, ledgers.job("tiles", count))
            ledgers.start(ledger, run, range(1, count + 1))
            shown = listing(*({"id": ledgers.session_of(run, n), "ramInUse": "1"} for n in range(1, count + 1)))
            counted = itertools.count()
            ledger.connection.set_progress_handler(lambda counted=counted: next(counted) < 0, 100)
            record_usage(ledger, run.id, shown)
            steps[count] = next(counted)
    assert steps[800] < 6 * steps[200]


def test_advice_is_given_below_half_and_above_nine_tenths() -> None:
    def advice(peak: float, requested: float | None) -> str | None:
        return run_usage(
            {(1, 1): Usage(peak, 0.9, 3), (2, 1): Usage(peak / 3, 0.8, 3)},
            dict.fromkeys(((1, 1), (2, 1)), Resources(8, requested)),
        ).advice

    assert "request ram = 4 next time" in (advice(3.1, 32) or "")
    assert advice(16.1, 32) is None
    assert advice(28.7, 32) is None
    assert "request ram = 37 next time" in (advice(29.0, 32) or "")
    assert "request ram = 2 next time" in (advice(0.95, 1) or "")
    assert advice(0.2, 1) is None  # less than 1 GB cannot be requested
    assert advice(3.1, None) is None


def test_usage_in_one_line() -> None:
    both = dict.fromkeys(((1, 1), (2, 1)), Resources(8, 32))
    used = run_usage({(1, 1): Usage(3.14, 0.7, 20), (2, 1): Usage(2.0, 1.1, 21)}, both)
    assert used.text == "memory peak 3.1 of 32 GB, cpu 0.9 of 8 cores (41 measurements)"
    assert run_usage({(1, 1): Usage(12.4, None, 1)}, {(1, 1): Resources()}).text == "memory peak 12 GB (1 measurement)"
    assert run_usage({}, both).text is None
    differing = run_usage(
        {(1, 1): Usage(1, 1, 1), (2, 1): Usage(1, 1, 1)}, {(1, 1): Resources(1, 4), (2, 1): Resources(1, 8)}
    )
    assert differing.ram_requested is None
    assert differing.cpu_requested == 1


@pytest.mark.once
def test_the_local_platform_measures_the_whole_process_group(here: Workplace) -> None:
    """A child in the background holds the memory and burns the time; its parent only waits."""
    end = here.root / "end"
    burn = f"from os.path import exists\nheld = bytearray(120_000_000)\nwhile not exists({str(end)!r}): pass"
    here.write("burn.py", burn)
    here.run("apply", here.job("burn", f"python3 {here.root}/burn.py & wait", 1, "[resources]\ncores = 1\nram = 4"))
    rows: list[dict[str, object]] = []
    while not rows or rows[-1]["status"] in ("Pending", "Running"):
        rows += here.data("get", "sessions")
        if sum("ramInUse" in row for row in rows) == 2:
            end.touch()
    used = [row for row in rows if row.get("ramInUse") is not None]
    assert used
    assert max(float(str(row["ramInUse"])) for row in used) > 0.12
    assert 0.05 < max(float(str(row["cpuCoresInUse"])) for row in used) < 1.5  # on a busy machine it gets little
    assert "ramInUse" not in rows[-1]
    (replica,) = here.data("get", "replicas", "burn")  # every poll recorded it, whatever command polled
    assert replica["usage"]["ram_peak_gb"] > 0.11
    assert replica["usage"]["ram_requested_gb"] == 4
    assert replica["usage"]["samples"] == len(used)
    described = here.run("describe", "burn").stdout
    assert "memory peak 0." in described
    assert "request ram = 1 next time" in described
    assert "/4 GB" in here.run("get", "replicas", "burn", "-o", "wide").stdout
    assert "ram_peak_gb" in here.run("get", "replicas", "burn", "-o", "csv").stdout.split("\n")[0]
    here.run("report", "burn")
    assert "Memory used" in (here.root / "burn.html").read_text()
