"""The server's template step, letter by letter: the table of the interface's description, and arbitrary text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skahactl.local.decode import (
    decode_request,
    expand_variables,
)
from skahactl.local.http import HttpRefusal
from skahactl.skaha.encoding import is_reread
from tests.local_platform import encoded


def argv(args: str | None, cmd: str | None = "cmd") -> tuple[str, ...]:
    return decode_request(cmd, args, []).argv


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, ()),
        ("", ("",)),
        ("   ", ()),
        ("a  b", ("a", "", "b")),
        (" a", ("", "a")),
        ("a  ", ("a",)),
        ("a\tb", ("a\tb",)),
        ("a\nb", ("a b",)),
        ("a\n\nb", ("a\nb",)),
        ("a\r\nb", ("a b",)),
        ("a\x85b", ("a b",)),
        ("x\\n", ("xn",)),
        ("\\d", ("d",)),
        ("\\\\n", ("\n",)),
        ("foo\\", ("foo",)),
        ("a\\ b", ("a", "b")),
        ("$0", ("${headless.image.bundle}",)),
        ("$001", ("${headless.image.bundle}1",)),
        ("\\$HOME", ("$HOME",)),
        ("\\${skaha.userid}", ("alice",)),
        ("# : ' { } , [ ] & * ? ! %", ("#", ":", "'", "{", "}", ",", "[", "]", "&", "*", "?", "!", "%")),
        ("é😀", ("é😀",)),
        ("\\\\x20\\\\u00e9\\\\U0001F600", (" é😀",)),
        ("\\\\N\\\\_\\\\L\\\\P\\\\e\\\\a", ("\x85\xa0\u2028\u2029\x1b\a",)),
        ("\\\\\n", ("",)),
        ("a\\\\\n  b", ("a", "", "b")),
        ("\\\\\\\\", ("\\",)),
        ('\\\\"', ('"',)),
        ('a","b', ("a", "b")),
        ("08 1e3 true yes null 2026-11-22 1_000 .5 +.5 -1 0x1f", None),
        ("\\$\\$x", ("$x",)),
        ("\\$(MISSING) \\$\\$(HOME)", ("$(MISSING)", "$(HOME)")),
    ],
)
def test_arguments(args: str | None, expected: tuple[str, ...] | None) -> None:
    expected = tuple(str(args).split()) if expected is None else expected
    assert decode_request("cmd", args, [], user="alice").argv == ("cmd", *expected)


@pytest.mark.parametrize(
    ("text", "status", "body"),
    [
        ("$1", 400, "Illegal group reference\n"),
        ("$(ls)", 400, "Illegal group reference\n"),
        ("${name}", 400, "Illegal group reference\n"),
        ("$HOME", 400, "Illegal group reference\n"),
        ("$$", 400, "Illegal group reference\n"),
        ("x$", 400, "Illegal group reference\n"),
        ('a"b', 500, "unexpected exception: while parsing a flow sequence"),
        ('a"]\nimage: evil', 500, "unexpected exception: while"),
        ("\\\\xZZ", 500, "unexpected exception: while"),
        ("\\\\", 500, "unexpected exception: while"),
        ("a\n---\nb", 500, "unexpected exception: while scanning a quoted scalar"),
        ("\x07", 500, "control characters are not allowed"),
        ("\x7f", 500, "control characters are not allowed"),
        ("\x9f", 500, "control characters are not allowed"),
    ],
)
def test_what_is_rejected(text: str, status: int, body: str) -> None:
    for parameters in (("cmd", text, []), (text, None, []), ("cmd", None, [f"A={text}"])):
        with pytest.raises(HttpRefusal) as caught:
            decode_request(*parameters)
        assert caught.value.status == status
        if not (parameters[1] is None and body.endswith("flow sequence")):
            assert body in caught.value.body


@pytest.mark.parametrize(
    "word", ["y", "Y", "n", "N", "0o17", "0O17", "0B1", "0X1F", "-08", "+09", "1e3_", "-_1", "1e5_0", "-0o7"]
)
def test_words_that_another_yaml_library_reads_differently(word: str) -> None:
    for parameters in (("cmd", word, []), (word, None, []), ("cmd", None, [f"A={word}"])):
        with pytest.raises(HttpRefusal) as caught:
            decode_request(*parameters, job="skaha-headless-me-a1234567")
        assert caught.value.status == 500
        assert "io.kubernetes.client.openapi.ApiException" in caught.value.body
        assert 'jobs.batch \\"skaha-headless-me-a1234567\\" not found' in caught.value.body
    assert argv(f"x{word}") == ("cmd", f"x{word}")


def test_words_that_survive() -> None:
    for word in (
        "08",
        "1e3",
        "0x1f",
        "1_000",
        "+.5",
        "-.5e1",
        "017",
        "1:30",
        "yes",
        "~",
        ".inf",
        "1.5.2",
        "0b",
        "-",
        "+",
    ):
        assert not is_reread(word), word


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["A=", "B", "C=a=b", "D==b", "="], ()),
        (["A=b=", "B=b=="], (("A", "b"), ("B", "b"))),
        (["A=1", "A=2"], (("A", "1"), ("A", "2"))),
        (["A=x", "B=\\$(A)\\$(C)\\$\\$(A)", "C=z"], (("A", "x"), ("B", "x$(C)$(A)"), ("C", "z"))),
        (["A= padded "], (("A", " padded "),)),
        (["A=a\\\\x3db"], (("A", "a=b"),)),
        (["A=\\\\\n"], (("A", ""),)),
        (["NO=1", "On=2", '"NO"=3', '"null"=4'], (("false", "1"), ("true", "2"), ("NO", "3"), ("null", "4"))),
    ],
)
def test_environment(entries: list[str], expected: tuple[tuple[str, str], ...]) -> None:
    assert decode_request("cmd", None, entries).env == expected


@pytest.mark.parametrize(
    "entry",
    ["=v", "1A=x", "A B=x", "y=1", '"y"=1', "null=1", "-1=x", ".inf=x", "A:B=x", "é=x", "[A]=x"],
)
def test_names_that_kubernetes_refuses(entry: str) -> None:
    with pytest.raises(HttpRefusal, match="not found"):
        decode_request("cmd", None, [entry])


def test_commands_may_name_variables() -> None:
    platform = (("HOME", "/home/me"), ("A", "last"))
    decoded = decode_request("\\$(HOME)/run", "\\$(A) \\$(B) \\$\\$(A)", ["A=first", "B=\\$(A)b"], platform=platform)
    assert decoded.argv == ("/home/me/run", "last", "firstb", "$(A)")
    assert decoded.env == (("A", "first"), ("B", "firstb"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A", "$(A"), ("$", "$"), ("a$", "a$"), ("$$$(A)", "$1"), ("$()", "$()"), ("$A", "$A"), ("$((A)", "$((A)")],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand_variables(text, {"A": "1"}) == expected


printable = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12) | st.text(
    " \"'\\$=(){}ax\n\t", max_size=12
)


@given(st.lists(printable.filter(lambda text: not is_reread(text)), max_size=5))
@example(["", "$0", "a b", "\n", "\\", '"', "$(HOME)", "$$", "y y"])
def test_encoded_arguments_and_values_arrive_unchanged(texts: list[str]) -> None:
    sent = " ".join(encoded(text) for text in texts) if texts else None
    entries = [f"A{number}={encoded(text)}" for number, text in enumerate(texts)]
    decoded = decode_request("cmd", sent, entries, platform=(("HOME", "/home/me"),))
    assert decoded.argv == ("cmd", *texts)
    assert decoded.env == tuple((f"A{number}", text) for number, text in enumerate(texts))


@given(st.text(max_size=20), st.text(max_size=20), st.lists(st.text(max_size=10), max_size=3))
def test_nothing_else_is_ever_raised(cmd: str, args: str, env: list[str]) -> None:
    with contextlib.suppress(HttpRefusal):
        assert decode_request(cmd, args, env).argv
