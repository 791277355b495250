"""How long a start takes: against an empty cyclopts program with the same verb, and against the canfar client."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from skahactl.ledger.database import open_ledger
from tests import ledgers
from tests.benchmarks.pairs import compare
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).resolve().parent.parent.parent
PAIRS = 15
EMPTY = """
import sys
from typing import Annotated
from cyclopts import App, Parameter
app = App(name="empty", version="1")
@app.command
def split(*lists: str, share: Annotated[str, Parameter(name=["--share", "-n"])] = ""):
    print(*lists)
@app.command
def get(*words: str, cached: bool = False):
    print(*words)
app()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 1,000 jobs in the ledger, the empty program, and a list of three lines."""
    home = tmp_path_factory.mktemp("home")
    (home / "empty.py").write_text(EMPTY)
    (home / "three").write_text("a\nb\nc\n")
    with open_ledger(home / "state") as ledger, ledger.transaction():
        for number in range(1000):
            run = ledgers.add(ledger, ledgers.job(f"job-{number}", 4))
            ledgers.start(ledger, run, range(1, 5))
    return home


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["--version"], "1.3"),
        (["--help"], "1.5"),
        (["split", "-n", "1/3", "three"], "1.3"),
        (["get", "jobs", "--cached"], "3"),
    ],
    ids=["version", "help", "split", "get-jobs"],
)
def test_start_against_an_empty_program(place: Path, words: list[str], most: str, table: Table) -> None:
    shown = " ".join(words)
    remark = {"split": "three lines", "get": "1,000 jobs in the ledger"}.get(words[0], "")
    words = [str(place / word) if word == "three" else word for word in words]
    ours = [sys.executable, "-m", "skahactl", *words]
    theirs = [sys.executable, str(place / "empty.py"), *words]
    pair = compare(ours, theirs, pairs=PAIRS, env=environ(place))
    table.pair(f"start: {shown}", "an empty cyclopts program", pair, most, remark)


def test_help_against_canfar(place: Path, table: Table) -> None:
    canfar = shutil.which("canfar", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if canfar is None:
        pytest.skip("canfar is not installed")
    pair = compare([sys.executable, "-m", "skahactl", "--help"], [canfar, "--help"], pairs=5, env=environ(place))
    table.pair("start: --help", "canfar --help", pair, "0.5")


def environ(place: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "PYTHONPATH": str(ROOT),
        "SKAHACTL_STATE_DIR": str(place / "state"),
    }
