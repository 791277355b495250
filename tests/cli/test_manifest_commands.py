"""validate, explain and schema, as commands."""

from __future__ import annotations

import json
import os

import pytest

from skahactl.commands.manifest import json_schema, manifest_keys
from tests.manifests import HEAD, SEVERAL
from tests.workplace import SHELL, Workplace


@pytest.mark.once
def test_validate(here: Workplace) -> None:
    here.write("job.toml", SEVERAL)
    done = here.run("validate", "job.toml")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "one  headless  2 replicas  a.b/c:1",
        "two  headless  1 replica  a.b/c:1",
        "three  headless  3 replicas  3 items  a.b/c:1",
    ]
    data = json.loads(here.run("validate", "-", "-o", "json", input=SEVERAL).stdout)
    assert data["jobs"][2] == {"name": "three", "replicas": 3, "items": 3, "manifest": "-"}
    assert not here.state.exists()
    here.write("i.txt", "a\n")
    items = "name='a'\nimage='a.b/c:1'\nreplicas=1\ncommand=['{item}']\n[items]\nfile='i.txt'\n"
    (here.root / "deeper").mkdir()
    os.mkfifo(here.root / "deeper" / "pipe")
    with here.start('printf "%s" "$1" > deeper/pipe', "sh", items, program=SHELL):
        assert here.run("validate", "deeper/pipe").stdout == "a  headless  1 replica  1 item  a.b/c:1\n"
    here.write("job.toml", HEAD + "replicas = 0\n[env]\nHOME = 1\n")
    done = here.run("validate", "job.toml", expect=2)
    assert done.stdout == ""
    assert "job.toml:3:12: replicas: expected at least 1" in done.stderr
    assert "job.toml:5:1: env.HOME: the platform sets" in done.stderr
    here.run("validate", expect=2)
    for verb in ("validate", "diff", "apply"):
        told = here.run(verb, "job.toml", "--var", "x", expect=2).stderr
        assert told == "error: --var x: expected K=V, for example survey=dr6\n"


def test_explain_and_schema(here: Workplace) -> None:
    done = here.run("explain", "resources.cores")
    assert done.stdout.startswith("resources.cores: a number or text with a placeholder; optional\n")
    assert here.run("explain").stdout.count("\n") == len(manifest_keys())
    done = here.run("explain", "cors", expect=2)
    assert done.stdout == ""
    assert "did you mean 'resources.cores'?" in done.stderr
    assert json.loads(here.run("schema").stdout) == json_schema()
