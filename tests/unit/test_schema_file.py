"""The schema in configs/ is the one that skahactl prints, and every example names it."""

from __future__ import annotations

import json
from pathlib import Path

from skahactl.commands.manifest import json_schema

CONFIGS = Path(__file__).parents[2] / "configs"
COMMITTED = CONFIGS / "skahactl.schema.json"


def test_the_committed_schema_is_up_to_date() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == json_schema(), f"skahactl schema > {COMMITTED}"
    assert json_schema()["$id"] == "urn:skahactl:manifest"


def test_every_example_names_the_schema_in_its_first_line() -> None:
    manifests = [path for path in CONFIGS.glob("*/*.toml") if path.parent.name != "profiles"]
    assert len(manifests) >= 7
    first = {path: path.read_text(encoding="utf-8").splitlines()[0] for path in manifests}
    assert [path for path, line in first.items() if line != "#:schema ../skahactl.schema.json"] == []
