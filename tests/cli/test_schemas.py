"""The output of every verb with ``-o json`` is valid against the schema that ``skahactl schema`` prints for it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from skahactl.schemas import SHAPES, json_schema_of
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = """
name = "tiles"
image = "images.canfar.net/skaha/astroml:latest"
command = ["sh", "-c", "echo $0; exit $1", "{item}", "{code}"]
replicas = 2
[items]
values = ["a", "b"]
[vars]
code = "1"
"""

#: What is called, in order, the shape of its output, and its exit code. The first two make the job.
CALLS = (
    ("apply job.toml --dry-run", "outcome", 0),
    ("apply job.toml --wait", "outcome", 1),
    ("diff job.toml --var code=0", "outcome", 1),
    ("get jobs", "jobs", 0),
    ("get jobs -A", "jobs", 0),
    ("get replicas tiles", "replicas", 0),
    ("get items tiles", "items", 0),
    ("get sessions", "sessions", 0),
    ("get events tiles/1", "events", 0),
    ("get images", "images", 0),
    ("get resources", "resources", 0),
    ("get stats", "stats", 0),
    ("describe tiles", "description", 0),
    ("wait tiles", "wait", 1),
    ("retry tiles --dry-run", "outcome", 0),
    ("resume tiles", "outcome", 1),
    ("mark tiles completed -r 1 --force", "mark", 0),
    ("renew tiles", "outcome", 0),
    ("validate job.toml", "validation", 0),
    ("explain", "keys", 0),
    ("explain items", "key", 0),
    ("explain common", "key", 0),
    ("profile list", "profiles", 0),
    ("profile show local", "profile", 0),
    ("profile check local", "check", 0),
    ("--version", "version", 0),
    ("create headless images.canfar.net/skaha/astroml:latest --dry-run -- true", "outcome", 0),
    ("delete tiles --dry-run", "outcome", 0),
    ("delete tiles", "outcome", 0),
    ("prune --older-than 0s --dry-run", "runs", 0),
)


def outputs(here: Workplace) -> dict[str, Any]:
    """What each call prints, by its words."""
    here.write("job.toml", JOB)
    found = {}
    done = here.each(*(f"-o json {line}" for line, _, _ in CALLS))
    for (line, _, code), answer in zip(CALLS, done, strict=True):
        assert answer.returncode == code, answer
        found[line] = json.loads(answer.stdout)
    return found


#: Shapes whose fields are the server's own, or the names of packages and variables.
OPEN = ("sessions", "images", "resources", "stats", "version")


def unlisted(data: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """The fields of ``data`` that the schema does not mention."""
    schema = next((one for one in schema.get("anyOf", ()) if one != {"type": "null"}), schema)
    if isinstance(data, list):
        return [field for one in data for field in unlisted(one, schema.get("items", {}), f"{path}[]")]
    if not isinstance(data, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    found = [f"{path}.{name}" for name in data if name not in known]
    return found + [f for name, value in data.items() for f in unlisted(value, known.get(name, {}), f"{path}.{name}")]


def test_the_output_of_a_verb_is_valid_and_the_schema_mentions_every_field(here: Workplace) -> None:
    found = outputs(here)
    for line, shape, _ in CALLS:
        assert found[line] not in ([], {}) or shape in ("events", "images", "runs"), line
        jsonschema.validate(found[line], json_schema_of(shape), jsonschema.Draft202012Validator)
        assert shape in OPEN or unlisted(found[line], json_schema_of(shape)) == [], line


def test_lines_and_errors_are_valid(here: Workplace) -> None:
    told = here.run("get", "jobs", "nojob", "-o", "json", expect=2).stderr
    jsonschema.validate(json.loads(told), json_schema_of("error"))
    here.write("job.toml", JOB)
    here.run("apply", "job.toml", "--wait", "-q", expect=1)
    lines = [json.loads(line) for line in here.run("logs", "tiles", "-o", "jsonl").stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        jsonschema.validate(line, json_schema_of("lines"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_schema_rejects_what_lacks_a_field(shape: str) -> None:
    found = json_schema_of(shape)
    jsonschema.Draft202012Validator.check_schema(found)
    record = found["items"] if found["type"] == "array" else found
    if "required" in record:
        assert not jsonschema.Draft202012Validator(record).is_valid({})


def test_every_shape_is_validated_and_every_schema_is_printed(here: Workplace) -> None:
    assert {shape for _, shape, _ in CALLS} | {"lines", "error"} == set(SHAPES)
    assert json.loads(here.run("schema", "jobs").stdout) == json_schema_of("jobs")
    assert "manifest" in json.loads(here.run("schema").stdout)["title"]
    assert "did you mean 'jobs'?" in here.run("schema", "jbos", expect=2).stderr
