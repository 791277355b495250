"""Items: where they come from, who gets which, and what a replica is told of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.manifest.items import share_items
from skahactl.model import Job
from tests.manifests import HEAD, job, problems

USED = 'command = ["x", "{items}"]\n'


def listed(made: Job) -> list[tuple[str, ...]]:
    return [replica.items for replica in made.replicas]


def test_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "tiles.txt").write_text("271.281\n two words \n$x\n")
    made = job(tmp_path, USED + "replicas = 2\n[items]\nfile = 'lists/tiles.txt'")
    assert listed(made) == [("271.281", " two words "), ("$x",)]
    assert made.replicas[0].request.command == ("x", "271.281", " two words ")
    assert made.content["items"] == {
        "count": 3,
        "hash": made.content["items"]["hash"],  # type: ignore[index]
        "strategy": "chunk",
        "each": False,
    }


def test_a_file_without_a_last_newline_or_with_nul_between(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\ny")
    (tmp_path / "b").write_bytes(b"x\ny\0z\0")
    (tmp_path / "c").write_bytes("\ufeffü\n".encode())
    text = USED + "replicas = 1\n[items]\nfile = "
    assert listed(job(tmp_path, text + "'a'")) == [("x", "y")]
    assert listed(job(tmp_path, text + "'b'")) == [("x\ny", "z")]
    assert listed(job(tmp_path, text + "'c'")) == [("ü",)]


#: (bytes of the file, line, part of the message)
WRONG_FILES = [
    (b"a\n\nb\n", 2, "a blank line"),
    (b"a\n   \n", 2, "a blank line"),
    (b"a\nb\n\n", 3, "a blank line"),
    (b"a\r\nb\r\n", 1, "a carriage return at the end of the line (sed -i"),
    (b"a\nb\na\n", 3, "duplicate item 'a': line 1 and line 3 (remove one, or set duplicates = true"),
    (b"a\n\xff\n", 2, "not UTF-8"),
]


@pytest.mark.parametrize(("data", "line", "part"), WRONG_FILES)
def test_a_wrong_file(tmp_path: Path, data: bytes, line: int | None, part: str) -> None:
    (tmp_path / "i.txt").write_bytes(data)
    (problem,) = problems(tmp_path, HEAD + USED + "replicas = 1\n[items]\nfile = 'i.txt'")
    assert part in problem.text()
    if line is None:
        assert (problem.file, problem.line) == (str(tmp_path / "job.toml"), 6)
    else:
        assert (problem.file, problem.line) == (str(tmp_path / "i.txt"), line)


def test_equal_items_if_they_are_meant(tmp_path: Path) -> None:
    made = job(tmp_path, USED + "replicas = 1\n[items]\nvalues = ['a', 'a', 3, true]\nduplicates = true")
    assert listed(made) == [("a", "a", "3", "true")]


def test_files_that_patterns_find(tmp_path: Path) -> None:
    for name in ("b.fits", "B.fits", "é.fits", "a.txt", "sub/c.fits"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made = job(tmp_path, USED + "replicas = 1\n[items]\nglob = '*.fits'")
    assert [os.path.relpath(item, tmp_path) for item in listed(made)[0]] == ["B.fits", "b.fits", "é.fits"]
    made = job(tmp_path, USED + "replicas = 1\n[items]\nglob = ['**/*.fits', 'a.*']")
    assert [os.path.relpath(item, tmp_path) for item in listed(made)[0]] == [
        "B.fits",
        "a.txt",
        "b.fits",
        "sub/c.fits",
        "é.fits",
    ]


TABLE = 'galaxy,ram,name,ra deg\nNGC 1,32,one,1.5\n"NGC, 2",64.5,"two ""x""",2\n'


def test_rows_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(TABLE)
    made = job(
        tmp_path,
        """
command = ["{galaxy}", "{item}", "{name}", "{item.name}", "{ra deg}"]
session-name = "cube-{galaxy}"
[env]
RAM = "{ram} GB"
[resources]
cores = 2
ram = "{ram}"
[items]
csv = "g.csv"
""",
    )
    one, two = made.replicas
    assert one.request.command == ("NGC 1", "NGC 1", "tiles", "one", "1.5")
    assert two.request.command == ("NGC, 2", "NGC, 2", "tiles", 'two "x"', "2")
    assert (one.request.resources.ram, two.request.resources.ram) == (32, 64.5)
    assert two.request.env == (
        ("RAM", "64.5 GB"),
        ("ITEM_GALAXY", "NGC, 2"),
        ("ITEM_RAM", "64.5"),
        ("ITEM_NAME", 'two "x"'),
        ("ITEM_RA_DEG", "2"),
        ("REPLICA_ID", "2"),
        ("REPLICA_COUNT", "2"),
    )
    assert (one.name[:-6], two.name[:-6]) == ("cube-ngc-1", "cube-ngc-2")
    assert made.sources["replicas"] == made.sources["items"] == "items file"


def test_columns_in_the_environment_are_use_enough(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(TABLE)
    assert len(job(tmp_path, "[items]\ncsv = 'g.csv'").replicas) == 2
    (problem,) = problems(tmp_path, HEAD + "[items]\ncsv = 'g.csv'\nper-replica = 2")
    assert problem.message == "the items are not used"


WRONG_TABLES = [
    ("a,b\n1\n", 2, "1 field, but the header has 2"),
    ("a,b\n1,2,3\n", 2, "3 fields, but the header has 2"),
    ("a,b\n1,2\n\n", 3, "a blank line"),
    ("a,b\n,2\n", 2, "the first column ('a') is the item, but it is empty in this row"),
    ('a,b\n1,"x\ny"\n1,"z"\n', 4, "duplicate item '1': line 2 and line 4"),
    ('a,b\n1,"x\n', 2, "invalid CSV"),
    ("a,A\n1,2\n", None, "columns 'a' and 'A' would both become ITEM_A"),
    ("a,\n1,2\n", None, "'' is not a valid column name"),
]


@pytest.mark.parametrize(("text", "line", "part"), WRONG_TABLES)
def test_a_wrong_table(tmp_path: Path, text: str, line: int | None, part: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    (problem,) = problems(tmp_path, HEAD + "[items]\ncsv = 't.csv'")
    assert part in problem.text()
    assert problem.line == (line or 4)


def test_resources_that_a_row_gets_wrong(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("g,ram\na,32\nb,much\nc,0\nd,much\n")
    found = problems(tmp_path, HEAD + "[resources]\nram = '{ram}'\n[items]\ncsv = 't.csv'")
    assert [one.message for one in found] == [
        "'much' is not a number from 1 to 999,999 (replicas 2,4)",
        "'0' is not a number from 1 to 999,999 (replica 3)",
    ]


def test_combinations_of_a_matrix(tmp_path: Path) -> None:
    made = job(
        tmp_path,
        'session-name = "chain-{target}-{chain}"\n[items]\nmatrix = { target = ["M 31", "m87"], chain = [1, 2] }',
    )
    assert listed(made) == [("M 31,1",), ("M 31,2",), ("m87,1",), ("m87,2",)]
    assert made.replicas[1].request.env[:2] == (("ITEM_TARGET", "M 31"), ("ITEM_CHAIN", "2"))
    assert [replica.name[:-6] for replica in made.replicas] == [
        "chain-m-31-1",
        "chain-m-31-2",
        "chain-m87-1",
        "chain-m87-2",
    ]


def test_more_replicas_than_items(tmp_path: Path) -> None:
    made = job(tmp_path, USED + "replicas = 600\n[items]\nvalues = ['a', 'b']")
    assert listed(made) == [("a",), ("b",)]
    assert dict(made.replicas[0].request.env)["REPLICA_COUNT"] == "2"
    assert "600 replicas for 2 items: only 2 will be created" in made.warnings[0]


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("i.txt", "", "replicas = 5\n[items]\nfile = 'i.txt'"),
        ("i.txt", "", "[items]\nper-replica = 2\nfile = 'i.txt'"),
        ("t.csv", "a,b\n", "[items]\ncsv = 't.csv'"),
        ("i.txt", "", "replicas = 5\n[items]\nvalues = []\nstrategy = 'size'"),
    ],
)
def test_an_empty_list_is_a_job_with_nothing_to_do(tmp_path: Path, name: str, text: str, source: str) -> None:
    (tmp_path / name).write_text(text)
    made = job(tmp_path, USED + source)
    assert (made.replicas, made.warnings) == ((), ())


def test_lines_that_begin_with_a_hash_are_items_and_a_warning_says_so(tmp_path: Path) -> None:
    (tmp_path / "i.txt").write_text("a\n# tiles of dr6\n#b\n")
    made = job(tmp_path, USED + "replicas = 1\n[items]\nfile = 'i.txt'")
    assert listed(made) == [("a", "# tiles of dr6", "#b")]
    (warning,) = made.warnings
    assert warning.startswith(f"{tmp_path}/i.txt:2: 2 lines begin with #, and each is an item like any other")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1601-1604", "1601 1602 1603 1604"), ("0-99:30", "0 30 60 90"), ("1,3,7-9", "1 3 7 8 9"), ("7", "7")],
)
def test_a_range_gives_each_number_as_an_item(tmp_path: Path, text: str, expected: str) -> None:
    made = job(tmp_path, f"command = ['x', '{{item}}']\n[items]\nrange = '{text}'\nper-replica = 1")
    assert [" ".join(items) for items in listed(made)] == expected.split()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("9-1", "'9-1' ends before it begins"),
        ("1-9%2", "%2 is not part of the items (write alive = 2 below [limits])"),
        ("001-100", "001: items of a range have no zeros in front"),
        ("1-3,2", "duplicate item '2': item 2 and item 4"),
        ("a", "'a' is not a number or a range"),
    ],
)
def test_a_wrong_range(tmp_path: Path, text: str, part: str) -> None:
    (problem,) = problems(tmp_path, HEAD + f"{USED}replicas = 1\n[items]\nrange = '{text}'\n")
    assert problem.line == 6
    assert part in problem.text()


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + USED + 'replicas = 1\n[items]\nfile = "a\\u0000b"')
    assert "cannot read" in problem.message


def test_a_pattern_does_not_follow_links_in_circles(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.fits").touch()
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    made = job(tmp_path, USED + "replicas = 1\n[items]\nglob = 'images/**/*.fits'")
    assert listed(made) == [(f"{tmp_path}/images/a.fits",)]


def test_so_many_a_replica(tmp_path: Path) -> None:
    values = [f"i{number}" for number in range(20)]
    made = job(tmp_path, USED + f"[items]\nvalues = {values}\nper-replica = 8")
    assert [len(items) for items in listed(made)] == [7, 7, 6]


def test_balance_by_size(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 100), ("c", 60), ("d", 50)):
        (tmp_path / name).write_bytes(b"x" * size)
    text = USED + "replicas = 2\n[items]\nvalues = ['a', 'b', 'c', 'd']\nstrategy = 'size'"
    made = job(tmp_path, text)
    assert listed(made) == [("a", "b"), ("c", "d")]
    (tmp_path / "a").write_bytes(b"x" * 1000)
    assert listed(job(tmp_path, text)) == [("a",), ("b", "c", "d")]
    assert job(tmp_path, text).digest != made.digest


def test_items_alike_are_alike_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "i.txt").write_text("a\nb\n")
    file = job(tmp_path, USED + "replicas = 2\n[items]\nfile = 'i.txt'")
    values = job(tmp_path, USED + "[items]\nvalues = ['a', 'b']\nper-replica = 1")
    assert file.digest == values.digest
    assert [one.name for one in file.replicas] == [one.name for one in values.replicas]


@given(st.integers(1, 200), st.integers(1, 40), st.sampled_from(["chunk", "stripe", "size"]), st.randoms())
def test_every_item_goes_to_exactly_one_replica(count: int, total: int, strategy: str, draw: object) -> None:
    made = share_items(count, total, strategy, [number * 7 % 13 for number in range(count)])
    assert len(made) == total
    assert sorted(position for share in made for position in share) == list(range(count))
    if strategy != "size":
        assert max(map(len, made)) - min(map(len, made)) <= 1


@pytest.mark.parametrize(("count", "total"), [(10, 3), (3, 5), (5000, 600), (1, 1)])
def test_stripes_are_those_of_gnu_split(tmp_path: Path, count: int, total: int) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f"{number}\n" for number in range(count)))
    made: list[Sequence[int]] = share_items(count, total, "stripe")
    for replica in {1, 2, total}:
        if replica <= total:
            done = subprocess.run(["split", "-n", f"r/{replica}/{total}", str(path)], capture_output=True, check=True)
            assert done.stdout.decode().split() == [str(position) for position in made[replica - 1]]


def test_a_survey_of_five_thousand_tiles(tmp_path: Path) -> None:
    tiles = [f"{number // 1000 + 200}.{number % 1000:03d}" for number in range(5000)]
    (tmp_path / "tile_numbers.txt").write_text("\n".join(tiles) + "\n")
    made = job(tmp_path, "command = ['x', '{item}']\nreplicas = 600\n[items]\nfile = 'tile_numbers.txt'\neach = true")
    assert [item for items in listed(made) for item in items] == tiles
    assert {len(items) for items in listed(made)} == {8, 9}
    assert [len(items) for items in listed(made)] == sorted((len(items) for items in listed(made)), reverse=True)
