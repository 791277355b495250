"""The pipelines of the manual's page on ``split``, each run as a reader would paste it, in every replica."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.splitting import environment

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "skahactl" / "manual" / "split.md"
REPLICAS = 3
TILES = ["271.281", "271.282", "with blank", "it's", '"quoted"', "$HOME", "a;b", "300.1", "300.2", "last"]
FITS = ["b.fits", "a.fits", "with blank.fits", "C.fits", "d.fits"]


def blocks(chapter: str) -> list[str]:
    """The fenced blocks of shell between the comments of this name."""
    found = re.search(rf"<!-- {chapter} -->(.*?)<!-- /{chapter} -->", PAGE.read_text(), re.DOTALL)
    return re.findall(r"^```(?:ba)?sh\n(.*?)^```$", found[1], re.DOTALL | re.MULTILINE) if found else []


PIPELINES = [block for block in blocks("split-pipelines") if "missing.txt" not in block and "--count" not in block]


class Container:
    """A directory with a list, images, ``skahactl`` on the PATH, and a ``process-tile`` that notes what it gets."""

    def __init__(self, root: Path):
        self.root = root
        (root / "bin").mkdir()
        (root / "out").mkdir()
        self.noted = root / "noted"
        self.program("skahactl", f'exec {sys.executable} -m skahactl "$@"')
        self.program("process-tile", f'for tile; do printf "%s\\n" "$tile" >> {self.noted}; done')
        (root / "tiles.txt").write_text("\n".join(TILES))  # no newline at its end
        for name in FITS:
            (root / name).write_bytes(b"x" * len(name))

    def program(self, name: str, line: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, line: str, replica: int = 1, shell: str = "bash") -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.root),  # GNU parallel writes there
            "REPLICA_ID": str(replica),
            "REPLICA_COUNT": str(REPLICAS),
        }
        words = [shell, "-c", line]
        return subprocess.run(
            words, cwd=self.root, env=environment(variables), capture_output=True, text=True, timeout=120
        )

    def processed(self) -> Counter[str]:
        return Counter(self.noted.read_text().splitlines() if self.noted.exists() else [])


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_the_chapter_shows_every_kind_of_pipeline() -> None:
    text = "".join(blocks("split-pipelines"))
    for part in (
        "xargs -r -d '\\n'",
        "xargs -r -0",
        "parallel",
        "while IFS= read",
        "sort -z",
        "--glob",
        "--unless",
        "-- ",
    ):
        assert part in text
    assert "pipefail" in "".join(blocks("split-trap"))


@pytest.mark.parametrize("line", PIPELINES)
def test_every_item_is_processed_once(container: Container, line: str) -> None:
    if "parallel" in line and not shutil.which("parallel"):
        pytest.skip("GNU parallel is not here")
    expected = Counter(f"./{name}" for name in FITS) if ".fits" in line else Counter(TILES)
    shares = []
    for replica in range(1, REPLICAS + 1):
        before = container.processed()
        done = container.run(line, replica)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        shares.append(container.processed() - before)
    assert container.processed() == expected
    assert all(shares)
    if "-s size" not in line:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if "out/{}.OK" in line:
        assert sorted(path.name for path in (container.root / "out").iterdir()) == sorted(f"{t}.OK" for t in TILES)
        for replica in range(1, REPLICAS + 1):
            assert container.run(line, replica).returncode == 0
        assert container.processed() == expected  # nothing is done twice


def test_only_what_is_missing_is_run_again(container: Container) -> None:
    find, again = (block for block in blocks("split-pipelines") if "missing.txt" in block)
    for tile in TILES[:7]:
        (container.root / "out" / f"{tile}.OK").write_text("done")
    (container.root / "out" / f"{TILES[6]}.OK").write_text("")  # begun, and never finished
    assert container.run(find).returncode == 0
    assert (container.root / "missing.txt").read_text().splitlines() == TILES[6:]
    for replica in range(1, REPLICAS + 1):
        assert container.run(again, replica).returncode == 0
    assert container.processed() == Counter(TILES[6:])


def test_counts(container: Container) -> None:
    (line,) = (block for block in blocks("split-pipelines") if "--count" in block)
    (container.root / "out" / f"{TILES[0]}.OK").write_text("done")
    assert container.run(line).stdout == "1\t3\t1\n2\t3\t0\n3\t3\t0\n"


def test_a_failed_split_is_seen(container: Container) -> None:
    with_pipefail, through_a_file = blocks("split-trap")
    assert container.run(with_pipefail).returncode == 0
    assert container.run(through_a_file, 2, shell="sh").returncode == 0
    assert container.processed() == Counter(TILES[:7])
    (container.root / "tiles.txt").unlink()
    naive = "skahactl split tiles.txt | xargs -r -d '\\n' process-tile"
    assert container.run(naive).returncode == 0  # the trap
    assert container.run(with_pipefail).returncode == 2
    assert container.run(through_a_file, shell="sh").returncode == 2


def test_the_script_in_an_image_without_skahactl(container: Container) -> None:
    (text,) = blocks("split-script")
    make, use = text.splitlines()
    assert container.run(make).returncode == 0
    (container.root / "bin" / "skahactl").unlink()
    for replica in range(1, REPLICAS + 1):
        assert container.run(use, replica, shell="sh").returncode == 0
    assert container.processed() == Counter(TILES)
