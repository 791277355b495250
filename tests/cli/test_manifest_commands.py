"""validate, explain and schema, as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skahactl.commands.manifest import json_schema, manifest_keys
from tests.manifests import HEAD, write
from tests.unit.test_manifest import SEVERAL


def call(directory: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(directory), "SKAHACTL_STATE_DIR": str(directory / "state")}
    return subprocess.run(
        [sys.executable, "-m", "skahactl", *words],
        cwd=directory,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.once
def test_validate(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    done = call(tmp_path, "validate", "job.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "one  headless  2 replicas  a.b/c:1",
        "two  headless  1 replica  a.b/c:1",
        "three  headless  3 replicas  3 items  a.b/c:1",
    ]
    data = json.loads(call(tmp_path, "validate", "-", "-o", "json", stdin=SEVERAL).stdout)
    assert data["jobs"][2] == {"name": "three", "replicas": 3, "items": 3, "manifest": "-"}
    assert not (tmp_path / "state").exists()
    (tmp_path / "i.txt").write_text("a\n")
    items = "name='a'\nimage='a.b/c:1'\nreplicas=1\ncommand=['{item}']\n[items]\nfile='i.txt'\n"
    (tmp_path / "deeper").mkdir()
    os.mkfifo(tmp_path / "deeper" / "pipe")
    with subprocess.Popen(["sh", "-c", 'printf "%s" "$1" > deeper/pipe', "sh", items], cwd=tmp_path):
        assert call(tmp_path, "validate", "deeper/pipe").stdout == "a  headless  1 replica  1 item  a.b/c:1\n"
    write(tmp_path, HEAD + "replicas = 0\n[env]\nHOME = 1\n")
    done = call(tmp_path, "validate", "job.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "job.toml:3:12: replicas: expected at least 1" in done.stderr
    assert "job.toml:5:1: env.HOME: the platform sets" in done.stderr
    assert call(tmp_path, "validate").returncode == 2
    for verb in ("validate", "diff", "apply"):
        done = call(tmp_path, verb, "job.toml", "--var", "x")
        assert (done.returncode, done.stderr) == (2, "error: --var x: expected K=V, for example survey=dr6\n")


def test_explain_and_schema(tmp_path: Path) -> None:
    done = call(tmp_path, "explain", "resources.cores")
    assert done.stdout.startswith("resources.cores: a number or text with a placeholder; optional\n")
    assert call(tmp_path, "explain").stdout.count("\n") == len(manifest_keys())
    done = call(tmp_path, "explain", "cors")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'resources.cores'?" in done.stderr
    assert json.loads(call(tmp_path, "schema").stdout) == json_schema()
