"""Every mistake of a manifest is met with the place, what was expected, and the way round."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from skahactl.errors import ManifestError
from skahactl.manifest.load import draft
from skahactl.manifest.resolve import read
from skahactl.model import Request, RequestProblem
from skahactl.skaha import encoding
from tests.manifests import HEAD, LOCAL, job, jobs, problems, write

SIMPLE = HEAD + 'command = ["x"]\n'

#: (what follows HEAD, line, parts of the message and its hint)
WRONG = [
    # keys
    ("comand = ['x']", 3, ["comand: unknown key", "did you mean 'command'?"]),
    ("per_replica = 3", 3, ["unknown key", "did you mean 'per-replica' in [items]?"]),
    ("session_name = 'x'", 3, ["did you mean 'session-name'?"]),
    ("cores = 8", 3, ["cores: unknown key", "did you mean 'cores' in [resources]?"]),
    ("memory = 8", 3, ["unknown key", "did you mean 'ram' in [resources]?"]),
    ("retries = 8", 3, ["did you mean 'attempts' in [retry]?"]),
    ("args = ['x']", 3, ["'command'"]),
    ("frobnicate = 1", 3, ["unknown key", "known keys: name, image, kind, command"]),
    ("[resources]\ncpus = 8", 4, ["resources.cpus: unknown key in [resources]", "did you mean 'cores'?"]),
    ("[resources]\nmemory = 8", 4, ["resources.memory", "did you mean 'ram'?"]),
    ("[resources]\nreplicas = 8", 4, ["'replicas' belongs at the top level", "move it above"]),
    ("[resources]\nLOG_LEVEL = 'debug'", 4, ["unknown key in [resources]", "below a line [env]"]),
    ("[limits]\nattempts = 2", 4, ["did you mean 'attempts' in [retry]?"]),
    ("[limit]\nalive = 2", 3, ["limit: unknown key", "did you mean 'limits'?"]),
    ("[limits]\ntimeout = '2h'", 4, ["limits.timeout: unknown key", "no key limits the run time", '"timeout", "2h"']),
    ("time = '2h'", 3, ["time: unknown key", "no key limits the run time"]),
    (
        "replicas = 2\nper-replica = 3",
        4,
        ["both replicas and per-replica", "per-replica, in [items], is the number"],
    ),
    ("[items]\nvalues = ['a']\nper-replica = 1\nreplicas = 2", 6, ["both replicas and per-replica", "keep one"]),
    (
        "[items]\nvalues = ['a']\nper-replica = 1\nlist = ['a']",
        6,
        ["items.list: unknown key", "did you mean 'values'?"],
    ),
    # types
    ("replicas = '8'", 3, ['expected a whole number, found "8"', "without quotes"]),
    ("replicas = 8.0", 3, ["expected a whole number, found 8.0"]),
    ("replicas = true", 3, ["expected a whole number, found true"]),
    ("replicas = 0", 3, ["expected at least 1, found 0"]),
    ("replicas = 1000001", 3, ["expected at most 1,000,000"]),
    ("command = 3", 3, ["expected a list, found 3"]),
    ("command = ['x', 3]", 3, ["command, word 2: expected a string in quotes, found 3"]),
    ("command = []", 3, ["the command is empty"]),
    ("shell = ['x']", 3, ["expected a string in quotes, found a list"]),
    ("shell = '  '", 3, ["the value is empty"]),
    ("after = 'shards'", 3, ['expected a list, found "shards"', 'write after = ["shards"]']),
    ("after = ['tiles']", 3, ["'tiles' cannot wait for itself"]),
    ("env = 3", 3, ["expected a table, found 3"]),
    ("resources = 3", 3, ["expected a table, found 3"]),
    ("kind = 'headles'", 3, ["expected one of headless, notebook,", "did you mean 'headless'?"]),
    ("session-name = ''", 3, ["the string is empty"]),
    # command
    (
        "command = 'python x.py --tag \"a b\"'",
        3,
        ["expected a list of words, found a string", 'write command = ["python", "x.py", "--tag", "a b"]'],
    ),
    ("command = 'x > y'", 3, ["that needs a shell", "write shell = '''x > y'''"]),
    ("command = 'echo \"x'", 3, ["write shell = '''"]),
    ("command = ['x']\nshell = 'y'", 4, ["command and shell exclude each other"]),
    # resources
    ("[resources]\ncores = '8'", 4, ["resources.cores: expected a number", "write it without quotes: 8"]),
    ("[resources]\ncores = ' 8'", 4, ["resources.cores: expected a number", "write it without quotes: 8"]),
    ("[resources]\nram = '4GB'", 4, ["resources.ram: expected a number", "write it without quotes, in GB: 4"]),
    ("[resources]\ncores = 0.5", 4, ["expected a number from 1 to 999,999, found 0.5"]),
    ("[resources]\ncores = 1e400", 4, ["expected a number from 1 to 999,999, found inf"]),
    (
        "[resources]\ncores = 99999999999999999999",
        4,
        ["expected a number from 1 to 999,999, found 99999999999999999999"],
    ),
    ("[resources]\ncores = nan", 4, ["expected a number from 1 to 999,999"]),
    ("[resources]\nram = inf", 4, ["expected a number from 1 to 999,999"]),
    ("[resources]\nram = true", 4, ["expected a number"]),
    ("[resources]\ngpus = 1.5", 4, ["expected a whole number"]),
    ("[resources]\ngpus = -1", 4, ["expected a whole number from 0 to 999, found -1"]),
    ("[resources]\nram = '{rma}'", 4, ["unknown placeholder {rma}"]),
    ("[resources]\nram = '{name}'", 4, ["'tiles' is not a number from 1 to 999,999"]),
    # environment
    ("[env]\nX = 1.5", 4, ["env.X: 1.5 could be sent as 1.5 or 1.50", 'write it as a string: "1.5"']),
    ("[env]\nX = 2026-01-02", 4, ["2026-01-02 could be sent in several forms", 'write it as a string: "2026-01-02"']),
    ("[env]\nX = ['a']", 4, ["expected a string, a whole number, true or false, found a list"]),
    ("[env]\n'A-B' = 'a'", 4, ["is not a variable name"]),
    ("[env]\nOMP_NUM_THREADS = 4", 4, ["the platform sets", 'command = ["env", "OMP_NUM_THREADS=4", ...]']),
    ("[env]\nHOME = '/x'", 4, ["the platform sets", 'command = ["env", "HOME=...", ...]']),
    ("[env]\nPWD = '/x'", 4, ["the platform sets"]),
    ("[env]\nskaha_sessionid = 'x'", 4, ["the platform sets"]),
    ("[env]\nREPLICA_ID = 1", 4, ["skahactl sets this variable"]),
    ("[env]\nREPLICA_COUNT = 1", 4, ["skahactl sets this variable"]),
    ("[env]\nSKAHACTL_ATTEMPT = 1", 4, ["skahactl sets this variable"]),
    ("[env]\nA = 1\nreplicas = 5", 5, ["'replicas' is a key of the manifest, but is below [env]", "move it above"]),
    ("[env]\ncommand = ['x']", 4, ["is below [env]", "move it above"]),
    ("[env]\nX = { from-evn = 'Y' }", 4, ["one of from-env and from-file", '{ from-env = "TOKEN" }']),
    ("[env]\nX = { from-env = 'Y', from-file = 'z' }", 4, ["one of from-env and from-file"]),
    ("[env]\nX = { from-env = 'a b' }", 4, ["from-env names a variable of your own environment"]),
    ("[env]\nX = { from-file = 3 }", 4, ["expected a string for from-file, found 3"]),
    # placeholders
    ("session-name = '{nmae}'", 3, ["unknown placeholder {nmae}", "did you mean 'name'?"]),
    ("session-name = '${name}'", 3, ["unmatched brace"]),
    ("command = ['{items}']", 3, ["{items} is not allowed here", "{items} needs [items]"]),
    ("command = ['{item}']", 3, ["{item} needs [items]", "{{item}}"]),
    ("[vars]\nreplica = 'x'", 4, ["{replica} is a built-in placeholder"]),
    ("[vars]\n'a b' = 'x'", 4, ["is not a valid placeholder"]),
    ("[vars]\na = 1.5", 4, ['write it as a string: "1.5"']),
    # other tables
    ("[limits]\nalive = 0", 4, ["limits.alive: expected at least 1"]),
    ("[limits]\npending-timeout = '2 hours'", 4, ["2h"]),
    ("[limits]\npending-timeout = 0", 4, ["above zero"]),
    (f"[limits]\npending-timeout = 1{'0' * 400}", 4, ["expected a duration, found a number that is too large"]),
    ("[retry]\nattempts = 0", 4, ["expected at least 1"]),
    ("[logs]\nkeep = 'some'", 4, ['expected one of all, failed, none, found "some"']),
    ("[logs]\nkeep = 'al'", 4, ["did you mean 'all'?"]),
    ("[retry]\nram = []", 4, ["retry.ram: the list is empty", "for example ram = [4, 8, 16], or delete the key"]),
    # kinds
    ("kind = 'notebook'\ncommand = ['x']", 4, ["the platform ignores it for a notebook session"]),
    ("kind = 'desktop'\nshell = 'x'", 4, ["ignores it for a desktop session"]),
    ("kind = 'carta'\n[env]\nX = 1", 4, ["ignores it for a carta session"]),
    ("kind = 'firefly'\nreplicas = 2", 4, ["a firefly job can have only one replica"]),
    ("kind = 'contributed'\n[retry]\nattempts = 2", 4, ["ignores it for a contributed session"]),
    ("kind = 'notebook'\n[items]\nvalues = ['a']\nper-replica = 1", 4, ["items: the platform ignores it"]),
    # items
    ("[items]\nstrategy = 'chunk'", 3, ["[items] needs a source", "file, glob, values, range, csv, matrix"]),
    ("replicas = 2\n[items]\nvalues = ['a']\nrange = '1'", 6, ["both values and range are given"]),
    (
        "command = ['{items}']\n[items]\nvalues = ['a']",
        4,
        ["set replicas or items.per-replica: how many", "per-replica = 1"],
    ),
    (
        "replicas = 2\ncommand = ['{items}']\n[items]\nvalues = ['a', 'b']\nper-replica = 1",
        7,
        ["both replicas and per-replica"],
    ),
    ("replicas = 2\n[items]\nmatrix = { a = ['b'] }", 3, ["one combination is one replica", "delete replicas"]),
    ("replicas = 1\n[items]\nvalues = ['a', 1.5]", 5, ["items.values, element 2", 'write it as a string: "1.5"']),
    ("replicas = 1\n[items]\nvalues = ['a']", 5, ["the items are not used", "{item}"]),
    ("replicas = 1\ncommand = ['{item}']\n[items]\nvalues = ['a', 'b']", 4, ["{item} needs one item per replica"]),
    ("replicas = 1\ncommand = ['a{items}']\n[items]\nvalues = ['a', 'b']", 4, ["{items} is not allowed here"]),
    ("replicas = 1\nshell = '{items}'\n[items]\nvalues = ['a', 'b']", 4, ["{items} is not allowed here"]),
    (
        "replicas = 1\ncommand = ['{items}']\n[items]\nvalues = ['a', 'b']\neach = true",
        4,
        ["{items} is not allowed here", "with each = true, use {item}"],
    ),
    ("replicas = 1\n[items]\nvalues = ['a', 'b']\neach = true", 6, ["needs a command or shell"]),
    (
        "replicas = 1\ncommand = ['{item}']\nsession-name = '{item}'\n[items]\nvalues = ['a', 'b']\neach = true",
        5,
        ["{item} needs one item per replica, and replica 1 has 2"],
    ),
    (
        "replicas = 1\ncommand = ['{items}']\n[items]\nvalues = ['a', 'b', 'a']",
        6,
        ["duplicate item 'a': item 1 and item 3"],
    ),
    ("command = ['x']\n[items]\nmatrix = { a = ['b', 'b'] }", 5, ["'b' is given twice"]),
    ("command = ['x']\n[items]\nmatrix = { a = [] }", 5, ["an empty list"]),
    ("command = ['x']\n[items]\nmatrix = { 'a-b' = ['1'], a_b = ['2'] }", 5, ["would both become ITEM_A_B"]),
    (
        "command = ['x']\n[vars]\na = '1'\n[items]\nmatrix = { a = ['1'] }",
        5,
        ["a column of the items has the same name"],
    ),
    (
        "command = ['x']\n[env]\nITEM_A = '1'\n[items]\nmatrix = { a = ['1'] }",
        5,
        ["this variable is set for the items"],
    ),
    ("replicas = 1\ncommand = ['{items}']\n[items]\nfile = 'none.txt'", 6, ["cannot read 'none.txt': No such file"]),
    (
        "replicas = 1\ncommand = ['{items}']\n[items]\nfile = '/arc/none.txt'",
        6,
        ["/arc is read on the machine where skahactl runs"],
    ),
    ("replicas = 1\ncommand = ['{items}']\n[items]\nglob = '*.none'", 6, ["nothing matches '*.none'"]),
    (
        "replicas = 1\ncommand = ['{items}']\n[items]\nvalues = ['a']\nstrategy = 'even'",
        7,
        ["one of chunk, stripe, size"],
    ),
    (
        "replicas = 1\ncommand = ['{items}']\n[items]\nvalues = ['nofile']\nstrategy = 'size'",
        7,
        ["no file 'nofile' (item 1)"],
    ),
    # names
    (
        "replicas = 3000\nsession-name = 'same'\n",
        4,
        ["would have the same session name", "use {replica} in session-name"],
    ),
]


@pytest.mark.parametrize(("text", "line", "parts"), WRONG, ids=[f"{row[0][:50]!r}" for row in WRONG])
def test_a_mistake(tmp_path: Path, text: str, line: int, parts: list[str]) -> None:
    (problem,) = problems(tmp_path, HEAD + text + "\n")
    assert problem.text().startswith(f"{tmp_path}/job.toml:{line}:{problem.column}: ")
    assert problem.source == (HEAD + text).split("\n")[line - 1]
    for part in parts:
        assert part in problem.text()


#: (name or image, parts of the message)
WRONG_HEADS = [
    ("name = '-tiles'", ["it begins with a letter or digit", 'for example "tiles"']),
    ("name = 'my_tiles.x'", ['for example "my-tiles-x"']),
    (f"name = '{'a' * 64}'", ["64 characters, and the longest name has 63"]),
    ("name = 3", ["expected a string in quotes, found 3"]),
    ("", ["name: missing"]),
]

WRONG_IMAGES = [
    ("image = ''", ["the image is empty"]),
    ("image = 'a b'", ['"a b" is not an image reference', "letters, digits and . _ -"]),
    ("image = 'a:b:c'", ["is not an image reference"]),
    ("image = 'a//b'", ["is not an image reference"]),
    ("image = 'a:'", ["is not an image reference"]),
    ("image = 'x.io/Skaha/b'", ["image names are in lower case"]),
    ("image = 'Skaha/b:V1'", ["image names are in lower case"]),
    ("image = 'x.io/a:é'", ["is not an image reference"]),
    ("", ["image: missing"]),
]


@pytest.mark.parametrize(("text", "parts"), WRONG_HEADS)
def test_a_wrong_name(tmp_path: Path, text: str, parts: list[str]) -> None:
    (problem,) = problems(tmp_path, f"image = 'a:1'\n{text}\n")
    assert all(part in problem.text() for part in parts), problem.text()


@pytest.mark.parametrize(("text", "parts"), WRONG_IMAGES)
def test_a_wrong_image(tmp_path: Path, text: str, parts: list[str]) -> None:
    (problem,) = problems(tmp_path, f"name = 'a'\n{text}\n")
    assert all(part in problem.text() for part in parts), problem.text()


#: (a file that is no TOML, line, parts)
NOT_TOML = [
    ("name = tiles\n", 1, ["not TOML", 'write text in quotes: "tiles"']),
    ('name = "a"\nimage: "b"\n', 2, ["not TOML", "TOML writes image = ..."]),
    ('name = "a"\nname = "b"\n', 2, ["the key is given twice"]),
    ('name = "a"\n[env\n', 2, ["not TOML"]),
    ('name = "a', 1, ["not TOML"]),
]

OTHER_FORMATS = [
    ("# a job\nname: tiles\nimage: a\n", "YAML"),
    ("---\nname: tiles\n", "YAML"),
    ("- name: tiles\n", "YAML"),
    ('{"name": "tiles"}\n', "JSON"),
]


@pytest.mark.parametrize(("text", "format_name"), OTHER_FORMATS)
def test_a_file_in_another_format(tmp_path: Path, text: str, format_name: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.message == f"this is {format_name}, and a manifest is TOML"
    assert problem.hint == "to begin: skahactl init > job.toml"


def test_a_list_of_jobs_with_a_mistyped_name(tmp_path: Path) -> None:
    for text in ('[[jobs]]\nname = "a"\n', '[common]\nimage = "a"\n[[jbo]]\nname = "a"\n'):
        (problem,) = problems(tmp_path, text)
        assert problem.text().endswith("unknown table (did you mean [[job]]?)")
        assert problem.source in ("[[jobs]]", "[[jbo]]")


def test_standard_input_is_empty() -> None:
    with pytest.raises(ManifestError, match="-: standard input is empty"):
        read(["-"], LOCAL, stdin=io.BytesIO())


def test_a_mistake_names_the_option_of_create() -> None:
    options = {"name": "-n", "env": "-e", "command": "COMMAND"}
    table = {"name": "my_job", "image": "a:1", "env": {"HOME": "x"}, "command": ["run", "\0"]}
    with pytest.raises(ManifestError) as caught:
        draft(table, options=options)
    assert [problem.text().partition(":")[0] for problem in caught.value.problems] == ["-e HOME", "-n"]
    made = draft({**table, "name": "MyJob", "env": {}}, options=options)
    assert made.warnings == ("-n: the job's name is 'myjob', in lower case",)


@pytest.mark.parametrize(("text", "line", "parts"), NOT_TOML)
def test_no_toml(tmp_path: Path, text: str, line: int, parts: list[str]) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.line == line
    assert all(part in problem.text() for part in parts), problem.text()


def test_not_utf_8_and_empty(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b'name = "a"\nimage = "\xff"\n')
    (tmp_path / "empty.toml").write_bytes(b"# nothing\n")
    with pytest.raises(ManifestError) as caught:
        read([str(tmp_path)], LOCAL)
    assert [(one.line, one.message) for one in caught.value.problems] == [
        (2, "not UTF-8"),
        (None, "the manifest is empty"),
    ]


def test_every_mistake_of_every_file_at_once(tmp_path: Path) -> None:
    first = write(tmp_path, 'name = "A_"\nimage = "x y"\nreplicas = "8"\n[env]\nHOME = 1\n', "one.toml")
    second = write(tmp_path, "name = tiles\n", "two.toml")
    third = write(tmp_path, SIMPLE + "replicas = 1\n[items]\nfile = 'none'\neach = true\n", "three.toml")
    with pytest.raises(ManifestError) as caught:
        read([first, second, third, str(tmp_path / "four.toml")], LOCAL)
    found = [(Path(one.file).name, one.line) for one in caught.value.problems]
    assert [one for one in found if one[0] == "one.toml"] == [("one.toml", line) for line in (1, 2, 3, 5)]
    assert {name for name, _ in found} == {"one.toml", "two.toml", "three.toml", "four.toml"}
    assert caught.value.exit == 2


def test_a_directory_a_file_given_twice_and_a_missing_one(tmp_path: Path) -> None:
    path = write(tmp_path, SIMPLE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError) as caught:
        read([path, f"{tmp_path}/../{tmp_path.name}/job.toml", str(tmp_path / "empty"), "none.toml"], LOCAL)
    assert sorted(one.message for one in caught.value.problems) == [
        "cannot be read: No such file or directory",
        "given twice",
        "this directory contains no *.toml file",
    ]


def test_a_directory_is_what_a_shell_would_give(tmp_path: Path) -> None:
    write(tmp_path, SIMPLE)
    for name in (".hidden.toml", "._job.toml"):
        (tmp_path / name).write_bytes(b"\0 no manifest")
    (tmp_path / "folder.toml").mkdir()
    (only,) = read([str(tmp_path)], LOCAL)
    assert only.manifest == f"{tmp_path}/job.toml"
    (tmp_path / "z.toml").symlink_to("gone.toml")
    with pytest.raises(ManifestError) as caught:
        read([str(tmp_path)], LOCAL)
    assert caught.value.problems[0].text() == f"{tmp_path}/z.toml: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("written", "arrives"), [("0x10", "16"), ("1_000", "1000"), ("+3", "3"), ("-1_0  # ten", "-10"), ("0b11", "3")]
)
def test_a_number_of_the_environment_in_another_spelling(tmp_path: Path, written: str, arrives: str) -> None:
    (found,) = problems(tmp_path, f"{SIMPLE}replicas = 1_0\n[env]\nA = 17\nX = {written}\nB = '''\nC = 0x10\n'''\n")
    spelled = written.split()[0]
    assert (found.key, found.message) == ("env.X", f"{spelled} would arrive as {arrives}")
    assert found.hint == f'write it as a string: "{spelled}"'


def test_one_problem_for_each_list_of_many(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("a\n" + "\n" * 500)
    found = problems(tmp_path, SIMPLE + "replicas = 1\n[items]\nfile = 'items.txt'\neach = true\n")
    assert [one.line for one in found] == list(range(2, 12))
    assert found[-1].message == "a blank line; and 490 more of this kind"


def test_several_jobs(tmp_path: Path) -> None:
    text = """
[common]
image = "a:1"
replicas = 0
name = "x"
[[job]]
name = "one"
after = ["two"]
[[job]]
name = "two"
after = ["one"]
[job.env]
A = 1.5
[[job]]
name = "one"
[[job]]
command = ["x"]
"""
    found = [(one.line, one.key) for one in problems(tmp_path, text)]
    assert found == [
        (4, "common.replicas"),
        (5, "common.name"),
        (8, "one.after"),
        (13, "two.env.A"),
        (15, "one.name"),
    ]
    (problem,) = problems(tmp_path, '[[job]]\nname = "a"\nimage = "a:1"\n[[job]]\nimage = "a:1"\n')
    assert (problem.line, problem.key, problem.message) == (4, "[[job]] 2, name", "missing")


def test_top_of_a_file_of_several_jobs(tmp_path: Path) -> None:
    found = problems(tmp_path, 'image = "a:1"\n[job]\nname = "x"\n')
    assert [one.message for one in found] == [
        "only [common], [[job]] and [vars] are allowed at the top level of a file with several jobs",
        "expected [[job]] tables, found a table",
    ]
    assert "no [[job]]" in problems(tmp_path, '[common]\nimage = "a:1"\n')[0].message


def test_mistakes_beside_those_of_other_keys_are_reported_too(tmp_path: Path) -> None:
    text = """replicas = 1
name = "plc"
image = "a:1"
command = ["echo", "{itme}"]
[env]
A = "{itme}"
x = 1.5
[items]
file = "none.txt"
glob = "none*"
each = "yes"
"""
    found = [(one.line, one.message.partition(" ")[0]) for one in problems(tmp_path, text)]
    items = [(9, "cannot"), (10, "both"), (10, "nothing"), (11, "expected")]
    assert found == [(4, "unknown"), (6, "unknown"), (7, "1.5"), *items]


def test_items_that_only_a_mistyped_placeholder_uses_are_not_reported(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + "command = ['{itme}']\nreplicas = 1\n[items]\nvalues = ['a']\n")
    assert [one.message for one in found] == ["unknown placeholder {itme}"]


def test_a_key_of_a_job_above_the_jobs_is_not_reported_as_missing(tmp_path: Path) -> None:
    jobs = "".join(f'[[job]]\nname = "{name}"\n' for name in "ab")
    found = problems(tmp_path, f'image = "a:1"\nreplicas = "x"\n{jobs}')
    assert [(one.line, one.column, one.key) for one in found] == [
        (1, 1, "image"),
        (2, 1, "replicas"),
        (2, 12, "replicas"),
    ]


SETS = [
    ("replicas=lots", "--set: replicas: expected a whole number, found"),
    ("replica=3", "--set: replica: unknown key (did you mean 'replicas'?)"),
    ("tile.replicas=3", "--set: tile.replicas: there is no job and no key 'tile' (did you mean 'tiles'?)"),
    ("foo.replicas=3", "--set: foo.replicas: there is no job and no key 'foo' (the job"),
    ("replicas", "expected KEY=VALUE"),
    ("=3", "expected KEY=VALUE"),
    ("retry.attempts=1.5", "--set: retry.attempts: expected a whole number, found 1.5"),
    ("command=python x.py", 'write command = ["python", "x.py"]'),
    ("resources.core=3", "did you mean 'cores'?"),
]


@pytest.mark.parametrize(("text", "part"), SETS)
def test_a_wrong_set(tmp_path: Path, text: str, part: str) -> None:
    (problem,) = problems(tmp_path, SIMPLE, sets=(text,))
    assert part in problem.text()


def test_a_variable_that_nothing_uses(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, SIMPLE + "[vars]\nsurvey = 'dr6'\n", survye="x")
    assert problem.text() == "--var: survye: no job uses {survye} (did you mean 'survey'?)"
    assert job(tmp_path, "command = ['{survey}']", survey="dr7").replicas[0].request.command == ("dr7",)


def test_a_request_that_cannot_be_sent(tmp_path: Path) -> None:
    path = write(tmp_path, SIMPLE + "replicas = 50\n[env]\nA = 'b'\n")
    asked: list[Request] = []

    def check(request: Request) -> tuple[RequestProblem, ...]:
        asked.append(request)
        return (RequestProblem(("env", "A"), "[env] A is too short"),)

    with pytest.raises(ManifestError) as caught:
        read([path], LOCAL, check=check)
    (problem,) = caught.value.problems
    assert (problem.line, problem.key, problem.message) == (6, "env.A", "replica 1: [env] A is too short")
    assert len(asked) == 1


def test_standard_input_and_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.txt").write_text("a\nb\n")
    text = SIMPLE + "replicas = 2\n[items]\nfile = 'items.txt'\neach = true\n"
    (made,) = read(["-"], LOCAL, stdin=io.BytesIO(text.encode()))
    assert made.manifest == "-"
    assert [replica.items for replica in made.replicas] == [("a",), ("b",)]
    with pytest.raises(ManifestError) as caught:
        read(["-"], LOCAL, stdin=io.BytesIO(b"name = x"))
    assert caught.value.problems[0].text().startswith("-:1:8: not TOML")


def test_nothing_is_wrong_with_the_shortest_manifest(tmp_path: Path) -> None:
    (made,) = jobs(tmp_path, HEAD)
    assert made.replicas[0].request.command == ()


def test_a_request_grown_too_large_says_how_far_and_points_to_split(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("".join(f"{'x' * 90}{number}\n" for number in range(20_000)))
    path = write(tmp_path, HEAD + "command = ['x', '{items}']\nreplicas = 1\n[items]\nfile = 'items.txt'\n")
    with pytest.raises(ManifestError) as caught:
        read([path], LOCAL, check=encoding.problems)
    (problem,) = caught.value.problems
    assert re.search(r"take 1\d{6} bytes", problem.message)
    assert "in the container with 'skahactl split'" in str(problem.hint)


def test_an_item_that_the_platform_would_read_as_a_truth(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "command = ['x']\n[items]\nmatrix = { answer = ['y', 'no'] }\n")
    with pytest.raises(ManifestError) as caught:
        read([path], LOCAL, check=encoding.problems)
    (problem,) = caught.value.problems
    assert problem.text().startswith(f'{path}:4:1: items: replica 1: [env] ITEM_ANSWER is "y" as a whole')
