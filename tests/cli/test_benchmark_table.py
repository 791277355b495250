"""The benchmarks' own parts: how pairs are run, how aims are judged, and what the table looks like."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.pairs import LONG, WARM_UP, Measured, Pair, alternate, measure
from tests.benchmarks.table import Table, reached

PAIR = Pair(Measured(0.1234, 20_000_000, 0.1), Measured(12.34, 9_000_000, 12.0), 0.01, 5)


@pytest.mark.parametrize(
    ("aim", "ratio", "peak", "met"),
    [
        ("1.3", 1.3, 0, True),
        ("1.3", 1.304, 0, True),  # as it is shown
        ("1.3", 1.31, 0, False),
        ("1.5, 100 MB", 1.2, 100_000_000, True),
        ("1.5, 100 MB", 1.2, 101_000_000, False),
        ("100 MB", 9.0, 1, True),
    ],
)
def test_aims_are_judged(aim: str, ratio: float, peak: int, met: bool) -> None:
    assert reached(aim, ratio, peak) is met


def test_the_table_says_what_is_met_and_what_is_missed() -> None:
    table = Table()
    table.pair("one", "other", PAIR, "1.3, 100 MB")
    table.pair("one", "a third", PAIR, "10 MB", "remarkable")
    table.pair("one", "for comparison", PAIR, "")
    text = table.markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == "| one | other | 0.01 | 0.123, 12.3 s; 20, 9 MB | 5 | at most 1.3, 100 MB: met | |"
    assert "at most 10 MB: **missed** | remarkable |" in rows[3]
    assert len({row.count("|") for row in rows}) == 1
    assert "processors" in text.splitlines()[0]
    assert text.splitlines()[-1].startswith("1 targets met, 1 missed, in 0 min ")


@pytest.mark.parametrize(
    ("seconds", "runs", "counted"),
    [(WARM_UP / 3, 6, 5), (WARM_UP, 5, 5), (LONG, 3, 3)],
    ids=["short", "normal", "long"],
)
def test_short_pairs_are_warmed_up_and_long_ones_run_three_times(seconds: float, runs: int, counted: int) -> None:
    order: list[str] = []

    def run(name: str) -> Callable[[], Measured]:
        def one() -> Measured:
            order.append(name)
            return Measured(seconds, 1, seconds)

        return one

    pair = alternate(run("ours"), run("theirs"))
    assert order == ["ours", "theirs"] * runs
    assert (pair.ratio, pair.pairs) == (1.0, counted)


def test_what_a_process_took_is_measured(tmp_path: Path) -> None:
    work = "import sys; text = 'x' * 80_000_000; print(len(text)); sys.exit(3)"
    done = measure([sys.executable, "-c", work], stdout=tmp_path / "out", code=3)
    assert (tmp_path / "out").read_text() == "80000000\n"
    assert 80_000_000 < done.peak < 500_000_000
    assert done.seconds > 0
    assert done.cpu > 0
    with pytest.raises(RuntimeError, match="ended with 3"):
        measure([sys.executable, "-c", work])
