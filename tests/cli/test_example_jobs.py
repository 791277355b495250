"""The jobs in configs/, really run: real processes on the local platform, through the command line."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workplace import Done, Workplace

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

Cli = Callable[..., Done]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """``cli(*words, cwd=..., expect=0, extra={})``: skahactl with an empty home, in the repository."""
    here = Workplace(tmp_path / "home", extra={"PATH": f"{CONFIGS / 'stand-ins'}:{os.environ['PATH']}"})
    return functools.partial(here.run, cwd=ROOT)


def replicas(cli: Cli, job: str) -> list[dict[str, Any]]:
    return list(json.loads(cli("get", "replicas", job, "-o", "json").stdout))


def states(cli: Cli, job: str) -> Counter[str]:
    return Counter(replica["state"] for replica in replicas(cli, job))


def test_quickstart_runs_once_and_merges(cli: Cli, tmp_path: Path) -> None:
    # The worker's folder is the repository's own; its results go where the test's do.
    out = tmp_path / "results"
    words = ("apply", "configs/quickstart/job.toml", "--wait", "--set", f"env.RESULTS={out}")
    cli(*words)
    merged = subprocess.run(
        [sys.executable, "configs/quickstart/merge.py", str(out)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "55 stars in 12 images, measured by 4 replicas" in merged.stdout
    table = "".join(merged.stdout.splitlines(keepends=True)[:4])
    assert table in (ROOT / "README.md").read_text(encoding="utf-8"), "the README shows what the reader will see"
    assert states(cli, "star-fields") == {"Completed": 4}
    first = [replica["session"] for replica in replicas(cli, "star-fields")]
    cli(*words)
    assert [replica["session"] for replica in replicas(cli, "star-fields")] == first
    log = cli("logs", "star-fields", "-r", "1", "--prefix", "never").stdout
    assert log.splitlines()[0] == "replica 1 of 4: 3 of 12 images"


def test_survey_tiles_runs_each_tile_and_again_only_what_failed(cli: Cli, tmp_path: Path) -> None:
    tiles = (CONFIGS / "survey-tiles" / "tile_numbers.txt").read_text().split()[:50]
    (tmp_path / "tiles.txt").write_text("".join(f"{tile}\n" for tile in tiles))
    rundir = tmp_path / "run"
    (rundir / "fail").mkdir(parents=True)
    for tile in tiles[::20]:
        (rundir / "fail" / tile).touch()
    changes = ("--set", f"items.file={tmp_path}/tiles.txt", "--set", "replicas=6", "--var", f"rundir={rundir}")
    cli("apply", "configs/survey-tiles/job.toml", "--wait", *changes)
    done = {path.name.removesuffix(".OK"): path.read_text().splitlines() for path in rundir.glob("*.OK")}
    assert set(done) == set(tiles)
    assert {len(lines) for lines in done.values()} == {1}, "a tile that was done is not done again"
    attempts = Counter(replica["attempt"] for replica in replicas(cli, "psfex"))
    assert attempts == {1: 3, 2: 3}


def test_photometry_runs_its_shell_line_as_written(cli: Cli, tmp_path: Path) -> None:
    tiles = (CONFIGS / "photometry" / "tiles.txt").read_text().split()
    rows = cli("split", str(CONFIGS / "photometry" / "tiles.txt"), "--all", "--of", "9").stdout.splitlines()
    for number in range(1, 10):
        share = [row.partition("\t")[2] for row in rows if row.startswith(f"{number}\t")]
        (tmp_path / f"tiles_{number}.txt").write_text("".join(f"{tile}\n" for tile in share))
    cli("apply", str(CONFIGS / "photometry" / "job.toml"), "--wait", cwd=tmp_path)
    said = [(tmp_path / f"PhotoPipe_{number}.log").read_text().splitlines() for number in range(1, 10)]
    assert [line.split()[2] for lines in said for line in lines[:-1]] == tiles
    assert [lines[-1] for lines in said] == [f"end of tiles_{number}.txt" for number in range(1, 10)]


def test_the_merge_runs_only_if_every_shard_succeeded(cli: Cli, tmp_path: Path) -> None:
    here = ("--var", f"folder={CONFIGS / 'shards-and-merge'}", "--var", f"results={tmp_path}/results")
    (tmp_path / "results" / "fail").mkdir(parents=True)
    (tmp_path / "results" / "fail" / "3").touch()

    cli("apply", "configs/shards-and-merge", "--wait", *here, expect=1)
    assert states(cli, "shards") == {"Completed": 39, "Failed": 1}
    assert states(cli, "merge") == {"Skipped": 1}
    assert not (tmp_path / "results" / "merged.json").exists()

    cli("apply", "configs/shards-and-merge/shards.toml", "--wait", *here, expect=1)
    cli("retry", "shards", "--wait")
    assert states(cli, "shards") == {"Completed": 40}
    cli("apply", "configs/shards-and-merge/merge.toml", "--wait", "--rerun", *here)
    assert json.loads((tmp_path / "results" / "merged.json").read_text()) == list(range(1000))


def test_one_tile_a_session_and_a_second_apply_starts_none_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tiles.txt").write_text("11000\n11001\n11002\n")
    words = ("apply", "configs/one-tile-a-session/job.toml", "--set", f"items.file={tmp_path}/tiles.txt")
    slow = ("--set", "env.TILE_SECONDS=1")
    cli(*words, *slow)
    alive = {replica["name"] for replica in json.loads(cli("get", "sessions", "-o", "json").stdout)}
    cli(*words, *slow)
    assert {replica["name"] for replica in json.loads(cli("get", "sessions", "-o", "json").stdout)} == alive
    cli(*words, *slow, "--wait")
    assert sorted(name.rsplit("-", 1)[0] for name in alive) == ["possum-11000", "possum-11001", "possum-11002"]
    for replica in replicas(cli, "possum"):
        assert (replica["state"], replica["attempt"], replica["log"]["complete"]) == ("Completed", 1, True)
        tile = replica["items"][0]
        assert Path(replica["log"]["path"]).read_text() == f"tile {tile} starts\ntile {tile} done\n"


def test_chains_run_on_this_machine_too(cli: Cli, tmp_path: Path) -> None:
    here = ("--var", f"folder={CONFIGS / 'chains'}", "--var", f"results={tmp_path}/results")
    cli("apply", "configs/chains/job.toml", "-p", "configs/profiles/this-machine.toml", "--wait", *here)
    assert len(list((tmp_path / "results").glob("*.json"))) == 8


def test_galaxy_cubes_show_their_token_nowhere(cli: Cli, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    words = ("configs/galaxy-cubes/jobs.toml", "--var", f"results={results}")
    token = "s3cret-t0ken-of-the-survey"
    said = [
        cli("apply", *words, "--dry-run", "-o", "json", extra={"SURVEY_TOKEN": token}),
        cli("apply", *words, "--wait", "-vv", extra={"SURVEY_TOKEN": token}),
        cli("get", "jobs", "-o", "json"),
        cli("describe", "cubes"),
    ]
    assert (results / "catalogue.txt").read_text().split() == [
        "ic342", "32", "ngc1365", "192", "ngc4321", "64", "ngc628", "64",
    ]  # fmt: skip
    assert not any(token in done.stdout + done.stderr for done in said)
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if token.encode() in path.read_bytes()]
