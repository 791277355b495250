"""The table of canfar's commands in the manual: complete, and true where it says "same"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.skaha_server.process import ROOT, TOKEN, Server, running
from tests.workplace import PYTHON, Workplace

pytestmark = pytest.mark.once

pytest.importorskip("canfar")

PAGE = (ROOT / "skahactl/manual/migrating.md").read_text().partition("## From canfar")[2]
IMAGE = "images.canfar.net/skaha/astroml:latest"

#: Prints every command and option of canfar. One of its modules needs an older typer for a name that is also click's.
INVENTORY = """
import json, sys, types
import click.types, typer
module = types.ModuleType("typer._click.types")
module.__dict__.update(click.types.__dict__)
sys.modules.setdefault("typer._click.types", module)
from canfar.cli.main import cli

def walk(command, path):
    options = [one.opts for one in command.params if one.param_type_name == "option"]
    yield [path, options, bool(getattr(command, "list_commands", None))]
    is_plugin = path == ["data"]  # its commands are those of another program
    for name in command.list_commands(None) if hasattr(command, "list_commands") and not is_plugin else ():
        below = command.get_command(None, name)
        if below is not None and not below.hidden:
            yield from walk(below, [*path, name])

print(json.dumps(list(walk(typer.main.get_command(cli), []))))
"""


def rows() -> list[list[str]]:
    """The cells of every row of the table."""
    lines = [line for line in PAGE.split("\n") if line.startswith("| `canfar")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], list[list[str]], bool]]:
    found = json.loads(Workplace(tmp_path_factory.mktemp("home")).run(INVENTORY, program=PYTHON).stdout)
    assert len(found) > 25
    return [tuple(row) for row in found]


def spans() -> set[tuple[str, ...]]:
    """The words of each command in the first column, without arguments."""
    found = set()
    for first, *_ in rows():
        for code in re.findall(r"`canfar ([^`]*)`", first):
            words = code.partition(" -- ")[0].split()
            found.add(tuple(word for word in words if word.startswith("-") or word.islower()))
    return found


def test_every_command_and_every_option_of_canfar_has_a_row(inventory: Any) -> None:
    shown = spans()
    for path, options, is_group in inventory:
        if path and not (is_group and path != ["data"]):
            assert tuple(path) in shown, f"canfar {' '.join(path)}"
        for names in options:
            if set(names) & {"--help", "--version"}:
                continue
            assert any(row[: len(path)] == tuple(path) and set(names) <= set(row) for row in shown), (path, names)


def test_no_row_has_a_command_or_an_option_that_canfar_has_not(inventory: Any) -> None:
    known = {tuple(path): {name for names in options for name in names} for path, options, _ in inventory}
    for words in spans():
        path = tuple(word for word in words if not word.startswith("-"))
        assert path in known, words
        assert {word for word in words if word.startswith("-")} <= known[path], words


def test_every_row_says_how_much_is_the_same() -> None:
    assert len(rows()) > 50
    for row in rows():
        assert len(row) == 3, row
        assert row[2].startswith(("same", "different", "not available")), row
        assert row[1].startswith("`skahactl ") or row[2].startswith("not available"), row


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), {"pending": [0.0, 0.0]}) as server:
        yield server


def test_create_with_canfars_options_asks_for_the_same_sessions(server: Server, tmp_path: Path) -> None:
    code = f"""
from canfar.sessions import Session
session = Session(url={server.url!r}, token={TOKEN!r})
session.create(name="theirs", image={IMAGE!r}, cores=2, ram=8, cmd="run", args="--tile 3", env={{"A": "1"}}, replicas=2)
"""
    here = Workplace(tmp_path / "here", server)
    here.run(code, program=PYTHON)
    words = ["-n", "ours", "--cpu", "2", "--memory", "8", "-e", "A=1", "-r", "2"]
    here.run("create", *words, "headless", IMAGE, "--", "run", "--tile", "3")
    asked: dict[str, list[Any]] = {"theirs": [], "ours": []}
    for row in server.state()["sessions"]:
        env = {key: value for key, value in row["env"] if key in ("A", "REPLICA_ID", "REPLICA_COUNT")}
        asked[row["name"].partition("-")[0]].append((row["kind"], row["image"], row["argv"], env))
    assert sorted(asked["ours"], key=str) == sorted(asked["theirs"], key=str)
    assert len(asked["ours"]) == 2


def test_sessions_are_listed_read_and_deleted_by_id(server: Server, tmp_path: Path) -> None:
    here = Workplace(tmp_path / "here", server)
    done = server.tell("session", name="mine-1", status="Completed")["id"]
    kept = server.tell("session", name="mine-2", status="Running")["id"]
    told = here.each(
        "get sessions --state Pending,Running -o name",
        "get sessions -o name",
        f"describe {kept}",
        f"events {kept}",
        f"renew {kept}",
        "delete --sessions mine-* --state Completed -y",
        "get sessions -o name",
        f"delete {kept} -y",
        "get sessions -o name",
        f"logs {kept}",
    )
    assert [answer.returncode for answer in told[:-1]] == [0] * 9, told
    alive, all_, described, _, _, _, without_done, _, without_both, _ = (answer.stdout for answer in told)
    assert (kept in alive, done in alive) == (True, False)
    assert {done, kept} <= set(all_.split())
    assert kept in described
    assert (kept in without_done, done in without_done) == (True, False)
    assert kept not in without_both
