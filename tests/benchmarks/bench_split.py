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

from tests.benchmarks.pairs import Pair, compare, measure
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


def report(what: str, pair: Pair) -> Pair:
    print(f"\n{pair.line(what)}", end="")
    return pair


def test_starting_up(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text(EMPTY)
    (tmp_path / "list").write_text("a\nb\nc\n")
    split = [*SPLIT, "-n", "1/2", str(tmp_path / "list")]
    pair = compare(split, [sys.executable, str(tmp_path / "empty.py"), "a"], pairs=max(PAIRS, 15))
    assert report("start: split of three lines, an empty cyclopts program", pair).ratio < 1.5


@pytest.mark.parametrize("total", [2, 10, 600])
def test_stripe(list_: Path, total: int) -> None:
    ours = f"{OURS} -s stripe -n 2/{total}"
    awk = f"mawk 'NR%{total}==2%{total}'"
    file = compare(shell(f"exec {ours} {list_}"), shell(f"exec {awk} {list_}"), pairs=PAIRS)
    assert report(f"stripe 2/{total} of a file, mawk", file).ratio < 1
    pipe = compare(shell(f"cat {list_} | {ours}"), shell(f"cat {list_} | {awk}"), pairs=PAIRS)
    assert report(f"stripe 2/{total} of a pipe, mawk", pipe).ratio < 1
    gnu = f"split -n r/2/{total}"
    report(
        f"stripe 2/{total} of a file, GNU split -n r",
        compare(shell(f"{ours} {list_}"), shell(f"{gnu} {list_}"), pairs=PAIRS),
    )
    piped = compare(shell(f"cat {list_} | {ours}"), shell(f"cat {list_} | {gnu}"), pairs=PAIRS)
    report(f"stripe 2/{total} of a pipe, GNU split -n r", piped)


@pytest.mark.parametrize(("replica", "total"), [(1, 2), (1, 10), (5, 10), (10, 10), (300, 600)])
def test_chunk_of_a_file(list_: Path, tmp_path: Path, replica: int, total: int) -> None:
    """Against counting the lines twice and copying as many bytes as the share has."""
    ours = [*SPLIT, "-n", f"{replica}/{total}", str(list_)]
    share = tmp_path / "share"
    measure(ours, stdout=share)
    theirs = shell(f"wc -l < {list_} > /dev/null; wc -l < {list_} > /dev/null; cat {share}")
    pair = compare(ours, theirs, pairs=PAIRS, stdout=tmp_path / "out")
    report(f"chunk {replica}/{total} of a file, twice wc -l and a copy", pair)
    assert pair.ours.peak < 100e6
    assert pair.ratio < 2


@pytest.mark.parametrize(("replica", "total"), [(1, 10), (10, 10)])
def test_chunk_of_a_pipe(list_: Path, replica: int, total: int) -> None:
    """Memory, below twice the input (the list itself when this replica is the first, little when it is the last)."""
    ours = shell(f"cat {list_} | {OURS} -n {replica}/{total}")
    before, last = (replica - 1) * LINES // total, replica * LINES // total
    awk = f"mawk '{{ line[NR] = $0 }} END {{ for (i = {before} + 1; i <= {last}; i++) print line[i] }}'"
    pair = compare(ours, shell(f"cat {list_} | {awk}"), pairs=1)
    report(f"chunk {replica}/{total} of a pipe, mawk with an array", pair)
    assert pair.ours.peak < 2 * list_.stat().st_size + 50e6
