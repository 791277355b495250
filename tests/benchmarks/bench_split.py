"""``split``: starting up against an empty cyclopts program, long lists against mawk, GNU split and wc.

    pytest -m benchmark tests/benchmarks/bench_split.py -s

SPLIT_LINES sets the length of the list (default 20,000,000 lines, 1.1 GB), SPLIT_PAIRS the pairs of runs (5).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.pairs import compare, measure
from tests.benchmarks.table import Table
from tests.splitting import SPLIT

LINES = int(os.environ.get("SPLIT_LINES", "20000000"))
PAIRS = int(os.environ.get("SPLIT_PAIRS", "5"))
OURS = " ".join(SPLIT)

EMPTY = """
from cyclopts import App
app = App()
@app.default
def main(*lists: str): pass
app(result_action="return_value")
"""

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not shutil.which("mawk") or not shutil.which("split"), reason="needs mawk and GNU split"),
]


@pytest.fixture(scope="module")
def list_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of 55 bytes, like those of images in a survey."""
    path = tmp_path_factory.mktemp("lists") / "list"
    with open(path, "wb") as stream:
        for first in range(0, LINES, 100_000):
            names = range(first, min(LINES, first + 100_000))
            stream.write(b"".join(b"/arc/projects/survey/tiles/tile-%08d-r-calexp.fits\n" % name for name in names))
    yield path
    path.unlink()


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


def test_starting_up(tmp_path: Path, table: Table) -> None:
    (tmp_path / "empty.py").write_text(EMPTY)
    (tmp_path / "list").write_text("a\nb\nc\n")
    split = [*SPLIT, "-n", "1/2", str(tmp_path / "list")]
    pair = compare(split, [sys.executable, str(tmp_path / "empty.py"), "a"], pairs=max(PAIRS, 15))
    table.pair("split of three lines", "an empty cyclopts program", pair, "1.3")


@pytest.mark.parametrize("total", [2, 10, 600])
def test_stripe(list_: Path, total: int, table: Table) -> None:
    ours = f"{OURS} -s stripe -n 2/{total}"
    awk = f"mawk 'NR%{total}==2%{total}'"
    file = compare(shell(f"exec {ours} {list_}"), shell(f"exec {awk} {list_}"), pairs=PAIRS)
    table.pair(f"split -s stripe -n 2/{total}, a file", "mawk", file, "1")
    pipe = compare(shell(f"cat {list_} | {ours}"), shell(f"cat {list_} | {awk}"), pairs=PAIRS)
    table.pair(f"split -s stripe -n 2/{total}, a pipe", "mawk", pipe, "1")
    gnu = f"split -n r/2/{total}"
    whole = compare(shell(f"{ours} {list_}"), shell(f"{gnu} {list_}"), pairs=PAIRS)
    table.pair(f"split -s stripe -n 2/{total}, a file", "GNU split -n r", whole, "")
    piped = compare(shell(f"cat {list_} | {ours}"), shell(f"cat {list_} | {gnu}"), pairs=PAIRS)
    table.pair(f"split -s stripe -n 2/{total}, a pipe", "GNU split -n r", piped, "")


@pytest.mark.parametrize(("replica", "total"), [(1, 2), (1, 10), (5, 10), (10, 10), (300, 600)])
def test_chunk_of_a_file(list_: Path, tmp_path: Path, replica: int, total: int, table: Table) -> None:
    """Against counting the lines twice and copying as many bytes as the share has."""
    ours = [*SPLIT, "-n", f"{replica}/{total}", str(list_)]
    share = tmp_path / "share"
    measure(ours, stdout=share)
    theirs = shell(f"wc -l < {list_} > /dev/null; wc -l < {list_} > /dev/null; cat {share}")
    pair = compare(ours, theirs, pairs=PAIRS, stdout=tmp_path / "out")
    table.pair(f"split -n {replica}/{total}, a file", "twice wc -l and a copy", pair, "2, 100 MB")


@pytest.mark.parametrize(("replica", "total"), [(1, 10), (10, 10)])
def test_chunk_of_a_pipe(list_: Path, replica: int, total: int, table: Table) -> None:
    """Memory, below twice the input (the list itself when this replica is the first, little when it is the last)."""
    ours = shell(f"cat {list_} | {OURS} -n {replica}/{total}")
    before, last = (replica - 1) * LINES // total, replica * LINES // total
    awk = f"mawk '{{ line[NR] = $0 }} END {{ for (i = {before} + 1; i <= {last}; i++) print line[i] }}'"
    pair = compare(ours, shell(f"cat {list_} | {awk}"), pairs=1)
    aim = f"{2 * list_.stat().st_size / 1e6:.0f} MB"
    table.pair(f"split -n {replica}/{total}, a pipe", "mawk with an array", pair, aim)
