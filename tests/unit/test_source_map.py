"""Lines and columns of keys and values, and messages for texts that are not TOML."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from skahactl.errors import Problem
from skahactl.manifest.syntax import MAX_ELEMENTS, SourceMap, SourceText, explain_other_format, parse_toml

TEXT = '''name = "x" # [no]
image.a = "\\"#"
"q k" = { c = [1, {d = 2}], 'e' = """x } ] \\\\""" }
command = [ # one
  "a]", # two ]
  "#",
]
shell = """
[env]
A = 1 \\"\\"\\" x""""
when = 1979-05-27 07:32:00
[env]
A.from-env = "B"
[[job]]
name = "c"
[job.env]
D = 1
[[job]]
 name = \'\'\'
[not]\'\'\'\'
'''


def test_every_key_has_its_line_and_column() -> None:
    source = SourceText.of(TEXT, is_valid=True)
    found = {path: source.place(span.key, span.key_end)[:3] for path, span in source.spans.items()}
    assert found == {
        ("name",): (1, 1, 4),
        ("image",): (2, 1, 5),
        ("image", "a"): (2, 7, 1),
        ("q k",): (3, 1, 5),
        ("q k", "c"): (3, 11, 1),
        ("q k", "c", 0): (3, 16, 1),
        ("q k", "c", 1): (3, 19, 7),
        ("q k", "c", 1, "d"): (3, 20, 1),
        ("q k", "e"): (3, 29, 3),
        ("command",): (4, 1, 7),
        ("command", 0): (5, 3, 4),
        ("command", 1): (6, 3, 3),
        ("shell",): (8, 1, 5),
        ("when",): (11, 1, 4),
        ("env",): (12, 1, 5),
        ("env", "A"): (13, 1, 1),
        ("env", "A", "from-env"): (13, 3, 8),
        ("job",): (14, 1, 7),
        ("job", 0): (14, 1, 7),
        ("job", 0, "name"): (15, 1, 4),
        ("job", 0, "env"): (16, 1, 9),
        ("job", 0, "env", "D"): (17, 1, 1),
        ("job", 1): (18, 1, 7),
        ("job", 1, "name"): (19, 2, 4),
    }


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**60), 2**60) | st.booleans() | st.text(max_size=12) | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), st.booleans())
def test_every_value_is_where_the_map_says(data: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(data, multiline_strings=multiline).replace("\r\n", "\n")
    whole = tomllib.loads(text)
    source = SourceText.of(text, is_valid=True)
    for path, span in source.spans.items():
        written = text[span.value : span.value_end]
        if written.startswith("[") and span.key == span.value:
            continue  # a header
        if all(isinstance(part, int) or re.fullmatch(r"[^\\\"\']*", part) for part in path):
            here: Any = whole
            for part in path:
                here = here[part]
            if isinstance(here, str | int | bool):
                assert tomllib.loads(f"x = {written}")["x"] == here


def test_positions_of_a_long_list_are_bounded() -> None:
    source = SourceText.of(f"x = {list(range(5000))}\n", is_valid=True)
    assert len(source.spans) == MAX_ELEMENTS + 1


def test_a_key_that_is_not_there_has_the_place_of_its_table() -> None:
    source = SourceText.of('[common.env]\nA = "1"\n[[job]]\nname = "a"\n', is_valid=True)
    places = SourceMap("f", source, (("job", 0), ("common",)), "a.")
    assert places.problem(("env", "X"), "m").text() == "f:1:1: common.env.X: m"
    assert places.problem(("env", "A"), "m").text() == "f:2:5: common.env.A: m"
    assert places.problem(("env", "A"), "m", at_key=True).text() == "f:2:1: common.env.A: m"
    assert places.problem(("image",), "m").text() == "f:3:1: a.image: m"
    assert places.problem((), "m").text() == "f:3:1: a: m"


def test_a_problem_is_data_for_a_caret() -> None:
    source = SourceText.of('name = "a"\ncommand = "python run.py"  # here\n', is_valid=True)
    problem = SourceMap("job.toml", source).problem(("command",), "expected a list", "write ...")
    assert problem == Problem(
        "job.toml", "expected a list", 2, "command", "write ...", 11, 15, source.text.split("\n")[1]
    )
    assert problem.data()["column"] == 11


#: (text, line, column, message, part of the hint)
NOT_TOML = [
    ('name = "tiles\nimage = "a"\n', 1, 8, "the string is not closed", 'close it with "'),
    ("name = 'tiles\n", 1, 8, "the string is not closed", "close it with '"),
    ('name = "a"\nshell = """\nx\n', 2, 9, "the string is not closed", 'ends with """'),
    ("name = tiles\n", 1, 8, "invalid value", 'write text in quotes: "tiles"'),
    ("name = my tiles # x\n", 1, 8, "invalid value", '"my tiles"'),
    ("each = True\n", 1, 8, "invalid value", "write true or false"),
    ("x = None\n", 1, 5, "invalid value", "leave the key out"),
    ("name = “a”\n", 1, 8, "invalid value", "straight quotes"),
    ("name =\n", 1, 7, "the value is missing", None),
    ('image: "b"\nname = "a"\n', 1, 6, "expected = after image", "image = ..."),
    ('a = 1\na = "b"\n', 2, 8, "the key is given twice", "keep one"),
    ('[env]\nA = "1"\n[env]\n', 3, 1, "[env] is given twice (the first is in line 1)", "below one [env]"),
    ('env = { A = "1" }\nenv.B = "2"\n', 2, 1, "env is complete already", "in one place"),
    ('x = ["a", "b"\ny = 3\n', 2, 1, "the list is not closed", "ends with ]"),
    ("x = ['a', 'it's']\n", 1, 14, "this quote ends the string", 'write a text with \' in "..."'),
    ('x = "\\d"\n', 1, 8, "a backslash begins an escape", "'...'"),
    ('a = "b" c = 1\n', 1, 9, "text after the value", "one KEY = VALUE per line"),
    (
        '[logs] shared = "/arc/a"  # b\n',
        1,
        8,
        "text after a table header",
        'write shared = "/arc/a" on a line of its own',
    ),
    ("[[job]] name = 'a'\n", 1, 9, "text after a table header", "below [[job]]"),
    ("x = " + "9" * 5000 + "\n", 1, 5, "a number with too many digits", "as a string"),
]


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), NOT_TOML)
def test_a_text_that_is_not_toml(text: str, line: int, column: int, message: str, hint: str | None) -> None:
    problem = parse_toml("job.toml", text)
    assert isinstance(problem, Problem)
    assert (problem.line, problem.column) == (line, column), problem.text()
    assert message in problem.message
    assert problem.source == text.split("\n")[line - 1]
    assert (hint or "") in (problem.hint or "")


def test_a_text_that_is_nested_too_deeply() -> None:
    problem = parse_toml("job.toml", "x = " + "[" * 2000 + "]" * 2000)
    assert isinstance(problem, Problem)
    assert problem.message == "tables or lists are nested too deeply"


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "9_" * 5000 + "9", "0x" + "f" * 5000, "0o" + "7" * 6000, "0b" + "1" * 20_000],
    ids=["decimal", "with underscores", "hexadecimal", "octal", "binary"],
)
def test_a_number_of_more_digits_than_python_writes(number: str) -> None:
    problem = parse_toml("job.toml", f"a = 1\nreplicas = {number}\n")
    assert isinstance(problem, Problem)
    assert (problem.line, problem.column, problem.message) == (2, 12, "not TOML: a number with too many digits")
    assert parse_toml("job.toml", f"text = '{number}'\n") == {"text": number}


@pytest.mark.parametrize("text", ["#!/bin/bash\n#SBATCH -J a\necho a\n", "#SBATCH -J a\necho a\n"])
def test_a_batch_script_is_recognised(text: str) -> None:
    assert isinstance(parse_toml("my run.sh", text), Problem)
    problem = explain_other_format("my run.sh", text)
    assert problem is not None
    assert problem.hint == "convert it: skahactl init --from-sbatch 'my run.sh' > job.toml"


@given(st.text(alphabet="ab=.[]{}\"'#,\\ \n1", max_size=40))
def test_any_text_gives_tables_or_a_problem_with_a_place_inside_it(text: str) -> None:
    found = parse_toml("job.toml", text)
    if isinstance(found, Problem):
        assert found.line is None or 1 <= found.line <= text.count("\n") + 1
    else:
        SourceText.of(text, is_valid=True)
