"""``skahactl init``: what it prints passes validate and an editor's schema check; what it asks, it asks politely."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from skahactl.manifest.schema import JobTable
from skahactl.manifest.starter import SCHEMA_LINE, TEMPLATES
from tests import calls
from tests.home import Home
from tests.terminal import Terminal

pytestmark = pytest.mark.once

BATCH = """\
#!/bin/bash
#SBATCH -J tiles
#SBATCH --array=1-3%2
#SBATCH --mem=4G -c 2
#SBATCH --time=1:00:00
echo "tile $SLURM_ARRAY_TASK_ID"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def run(home: Home, *words: str, stdin: bytes = b"", expect: int = 0) -> tuple[bytes, str]:
    process = home.start(*words, stdin=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=120)
    assert process.returncode == expect, err.decode()
    assert b"Traceback" not in err
    return out, err.decode()


def schema(home: Home) -> dict[str, Any]:
    found = json.loads(run(home, "schema")[0])
    assert isinstance(found, dict)
    return found


def validated(home: Home, manifests: Mapping[str, str]) -> dict[str, str]:
    """What ``validate`` prints of each of these texts; that it warns of one is an error."""
    for name, text in manifests.items():
        (home.root / f"{name}.toml").write_text(text)
    done = calls.answers((("validate", f"{name}.toml") for name in manifests), home.root, home.environ)
    assert [(answer.returncode, answer.stderr) for answer in done] == [(0, "")] * len(manifests)
    return {name: answer.stdout for name, answer in zip(manifests, done, strict=True)}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``init`` prints of each template."""
    home = Home(tmp_path_factory.mktemp("templates"))
    done = calls.answers((("init", name) for name in TEMPLATES), home.root, home.environ)
    assert [(answer.returncode, answer.stderr) for answer in done] == [(0, "")] * len(TEMPLATES)
    return {name: answer.stdout for name, answer in zip(TEMPLATES, done, strict=True)}


def test_a_template_passes_validate_and_the_schema(home: Home, templates: dict[str, str]) -> None:
    told = validated(home, templates)
    wanted = schema(home)
    for name, text in templates.items():
        assert told[name].split()[0] == f"my-{'job' if name == 'shell' else name}"
        jsonschema.validate(tomllib.loads(text), wanted)
        assert text.split("\n")[0] == SCHEMA_LINE


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_a_comment_for_every_key(templates: dict[str, str], name: str) -> None:
    lines = templates[name].split("\n")
    keys = [line.lstrip("#").partition(" = ")[0] for line in lines if not line.startswith("# ")]
    wanted = [field.alias or key for key, field in JobTable.model_fields.items()]
    left_out = {"command", "shell", "replicas", "env", "items", "retry"} if name == "notebook" else set()
    for key in set(wanted) - left_out:
        assert key in keys or f"[{key}]" in keys, key
    for number, line in enumerate(lines):
        if line and not line.startswith("# ") and " = " in line.partition("{")[0] and "'''" not in line:
            assert lines[number - 1].startswith(("# ", "#", "command", "[")) or "=" in lines[number - 1], line


def test_every_key_that_is_off_can_be_switched_on(templates: dict[str, str]) -> None:
    for text in templates.values():
        for line in text.split("\n"):
            if line.startswith("#") and not line.startswith(("# ", "#:", "#[")) and " = " in line:
                tomllib.loads(line[1:])


def test_a_key_that_is_switched_on_resolves(home: Home, templates: dict[str, str]) -> None:
    manifests = {}
    for name, text in templates.items():
        for key in ("shell", "session-name"):
            changed = text
            if key == "shell" and name in ("array", "list"):
                changed = changed.replace("\ncommand = ", "\n#command = ").replace("{item}", "$ITEM")
                changed = changed.replace("per-replica = 1\n", "per-replica = 1\neach = true\n")
            manifests[f"{name}-{key}"] = changed.replace(f"\n#{key} = ", f"\n{key} = ")
    validated(home, manifests)


@pytest.mark.parametrize("name", ["array", "list", "shell"])
def test_the_rehearsal_that_a_template_names_runs(home: Home, templates: dict[str, str], name: str) -> None:
    text = templates[name]
    (home.root / "job.toml").write_text(text)
    (home.root / "process.py").write_text("import sys; print(*sys.argv[1:])")
    (line,) = (line for line in text.split("\n") if "Rehearse it: skahactl " in line)
    for _ in range(2):  # also after a correction
        run(home, *shlex.split(line.partition(" skahactl ")[2]))
    assert json.loads(run(home, "get", "jobs", "-o", "json")[0])[0]["run"] == 2
    run(home, "apply", "job.toml", "-p", "local", "--dry-run")  # the job itself is still to run


def test_a_job_from_a_template_runs(home: Home) -> None:
    text = run(home, "init", "shell")[0].decode().replace('cd "{folder}"\npython', "echo {folder}")
    (home.root / "job.toml").write_text(text)
    run(home, "apply", "job.toml", "--wait")


@pytest.mark.skipif(shutil.which("taplo") is None, reason="taplo is not installed")
@pytest.mark.parametrize("words", [*([name] for name in TEMPLATES), ["--from-sbatch", "run.sh"]], ids=" ".join)
def test_an_editor_finds_the_schema_and_nothing_wrong(home: Home, words: list[str]) -> None:
    (home.root / "run.sh").write_text(BATCH)
    (home.root / "skahactl.schema.json").write_bytes(run(home, "schema")[0])
    text = run(home, "init", *words)[0].decode()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home.root)}
    for content, code in ((text, 0), (text.replace("\nname = ", "\nnmae = "), 1)):
        (home.root / "job.toml").write_text(content)
        check = ["taplo", "check", "job.toml"]
        done = subprocess.run(check, cwd=home.root, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr


def test_a_batch_script_is_converted_and_what_remains_is_counted(home: Home) -> None:
    (home.root / "run.sh").write_text(BATCH)
    text, err = run(home, "init", "--from-sbatch", "run.sh")
    assert err == "note: 3 things to check or change by hand, listed in the comments at the top\n"
    (home.root / "job.toml").write_bytes(text)
    assert run(home, "validate", "job.toml") == (
        b"tiles  headless  3 replicas  3 items  images.canfar.net/skaha/astroml:latest\n",
        "",
    )
    jsonschema.validate(tomllib.loads(text.decode()), schema(home))
    assert run(home, "init", "--from-sbatch", "-", stdin=BATCH.encode())[0].decode() == text.decode().replace(
        "from run.sh", "from standard input"
    )
    run(home, "apply", "job.toml", "--wait")
    assert run(home, "logs", "tiles", "--prefix", "never")[0].split(b"\n")[:-1] == [b"tile 1", b"tile 2", b"tile 3"]


def test_apply_of_a_batch_script_points_to_init(home: Home) -> None:
    (home.root / "my run.sh").write_text(BATCH)
    for verb in ("apply", "validate", "diff"):
        _, err = run(home, verb, "my run.sh", expect=2)
        assert "this is a Slurm batch script, not a manifest" in err
        assert "skahactl init --from-sbatch 'my run.sh' > job.toml" in err


REFUSED = {
    "arry": "'arry' is not a template\nhelp: did you mean 'array'?",
    "run.sh": "skahactl init --from-sbatch run.sh",
    "list --from-sbatch run.sh": "not both",
    "--from-sbatch none.sh": "none.sh: cannot read the batch script: No such file or directory",
    "--from-sbatch .": "cannot read the batch script: Is a directory",
    "--from-sbatch /dev/zero": "more than 4 MiB",
    "--from-sbatch bad.sh": "bad.sh:2: the batch script is not UTF-8",
    "--from-sbatch empty": "empty: not a batch script",
    "list -o json": "init has no -o json",
}


def test_what_init_refuses(home: Home) -> None:
    (home.root / "run.sh").write_text(BATCH)
    (home.root / "bad.sh").write_bytes(b"#!/bin/sh\necho \xff\n")
    (home.root / "empty").write_bytes(b"")
    done = calls.answers((["init", *line.split()] for line in REFUSED), home.root, home.environ)
    for line, answer in zip(REFUSED, done, strict=True):
        assert (answer.returncode, answer.stdout) == (2, ""), line
        assert REFUSED[line] in answer.stderr


def test_without_a_terminal_and_a_template_it_is_an_array(home: Home) -> None:
    out, err = run(home, "init")
    assert out == run(home, "init", "array")[0]
    assert "this is 'array' (others: list, shell, notebook)" in err
    assert run(home, "-q", "init") == (out, "")


def test_on_a_terminal_it_asks_until_an_answer_is_valid(home: Home) -> None:
    (home.root / "tiles.txt").write_text("a\nb\n")
    words = [sys.executable, "-m", "skahactl", "init"]
    terminal = Terminal(words, home.root, home.environ)
    for question, answer in (
        ("Name of the job [my-job]", "my_tiles"),
        ("Name of the job [my-job]", "tiles"),
        ("Container image [images.canfar.net/skaha/astroml:latest]", "a b"),
        ("Container image", ""),
        ("A number of replicas, or a file with one item per line [10]", "none.txt"),
        ("A number of replicas", "tiles.txt"),
    ):
        terminal.read_until(question.encode())
        terminal.text = b""
        os.write(terminal.master, answer.encode() + b"\n")
        if answer in ("my_tiles", "a b", "none.txt"):
            terminal.read_until(b"\n")
    assert terminal.ended() == 0
    text = terminal.text.decode()
    assert 'file = "tiles.txt"' in text
    assert 'name = "tiles"' in text
    assert "help: to save it, repeat the command with > job.toml" in text


def test_an_interrupted_question_ends_with_130_and_prints_nothing(home: Home) -> None:
    terminal = Terminal([sys.executable, "-m", "skahactl", "init"], home.root, home.environ)
    terminal.read_until(b"Name of the job")
    terminal.text = b""
    os.write(terminal.master, b"\x03")
    assert terminal.ended() in (130, -2)
    assert b"image" not in terminal.text
