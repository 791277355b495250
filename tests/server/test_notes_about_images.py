"""Notes about a server and its images are shown once for each profile and image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skaha_server.process import running
from tests.workplace import Workplace

pytestmark = pytest.mark.once


def test_a_note_about_an_image_is_shown_once(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server)
        said = [
            here.run("create", "headless", f"images.canfar.net/a/{image}:1", "-n", name, "--", "true").stderr
            for name, image in (("one", "first"), ("two", "first"), ("three", "second"))
        ]
    assert ["does not list" in text for text in said] == [True, False, True]
