"""What users of kubectl, canfar, gh and Slurm type first: it works, or the answer is a command with their words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from skahactl.invocation import CREATE_VALUED, take_globals, use_aliases
from skahactl.ledger.database import open_ledger
from tests import ledgers
from tests.workplace import Workplace

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A home whose ledger knows ``tiles`` (20 replicas, one of them failed) and ``survey`` (3); nothing is alive."""
    made = Workplace(tmp_path_factory.mktemp("home"))
    with open_ledger(made.state) as ledger:
        for name, count in (("survey", 3), ("tiles", 20)):
            run = ledgers.add(ledger, ledgers.job(name, count))
            ledgers.start(ledger, run, range(1, count + 1))
            with ledger.transaction() as connection:
                connection.execute("UPDATE replicas SET state = 'Failed' WHERE run = ? AND number = 2", (run.id,))
                connection.execute("UPDATE runs SET ended = created WHERE id = ?", (run.id,))
    (made.root / "job.toml").write_text(
        'name = "new"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["true"]\n'
    )
    return made


def called(here: Workplace, line: str, **environ: str) -> tuple[int, str, str]:
    done = here.run(*line.split(), expect=None, extra=environ)
    return done.returncode, done.stdout, done.stderr


def called_each(here: Workplace, lines: Iterable[str]) -> dict[str, tuple[int, str, str]]:
    """What each line answers."""
    lines = list(dict.fromkeys(lines))
    found = here.each(*lines, extra={"SHELL": "/usr/bin/zsh"})
    return {line: (done.returncode, done.stdout, done.stderr) for line, done in zip(lines, found, strict=True)}


#: Two calls that print the same.
SAME = {
    "version": "--version",
    "-V": "--version",
    "help serve": "serve --help",
    "help profile add": "profile add --help",
    "get pods tiles --cached": "get replicas tiles --cached",
    "get po tiles --cached": "get replicas tiles --cached",
    "get pod/tiles --cached": "get replicas tiles --cached",
    "get replicas/tiles --cached": "get replicas tiles --cached",
    "get tiles 17 --cached": "get tiles/17 --cached",
    "get tiles_17 --cached": "get tiles/17 --cached",
    "get tiles --failed --cached": "get tiles --state Failed --cached",
    "get tiles --state failed,pending --cached": "get tiles --state Failed,Pending --cached",
    "get tiles/17- --cached -o name": "get tiles/17-20 --cached -o name",
    "get tiles/3..5 --cached": "get tiles/3-5 --cached",
    "get tiles/3:5 --cached": "get tiles/3-5 --cached",
    "get tiles/* --cached": "get tiles --cached",
    "get jobs --sort-by=.name --cached": "get jobs --sort-by name --cached",
    "get job/tiles --cached": "get jobs tiles --cached",
    "describe job/tiles --cached": "describe tiles --cached",
    "logs tiles -n 20": "logs tiles --tail 20",
    "logs tiles --tail=-1": "logs tiles",
    "profile ls": "profile list",
    "retry tiles 2 --dry-run": "retry tiles/2 --dry-run",
    "delete tiles 2 --dry-run": "delete tiles/2 --dry-run",
    "delete tiles/2 --dry-run -y": "delete tiles/2 --dry-run",
    "apply -n job.toml": "apply --dry-run job.toml",
    "apply job.toml --dry-run=client": "apply job.toml --dry-run",
    "apply job.toml --dry-run=server": "apply job.toml --dry-run",
    "apply -R -n job.toml": "apply --rerun --dry-run job.toml",
    "create job x --image=a/b:1 --dry-run -- env": "create headless a/b:1 -n x --dry-run -- env",
    "wait survey --for=completion": "wait survey --for complete",
    "wait survey --for delete --timeout 1s": "wait survey --for deleted --timeout 1s",
    "completion": "completion zsh",
}


def test_another_form_means_the_same(here: Workplace) -> None:
    told = called_each(here, (*SAME, *SAME.values(), "profile current"))
    assert told.pop("profile current")[:2] == (0, "local\n")
    assert [(line, told[line], told[other]) for line, other in SAME.items() if told[line] != told[other]] == []
    for line in SAME:
        code, out, _ = told[line]
        assert line.startswith(("wait", "logs", "retry", "delete")) or (code, out != "") == (0, True), line


def test_noun_lists_print_each_noun(here: Workplace) -> None:
    _, out, _ = called(here, "get jobs,replicas tiles --cached -o json")
    assert {noun: len(rows) for noun, rows in json.loads(out).items()} == {"jobs": 1, "replicas": 20}
    _, out, _ = called(here, "get jobs,replicas survey --cached")
    assert out.splitlines()[0].startswith("NAME")
    assert any(line.startswith("REPLICA") for line in out.splitlines())


def test_jobs_on_every_server(here: Workplace, tmp_path: Path) -> None:
    code, out, _ = called(here, "get jobs -A --cached")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["PROFILE", "NAME"],
        ["local", "tiles"],
        ["local", "survey"],
    ]
    certificate = here.root / ".ssl" / "cadcproxy.pem"  # so that no profile is selected
    certificate.parent.mkdir()
    certificate.write_text("")
    try:
        assert called(here, "get --cached", SKAHACTL_PROFILE="") == (code, out, "")
        assert called(here, "get jobs --cached", SKAHACTL_PROFILE="") == (code, out, "")
        code, _, told = called(here, "retry job/tiles", SKAHACTL_PROFILE="")
        assert code == 2
        assert told.endswith("help: tiles has a record on local: skahactl -p local retry job/tiles\n")
        for read in ("get tiles --cached", "get replicas tiles --cached", "describe tiles --cached", "logs tiles"):
            assert called(here, read, SKAHACTL_PROFILE="") == called(here, f"-p local {read}"), read
        assert "help: add -p canfar, or -p local" in called(here, "logs unknown", SKAHACTL_PROFILE="")[2]
    finally:
        certificate.unlink()


def test_skahactl_alone_shows_live_jobs(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    assert "Usage: skahactl COMMAND" in called(here, "")[1]
    with open_ledger(here.state) as ledger:
        run = ledgers.add(ledger, ledgers.job("psfex", 5))
        ledgers.start(ledger, run, (1, 2))
    title = "Jobs that have not ended, as last seen:\n"
    assert called(here, "") == (0, title + "local  psfex  Pending 0/5\n\nskahactl --help lists the commands\n", "")


#: What is answered with a suggestion, and the suggestion.
ANSWERS = {
    "scancel survey_3": "skahactl delete survey/3",
    "scancel -u me": "skahactl get jobs --state Running,Pending,Queued -o name | xargs -r skahactl delete",
    "squeue -j X": "skahactl get replicas X",
    "squeue": "skahactl get jobs",
    "qsub f.sh": "skahactl init --from-sbatch f.sh > f.toml",
    "run job.toml": "skahactl apply job.toml",
    "sacct -j X": "skahactl describe X",
    "info X": "skahactl describe X",
    "status X": "skahactl describe X",
    "status": "skahactl get jobs",
    "cat X": "skahactl logs X",
    "rollout restart job/X": "skahactl apply FILE --rerun",
    "rollout status job/X": "skahactl wait X",
    "run view --log-failed": "skahactl logs JOB --failed",
    "run view X --log-failed": "skahactl logs X --failed",
    "run N --image=I -- echo hi": "skahactl create headless I -n N -- echo hi",
    "sbatch --array=1-10%2 --wrap C": "skahactl create headless IMAGE -r 10 -- sh -c C (at most 2 at a time: "
    "alive = 2 below [limits] in a manifest)",
    "sbatch --array=5-14 --wrap C": 'REPLICA_ID is 1 to 10; for the numbers 5-14: range = "5-14" below [items]',
    "sbatch --array=0-9 --wrap C": 'REPLICA_ID is 1 to 10; for the numbers 0-9: range = "0-9" below [items]',
    "sbatch run.sh": "skahactl init --from-sbatch run.sh > run.toml",
    "sbatch -a 1-10%2 -n 4 run.sh x": "skahactl init --from-sbatch run.sh > run.toml",
    "sbatch --wait run.sh": "skahactl init --from-sbatch run.sh > run.toml",
    "qsub -l walltime=1:00 run.sh": "skahactl init --from-sbatch run.sh > run.toml",
    "run headless a/b:1": "skahactl create headless a/b:1\n",
    "srun -n 4 hostname": "skahactl create headless IMAGE -r 4 --wait -- hostname",
    "hold X": "lower [limits] alive",
    "scale job/X --replicas=5": "skahactl diff FILE --set replicas=5",
    "edit X": "skahactl diff FILE",
    "exec X": "skahactl logs X",
    "cp X/1:/a b": "skahactl logs X/1 --save DIR (for logs; sessions share /arc",
    "destroy X": "skahactl delete X",
    "rm X": "skahactl delete X",
    "down X": "skahactl delete X",
    "plan f.toml": "skahactl diff f.toml",
    "lint f.toml": "skahactl validate f.toml",
    "check f.toml": "skahactl validate f.toml",
    "new": "skahactl init",
    "template": "skahactl init",
    "up f.toml": "skahactl apply f.toml --wait",
    "seff X": "skahactl describe X",
    "qstat": "skahactl get jobs",
    "condor_q": "skahactl get jobs",
    "whoami": "skahactl profile check",
    "ps": "skahactl get sessions",
    "aplly f.toml": "did you mean 'apply'?",
    "gte jobs": "did you mean 'get'?",
    "describ X": "did you mean 'describe'?",
    "get job tiles replicas": "skahactl get replicas tiles",
    "apply job.toml --timeout 5m": "--timeout needs --wait",
    "apply job.toml -y": "-y confirms --replace",
    "retry tiles --timeout 5m": "--timeout needs --wait",
    "apply job.toml --timeout 5x": "--timeout: invalid duration '5x'",
    "apply job.toml --dry-run=foo": "--dry-run is client, server or none, not 'foo'",
    "apply job.toml --wait=foo": "--wait is true or false, not 'foo'",
    "get X --field-selector=status=Failed": "the command is: skahactl get X --state Failed",
    "get X --field-selector status.phase=Failed": "the command is: skahactl get X --state Failed",
    "get sessions -k headless": "filter -o json by the field type",
    "create headless a/b:1 --timeout 5m -- env": "skahactl create headless a/b:1 ... --wait --timeout 5m",
    "create notebook a/b:1": "needs a notebook session, but the local platform starts no images",
    "create headless a/b:1": "help: choose a server: -p canfar, or give a command",
    "get logs tiles": "the command is: skahactl logs tiles",
    "scale tiles": "with --rerun after the end of the run or with --replace",
    "apply job.toml --prune": "skahactl delete JOB",
    "delete tiles --force": "delete needs no --force",
    "delete tiles --state Failed": "help: replicas of a job: skahactl delete tiles/REPLICAS\n",
    "create headless a/b:1 -m 4G -- env": "--ram is a number of GB, not '4G'\nhelp: write --ram 4\n",
    "retry tiles --ram 8G": "help: write --ram 8\n",
    "apply job.toml -k x": "if you mean a file named -k, write ./-k",
    "create headless a/b:1 --replcas 5 -- env": "did you mean '--replicas'?",
    "create --replcas 5 headless a/b:1 -- env": "did you mean '--replicas'?",
    "create headless --replcas 5 a/b:1 env": "did you mean '--replicas'?",
    "get jobs -o toml": "-o json",
    "apply job.toml -o csv": "-o csv is for get",
    "get jobs --color maybe": "auto, always or never",
}


def test_other_words_are_answered_with_a_command(here: Workplace) -> None:
    for line, (code, out, err) in called_each(here, ANSWERS).items():
        assert (code, out) == (2, ""), line
        assert ANSWERS[line] in err, line


def test_a_short_word_leads_to_no_other_command(here: Workplace) -> None:
    for line, (code, _, err) in called_each(here, ("exit", "quit", "begin", "test", "repeat")).items():
        assert (code, "did you mean" in err) == (2, False), line


#: Words that must not lead to a command or option that starts or ends work.
HARMLESS = (
    "destry",
    "delet-all",
    "rerty-all",
    "prine",
    "aplay-all",
    "apply job.toml --rerum-x",
    "delete tiles --forcee",
)


def test_nothing_harmful_is_suggested_for_another_word(here: Workplace) -> None:
    for line, (code, _, err) in called_each(here, HARMLESS).items():
        assert code == 2, line
        suggestion = err.partition("did you mean '")[2].partition("'")[0]
        assert suggestion not in ("retry", "delete", "apply", "--rerun", "--replace", "--forget"), line


#: What create gets: words, its command, and what is left to its options.
COMMANDS = {
    "create headless IMG -r 5 -- python a.py --all": (["python", "a.py", "--all"], 5),
    "create headless IMG -r 5 python a.py --all -v -o x": (["python", "a.py", "--all", "-v", "-o", "x"], 5),
    "-q create -r5 headless IMG env": (["env"], 5),
    "create headless -n x IMG --replicas=5 env -n y": (["env", "-n", "y"], 5),
    "create headless IMG -r 5": ([], 5),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_of_create(line: str) -> None:
    from skahactl.app import app

    _, words = take_globals(line.split(), {})
    _, bound, _ = app().parse_args(use_aliases(words), exit_on_error=False, print_error=False)
    command, replicas = COMMANDS[line]
    assert (list(bound.args[2:]), bound.kwargs["replicas"]) == (command, replicas)


def test_an_option_in_the_command_of_create_leads_to_a_warning(here: Workplace) -> None:
    warning = "warning: {} is part of the command; to give it to skahactl, write it before the command"
    lines = {
        "create headless a/b:1 -n x --dry-run python a.py --wait --replicas=3 -n 4": ["--wait", "--replicas"],
        "create headless a/b:1 -n x --dry-run python a.py --all": [],
        "create headless a/b:1 -n x --dry-run -- python a.py --wait": [],
    }
    for line, (_, _, err) in called_each(here, lines).items():
        said = [text for text in err.splitlines() if text.startswith("warning:") and "is part of" in text]
        assert said == [warning.format(option) for option in lines[line]], line


def test_the_options_of_create_that_take_a_value_are_known() -> None:
    from skahactl.app import app

    valued = {
        name
        for argument in app()["create"].assemble_argument_collection()
        if argument.hint is not bool
        for name in argument.names
        if name.startswith("-")
    }
    assert valued == CREATE_VALUED - {"--image"}


def test_settings_of_the_environment(here: Workplace) -> None:
    _, as_json, _ = called(here, "get jobs --cached -o json")
    assert called(here, "get jobs --cached", SKAHACTL_OUTPUT="json")[1] == as_json
    assert called(here, "get jobs --cached -o name", SKAHACTL_OUTPUT="json")[1] == "tiles\nsurvey\n"
    assert called(here, "validate job.toml", SKAHACTL_OUTPUT="csv")[0] == 0  # which has no csv
    assert called(here, "init list", SKAHACTL_OUTPUT="json")[0] == 0
    assert called(here, "split job.toml --all --of 1", SKAHACTL_OUTPUT="json")[1].startswith("1\t")
    for output in ("json", "yaml"):
        assert called(here, "logs tiles", SKAHACTL_OUTPUT=output) == called(here, "logs tiles")
        code, _, err = called(here, f"logs tiles -o {output}")
        assert (code, f"logs has no -o {output}" in err) == (2, True)
    code, _, err = called(here, "get jobs --cached", SKAHACTL_OUTPUT="xml")
    assert (code, "SKAHACTL_OUTPUT" in err) == (2, True)


def test_when_colour_is_used() -> None:
    import io

    from skahactl.invocation import has_colour

    pipe = io.StringIO()
    settings: dict[str, bool] = {
        "": False,
        "FORCE_COLOR=1": True,
        "FORCE_COLOR=0": False,
        "FORCE_COLOR=1 NO_COLOR=1": False,
        "SKAHACTL_COLOR=always NO_COLOR=1": True,
        "SKAHACTL_COLOR=never FORCE_COLOR=1": False,
        "SKAHACTL_COLOR=auto": False,
    }
    for text, expected in settings.items():
        assert has_colour(pipe, dict(pair.split("=") for pair in text.split())) is expected, text
    options, words = take_globals(["get", "--color", "always", "--no-pager", "jobs"], {"A": "b"})
    assert words == ["get", "jobs"]
    assert options["environ"] == {"A": "b", "SKAHACTL_COLOR": "always", "SKAHACTL_PAGER": ""}


def test_sessions_that_belong_to_no_job_are_deleted_by_pattern(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    for name in ("old-1", "old-2", "kept"):
        here.run("create", "headless", "a/b:1", "-n", name, "--wait", "--", "true")
    here.run("prune", "old-1", "old-2", "--older-than", "0s", "--yes")
    command = ["delete", "--sessions", "*", "--state", "completed"]
    assert "1 session left out" in here.run(*command, "--dry-run").stderr
    assert "nothing was deleted" in here.run(*command, expect=1).stderr  # no terminal to ask on
    here.run(*command, "--yes")
    assert [row["name"].rpartition("-")[0] for row in here.data("get", "sessions")] == ["kept"]
    assert "matches '*'" in here.run(*command, "--yes").stderr


def test_delete_without_waiting(tmp_path: Path) -> None:
    here = Workplace(tmp_path)
    here.run("create", "headless", "a/b:1", "-n", "long", "--", "sleep", "600")
    assert "deletion of 1 session requested" in here.run("delete", "long", "--wait=false").stderr
    here.run("delete", "long")
    assert here.run("get", "sessions", "-o", "name").stdout == ""
    assert here.state.exists()
