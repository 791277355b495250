"""One call of validate reports every mistake: a corrected mistake never uncovers another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from skahactl.errors import ManifestError
from skahactl.manifest.load import draft
from skahactl.manifest.resolve import read
from skahactl.skaha import encoding
from tests.manifests import HEAD, LOCAL, job, write


def keys(directory: Path, text: str, **variables: str) -> list[str | None]:
    """The keys with mistakes, in the order of the file; requests are checked as validate does."""
    with pytest.raises(ManifestError) as caught:
        read([write(directory, text)], LOCAL, variables=variables, check=encoding.problems)
    return [problem.key for problem in caught.value.problems]


def test_mistakes_of_every_kind_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("a\n\na\n")
    text = """\
name = "tiles_"
image = "x:1"
replica = 3
replicas = 2
command = ["run", "{itme}", "y"]
session-name = "{nmae}"
[env]
A = 1.5
HOME = "x"
[items]
file = "items.txt"
[limits]
alive = 0
"""
    assert keys(tmp_path, text) == [
        "name",
        "replica",
        "command, word 2",
        "command, word 3",
        "session-name",
        "env.A",
        "env.HOME",
        "limits.alive",
        "items.file",
        "items.file",
    ]


def test_an_unreadable_table_hides_only_its_columns(tmp_path: Path) -> None:
    text = HEAD + "command = ['{tile}', '{repilca}', 'n']\n[resources]\nram = '{ram}'\n[items]\ncsv = 'none.csv'\n"
    assert keys(tmp_path, text) == ["command, word 3", "items.csv"]
    text = HEAD + "command = ['{repilca}', 'n']\nreplicas = 1\n[items]\nfile = 'none.txt'\n"
    assert keys(tmp_path, text) == ["command, word 1", "command, word 2", "items.file"]


def test_a_missing_number_of_replicas_hides_nothing_else(tmp_path: Path) -> None:
    text = HEAD + "command = ['{item}', '{itme}']\n[items]\n"
    for source in ("file = 'none.txt'", "glob = '*.none'"):
        assert keys(tmp_path, text + source) == ["command, word 2", "items", f"items.{source[:4]}"]


def test_a_mistake_in_a_list_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("galaxy,ra\na,1\nb\na,2\n")
    text = HEAD + "command = ['{galaxi}']\n[items]\ncsv = 'g.csv'\n"
    with pytest.raises(ManifestError) as caught:
        read([write(tmp_path, text)], LOCAL)
    short, twice, mistyped = (problem.text() for problem in caught.value.problems)
    assert "unknown placeholder {galaxi} (did you mean {galaxy}?" in mistyped
    listed = f"items.csv of {tmp_path}/job.toml: "
    assert short == f"{tmp_path}/g.csv:3: {listed}1 field, but the header has 2"
    assert twice.startswith(f"{tmp_path}/g.csv:4: {listed}duplicate item 'a': line 2 and line 4")


def test_a_mistake_in_items_does_not_make_its_placeholders_unknown(tmp_path: Path) -> None:
    text = HEAD + "command = ['{item}']\nreplicas = 1\n[items]\nvalue = ['a']\n"
    assert keys(tmp_path, text) == ["items", "items.value"]
    text = HEAD + "command = ['{survey}']\nsession-name = '{survey}'\nvars = { survey = 1.5 }\n"
    assert keys(tmp_path, text) == ["vars.survey"]


def test_each_word_that_cannot_be_sent_is_reported(tmp_path: Path) -> None:
    text = HEAD + "command = ['run', 'y', 'n', 'Y', '0X1F', 'N']\n[env]\ny = 'a'\nA = 'n'\n"
    with pytest.raises(ManifestError) as caught:
        read([write(tmp_path, text)], LOCAL, check=encoding.problems)
    messages = [problem.text() for problem in caught.value.problems]
    for word in ("element 2", "element 3", "element 4", "element 5", "element 6", "[env] y", "[env] A"):
        assert any(word in message for message in messages), word


def test_a_name_with_capitals_becomes_lower_case_with_a_note(tmp_path: Path) -> None:
    (made,) = read([write(tmp_path, 'name = "MyJob"\nimage = "a:1"\n')], LOCAL)
    assert made.name == "myjob"
    assert made.warnings == (f"{tmp_path}/job.toml:1: name: the job's name is 'myjob', in lower case",)
    (made,) = read([write(tmp_path, 'name = "3d-map"\nimage = "a:1"\n')], LOCAL)
    assert (made.name, made.warnings) == ("3d-map", ())


def test_names_are_compared_in_lower_case(tmp_path: Path) -> None:
    text = '[[job]]\nname = "One"\nimage = "a:1"\n[[job]]\nname = "one"\nimage = "a:1"\nafter = ["ONE"]\n'
    with pytest.raises(ManifestError) as caught:
        read([write(tmp_path, text)], LOCAL)
    assert "duplicate job name 'one'" in caught.value.problems[0].message
    text = '[[job]]\nname = "One"\nimage = "a:1"\n[[job]]\nname = "two"\nimage = "a:1"\nafter = ["ONE"]\n'
    made = read([write(tmp_path, text)], LOCAL, sets=("one.replicas=3",))
    assert [(one.name, len(one.replicas), one.after) for one in made] == [("one", 3, ()), ("two", 1, ("one",))]


def test_a_variable_can_have_the_name_of_a_key_that_the_manifest_has(tmp_path: Path) -> None:
    made = job(tmp_path, "replicas = 2\n[env]\nreplicas = 3\nname = 'x'\n")
    assert dict(made.replicas[0].request.env)["replicas"] == "3"
    assert keys(tmp_path, HEAD + "[env]\nreplicas = 3\n") == ["env.replicas"]
    assert draft({"name": "a", "image": "b:1", "env": {"replicas": "3"}}).table.env == {"replicas": "3"}


@pytest.mark.parametrize(
    "image",
    [
        "a.b/c@sha256:" + "0" * 63,
        "a.b/c@sha256:" + "G" * 64,
        "a.b/c@md5:" + "0" * 32,
        "a.b/c@0",
        "a.b/c:" + "t" * 129,
        "a.b/c:-t",
    ],
)
def test_a_wrong_digest_or_tag(tmp_path: Path, image: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read([write(tmp_path, f'name = "a"\nimage = "{image}"\n')], LOCAL)
    (problem,) = caught.value.problems
    assert "is not an image reference" in problem.message


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("shell = 'skahactl split tiles.txt | xargs run'", True),
        ("shell = '''cd /arc\nskahactl split \\\n  tiles.txt | xargs run'''", True),
        ("command = ['bash', '-c', 'skahactl split a | xargs run']", True),
        ("shell = '''set -o pipefail\nskahactl split tiles.txt | xargs run'''", False),
        ("shell = 'set -euo pipefail; skahactl split tiles.txt | xargs run'", False),
        ("command = ['bash', '-o', 'pipefail', '-c', 'skahactl split a | xargs run']", False),
        ("shell = 'skahactl split tiles.txt > mine || exit; xargs run < mine'", False),
        ("shell = 'skahactl split tiles.txt -- run {}'", False),
        ("shell = 'cat a | xargs run'", False),
    ],
)
def test_a_pipeline_that_begins_with_split_is_noted(tmp_path: Path, line: str, noted: bool) -> None:
    warnings = job(tmp_path, line).warnings
    assert any("set -o pipefail" in warning for warning in warnings) == noted


def test_an_empty_list_of_jobs(tmp_path: Path) -> None:
    assert keys(tmp_path, "job = []\n") == ["job"]
