"""``skahactl open``: the page of an interactive session, in a real (small) browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

IMAGE = "images.canfar.net/skaha/notebook:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), {"pending": [0.0, 0.0]}) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, server: Server) -> Workplace:
    """A machine with a browser that writes down what it is asked to open."""
    place = Workplace(tmp_path / "here", server)
    browser = place.root / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {place.root}/opened\n')
    browser.chmod(0o755)
    place.extra["BROWSER"] = f"{browser} %s"
    return place


def opened(here: Workplace) -> list[str]:
    path = here.root / "opened"
    return path.read_text().split() if path.exists() else []


def test_a_session_that_was_made_elsewhere_is_opened_by_name_and_id(here: Workplace, server: Server) -> None:
    id = server.tell("session", name="nb-elsewhere", kind="notebook")["id"]
    listed, *pages, as_data, as_name = here.each(
        "get sessions -o json",
        "open nb-elsewhere",
        f"open {id}",
        f"open session/{id}",
        f"open {id} --url -o json",
        f"open {id} --url -o name",
    )
    (url,) = [row["connectURL"] for row in json.loads(listed.stdout) if row["id"] == id]
    assert [done.stdout for done in pages] == [f"{url}\n"] * 3
    assert opened(here) == [url] * 3, "not where the address was asked for"
    data = json.loads(as_data.stdout)
    assert data == {"id": id, "name": "nb-elsewhere", "kind": "notebook", "status": "Running", "url": url}
    assert as_name.stdout == f"{id}\n"


def test_a_job_is_opened_by_its_name(here: Workplace) -> None:
    here.run("create", "notebook", IMAGE, "-n", "mine", "--wait")
    assert here.run("open", "mine").stdout.startswith("http")
    assert len(opened(here)) == 1
    here.run("delete", "mine")
    gone = here.run("open", "mine", expect=1)
    assert "mine has no live session" in gone.stderr


def test_what_has_no_page(here: Workplace, server: Server) -> None:
    here.run("create", "headless", "images.canfar.net/skaha/astroml:latest", "-n", "batch", "--", "sleep", "100")
    headless = server.tell("session", name="other-batch", kind="headless")["id"]
    pending = server.tell("session", name="slow", kind="notebook", status="Pending")["id"]
    told = here.each("open batch", f"open {headless}", f"open {pending}", "open zzzzzzzz", "open")
    assert [done.returncode for done in told] == [2, 2, 1, 2, 2], told
    refused, other, waiting, gone, missing = told
    assert "batch is a headless job, which has no page" in refused.stderr
    assert "skahactl logs batch" in refused.stderr
    assert "is a headless session" in other.stderr
    assert f"{pending} is Pending" in waiting.stderr
    assert f"skahactl wait {pending} --for running" in waiting.stderr
    assert "no job or session 'zzzzzzzz'" in gone.stderr
    assert "missing argument TARGET" in missing.stderr
    assert opened(here) == []


def test_without_a_browser_the_address_is_printed(here: Workplace, server: Server) -> None:
    id = server.tell("session", name="nb-plain", kind="carta")["id"]
    here.extra["BROWSER"] = "/nowhere/browser %s"
    here.extra["PATH"] = str(here.root)
    done = here.run("open", id, expect=1)
    assert done.stdout.startswith("http")
    assert "open the address yourself" in done.stderr
    assert json.loads(here.run("open", id, "--url", "-o", "jsonl").stdout)["kind"] == "carta"
