"""Batch scripts as people write them, converted; the manifests are resolved, and their commands run."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.errors import ManifestError
from skahactl.manifest.batch_script import unquoted
from skahactl.manifest.sbatch import Remark, convert
from skahactl.model import Job
from tests.manifests import jobs

ARRAY = """\
#!/bin/bash
#SBATCH --job-name=Tile_Run
#SBATCH --array=1601-1607:2%16   # the tiles
#SBATCH -c 4
#SBATCH --mem=8000M
#SBATCH --time=1-12:00:00
#SBATCH --output=logs/%x_%A_%a.out
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=me@example.org
#SBATCH --gres=gpu:a100:2
#SBATCH --account=def-someone
##SBATCH --mem=99G
#SBATCH --export=ALL,SURVEY=dr6,OMP_NUM_THREADS=4,NOTE="a, b"

# Load what we need
module purge
module load StdEnv/2023 python/3.11
echo "task ${SLURM_ARRAY_TASK_ID} of $SLURM_ARRAY_TASK_COUNT, $SURVEY, $NOTE, $OMP_NUM_THREADS {name}"
if [ -n "$SURVEY" ]; then
  module load cuda
fi
srun --ntasks=1 \\
  --cpu-bind=cores \\
  printf '%s\\n' "$SLURM_ARRAY_TASK_ID" | awk '{print $1 * 2}'
time srun -n 1 -u true && echo "done: $SLURM_CPUS_PER_TASK"
"""


def converted(text: str, file: str = "run.sh") -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest as data, and the remarks as a mapping."""
    made, remarks = convert(text, file)
    return tomllib.loads(made), {remark.what: remark.advice for remark in remarks}


def resolved(directory: Path, text: str, file: str = "run.sh") -> Job:
    made, _ = convert(text, file)
    (job,) = jobs(directory, made)
    return job


def script(*options: str, body: str = "true") -> str:
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in options), "", body, ""])


def output(job: Job, replica: int, directory: Path) -> str:
    request = job.replicas[replica - 1].request
    env = {key: value for key, value in request.env if isinstance(value, str)}
    done = subprocess.run(
        request.command,
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_array_job_becomes_items_limits_resources_and_variables() -> None:
    made, remarks = converted(ARRAY)
    assert made["name"] == "tile-run"
    assert made["items"] == {"range": "1601-1607:2", "per-replica": 1}
    assert made["limits"] == {"alive": 16}
    assert made["resources"] == {"cores": 4, "ram": 8, "gpus": 2}
    assert made["env"] == {
        "SURVEY": "dr6",
        "NOTE": "a, b",
        "SLURM_ARRAY_TASK_ID": "{item}",
        "SLURM_ARRAY_TASK_COUNT": "4",
        "SLURM_ARRAY_TASK_MIN": "1601",
        "SLURM_ARRAY_TASK_MAX": "1607",
        "SLURM_ARRAY_TASK_STEP": "2",
        "SLURM_CPUS_PER_TASK": "4",
    }
    assert 'put "timeout 36h" before it' in remarks["--time=1-12:00:00"]
    assert "skahactl logs tile-run" in remarks["--output=logs/%x_%A_%a.out"]
    assert "command below [notify]" in remarks["--mail-type=END,FAIL"]
    assert "the platform decides where" in remarks["--account=def-someone"]
    assert "line 16: module purge" in remarks


def test_the_converted_commands_print_what_each_task_of_the_array_printed(tmp_path: Path) -> None:
    job = resolved(tmp_path, ARRAY)
    assert [replica.items for replica in job.replicas] == [("1601",), ("1603",), ("1605",), ("1607",)]
    assert job.limits.alive == 16
    assert output(job, 2, tmp_path) == "task 1603 of 4, dr6, a, b, 4 {name}\n3206\ndone: 4\n"


def test_every_remark_is_a_comment_at_the_top_of_the_manifest() -> None:
    made, remarks = convert(ARRAY, "run.sh")
    comments = [line for line in made.split("\n") if line.startswith("#")]
    assert comments[0].startswith("#:schema ")
    for remark in remarks:
        assert f"# * {remark.what}" in comments


@pytest.mark.parametrize(
    ("options", "resources"),
    [
        (["-c 4", "--mem=16G"], {"cores": 4, "ram": 16}),
        (["--cpus-per-task 4", "--mem 1500"], {"cores": 4, "ram": 2}),
        (["--cpus-per-t=2", "--mem-per-cpu=2G"], {"cores": 2, "ram": 4}),
        (["-n8", "--mem-per-cpu=1000M"], {"cores": 8, "ram": 8}),
        (["--ntasks=2", "-c2", "--mem=1T"], {"cores": 4, "ram": 1024}),
        (["-N 2", "--ntasks-per-node=4"], {"cores": 4}),
        (["-N2", "-n 9"], {"cores": 5}),
        (["--mem=512M"], {"ram": 1}),
        (["--mem=3gb"], {"ram": 3}),
        (["--gres=gpu"], {"gpus": 1}),
        (["--gres=gpu:v100"], {"gpus": 1}),
        (["--gres=gpu:v100:3,lscratch:100"], {"gpus": 3}),
        (["-G a100:2"], {"gpus": 2}),
        (["--gpus=4"], {"gpus": 4}),
        (["--gpus-per-task=1", "-n2"], {"cores": 2, "gpus": 2}),
        (["-p debug"], None),
        (["--mem=0"], None),
    ],
)
def test_resources(options: list[str], resources: dict[str, int] | None) -> None:
    made, _ = converted(script(*options))
    assert made.get("resources") == resources


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("30", "timeout 30m"),
        ("1:30", "timeout 90s"),
        ("04:00:00", "timeout 4h"),
        ("00:90:00", "timeout 90m"),
        ("2-0", "timeout 48h"),
        ("1-12:30", "timeout 2190m"),
    ],
)
def test_a_time_limit_becomes_a_timeout_to_write(value: str, advice: str) -> None:
    _, remarks = converted(script(f"--time={value}"))
    assert advice in remarks[f"--time={value}"]
    _, remarks = converted(script(f"-t {value}"))
    assert advice in remarks[f"-t {value}"]


def test_exports_are_variables_secrets_or_commands() -> None:
    made, _ = converted(script("--export=NONE,A=1,B='x, y',TOKEN,C=\"{item} $HOME\"", body="env"))
    assert made["env"] == {"A": "1", "B": "x, y", "TOKEN": {"from-env": "TOKEN"}, "C": "{{item}} $HOME"}
    made, _ = converted(script('--export="ALL,OMP_NUM_THREADS=8,Z=3"', body="env"))
    assert made["shell"] == "export OMP_NUM_THREADS=8\nenv\n"
    assert made["env"] == {"Z": "3"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("srun ./a", "./a"),
        ("srun -n 1 -c 4 ./a -n 2", "./a -n 2"),
        ("srun --mpi=pmi2 --cpu-bind none ./a", "./a"),
        ("x=$(srun hostname)", "x=$(hostname)"),
        ("if srun -u ./a; then srun ./b & fi", "if ./a; then ./b & fi"),
        ('srun --export="A=1 2" ./a', "./a"),
        ("echo srun ./a", "echo srun ./a"),
        ("ls && srun ./a || exit 1", "ls && ./a || exit 1"),
        ("cat <<EOF\nsrun ./a\nmodule load x\nEOF", "cat <<EOF\nsrun ./a\nmodule load x\nEOF"),
        ("module load gcc && make", ": module load gcc && make"),
        ("ml python/3.11", ": ml python/3.11"),
        ("html a", "html a"),
        ("echo {item} ${item} {a,b}", "echo {{item}} ${item} {a,b}"),
        ("awk '{print}' a", "awk '{print}' a"),
    ],
)
def test_commands_without_slurm(before: str, after: str) -> None:
    made, _ = converted(script("-J a", body=before))
    assert made["shell"] == after + "\n"


def test_several_tasks_of_srun_get_a_remark() -> None:
    _, remarks = converted(script("-J a", body="srun -n 16 ./solver"))
    assert "it started several tasks" in remarks["line 4: srun -n 16"].lower()
    _, remarks = converted(script("-J a", body="srun -n 1 ./solver"))
    assert not any("srun" in what for what in remarks)


def test_conda_keeps_its_lines_and_is_explained(tmp_path: Path) -> None:
    made, remarks = converted(script("-J a", body="conda activate lens\npython x.py"))
    assert "conda activate lens" in made["shell"]
    assert 'eval "$(conda shell.bash hook)"' in remarks["line 4: conda activate lens"]
    with_hook = 'source ~/miniconda3/etc/profile.d/conda.sh\nconda activate lens\npython "$1"'
    _, remarks = converted(script("-J a", body=with_hook))
    assert "hook" not in remarks["line 5: conda activate lens"]
    assert "must exist in the container" in remarks["line 4: source ~/miniconda3/etc/profile.d/conda.sh"]
    assert "arguments of sbatch" in remarks["$1"]


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/bash -l", ["bash", "-l", "-c"]),
        ("#!/usr/bin/env -S bash -eu", ["bash", "-eu", "-c"]),
        ("#!/usr/bin/env python3", ["python3", "-c"]),
        ("#!/usr/bin/env python", ["python", "-c"]),
        ("#!/bin/zsh", ["zsh", "-c"]),
        ("#!/usr/bin/perl", ["perl", "-e"]),
    ],
)
def test_an_interpreter_other_than_bash_becomes_a_command(tmp_path: Path, first: str, command: list[str]) -> None:
    made, _ = converted(f"{first}\n#SBATCH -J a\nx = 1\n")
    assert made["command"] == [*command, "x = 1\n"]
    assert "shell" not in made
    resolved(tmp_path, f"{first}\n#SBATCH -J a\nx = 1\n")


@pytest.mark.parametrize("first", ["#!/bin/bash", "#!/bin/sh", "#! /usr/bin/env bash", "#SBATCH -N 1"])
def test_bash_and_sh_become_a_shell_text(first: str) -> None:
    made, _ = converted(f"{first}\n#SBATCH -J a\nx=1\n")
    assert made["shell"] == "x=1\n"


@pytest.mark.parametrize(
    ("option", "file", "name"),
    [
        ("-J 'My Job: v2'", "run.sh", "my-job-v2"),
        ("--job-name=survey_tiles.v1", "run.sh", "survey-tiles-v1"),
        ("-N1", "dir/Run_Tiles.slurm", "run-tiles"),
        ("-N1", "-", "my-job"),
        (f"-J {'x' * 80}", "run.sh", "x" * 63),
    ],
)
def test_the_name_of_the_job(option: str, file: str, name: str) -> None:
    assert converted(script(option), file)[0]["name"] == name


def test_variables_of_slurm_that_the_commands_read() -> None:
    body = 'cd "$SLURM_SUBMIT_DIR"; echo $SLURM_JOB_ID $SLURM_JOBID ${SLURM_JOB_NODELIST} $SLURM_RESTART_COUNT'
    made, remarks = converted(script("-J a", "--mem=4G", body=body + " $SLURM_MEM_PER_NODE"))
    assert made["env"] == {
        "SLURM_JOB_ID": "{name}-{replica}",
        "SLURM_JOBID": "{name}-{replica}",
        "SLURM_SUBMIT_DIR": ".",
        "SLURM_MEM_PER_NODE": "4096",
    }
    assert "Set it in [env]" in remarks["$SLURM_SUBMIT_DIR"]
    assert "Not set in a session" in remarks["$SLURM_JOB_NODELIST, $SLURM_RESTART_COUNT"]


def test_options_below_the_first_command_are_ignored_as_slurm_does() -> None:
    made, remarks = converted("#!/bin/bash\n# a comment\n\n#SBATCH -c 2\necho\n#SBATCH --mem=4G\n")
    assert made["resources"] == {"cores": 2}
    assert "line 6: #SBATCH" in remarks


def test_unknown_and_abbreviated_options() -> None:
    _, remarks = converted(script("--cpus-per-tsk=3", "--zzz=1"))
    assert "did you mean --cpus-per-task?" in remarks["--cpus-per-tsk=3"]
    assert "--zzz=1" in remarks
    text, listed = convert(script("--zzz=1", "--yyy=2", body="sbatch a.sh; scancel 3\nscontrol show job"), "run.sh")
    wanted = ["--zzz=1", "--yyy=2", "line 5: sbatch", "line 6: scontrol"]
    assert [what for what in wanted if f"# * {what}\n" not in text or what not in dict(listed)] == []
    assert text.count("# * ") == len(listed)
    made, _ = converted(script("--job=abc", "--arr=1-3"))
    assert (made["name"], made["items"]["range"]) == ("abc", "1-3")


def test_a_directory_and_dos_line_ends(tmp_path: Path) -> None:
    made, remarks = converted(script("-D /arc/projects/a", body="pwd").replace("\n", "\r\n"))
    assert made["shell"] == "cd '/arc/projects/a' || exit\npwd\n"
    assert "must exist in the container" in remarks["-D /arc/projects/a"]


def test_a_container_inside_the_script_is_named_as_the_image() -> None:
    made, remarks = converted(
        script("-J a", body="apptainer exec docker://images.canfar.net/skaha/astroml:24.07 python x.py")
    )
    assert made["image"] == "images.canfar.net/skaha/astroml:24.07"
    assert any("cannot start another one" in advice for advice in remarks.values())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a batch script"),
        ("name = 'x'\n", "not a batch script"),
        ("\x7fELF\0\0#!\0", "not a batch script"),
        (script("--array=9-1"), "run.sh:2: --array=9-1: '9-1' ends before it begins"),
        (script("--array=1-3%0"), "is not a limit"),
        (script("-c four"), "-c four: expected a whole number"),
        (script("-c 0"), "expected a whole number"),
        (script("--mem=lots"), "--mem=lots: expected an amount of memory"),
        (script("--time=soon"), "--time=soon: expected a time"),
        (script("-J"), "-J needs a value"),
        (script("job-name=x"), "'job-name=x' is not an option of sbatch"),
        (script("--export=A-B=1"), "'A-B' is not the name of a variable"),
        (script("-J a", body=""), "the script has no commands"),
        ("#!/usr/bin/gnuplot\n#SBATCH -J a\nplot x\n", "/usr/bin/gnuplot: cannot run a text"),
    ],
)
def test_what_cannot_be_converted_is_an_error(text: str, part: str) -> None:
    with pytest.raises(ManifestError) as caught:
        convert(text, "run.sh")
    assert any(part in problem.text() for problem in caught.value.problems)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        convert(script("--array=9-1", "-c x", "--mem=y", "--time=z"), "run.sh")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]


@given(st.text(alphabet="ab'\"\\$ `{}\t\n#é", max_size=60))
def test_the_commands_arrive_unchanged_whatever_they_contain(body: str) -> None:
    made, _ = converted(f"#!/bin/bash\n#SBATCH -J a\necho\n{body}x\n")
    assert made["shell"].rstrip() == f"echo\n{body}x".rstrip()


@given(st.lists(st.text(alphabet="ab '\"\\-=,#%", min_size=1, max_size=12), max_size=4))
def test_any_options_give_a_manifest_or_an_error(options: Sequence[str]) -> None:
    try:
        text, remarks = convert(script(*(f"--{option}" for option in options)), "run.sh")
    except ManifestError:
        return
    tomllib.loads(text)
    assert all(isinstance(remark, Remark) for remark in remarks)


@pytest.mark.parametrize(
    ("word", "plain"),
    [("a", "a"), ("'a b'", "a b"), ('"a \\" b"', 'a " b'), ("a\\ b", "a b"), ("--x='1'\"2\"3", "--x=123")],
)
def test_unquoted(word: str, plain: str) -> None:
    assert unquoted(word) == plain


def test_a_large_array_without_a_limit_gets_a_remark() -> None:
    assert "All 101 sessions are created at once" in converted(script("-a 0-100"))[1]["-a 0-100"]
    for option in ("-a 1-100", "-a 0-100%50"):
        assert option not in converted(script(option))[1]


def test_lines_of_pbs_get_a_remark() -> None:
    _, remarks = converted("#!/bin/bash\n#PBS -N x\n#PBS -l nodes=1\necho\n")
    assert "#PBS lines are not read" in remarks["line 2: #PBS -N x"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("source ~/venv/bin/activate\npython x.py", "line 4: source ~/venv/bin/activate"),
        ("cd a && . ./setup.sh", "line 4: . ./setup.sh"),
        ("cp a $TMPDIR/a; cp b ${SCRATCH}/b", "$SCRATCH, $TMPDIR"),
    ],
)
def test_what_a_container_lacks_gets_a_remark(body: str, what: str) -> None:
    assert what in converted(script("-J a", body=body))[1]


@pytest.mark.parametrize(
    "body", ["source /arc/home/me/venv/bin/activate", "TMPDIR=/scratch; ls $TMPDIR", "ls source x"]
)
def test_what_a_container_has_gets_none(body: str) -> None:
    assert set(converted(script("-J a", body=body))[1]) == {"image", "environment"}
