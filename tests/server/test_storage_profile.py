"""A profile with shared storage: asked for at a terminal, and checked against the service."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_site import SharedSite, shared_site

pytestmark = pytest.mark.once


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SharedSite]:
    with shared_site(tmp_path) as site:
        yield site


def add_profile(site: SharedSite, *answers: tuple[str, str]) -> tuple[int, bytes]:
    """The exit code of ``profile add``, and what the terminal showed; ``answers``: to questions in this order."""
    terminal = site.at("laptop").at_a_terminal("profile", "add", "mine")
    for question, answer in answers:
        terminal.answer(question, answer)
    return terminal.ended(), terminal.text


def answers_of(site: SharedSite, root: str, url: str, shared: str) -> list[tuple[str, str]]:
    return [
        ("Server (https://HOST/skaha/v1): ", site.url),
        ("Log in with: x509, token or none [x509]: ", "token"),
        ("File that holds the token: ", str(site.root / "token")),
        ("Registry of images that name none [none]: ", ""),
        ("Shared storage as sessions see it, such as /arc [none]: ", root),
        (f"Address of its service [{site.url.removesuffix('/skaha/v1')}/{root.rpartition('/')[2]}]: ", url),
        (f"Directory for logs of every job, such as {root}/logs [none]: ", shared),
    ]


def test_the_questions_lead_to_a_profile_that_works(site: SharedSite) -> None:
    code, shown = add_profile(site, *answers_of(site, str(site.shared), site.storage, f"{site.shared}/logs"))
    assert code == 0, shown
    path = site.root / "laptop" / ".config" / "skahactl" / "profiles" / "mine.toml"
    written = tomllib.loads(path.read_text())
    assert written["storage"] == {"root": str(site.shared), "url": site.storage}
    assert written["defaults"]["logs"] == {"shared": f"{site.shared}/logs"}

    site.proxy.requests.clear()
    shown_lines = site.run("profile", "check", "mine").stdout.splitlines()
    assert [line.split() for line in shown_lines if line.startswith("storage")] == [["storage", site.storage]]
    assert site.proxy.requests["GET /arc/nodes"] == 1
    assert site.data("profile", "check", "mine")["storage"] == site.storage

    path.write_text(path.read_text() + "[client]\nmemory = 4\npoll-min = 0.2\n")
    (site.root / "profile.toml").write_bytes(path.read_bytes())
    words = ["create", "headless", "a/b:1", "-n", "plain", "-r", "2", "--wait", "--", "echo", "hello"]
    site.run(*words)
    assert len(list(site.shared.glob("logs/plain-r1-*/*.end"))) == 2


def test_a_wrong_address_is_found_by_the_check(site: SharedSite) -> None:
    profile = site.root / "profile.toml"
    wrong = site.storage.replace("/arc", "/elsewhere")
    profile.write_text(profile.read_text().replace(site.storage, wrong))
    told = site.run("profile", "check", expect=4).stderr
    assert f"error: storage service {wrong}: no storage service answers there" in told
    assert "check [storage] url" in told


def test_a_root_that_is_not_absolute_leaves_no_profile(site: SharedSite) -> None:
    code, shown = add_profile(site, *answers_of(site, "arc", site.storage, "arc/logs"))
    assert code == 2
    assert b"absolute path" in shown, shown
    assert not list((site.root / "laptop").rglob("*.toml"))
