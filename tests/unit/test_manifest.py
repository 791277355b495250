"""Manifests that are right: what each replica is asked to run, and what the job is."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.commands.manifest import explain_key, json_schema, manifest_keys
from skahactl.errors import UsageError
from skahactl.manifest.load import draft, load
from skahactl.manifest.overlay import overlay_table, parse_setting
from skahactl.manifest.placeholders import BUILT_IN, Placeholder, parse_template
from skahactl.manifest.resolve import read, resolve
from skahactl.model import Limits, Resources, Secret, content_digest, differences
from skahactl.profile import Profile, Registry, StorageSettings
from tests.manifests import HEAD, LOCAL, SEVERAL, job, jobs, problems, write

SIMPLE = 'command = ["x"]\n'


def test_the_request_of_each_replica(tmp_path: Path) -> None:
    made = job(
        tmp_path,
        """
command = ["python", "{name}.py", "{replica}/{replicas}", "{index}", "{{name}}", "${name}", "{foo}", "{ name }"]
replicas = 3
[resources]
cores = 2
ram = 4.5
gpus = 0
[env]
LEVEL = "{index}"
N = 3
ON = true
TOKEN = { from-env = "MY_TOKEN" }
KEY = { from-file = "key" }
""",
    )
    assert [replica.number for replica in made.replicas] == [1, 2, 3]
    request = made.replicas[1].request
    assert request.command == ("python", "tiles.py", "2/3", "1", "{name}", "${name}", "{foo}", "{ name }")
    assert request.env == (
        ("LEVEL", "1"),
        ("N", "3"),
        ("ON", "true"),
        ("TOKEN", Secret("env", "MY_TOKEN")),
        ("KEY", Secret("file", str(tmp_path / "key"))),
        ("REPLICA_ID", "2"),
        ("REPLICA_COUNT", "3"),
    )
    assert request.resources == Resources(2, 4.5, None)
    assert request.image == "a.example/b/c:1"
    assert len({replica.name for replica in made.replicas}) == 3


def test_a_shell_line_is_run_by_bash(tmp_path: Path) -> None:
    text = """run_PhotoPipe.sh tiles_"$REPLICA_ID".txt 4 > PhotoPipe_$REPLICA_ID.log 2>&1"""
    made = job(tmp_path, f"shell = '''{text}'''")
    assert made.replicas[0].request.command == ("bash", "-c", text)
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        (["echo", "$HOME"], "$HOME"),
        (["x", "${A}"], "${A}"),
        (["ls", "*.fits"], "*"),
        (["x", ">", "log"], ">"),
        (["a", "|", "b"], "|"),
    ],
)
def test_a_command_that_seems_to_want_a_shell(tmp_path: Path, command: list[str], sign: str) -> None:
    made = job(tmp_path, f"command = {json.dumps(command)}")
    (warning,) = made.warnings
    assert f"'{sign}' is passed on as it is" in warning
    assert "shell = '''" in warning
    assert warning.startswith(f"{tmp_path}/job.toml:3: command")


@pytest.mark.parametrize(
    "command",
    [["bash", "-c", "echo $HOME > x"], ["/bin/sh", "-ec", "a | b"], ["python", "-c", "print(2 * 3)"], ["a-b"]],
)
def test_a_command_that_wants_none(tmp_path: Path, command: list[str]) -> None:
    assert job(tmp_path, f"command = {json.dumps(command)}").warnings == ()


def test_a_word_that_is_almost_a_placeholder(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + "command = ['{repilca}', '{print}', '{}']")
    assert problem.message == "unknown placeholder {repilca}"
    assert problem.hint == "did you mean {replica}? For the text {repilca}, write {{repilca}}"
    assert (problem.line, problem.column) == (3, 12)
    made = job(tmp_path, "command = ['{{repilca}}', '{{name}}', '{{other}}', '${repilca}', '{print}']")
    assert made.replicas[0].request.command == ("{repilca}", "{name}", "{{other}}", "${repilca}", "{print}")


@pytest.mark.parametrize(
    ("rest", "way"),
    [
        (
            "shell = 'process.sh {item} > x'\nitems = { per-replica = 1, values = ['a', 'b c'] }",
            'TILE = "{item}" below [env], and "$TILE"',
        ),
        (
            "shell = 'process.sh {item}'\nitems = { per-replica = 1, values = ['a', '`id`'], each = true }",
            'write "$ITEM"',
        ),
        ("shell = 'echo {t}'\nitems = { matrix = { t = ['a', 'c;rm -rf x'] } }", 'write "$ITEM_T"'),
        ("shell = 'echo {item.name}'\nitems = { matrix = { name = ['a', \"it's\"] } }", 'write "$ITEM_NAME"'),
        ("command = ['/bin/bash', '-ec', 'x {item}']\nitems = { per-replica = 1, values = ['a', '$HOME'] }", '"$TILE"'),
    ],
)
def test_an_item_that_a_shell_would_read(tmp_path: Path, rest: str, way: str) -> None:
    (warning,) = job(tmp_path, rest).warnings
    assert "becomes part of the shell text" in warning
    assert "(item 2) is not a plain word" in warning
    assert way in warning


@pytest.mark.parametrize(
    "rest",
    [
        "shell = 'process.sh {item} {index}'\nitems = { per-replica = 1, values = ['a', 'x/b-1.2_c,d@e%f+g=h:i'] }",
        "shell = 'process.sh \"$ITEM\"'\nitems = { per-replica = 1, values = ['a', 'b c'], each = true }",
        "command = ['process.sh', '{item}']\nitems = { per-replica = 1, values = ['a', 'b c'] }",
        "shell = 'process.sh \"$T\"'\nenv.T = '{item}'\nitems = { per-replica = 1, values = ['b c'] }",
    ],
)
def test_an_item_that_no_shell_reads_otherwise(tmp_path: Path, rest: str) -> None:
    assert job(tmp_path, rest).warnings == ()


@pytest.mark.parametrize(
    "line",
    ["command = ['x', '{item}', '{tile}']", "command = ['x', '{item}', '--t={tile}']", "shell = 'x {item} {tile}'"],
)
def test_a_placeholder_that_no_item_has(tmp_path: Path, line: str) -> None:
    (warning,) = job(tmp_path, f"{line}\nitems = {{ per-replica = 1, values = ['a'] }}").warnings
    assert "{tile} is not a placeholder, and stays; the items give {item}" in warning


@pytest.mark.parametrize(
    "line",
    [
        "command = ['awk', '{print}', '{item}']",
        "command = ['python3', '-c', '{tile}', '{item}']",
        "command = ['x', '{item}', 'a{tile}', '{}', '{A}', '{a,b}']",
        "shell = \"awk '{print}' {item} ${tile} {a,b} {tile}s\"",
    ],
)
def test_other_braces_stay_silent(tmp_path: Path, line: str) -> None:
    assert job(tmp_path, f"{line}\nitems = {{ per-replica = 1, values = ['a'] }}").warnings == ()


def test_a_command_of_one_word_with_blanks(tmp_path: Path) -> None:
    (warning,) = job(tmp_path, "command = ['python run.py']").warnings
    assert '"python run.py" is one word' in warning
    assert warning.endswith('for several, write command = ["python", "run.py"]')
    (tmp_path / "python run.py").touch()
    assert job(tmp_path, "command = ['python run.py']").warnings == ()


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("skaha/astroml", "images.example.net/skaha/astroml:latest"),
        ("skaha/astroml:1", "images.example.net/skaha/astroml:1"),
        ("python", "images.example.net/python:latest"),
        ("a.b/c", "a.b/c:latest"),
        ("localhost/c:2", "localhost/c:2"),
        ("a:5000/c", "a:5000/c:latest"),
        (f"a.b/c@sha256:{'0f' * 32}", f"a.b/c@sha256:{'0f' * 32}"),
    ],
)
def test_images(tmp_path: Path, image: str, full: str) -> None:
    (made,) = jobs(tmp_path, f'name = "a"\nimage = "{image}"\n')
    assert made.image == made.replicas[0].request.image == full
    assert bool(made.warnings) == (full.endswith(":latest"))
    assert made.sources.get("image") == ("profile default" if full.startswith("images.example") else None)
    (bare,) = jobs(tmp_path, f'name = "a"\nimage = "{image}"\n', profile=Profile("none", "local"))
    assert bare.image == full.removeprefix("images.example.net/")


PROFILE = Profile(
    "p",
    "local",
    registry=Registry("images.example.net"),
    resources=Resources(2, 8, 1),
    limits=Limits(10, 5, 60.0),
    vars={"where": "profile"},
)


def test_what_a_profile_gives(tmp_path: Path) -> None:
    made = job(tmp_path, "command = ['{where}', '{other}']\n[vars]\nwhere = 'manifest'\nother = 'o'", profile=PROFILE)
    request = made.replicas[0].request
    assert request.resources == Resources(2, 8, 1)
    assert request.command == ("profile", "o")
    assert made.limits == Limits(10, 5, 60.0)
    assert made.sources["resources"] == made.sources["vars.where"] == "profile default"
    own = job(tmp_path, "[resources]\ncores = 1\n[limits]\nalive = 3\npending-timeout = '2h'", profile=PROFILE)
    assert own.replicas[0].request.resources == Resources(1, None, None)
    assert own.limits == Limits(3, 5, 7200.0)
    given = job(tmp_path, "command = ['{where}']", profile=PROFILE, where="word")
    assert given.replicas[0].request.command == ("word",)
    assert given.sources["vars.where"] == "--var"


def test_a_session_for_a_browser(tmp_path: Path) -> None:
    made = job(tmp_path, "kind = 'notebook'\n[resources]\ncores = 2", profile=PROFILE)
    assert made.replicas[0].request.env == ()
    assert made.replicas[0].request.resources == Resources(2)
    desktop = job(tmp_path, "kind = 'desktop'\n[resources]\ncores = 2")
    assert "every desktop session the same" in desktop.warnings[0]
    assert job(tmp_path, "kind = 'firefly'", profile=PROFILE).replicas[0].request.resources == Resources()


def test_the_rest_of_a_job(tmp_path: Path) -> None:
    made = job(tmp_path, "after = ['a', 'b']\n[retry]\nattempts = 3\n[logs]\nkeep = 'failed'")
    assert (made.after, made.attempts, made.keep) == (("a", "b"), 3, "failed")
    plain = job(tmp_path, "")
    assert (plain.after, plain.attempts, plain.keep, plain.limits) == ((), 1, "all", Limits())


def test_settings_of_the_command_line(tmp_path: Path) -> None:
    sets = ("replicas=2", "resources.cores=4", "env.A=b c", 'env."B"=3', "command=['y', '{replica}']", "image=x.y/z:2")
    made = job(tmp_path, "shell = 'x'\n[env]\nA = 'a'", sets=sets)
    request = made.replicas[1].request
    assert request.command == ("y", "2")
    assert request.env[:2] == (("A", "b c"), ("B", "3"))
    assert request.resources.cores == 4
    assert made.image == "x.y/z:2"
    assert made.sources["replicas"] == made.sources["env.A"] == "--set"


def test_a_setting_that_takes_the_place_of_another_key(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("a\nb\nc\n")
    items = "command = ['{item}']\n[items]\nvalues = ['x']\nper-replica = 1"
    made = job(tmp_path, items, sets=("items.file=more.txt",))
    assert [replica.items for replica in made.replicas] == [("a",), ("b",), ("c",)]
    assert made.sources["items"] == "--set"
    made = job(
        tmp_path, "command = ['{items}']\n[items]\nvalues = ['x', 'y', 'z']\nper-replica = 1", sets=("replicas=2",)
    )
    assert [replica.items for replica in made.replicas] == [("x", "y"), ("z",)]


def test_a_path_of_the_command_line_begins_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "list.txt").write_text("here\n")
    (tmp_path / "list.txt").write_text("beside\n")
    monkeypatch.chdir(tmp_path / "here")
    text = "command = ['{item}']\nreplicas = 1\n[items]\nfile = 'list.txt'"
    assert job(tmp_path, text).replicas[0].items == ("beside",)
    assert job(tmp_path, text, sets=("items.file=list.txt",)).replicas[0].items == ("here",)
    (tmp_path / "here" / "list.txt").unlink()
    assert job(tmp_path, text, sets=("items.file=list.txt",)).replicas[0].items == ("beside",)


def test_several_jobs_in_a_file(tmp_path: Path) -> None:
    one, two, three = jobs(tmp_path, SEVERAL)
    assert one.replicas[0].request.command == ("common", "o")
    assert one.replicas[0].request.env[:2] == (("A", "1"), ("B", "2"))
    assert two.replicas[0].request.command == ("bash", "-c", "two")
    assert two.after == ("one",)
    assert len(three.replicas) == 3
    changed = jobs(tmp_path, SEVERAL, sets=("one.replicas=5", "env.A=9"))
    assert [len(made.replicas) for made in changed] == [5, 1, 3]
    assert [made.replicas[0].request.env[0] for made in changed] == [("A", "9")] * 3


def test_directories_and_their_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path, f'name = "{name}"\nimage = "x.y/z:1"\n', f"{name}.toml")
    (tmp_path / "notes.txt").write_text("no manifest")
    assert [made.name for made in read([str(tmp_path)], LOCAL)] == ["a", "b", "c"]


def test_load_then_resolve_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, SEVERAL)
    drafts = load([path])
    assert [one.name for one in drafts] == ["one", "two", "three"]
    assert resolve(drafts, LOCAL) == read([path], LOCAL)


def test_a_job_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"name": "a", "image": "x.y/z:1", "command": ["x"], "env": {"K": {"from-file": "k"}}, "replicas": 2}
    (made,) = resolve([draft(table)], LOCAL)
    assert made.manifest is None
    assert dict(made.replicas[0].request.env)["K"] == Secret("file", str(tmp_path / "k"))
    with pytest.raises(UsageError, match="command line: replicas: expected at least 1"):
        draft({**table, "replicas": 0})


# the digest and the differences


def test_what_is_not_content(tmp_path: Path) -> None:
    """[limits], [retry], [logs], comments, key order and paths."""
    (tmp_path / "one.txt").write_text("a\nb\n")
    (tmp_path / "two.txt").write_text("a\nb\n")
    first = job(tmp_path, "replicas = 2\ncommand = ['{item}']\n[env]\nA = 1\nB = 2\n[items]\nfile = 'one.txt'\n")
    second = job(
        tmp_path,
        "command = ['{item}'] # x\nreplicas = 2\nsession-name = '{name}-{replica}'\n[items]\nfile = 'two.txt'\n"
        "[env]\nB = '2'\nA = 1\n[limits]\nalive = 3\n[retry]\nattempts = 2\n[logs]\nkeep = 'none'\n",
    )
    assert first.digest == second.digest == content_digest(first.content)
    assert [one.name for one in first.replicas] == [one.name for one in second.replicas]
    assert differences(first.content, second.content) == ()
    json.dumps(first.content)


CHANGES = [
    ("command = ['y']", "command", ["x"], ["y"]),
    ("command = ['x']\nreplicas = 2", "replicas", 1, 2),
    ("command = ['x']\n[env]\nA = 1", "env.A", None, "1"),
    ("command = ['x']\n[env]\nA = { from-env = 'B' }", "env.A.from-env", None, "B"),
    ("command = ['x']\n[resources]\ncores = 2", "resources.cores", None, 2),
    ("command = ['x']\nsession-name = 'y'", "session-name", None, "y"),
]


@pytest.mark.parametrize(("text", "path", "old", "new"), CHANGES)
def test_what_is_content(tmp_path: Path, text: str, path: str, old: object, new: object) -> None:
    before, after = job(tmp_path, SIMPLE), job(tmp_path, text)
    assert before.digest != after.digest
    (difference,) = differences(before.content, after.content, after.sources)
    assert (difference.path, difference.old, difference.new, difference.source) == (path, old, new, "manifest")


def test_where_a_difference_comes_from(tmp_path: Path) -> None:
    text = "command = ['{w}', '{items}']\nreplicas = 1\n[vars]\nw = 'a'\n[items]\nfile = 'i.txt'\n"
    (tmp_path / "i.txt").write_text("a\n")
    before = job(tmp_path, text)
    (tmp_path / "i.txt").write_text("b\n")
    after = job(tmp_path, text, profile=PROFILE, sets=("env.A=1",), w="b")
    found = {one.path: one.source for one in differences(before.content, after.content, after.sources)}
    assert found == {
        "env.A": "--set",
        "resources.cores": "profile default",
        "resources.ram": "profile default",
        "resources.gpus": "profile default",
        "items.hash": "items file",
        "vars.w": "--var",
    }


def test_secrets_are_references_wherever_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush")
    (tmp_path / "key").write_text("hush")
    made = job(tmp_path, "[env]\nA = { from-env = 'MY_TOKEN' }\nB = { from-file = 'key' }")
    assert "hush" not in repr(made)
    (tmp_path / "elsewhere").mkdir()
    same = job(tmp_path / "elsewhere", "[env]\nA = { from-env = 'MY_TOKEN' }\nB = { from-file = 'key' }")
    assert same.digest == made.digest
    assert same.replicas[0].name == made.replicas[0].name


# placeholders

WORDS = frozenset([*BUILT_IN, "ra", "item.ra"])


@given(st.text(alphabet="{}$ nameitem.ra"))
def test_a_text_without_known_words_stays(text: str) -> None:
    template = parse_template(text, frozenset())
    assert template.literal == text


@given(
    st.lists(st.one_of(st.text(alphabet="ab ${}\n\"'"), st.sampled_from(sorted(WORDS)).map(Placeholder)), max_size=8)
)
def test_a_placeholder_is_a_known_word_with_no_brace_or_dollar_before_it(parts: list[str | Placeholder]) -> None:
    text = "".join(part if isinstance(part, str) else f"|{{{part.name}}}|" for part in parts)
    expected = "".join(part if isinstance(part, str) else f"|<{part.name}>|" for part in parts)
    values = {word: f"<{word}>" for word in WORDS}
    assert parse_template(text, WORDS).render(values) == expected


@given(st.sampled_from(sorted(WORDS)), st.sampled_from(["$", "{", "a", ""]))
def test_what_stands_before_a_placeholder(word: str, before: str) -> None:
    values = {word: "value"}
    expected = f"{before}{{{word}}}" if before in ("$", "{") else f"{before}value"
    assert parse_template(f"{before}{{{word}}}", WORDS).render(values) == expected
    assert parse_template(f"{{{{{word}}}}}", WORDS).render({}) == f"{{{word}}}"


@given(st.text())
def test_a_quoted_text_is_one_word_of_sh(text: str) -> None:
    import shlex

    assert shlex.split(parse_template(text, frozenset()).shell({}, str)) == [text]


# lines, and tables over tables


@pytest.mark.parametrize(
    ("text", "keys", "table"),
    [
        ("a=1", ("a",), {"a": 1}),
        ("a.b=x", ("a", "b"), {"a": {"b": "x"}}),
        ("a='x'", ("a",), {"a": "x"}),
        ("a=x=y", ("a",), {"a": "x=y"}),
        ("a=", ("a",), {"a": ""}),
        ("a=[1", ("a",), {"a": "[1"}),
        ('a."b.c"=true', ("a", "b.c"), {"a": {"b.c": True}}),
        ("env.A=1.50", ("env", "A"), {"env": {"A": "1.50"}}),
        ("tiles.env.A=2026-01-02", ("tiles", "env", "A"), {"tiles": {"env": {"A": "2026-01-02"}}}),
        ("env.A=3", ("env", "A"), {"env": {"A": 3}}),
        ("env.A=0x10", ("env", "A"), {"env": {"A": "0x10"}}),
        ("env.A=1_000", ("env", "A"), {"env": {"A": "1_000"}}),
        ("vars.a=+3", ("vars", "a"), {"vars": {"a": "+3"}}),
        ("replicas=1_000", ("replicas",), {"replicas": 1000}),
        ("a=1\nb = 2", ("a",), {"a": "1\nb = 2"}),
    ],
)
def test_a_setting(text: str, keys: tuple[str, ...], table: dict[str, object]) -> None:
    assert parse_setting(text) == (keys, table)


def test_a_table_over_another() -> None:
    under = {"command": ["x"], "env": {"A": 1, "T": {"from-env": "X"}}, "items": {"file": "f", "each": True}}
    over = {"shell": "y", "env": {"T": {"from-file": "Y"}}, "items": {"glob": "g"}}
    assert overlay_table(under, over) == {
        "shell": "y",
        "env": {"A": 1, "T": {"from-file": "Y"}},
        "items": {"glob": "g", "each": True},
    }


# explanations


def test_every_key_is_explained_with_an_example_that_is_right() -> None:
    for key in manifest_keys():
        text = explain_key(key).text()
        assert text.startswith(f"{key}: ")
        if key not in ("common", "job"):
            example = "\n".join(line.removeprefix("  ") for line in text.split("\n\n")[-1].split("\n"))
            draft({"name": "a", "image": "x.y/z:1", **_filled(key, tomllib.loads(example))})


def _filled(key: str, example: dict[str, Any]) -> dict[str, Any]:
    """The tables around an example, with what its neighbours ask for."""
    table: dict[str, Any] = {key.partition(".")[0]: example} if "." in key else example
    items = table.get("items", {"csv": ""})
    if not {"file", "glob", "values", "range", "csv", "matrix"} & set(items):
        items["values"] = ["a"]
    if not {"per-replica", "csv", "matrix"} & set(items):
        table["replicas"] = 2
    return table


def test_keys_are_explained_however_they_are_written() -> None:
    assert explain_key("[resources]") == explain_key("resources")
    assert explain_key("common.env.LEVEL") == explain_key("job.env") == explain_key("env")
    assert explain_key("items.per_replica") == explain_key("items.per-replica")


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("core", "resources.cores"),
        ("resource.cores", "resources.cores"),
        ("memory", "resources.ram"),
        ("per_replic", "per-"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, guess: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain_key(key)
    assert guess in (caught.value.hint or "")


def test_the_schema_knows_every_key() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == {key for key in manifest_keys() if "." not in key}
    assert "name" not in schema["$defs"]["Common"]["properties"]
    assert schema["$defs"]["Job"]["required"] == ["name"]
    assert "null" not in json.dumps(schema)


# the commands


def test_a_large_job_is_resolved_without_a_large_content(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("".join(f"tile-{number:06d}\n" for number in range(200_000)))
    made = job(tmp_path, "command = ['x', '{item}']\nreplicas = 5000\n[items]\nfile = 'items.txt'\neach = true\n")
    assert sum(len(replica.items) for replica in made.replicas) == 200_000
    assert len(json.dumps(made.content)) < 1000


@pytest.mark.parametrize(
    ("root", "command", "warns"),
    [
        ("/arc", ["sh", "measure.sh"], True),
        ("/arc", ["sh", "/arc/measure.sh"], False),
        ("/arc", ["sh", "-c", "./other.sh"], False),
        (None, ["sh", "measure.sh"], False),
        ("HERE", ["sh", "measure.sh"], False),
    ],
)
def test_a_file_that_sessions_do_not_see_is_reported(
    tmp_path: Path, root: str | None, command: list[str], warns: bool
) -> None:
    (tmp_path / "measure.sh").touch()
    place = str(tmp_path.resolve().parent) if root == "HERE" else root
    profile = Profile("far", "https://far.example/skaha/v1", storage=StorageSettings(place))
    made = job(tmp_path, f"command = {json.dumps(command)}", profile=profile)
    found = [one for one in made.warnings if "no tag" not in one]
    assert len(found) == warns
    assert all("measure.sh is a file on this machine" in one and "below /arc" in one for one in found)
