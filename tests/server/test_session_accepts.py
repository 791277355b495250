"""``Session`` accepts what real code passes: numbers of NumPy, paths, numbers in env, canfar's parameters and names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

import skahactl.session
import skahactl.sessions
from skahactl.errors import AuthError, UsageError
from skahactl.session import Session
from skahactl.session_runtime import command_words
from tests.skaha_server.process import TOKEN, Server, running

IMAGE = "images.canfar.net/skaha/astroml:latest"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), {"pending": [0.0, 0.0]}) as server:
        yield server


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of someone who has configured nothing."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


def created(server: Server, environ: dict[str, str], **call: Any) -> list[dict[str, Any]]:
    """What the server was asked to create."""
    with Session(url=server.url, token=TOKEN, environ=environ) as session:
        ids = session.create(**{"name": "accepted", "image": IMAGE, "cmd": "run", **call})
        rows = {row["id"]: row for row in server.state()["sessions"]}
        return [rows[id] for id in ids]


def test_numbers_of_numpy(server: Server, environ: dict[str, str]) -> None:
    rows = created(
        server,
        environ,
        name="numbers",
        cores=np.int64(2),
        ram=np.float32(4),
        replicas=np.int64(2),
        args=[np.int64(1), np.float64(0.5), 3, 2.5, Path("/x"), "a b"],
        env={"A": 2.5, "B": np.int32(7), "C": np.float64(0.1), "D": PurePosixPath("/y"), "E": "text", "F": True},
    )
    assert len(rows) == 2
    assert rows[0]["argv"] == ["run", "1", "0.5", "3", "2.5", "/x", "a b"]
    env = dict(rows[0]["env"])
    assert {key: env[key] for key in "ABCDEF"} == {
        "A": "2.5",
        "B": "7",
        "C": "0.1",
        "D": "/y",
        "E": "text",
        "F": "true",
    }


@pytest.mark.parametrize(("name", "sent"), [("3d-map", "3d-map"), ("MyJob", "myjob")])
def test_names_that_a_person_gives(server: Server, environ: dict[str, str], name: str, sent: str) -> None:
    (row,) = created(server, environ, name=name)
    assert sent in row["name"]


def test_arguments_without_a_program_are_for_the_entry_point(server: Server, environ: dict[str, str]) -> None:
    (row,) = created(server, environ, name="entry", cmd=None, args=["--tile", 3, "a b"])
    assert row["argv"] == ["--tile", "3", "a b"]
    assert row["command"] is None if "command" in row else True


def test_a_program_of_several_words_shows_both_parameters_and_how_to_split_them() -> None:
    with pytest.raises(UsageError) as caught:
        command_words("python /a.py", "x")
    assert "cmd='python /a.py', args='x'" in caught.value.message
    assert caught.value.hint == 'cmd="python", args=["/a.py", "x"]'


def test_a_quoted_text_that_is_split_on_blanks_is_logged(caplog: Any) -> None:
    for args in ("-c print('x')", "--tile 3", ["-c", "echo 'a b'"]):
        command_words("python", args)
    assert caplog.text == ""
    assert command_words("sh", "-c 'echo hello'") == {"command": ["sh", "-c", "'echo", "hello'"]}
    assert """["-c", "'echo", "hello'"]; for other words, use a list""" in caplog.text


@pytest.mark.parametrize("token", [TOKEN, SecretStr(TOKEN)])
def test_the_parameters_of_canfar(server: Server, environ: dict[str, str], token: Any) -> None:
    with Session(url=server.url + "/", token=token, timeout=30, concurrency=np.int64(3), environ=environ) as session:
        assert isinstance(session.fetch(), list)
    for wrong in ({"timeout": 0}, {"concurrency": -1}, {"timeout": "30"}):
        with pytest.raises(UsageError, match="above zero"):
            Session(url=server.url, token=token, environ=environ, **wrong).fetch()


def test_a_certificate_that_is_not_there_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    with (
        Session(certificate=tmp_path / "none.pem", environ=environ) as session,
        pytest.raises(AuthError, match="certificate") as caught,
    ):
        session.fetch()
    assert "none.pem" in f"{caught.value.where} {caught.value.hint}"


def test_renew_and_events(server: Server, environ: dict[str, str]) -> None:
    with Session(url=server.url, token=TOKEN, environ=environ) as session:
        (id,) = session.create("renewed", IMAGE, cmd="sleep", args=["100"])
        assert session.renew(id) in ({id: True}, {id: False})
        (found,) = session.events(id) or []
        assert list(found) == [id]


def test_connect_opens_pages_and_logs_sessions_without_one(
    server: Server, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    page = server.tell("session", name="nb", kind="notebook")["id"]
    batch = server.tell("session", name="batch", kind="headless")["id"]
    with Session(url=server.url, token=TOKEN, environ=environ) as session:
        session.connect([page, batch])
        (row,) = session.info(page)
    assert (tmp_path / "opened").read_text().split() == [row["connectURL"]]
    assert f"session {batch} is Running and has no page yet" in caplog.text


def test_the_module_has_the_name_of_canfars_too() -> None:
    assert skahactl.sessions.Session is skahactl.session.Session
    assert skahactl.sessions.AsyncSession is skahactl.session.AsyncSession
