"""``skahactl init``: what it prints passes validate and an editor's schema check; what it asks, it asks politely."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tomllib
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from skahactl.manifest.schema import JobTable
from skahactl.manifest.starter import SCHEMA_LINE, TEMPLATES
from tests.workplace import Workplace

pytestmark = pytest.mark.once

BATCH = """\
#!/bin/bash
#SBATCH -J tiles
#SBATCH --array=1-3%2
#SBATCH --mem=4G -c 2
#SBATCH --time=1:00:00
echo "tile $SLURM_ARRAY_TASK_ID"
"""


def schema(here: Workplace) -> dict[str, Any]:
    found = json.loads(here.run("schema").stdout)
    assert isinstance(found, dict)
    return found


def validated(here: Workplace, manifests: Mapping[str, str]) -> dict[str, str]:
    """What ``validate`` prints of each of these texts; that it warns of one is an error."""
    for name, text in manifests.items():
        here.write(f"{name}.toml", text)
    done = here.each(*(f"validate {name}.toml" for name in manifests))
    assert [(answer.returncode, answer.stderr) for answer in done] == [(0, "")] * len(manifests)
    return {name: answer.stdout for name, answer in zip(manifests, done, strict=True)}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``init`` prints of each template."""
    here = Workplace(tmp_path_factory.mktemp("templates"))
    done = here.each(*(f"init {name}" for name in TEMPLATES))
    assert [(answer.returncode, answer.stderr) for answer in done] == [(0, "")] * len(TEMPLATES)
    return {name: answer.stdout for name, answer in zip(TEMPLATES, done, strict=True)}


def test_a_template_passes_validate_and_the_schema(here: Workplace, templates: dict[str, str]) -> None:
    told = validated(here, templates)
    wanted = schema(here)
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


def test_a_key_that_is_switched_on_resolves(here: Workplace, templates: dict[str, str]) -> None:
    manifests = {}
    for name, text in templates.items():
        for key in ("shell", "session-name"):
            changed = text
            if key == "shell" and name in ("array", "list"):
                changed = changed.replace("\ncommand = ", "\n#command = ").replace("{item}", "$ITEM")
                changed = changed.replace("per-replica = 1\n", "per-replica = 1\neach = true\n")
            manifests[f"{name}-{key}"] = changed.replace(f"\n#{key} = ", f"\n{key} = ")
    validated(here, manifests)


@pytest.mark.parametrize("name", ["array", "list", "shell"])
def test_the_rehearsal_that_a_template_names_runs(here: Workplace, templates: dict[str, str], name: str) -> None:
    text = templates[name]
    here.write("job.toml", text)
    here.write("process.py", "import sys; print(*sys.argv[1:])")
    (line,) = (line for line in text.split("\n") if "Rehearse it: skahactl " in line)
    for _ in range(2):  # also after a correction
        here.run(*shlex.split(line.partition(" skahactl ")[2]))
    assert here.data("get", "jobs")[0]["run"] == 2
    here.run("apply", "job.toml", "-p", "local", "--dry-run")  # the job itself is still to run


def test_a_job_from_a_template_runs(here: Workplace) -> None:
    text = here.run("init", "shell").stdout.replace('cd "{folder}"\npython', "echo {folder}")
    here.write("job.toml", text)
    here.run("apply", "job.toml", "--wait")


@pytest.mark.skipif(shutil.which("taplo") is None, reason="taplo is not installed")
@pytest.mark.parametrize("words", [*([name] for name in TEMPLATES), ["--from-sbatch", "run.sh"]], ids=" ".join)
def test_an_editor_finds_the_schema_and_nothing_wrong(here: Workplace, words: list[str]) -> None:
    here.write("run.sh", BATCH)
    here.write("skahactl.schema.json", here.run("schema").stdout)
    text = here.run("init", *words).stdout
    for content, code in ((text, 0), (text.replace("\nname = ", "\nnmae = "), 1)):
        here.write("job.toml", content)
        here.run("check", "job.toml", program=["taplo"], expect=code)


def test_a_batch_script_is_converted_and_what_remains_is_counted(here: Workplace) -> None:
    here.write("run.sh", BATCH)
    done = here.run("init", "--from-sbatch", "run.sh")
    assert done.stderr == "note: 3 things to check or change by hand, listed in the comments at the top\n"
    here.write("job.toml", done.stdout)
    told = here.run("validate", "job.toml")
    summary = "tiles  headless  3 replicas  3 items  images.canfar.net/skaha/astroml:latest\n"
    assert (told.stdout, told.stderr) == (summary, "")
    jsonschema.validate(tomllib.loads(done.stdout), schema(here))
    piped = here.run("init", "--from-sbatch", "-", input=BATCH).stdout
    assert piped == done.stdout.replace("from run.sh", "from standard input")
    here.run("apply", "job.toml", "--wait")
    assert here.run("logs", "tiles", "--prefix", "never").stdout == "tile 1\ntile 2\ntile 3\n"


def test_apply_of_a_batch_script_points_to_init(here: Workplace) -> None:
    here.write("my run.sh", BATCH)
    for verb in ("apply", "validate", "diff"):
        err = here.run(verb, "my run.sh", expect=2).stderr
        assert "this is a Slurm batch script, not a manifest" in err
        assert "skahactl init --from-sbatch 'my run.sh' > job.toml" in err


REFUSED = {
    "arry": "'arry' is not a template\nhelp: did you mean 'array'?",
    "run.sh": "skahactl init --from-sbatch run.sh",
    "list --from-sbatch run.sh": "not both",
    "--from-sbatch none.sh": "none.sh: cannot be read: No such file or directory",
    "--from-sbatch .": ".: cannot be read: Is a directory",
    "--from-sbatch /dev/zero": "more than 4 MiB",
    "--from-sbatch bad.sh": "bad.sh:2: not UTF-8",
    "--from-sbatch empty": "empty: not a batch script",
    "list -o json": "init has no -o json",
}


def test_what_init_refuses(here: Workplace) -> None:
    here.write("run.sh", BATCH)
    (here.root / "bad.sh").write_bytes(b"#!/bin/sh\necho \xff\n")
    (here.root / "empty").write_bytes(b"")
    done = here.each(*(f"init {line}" for line in REFUSED))
    for line, answer in zip(REFUSED, done, strict=True):
        assert (answer.returncode, answer.stdout) == (2, ""), line
        assert REFUSED[line] in answer.stderr


def test_without_a_terminal_and_a_template_it_is_an_array(here: Workplace) -> None:
    plain, array, quiet = here.each("init", "init array", "-q init")
    assert plain.stdout == array.stdout
    assert "this is 'array' (others: list, shell, notebook)" in plain.stderr
    assert (quiet.stdout, quiet.stderr) == (plain.stdout, "")


def test_on_a_terminal_it_asks_until_an_answer_is_valid(here: Workplace) -> None:
    here.write("tiles.txt", "a\nb\n")
    terminal = here.at_a_terminal("init")
    for question, answer in (
        ("Name of the job [my-job]", "my_tiles"),
        ("Name of the job [my-job]", "tiles"),
        ("Container image [images.canfar.net/skaha/astroml:latest]", "a b"),
        ("Container image", ""),
        ("A number of replicas, or a file with one item per line [10]", "none.txt"),
        ("A number of replicas", "tiles.txt"),
    ):
        terminal.answer(question, answer)
    assert terminal.ended() == 0
    text = terminal.text.decode()
    assert 'file = "tiles.txt"' in text
    assert 'name = "tiles"' in text
    assert "help: to save it, repeat the command with > job.toml" in text


def test_an_interrupted_question_ends_with_130_and_prints_nothing(here: Workplace) -> None:
    terminal = here.at_a_terminal("init")
    terminal.read_until(b"Name of the job")
    terminal.text = b""
    os.write(terminal.master, b"\x03")
    assert terminal.ended() in (130, -2)
    assert b"image" not in terminal.text
