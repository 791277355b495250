"""What README.md shows is what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(mark: str, language: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"no {language} block after <!-- {mark} -->"
    return found[1]


@pytest.mark.parametrize("mark", ["quickstart", "tests"])
def test_the_two_commands_are_whole_and_take_another_python(mark: str) -> None:
    command = block(mark, "sh")
    assert command.startswith("${PYTHON:-python3} -m venv ")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    assert command.count("&&\n") == command.count("\n") - 1, "one command: each line but the last goes on"


def test_the_manifest_shown_is_the_quickstart_s() -> None:
    assert block("manifest", "toml") == (ROOT / "configs" / "quickstart" / "job.toml").read_text(encoding="utf-8")


def test_every_file_that_is_linked_or_applied_is_there() -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", README)
    applied = [path for path in re.findall(r"\b(configs/[\w./-]*\w)", README) if "/results/" not in path]
    assert len(linked) > 5
    assert [path for path in {*linked, *applied} if not (ROOT / path).exists()] == []


def test_every_link_within_the_page_has_its_heading() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", README, re.M)
    }
    assert [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", README) if anchor not in headings] == []
