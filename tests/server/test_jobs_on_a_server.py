"""The jobs in configs/ on a server over HTTP, where limits, outages, refusals and forgetting are the point."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import Workplace, wait_for

pytestmark = pytest.mark.once

CONFIGS = Path(__file__).parents[2] / "configs"

Row = dict[str, Any]


def most(rows: list[Row], start: str, *ends: str) -> int:
    """How many of ``rows`` were between these moments at once, by the server's own times."""
    marks = []
    for row in rows:
        begun, ended = row[start], min(row[end] for end in ends if row[end] is not None)
        if begun is not None and begun < ended:
            marks += [(begun, 1), (ended, -1)]
    alive = highest = 0
    for _, change in sorted(marks):
        alive += change
        highest = max(highest, alive)
    return highest


def ours(server: Server) -> list[Row]:
    """The sessions that skahactl made, their environment as the container has it."""
    rows = server.state()["sessions"]
    return [{**row, "env": dict(row["env"])} for row in rows if row["fault"] != "other"]


def survey(tmp_path: Path, *changes: str, tiles: int, replicas: int, alive: int, seconds: float) -> None:
    """``seconds``: how long a session runs; long enough for the limit to be reached."""
    plan: dict[str, object] = {"pending": [0.0, 0.2], "running": [seconds, seconds * 1.5], "log_lines": 2}
    wanted = (CONFIGS / "survey-tiles" / "tile_numbers.txt").read_text().split()[:tiles]
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("tiles.txt", "".join(f"{tile}\n" for tile in wanted))
        here.run("apply", str(CONFIGS / "survey-tiles" / "job.toml"), "--wait", *changes, timeout=600)
        rows = ours(server)
    assert len(rows) == replicas
    assert alive * 0.8 <= most(rows, "visible", "ends") <= alive
    started = [word for row in rows for word in row["argv"][4:]]
    assert sorted(word for word in started if "." in word) == sorted(wanted)


def test_survey_tiles_each_once_and_within_the_limit(tmp_path: Path) -> None:
    changes = (f"items.file={tmp_path}/here/tiles.txt", "replicas=40", "limits.alive=16")
    survey(
        tmp_path,
        *(word for change in changes for word in ("--set", change)),
        tiles=300,
        replicas=40,
        alive=16,
        seconds=1,
    )


@pytest.mark.slow
def test_all_5000_survey_tiles_over_600_replicas_at_most_512_alive(tmp_path: Path) -> None:
    survey(tmp_path, tiles=5000, replicas=600, alive=512, seconds=20)


def test_photometry_through_an_outage_at_most_four_alive_whatever_else_the_user_runs(tmp_path: Path) -> None:
    plan: dict[str, object] = {"pending": [0.0, 0.2], "running": [0.3, 0.6], "retry_after": 1}
    line = 'run_PhotoPipe.sh tiles_"$REPLICA_ID".txt 4 > PhotoPipe_$REPLICA_ID.log 2>&1'
    with running(tmp_path / "server", plan) as server:
        for name in ("notebook", "photometry", "photometry-99-abcde"):
            server.tell("session", name=name, kind="notebook" if name == "notebook" else "headless")
        here = Workplace(tmp_path / "here", server)
        driver = here.start("apply", str(CONFIGS / "photometry" / "job.toml"), "--wait")
        wait_for(lambda: server.counts().get("create", 0) >= 4, process=driver)
        server.tell("outage", kind="unavailable", seconds=2)
        out, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, out + err
        rows = ours(server)
        others = [row for row in server.state()["sessions"] if row["fault"] == "other"]
    assert sorted(int(row["replica"]) for row in rows) == list(range(1, 10))
    assert {tuple(row["argv"]) for row in rows} == {("bash", "-c", line)}
    assert most(rows, "visible", "ends") == 4
    assert all(row["alive"] for row in others), "what the job did not make is none of its business"


def test_shards_arrive_as_written_and_a_failed_one_holds_the_merge_back(tmp_path: Path) -> None:
    plan: dict[str, object] = {"seed": 5, "running": [0.1, 0.3], "fail": 0.1}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        failed = here.run("apply", str(CONFIGS / "shards-and-merge"), "--wait", expect=1)
        rows = ours(server)
        assert {row["state"] for row in here.data("get", "replicas", "merge")} == {"Skipped"}
        assert any(row["outcome"] == "Failed" for row in rows)
        assert "merge" in failed.stdout + failed.stderr
        assert [row for row in rows if row["argv"][-2].endswith("merge.py")] == []
        assert most(rows, "visible", "ends") <= 16
        specs = "star|mag<21|weight=1.0\ngalaxy|mag<24.5|weight=0.7\nqso|z>=2 && z<=4|weight=0.25"
        for row in rows:
            shard = str(int(row["replica"]) - 1)
            assert (row["env"]["SHARD_ID"], row["env"]["SHARD_COUNT"]) == (shard, "40")
            assert row["env"]["VCP_SPECS"] == specs
        server.tell("plan", fail=0)
        here.run("retry", "shards", "--wait")
        here.run("apply", str(CONFIGS / "shards-and-merge" / "merge.toml"), "--wait", "--rerun")
        assert [row["outcome"] for row in ours(server) if row["argv"][-2].endswith("merge.py")] == ["Completed"]


def test_one_tile_a_session_ten_running_and_five_pending_with_logs_before_they_are_discarded(tmp_path: Path) -> None:
    plan: dict[str, object] = {"pending": [600, 600], "running": [0.3, 0.6], "memory": 4.0, "log_lines": 9}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        words = ("apply", str(CONFIGS / "one-tile-a-session" / "job.toml"))
        here.run(*words)
        alive = [row["id"] for row in ours(server)]
        here.run(*words)
        assert [row["id"] for row in ours(server)] == alive
        assert len(alive) == 5
        server.tell("plan", pending=[0.1, 0.4])
        polls = server.counts()["list"]
        driver = here.start(*words, "--wait")
        wait_for(lambda: server.counts()["list"] > polls)  # on a busy machine a driver may take seconds to start
        server.tell("finish", sessions=alive)
        _, err = driver.communicate(timeout=300)
        assert driver.returncode == 0, err
        rows = ours(server)
        kept = here.kept_logs()
    tiles = (CONFIGS / "one-tile-a-session" / "tiles.txt").read_text().split()
    assert sorted(row["name"].rsplit("-", 1)[0] for row in rows) == sorted(f"possum-{tile}" for tile in tiles)
    assert most(rows, "visible", "runs", "ends") <= 5
    assert most(rows, "visible", "ends") <= 10
    assert {row["log_sha256"] for row in rows} <= kept


def test_a_tile_that_the_server_refuses_is_an_error_and_said(tmp_path: Path) -> None:
    plan: dict[str, object] = {"running": [0.1, 0.2], "faults": {"refuse": 0.1}, "fault_sends": 99}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        ended = here.run("apply", str(CONFIGS / "one-tile-a-session" / "job.toml"), "--wait", expect=1)
        rows = here.data("get", "replicas", "possum")
        made = {row["name"] for row in ours(server) if row["outcome"] == "Completed"}
    refused = [row for row in rows if row["state"] == "Rejected"]
    assert 0 < len(refused) == len(rows) - len(made)
    assert all(
        re.search(r"message of the server: jobs\.batch \"skaha-headless-\S+\" not found$", row["reason"])
        for row in refused
    )
    assert "Rejected" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("defaults", "sent"),
    [
        ("", (None, None, None)),
        ("[defaults.resources]\ncores = 8\nram = 32\n", ("8", "32", None)),
        ("[defaults.resources]\ncores = 4\nram = 16\ngpus = 1\n", ("4", "16", "1")),
    ],
    ids=["flexible", "fixed", "gpu"],
)
def test_chains_ask_for_what_the_profile_says(
    tmp_path: Path, defaults: str, sent: tuple[str | None, str | None, str | None]
) -> None:
    with running(tmp_path / "server", {"running": [0.1, 0.2]}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("profile.toml", (here.root / "profile.toml").read_text() + defaults)
        here.run("apply", str(CONFIGS / "chains" / "job.toml"), "--wait")
        creates = [row["pairs"] for row in server.state()["creates"]]
        cells = {(row["env"]["TARGET"], row["env"]["CHAIN"], row["env"]["SEED"]) for row in ours(server)}
    assert len(creates) == len(cells) == 8
    for pairs in creates:
        asked = dict(pairs)
        assert (asked.get("cores"), asked.get("ram"), asked.get("gpus")) == sent


@pytest.mark.slow
def test_a_chain_that_the_platform_no_longer_knows_is_never_a_success(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"running": [600, 600]}) as server:
        here = Workplace(tmp_path / "here", server)
        here.run("apply", str(CONFIGS / "chains" / "job.toml"))
        (lost, *others) = [row["id"] for row in ours(server)]
        driver = here.start("apply", str(CONFIGS / "chains" / "job.toml"), "--wait")
        server.tell("forget", sessions=[lost])
        server.tell("finish", sessions=others)
        out, err = driver.communicate(timeout=90)
        assert driver.returncode == 1, out + err
        counts = {row["session"]: row["state"] for row in here.data("get", "replicas", "chains")}
        assert counts.pop(lost) == "Unknown"
        assert set(counts.values()) == {"Completed"}
        (job,) = here.data("get", "jobs")
        assert job["status"] == "Unknown"
