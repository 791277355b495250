"""Every file in configs/ loads and resolves, and asks for exactly what its job needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from skahactl import profiles
from skahactl.errors import ManifestError
from skahactl.helpers import distributed
from skahactl.manifest.load import load
from skahactl.manifest.placeholders import each_command, each_ends
from skahactl.manifest.resolve import resolve as resolve_drafts
from skahactl.model import Job, Limits, Replica, Resources, Secret
from skahactl.profile import LOCAL_SERVER, Profile

CONFIGS = Path(__file__).parents[2] / "configs"
PROFILES = sorted((CONFIGS / "profiles").glob("*.toml"))
MANIFESTS = sorted(path for path in CONFIGS.glob("*/*.toml") if path not in PROFILES)
LOCAL = Profile(name="local", server=LOCAL_SERVER)
LEGAL_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
PSFEX = ("init_run_exclusive_canfar.sh", "-j", "16", "-p", "psfex", "-e")
RUNDIR = "/arc/projects/unions/psfex"


def resolve(*names: str, profile: Profile = LOCAL, sets: tuple[str, ...] = (), **variables: str) -> tuple[Job, ...]:
    drafts = load([str(CONFIGS / name) for name in names], sets=sets, variables=variables)
    return resolve_drafts(drafts, profile, variables=variables)


def job(name: str, profile: Profile = LOCAL, sets: tuple[str, ...] = (), **variables: str) -> Job:
    (only,) = resolve(name, profile=profile, sets=sets, **variables)
    return only


def env(replica: Replica) -> dict[str, object]:
    """The environment without what every replica has."""
    pairs = dict(replica.request.env)
    assert len(pairs) == len(replica.request.env)
    return {key: value for key, value in pairs.items() if key not in ("REPLICA_ID", "REPLICA_COUNT")}


def run(replica: Replica, directory: Path, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """The replica's command as it stands, in ``directory``, with the stand-ins for what its image holds."""
    path = f"{CONFIGS / 'stand-ins'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {key: value for key, value in replica.request.env if isinstance(value, str)}
    return subprocess.run(
        command or replica.request.command,
        cwd=directory,
        env={"PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )


# --- all of them ---


def test_there_are_manifests_and_profiles_to_look_at() -> None:
    assert (len(MANIFESTS), len(PROFILES)) == (9, 4)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_manifest_resolves_without_a_warning(path: Path) -> None:
    for each_job in resolve(str(path)):
        assert each_job.warnings == ()
        assert [replica.number for replica in each_job.replicas] == list(range(1, len(each_job.replicas) + 1))
        names = Counter(replica.name for replica in each_job.replicas)
        assert set(names.values()) == {1}
        assert all(LEGAL_NAME.fullmatch(name) and len(name) <= 63 for name in names)
        for replica in each_job.replicas:
            variables = dict(replica.request.env)
            assert variables["REPLICA_ID"] == str(replica.number)
            assert variables["REPLICA_COUNT"] == str(len(each_job.replicas))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_loads_and_the_quickstart_resolves_with_it(path: Path) -> None:
    profile = profiles.load(str(path))
    assert profile.is_local == (path.stem == "this-machine")
    assert len(job("quickstart/job.toml", profile).replicas) == 4


# --- one by one ---


def test_quickstart() -> None:
    here = job("quickstart/job.toml")
    assert {replica.request.command for replica in here.replicas} == {
        ("python3", "configs/quickstart/batch_processing.py")
    }
    there = job("quickstart/job.toml", folder="/arc/home/me")
    assert there.replicas[0].request.command == ("python3", "/arc/home/me/batch_processing.py")
    assert there.digest != here.digest


def test_survey_tiles_each_tile_exactly_once_over_600_replicas_at_most_512_alive() -> None:
    survey = job("survey-tiles/job.toml")
    tiles = (CONFIGS / "survey-tiles" / "tile_numbers.txt").read_text().split()
    assert len(tiles) == len(set(tiles)) == 5000
    assert len(survey.replicas) == 600
    assert [item for replica in survey.replicas for item in replica.items] == tiles
    assert Counter(len(replica.items) for replica in survey.replicas) == {9: 200, 8: 400}
    assert survey.limits == Limits(alive=512)
    for replica in survey.replicas:
        assert replica.request.image == "images.canfar.net/unions/shapepipe:1.1"
        assert replica.request.resources == Resources(cores=2, ram=4)
        assert replica.each is not None
        assert len(replica.each.rows) == len(replica.items)


def test_survey_tiles_runs_its_command_once_a_tile_and_later_only_for_those_that_failed(tmp_path: Path) -> None:
    replica = job("survey-tiles/job.toml", rundir=str(tmp_path)).replicas[4]
    assert replica.each is not None
    positions = range(1, len(replica.items) + 1)
    assert replica.request.command == each_command(replica.each, positions)
    failing = tmp_path / "fail" / replica.items[6]
    failing.parent.mkdir()
    failing.touch()

    first = run(replica, tmp_path)

    assert first.returncode != 0
    done = {path.stem for path in tmp_path.glob("*.OK")}
    assert done == set(replica.items) - {replica.items[6]}
    ends = dict(each_ends([first.stdout]))
    assert ends == {position: 1 if position == 7 else 0 for position in positions}

    second = run(replica, tmp_path, command=each_command(replica.each, [7]))

    assert second.returncode == 0
    assert dict(each_ends([second.stdout])) == {7: 0}
    assert {path.stem: path.read_text() for path in tmp_path.glob("*.OK")} == dict.fromkeys(
        replica.items, "replica 5, 16 jobs\n"
    )


def test_missing_tiles_are_those_of_the_list_alone_and_their_names_say_which() -> None:
    missing = job("survey-tiles/missing.toml")
    tiles = (CONFIGS / "survey-tiles" / "missing.txt").read_text().split()
    assert "271.281" in tiles
    assert [replica.items for replica in missing.replicas] == [(tile,) for tile in tiles]
    assert [replica.request.command for replica in missing.replicas] == [(*PSFEX, tile, "-d", RUNDIR) for tile in tiles]
    named = next(replica.name for replica in missing.replicas if replica.items == ("271.281",))
    assert re.fullmatch(r"psfex-271-281-[a-z2-7]{5}", named)
    assert missing.limits == Limits(alive=512)


def test_another_list_of_missing_tiles_by_set(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("300.001\n300.002\n")
    missing = job("survey-tiles/missing.toml", sets=(f"items.file={tmp_path}/more.txt",))
    assert [replica.items for replica in missing.replicas] == [("300.001",), ("300.002",)]


def test_photometry_keeps_its_shell_line_as_written() -> None:
    photometry = job("photometry/job.toml")
    line = 'run_PhotoPipe.sh tiles_"$REPLICA_ID".txt 4 > PhotoPipe_$REPLICA_ID.log 2>&1'
    assert {replica.request.command for replica in photometry.replicas} == {("bash", "-c", line)}
    assert len(photometry.replicas) == 9
    assert photometry.limits == Limits(alive=4)
    assert photometry.replicas[0].request.resources == Resources(cores=1, ram=4)


def test_shards_have_their_environment_and_the_merge_waits_for_them() -> None:
    merge, shards = resolve("shards-and-merge")
    assert (merge.name, merge.after, len(merge.replicas)) == ("merge", ("shards",), 1)
    assert (shards.name, shards.after, len(shards.replicas)) == ("shards", (), 40)
    assert shards.limits == Limits(alive=16)
    specs = "star|mag<21|weight=1.0\ngalaxy|mag<24.5|weight=0.7\nqso|z>=2 && z<=4|weight=0.25"
    for replica in shards.replicas:
        assert replica.request.resources == Resources(cores=8, ram=32)
        assert env(replica) == {"SHARD_ID": str(replica.number - 1), "SHARD_COUNT": "40", "VCP_SPECS": specs}
    assert [name for each_job in resolve("shards-and-merge/shards.toml") for name in [each_job.name]] == ["shards"]


def test_one_tile_a_session_named_after_the_tile() -> None:
    possum = job("one-tile-a-session/job.toml")
    tiles = (CONFIGS / "one-tile-a-session" / "tiles.txt").read_text().split()
    assert [replica.items for replica in possum.replicas] == [(tile,) for tile in tiles]
    assert [replica.request.command for replica in possum.replicas] == [("run_possum_tile.sh", tile) for tile in tiles]
    assert all(replica.name.startswith(f"possum-{replica.items[0]}-") for replica in possum.replicas)
    assert possum.limits == Limits(alive=10, pending=5)
    assert possum.replicas[0].request.resources == Resources(cores=16, ram=112)
    assert possum.keep == "all"


@pytest.mark.parametrize(
    ("profile", "resources"),
    [
        ("flexible", Resources()),
        ("fixed", Resources(cores=8, ram=32)),
        ("gpu", Resources(cores=4, ram=16, gpus=1)),
    ],
)
def test_chains_take_their_resources_from_the_profile_alone(profile: str, resources: Resources) -> None:
    chains = job("chains/job.toml", profiles.load(str(CONFIGS / "profiles" / f"{profile}.toml")))
    cells = [(target, str(chain)) for target in ("ngc1275", "m87") for chain in (1, 2, 3, 4)]
    assert len(chains.replicas) == 8
    for number, (replica, (target, chain)) in enumerate(zip(chains.replicas, cells, strict=True)):
        assert replica.request.resources == resources
        assert replica.request.command[2:6] == ("--target", target, "--chain", chain)
        assert replica.name.startswith(f"chain-{target}-{chain}-")
        assert env(replica) == {
            "TARGET": target,
            "CHAIN": chain,
            "SEED": str(number),
            "ITEM_TARGET": target,
            "ITEM_CHAIN": chain,
        }
    assert chains.limits.alive == (8 if profile == "gpu" else 512)


def test_galaxy_cubes_take_their_ram_from_the_table_and_keep_the_token_a_secret() -> None:
    cubes, catalogue = resolve("galaxy-cubes/jobs.toml")
    assert (cubes.name, catalogue.name, catalogue.after) == ("cubes", "catalogue", ("cubes",))
    ram = {replica.request.command[1]: replica.request.resources.ram for replica in cubes.replicas}
    assert ram == {"ngc1365": 192, "ngc4321": 64, "ic342": 32, "ngc628": 64}
    first = env(cubes.replicas[0])
    assert first.pop("TOKEN") == Secret("env", "SURVEY_TOKEN")
    assert first == {"ITEM_GALAXY": "ngc1365", "ITEM_RAM": "192", "ITEM_NOTE": "barred, large"}
    assert env(catalogue.replicas[0]) == {"TOKEN": Secret("env", "SURVEY_TOKEN")}
    assert catalogue.replicas[0].request.command == (
        "bash",
        "-c",
        "cat /arc/projects/cubes/*.cube | sort > /arc/projects/cubes/catalogue.txt"
        " && wc -l < /arc/projects/cubes/catalogue.txt",
    )


def test_one_bad_item_list_stops_everything_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="tiles-that-are-not-there"):
        job("one-tile-a-session/job.toml", sets=(f"items.file={tmp_path}/tiles-that-are-not-there.txt",))


# --- what the replicas run, run ---


def test_photometry_loses_no_tile_of_the_last_chunk(tmp_path: Path) -> None:
    tiles = (CONFIGS / "photometry" / "tiles.txt").read_text().split()
    photometry = job("photometry/job.toml")
    sizes = []
    for replica in photometry.replicas:
        share = list(distributed.chunk(tiles, replica.number, len(photometry.replicas)))
        (tmp_path / f"tiles_{replica.number}.txt").write_text("".join(f"{tile}\n" for tile in share))
        assert run(replica, tmp_path).returncode == 0
        said = (tmp_path / f"PhotoPipe_{replica.number}.log").read_text().splitlines()
        assert said == [*(f"photometry of {tile} on 4 threads" for tile in share), f"end of tiles_{replica.number}.txt"]
        sizes.append(len(said) - 1)
    assert sizes == [10, 10] + [9] * 7
    assert sum(sizes) == len(tiles) == 83


def test_the_merge_fails_for_a_missing_shard_and_joins_all_of_them(tmp_path: Path) -> None:
    here = {"folder": str(CONFIGS / "shards-and-merge"), "results": str(tmp_path)}
    merge, shards = resolve("shards-and-merge", **here)
    (tmp_path / "fail").mkdir()
    (tmp_path / "fail" / "3").touch()
    codes = {replica.number: run(replica, tmp_path).returncode for replica in shards.replicas}
    assert codes == {number: 1 if number == 4 else 0 for number in range(1, 41)}
    assert b"missing shards: [3]" in run(merge.replicas[0], tmp_path).stdout
    assert run(shards.replicas[3], tmp_path).returncode == 0
    joined = run(merge.replicas[0], tmp_path)
    assert (joined.returncode, joined.stdout) == (0, b"1000 numbers of 40 shards\n")
    specs = json.loads((tmp_path / "shard_39.json").read_text())["specs"]
    assert specs == [
        ["star", "mag<21", "weight=1.0"],
        ["galaxy", "mag<24.5", "weight=0.7"],
        ["qso", "z>=2 && z<=4", "weight=0.25"],
    ]


def test_every_chain_walks_its_own_way(tmp_path: Path) -> None:
    chains = job("chains/job.toml", folder=str(CONFIGS / "chains"), results=str(tmp_path))
    for replica in chains.replicas:
        assert run(replica, tmp_path).returncode == 0
    walks = {path.stem: path.read_text() for path in tmp_path.glob("*.json")}
    assert set(walks) == {f"{target}_{chain}" for target in ("ngc1275", "m87") for chain in (1, 2, 3, 4)}
    assert len(set(walks.values())) == 8


def test_one_tile_a_session_runs(tmp_path: Path) -> None:
    first = run(job("one-tile-a-session/job.toml").replicas[0], tmp_path)
    tile = (CONFIGS / "one-tile-a-session" / "tiles.txt").read_text().split()[0]
    assert (first.returncode, first.stdout.decode()) == (0, f"tile {tile} starts\ntile {tile} done\n")
