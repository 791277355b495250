"""What is written is what runs: requests encoded, taken through the server's steps, and compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skahactl.errors import UsageError
from skahactl.local.decode import decode_request
from skahactl.model import Request, Resources, Secret
from skahactl.skaha import encoding
from skahactl.skaha.encoding import is_reread, value_problem
from tests.skaha_server.mangle import container

IMAGE = "images.canfar.net/skaha/astroml:latest"
PLATFORM = {"skaha_username": "alice", "HOME": "/arc/home/alice", "OMP_NUM_THREADS": "1"}

_NO_NAMES = {*PLATFORM, "PWD", "NO", "ON", "OFF", "YES", "TRUE", "FALSE", "NULL"}
_WORDS = ["$(HOME)", "$$(HOME)", "$0", "${skaha.userid}", "\\x20", "\\\\", "\r\n", ": "]
_SIGNS = "$\\\"' \n\t=%+#{}[],&\u2028\u2029\ufeff\U0001f600é"
_TRICKY = st.sampled_from([*_WORDS, *_SIGNS])
_ANY = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from(
    "\t\n\r\u0085"
)
TEXT = st.lists(_TRICKY | _ANY, max_size=6).map("".join).filter(lambda text: value_problem(text) is None)
#: An empty first element is the entry point of the image.
COMMAND = st.lists(TEXT, min_size=1, max_size=3).filter(lambda words: words[0] != "").map(tuple)
NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{1,8}", fullmatch=True).filter(lambda name: name not in _NO_NAMES)
ENV = st.dictionaries(NAMES, TEXT, max_size=2).map(lambda found: tuple(found.items()))


def request(command: tuple[str, ...] = (), env: tuple[tuple[str, str], ...] = (), **rest: object) -> Request:
    return Request("headless", IMAGE, command, env, **rest)  # type: ignore[arg-type]


def arrived(asked: Request) -> tuple[list[str], list[tuple[str, str]]]:
    """What the container gets, by an independent model of the server, from the body as it is sent."""
    body = encoding.body(encoding.fields(asked, "fits-1-abcde"))
    form = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    first = dict(reversed(form))
    got = container(first.get("cmd"), first.get("args"), [text for key, text in form if key == "env"], PLATFORM)
    return got.argv, got.env


def check(command: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> None:
    asked = request(command, env)
    assert encoding.problems(asked) == ()
    assert arrived(asked) == (list(command), list(env))


@settings(max_examples=400)
@given(COMMAND, ENV)
@example(("x", ""), (("A", ""),))
@example(("sh", "", "a", ""), ())
@example(("\\",), (("A", "\\"),))
@example(("echo", "\\start and end\\"), (("A", "\\x\\"),))
@example(("echo", "$(HOME)", "$$(HOME)", "$$$", "$"), (("A", "1"), ("B", "$(A)"), ("C", "$$(A)$")))
@example(("echo", " lead", "trail ", "  ", "\n", "\n\n", "a\n\nb\n"), (("A", "b=="), ("B", "=")))
@example(("e", "\u2028", "\ufeff", "\U0010ffff", "\t", "\r\n"), ())
def test_arrives_byte_for_byte(command: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> None:
    check(command, env)


@pytest.mark.slow
@settings(max_examples=12_000)
@given(COMMAND, ENV)
def test_arrives_byte_for_byte_at_length(command: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> None:
    check(command, env)


def test_shell_line_with_quotes_and_redirections_arrives() -> None:
    """J2 of the users: nothing of the line may be lost, $REPLICA_ID included."""
    line = 'run_PhotoPipe.sh tiles_"$REPLICA_ID".txt 4 > PhotoPipe_$REPLICA_ID.log 2>&1'
    check(("bash", "-c", line), (("REPLICA_ID", "7"), ("REPLICA_COUNT", "40")))


def test_environment_of_several_lines_arrives() -> None:
    """J3 of the users: several lines with ``|`` and ``=``."""
    specs = "shard=0|weights=a,b|mode=fast\nshard=1|weights=c|mode=slow=er\n"
    check(("python", "merge.py"), (("SHARD_ID", "0"), ("SHARD_COUNT", "40"), ("VCP_SPECS", specs)))


def test_without_special_characters_nothing_is_encoded() -> None:
    asked = request(("python", "/arc/x.py", "--tile=271.281", "-j", "16"), (("LOG", "a:b,c@d%e"),))
    assert not encoding.needs_encoding(asked)
    assert encoding.fields(asked, "t-1") == [
        ("name", "t-1"),
        ("image", IMAGE),
        ("type", "headless"),
        ("cmd", "python"),
        ("args", "/arc/x.py --tile=271.281 -j 16"),
        ("env", "LOG=a:b,c@d%e"),
    ]


@pytest.mark.parametrize("word", ["a b", "", "$", '"', "\\", "é", "\n", "`"])
def test_says_what_needs_the_encoding(word: str) -> None:
    assert encoding.needs_encoding(request(("echo", word)))
    assert encoding.needs_encoding(request((), (("A", word),)))


def test_an_equals_sign_needs_it_in_values_only() -> None:
    assert not encoding.needs_encoding(request(("A=1", "b=c=d")))
    assert encoding.needs_encoding(request((), (("A", "b=c"),)))


def test_resources_are_written_as_other_clients_do() -> None:
    form = dict(encoding.fields(request(resources=Resources(8.0, 1.5, 0)), "n"))
    assert (form["cores"], form["ram"]) == ("8", "1.5")
    assert "gpus" not in form  # the server refuses 0
    assert "cmd" not in form
    assert "args" not in form
    assert dict(encoding.fields(request(resources=Resources(gpus=2)), "n"))["gpus"] == "2"


def test_the_body_is_ascii_whatever_was_asked_for() -> None:
    encoding.body(encoding.fields(request(("écho", "日本"), (("A", "\U0001f600"),)), "n")).decode("ascii")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\0b", "NUL"),
        ("\x1b[1m", "U+001B"),
        ("\x7f", "U+007F"),
        ("\x80", "U+0080"),
        ("a\u0085b", "U+0085"),
        ("\ufffe", "U+FFFE"),
        ("\ud800", "not valid Unicode"),
        ("y", "boolean or a number"),
        ("-08", "boolean or a number"),
        ("1e3_", "boolean or a number"),
        ("0o17", "boolean or a number"),
        ("x" * 131072, "131071"),
    ],
)
def test_refuses_what_cannot_arrive_and_says_where(text: str, says: str) -> None:
    (problem,) = encoding.problems(request(("echo", text)))
    assert problem.message.startswith("command, element 2")
    assert says in problem.message
    (problem,) = encoding.problems(request((), (("LABEL", text),)))
    assert problem.message.startswith("[env] LABEL")
    assert says in problem.message


@pytest.mark.parametrize(
    "text", ["yes", "no", "true", "null", "08", "1", "1e3", "271.281", "0x1f", "1_000", "_1", "a_1", "-"]
)
def test_ordinary_words_and_numbers_pass(text: str) -> None:
    assert not is_reread(text)
    check((text, text), (("VALUE", text),))


@pytest.mark.parametrize("name", ["1A", "A B", "A-B", "", "é", "A=B"])
def test_refuses_names_that_no_variable_has(name: str) -> None:
    (problem,) = encoding.problems(request((), ((name, "1"),)))
    assert "is not a valid name of a variable" in problem.message


@pytest.mark.parametrize("name", ["HOME", "PWD", "OMP_NUM_THREADS", "skaha_sessionid"])
def test_says_how_to_set_what_the_platform_sets(name: str) -> None:
    (problem,) = encoding.problems(request((), ((name, "1"),)))
    assert f'"env", "{name}=' in problem.message


def test_refuses_what_is_too_large_as_a_whole() -> None:
    (problem,) = encoding.problems(request(("x" * 100_000,) * 11))
    assert "1 MiB" in problem.message
    (problem,) = encoding.problems(request((" " * 100_000,) * 4))
    assert "2 MiB" in problem.message
    (problem,) = encoding.problems(request((), tuple((f"V{i}", "1") for i in range(1001))))
    assert "at most 990" in problem.message


def test_all_problems_are_reported_at_once() -> None:
    assert len(encoding.problems(request(("a\0", "y"), (("HOME", "1"), ("B", "\x01"))))) == 4


def revealed(asked: Request, environ: dict[str, str]) -> Request:
    return asyncio.run(encoding.SecretReader(environ).reveal(asked))


def test_secrets_are_read_when_sent_and_masked_when_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n")
    asked = Request(
        "headless", IMAGE, (), (("A", Secret("env", "TOKEN")), ("B", Secret("file", str(file))), ("C", "1"))
    )
    sent = [text for key, text in encoding.fields(revealed(asked, {"TOKEN": "abc="}), "n") if key == "env"]
    assert sent == ["A=abc\\\\x3d", "B=from\\\\x20the\\\\x20file", "C=1"]
    shown = [text for key, text in encoding.fields(asked, "n") if key == "env"]
    assert shown == ["A=<env:TOKEN>", f"B=<file:{file}>", "C=1"]


def test_a_secret_that_cannot_be_read_or_sent_is_reported_without_its_value(tmp_path: Path) -> None:
    def message(secret: Secret, environ: dict[str, str]) -> str:
        with pytest.raises(UsageError) as told:
            revealed(Request("headless", IMAGE, (), (("A", secret),)), environ)
        return f"{told.value.message} {told.value.hint}"

    assert "TOKEN is not set" in message(Secret("env", "TOKEN"), {})
    assert "No such file" in message(Secret("file", str(tmp_path / "none")), {})
    assert "hunter2" not in message(Secret("env", "TOKEN"), {"TOKEN": "hunter2\x01"})
    assert "1e5_" not in message(Secret("env", "TOKEN"), {"TOKEN": "1e5_"})


def test_a_secret_is_read_once_for_all_and_again_after_a_failure() -> None:
    reads: list[str] = []

    def read() -> str:
        reads.append("read")
        if len(reads) == 1:
            raise UsageError("not there yet", code="secret")
        return "s3cret"

    async def main() -> list[str]:
        reader = encoding.SecretReader({})
        with pytest.raises(UsageError):
            await reader.once("key", "cannot read", read)
        return list(await asyncio.gather(*(reader.once("key", "cannot read", read) for _ in range(16))))

    assert asyncio.run(main()) == ["s3cret"] * 16
    assert len(reads) == 2


#: Names of variables that YAML reads as something else.
BOOLEANS = [f(w) for w in ("no", "yes", "on", "off", "true", "false", "null") for f in (str, str.capitalize, str.upper)]


@pytest.mark.parametrize("name", BOOLEANS)
def test_the_container_gets_the_name_that_was_written(name: str) -> None:
    request = Request("headless", "a/b:1", ("env",), (("A", "x"), (name, "1"), ("nO", "2")))
    assert encoding.problems(request) == ()
    assert encoding.needs_encoding(request)
    sent = [text for key, text in encoding.fields(request, "name") if key == "env"]
    assert sent == ["A=x", f'"{name}"=1', "nO=2"]
    wanted = (("A", "x"), (name, "1"), ("nO", "2"))
    assert decode_request("env", None, sent).env == wanted
    assert tuple(container("env", None, sent, {}).env) == wanted


@pytest.mark.parametrize("name", ["y", "Y", "n", "N"])
def test_names_that_kubectl_reads_as_booleans_are_refused(name: str) -> None:
    (problem,) = encoding.problems(Request("headless", "a/b:1", ("env",), ((name, "1"),)))
    assert f'reads the name "{name}" as a boolean' in problem.message
