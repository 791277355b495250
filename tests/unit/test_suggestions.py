"""What other tools' commands are answered with: a command with the user's words, which this program accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from skahactl.app import VERBS, app
from skahactl.invocation import Invocation, enter, take_globals, use_aliases
from skahactl.ledger.database import open_ledger
from skahactl.render import pages
from skahactl.suggestions import explain_argument_error, unknown_verb
from tests import ledgers

#: What is typed, and the command that answers it.
ANSWERS = {
    "ps": "get sessions --state Pending,Running",
    "ps -a": "get sessions",
    "ps --all -q": "get sessions -o name",
    "ps --status Running": "get sessions --state Running",
    "ps -s Running": "get sessions --state Running",
    "ps -k headless": "get sessions -o json",
    "ps -o json": "get sessions -o json",
    "top": "get sessions -o wide",
    "top nodes": "get stats",
    "auth show": "profile show",
    "auth ls": "profile list",
    "auth use X": "profile use X",
    "auth rm X": "profile remove X",
    "auth purge": "profile remove NAME",
    "auth login": "login",
    "config show": "profile show",
    "config get console.width": "profile show",
    "config set a b": "profile show",
    "config path": "profile show",
    "config use-context canfar": "profile use canfar",
    "config view": "profile show",
    "server use x": "profile use x",
    "server ls": "profile list",
    "exec hello -- ls": "logs hello",
    "exec hello ls": "logs hello",
    "cp a b": "logs JOB --save DIR",
    "watch hello": "get hello -w",
    "watch": "get jobs -w",
    "monitor": "get jobs -w",
    "restart tiles": "apply tiles.toml --rerun",
    "rerun tiles": "apply tiles.toml --rerun",
    "rollout restart job/tiles": "apply tiles.toml --rerun",
    "rerun tiles.toml": "apply tiles.toml --rerun",
    "squeue": "get jobs",
    "squeue -j tiles": "get replicas tiles",
    "sacct -j tiles": "describe tiles",
    "seff tiles": "describe tiles",
    "sstat -j tiles": "describe tiles",
    "scontrol show job tiles": "describe tiles",
    "scontrol requeue tiles_3": "retry tiles/3",
    "scancel -n tiles": "delete tiles",
    "scancel -u me": "get jobs --state Running,Pending,Queued -o name",
    "sinfo": "get stats",
    "salloc": "create notebook IMAGE --wait",
    "info ID": "describe ID",
    "stats": "get stats",
    "image ls": "get images",
    "sbatch old.toml": "apply old.toml",
    "sbatch run.sh": "init --from-sbatch run.sh",
    "qsub run.sh": "init --from-sbatch run.sh",
    "run job.toml": "apply job.toml",
    "run hello --image=a/b:c -- echo hi": "create headless a/b:c -n hello -- echo hi",
    "srun -n 4 hostname": "create headless IMAGE -r 4 --wait -- hostname",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A working directory, for a user whose record has the job ``tiles`` of ``tiles.toml``."""
    return tmp_path


def hint_for(line: str, directory: Path) -> str:
    """The help line that answers these words, and every command in it is one that the program takes."""
    options, words = take_globals(line.split(), {})
    environ = {"SKAHACTL_STATE_DIR": str(directory), "HOME": str(directory)}
    enter(Invocation(**{**options, "environ": environ, "cwd": str(directory)}))
    try:
        hint = unknown_verb(use_aliases(words)).hint or ""
    finally:
        enter(Invocation())
    for command in commands_in(hint):
        check_command(command)
    return hint


def commands_in(hint: str) -> list[str]:
    """The calls in a line: each up to a pipe, a redirection or a note."""
    found = re.findall(r"skahactl ((?:'[^']*'|[^'|>;(),]|,(?=\w))+)", hint)
    return [one.strip() for one in found]


def check_command(command: str) -> None:
    _, words = take_globals(shlex.split(command), {})
    words = use_aliases(words)
    assert words[0] in VERBS, command
    app().parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("line", ANSWERS)
def test_another_tool_s_command_is_answered_with_one_that_works(line: str, directory: Path) -> None:
    with open_ledger(directory) as ledger:
        ledgers.add(ledger, ledgers.job("tiles", 3, manifest="tiles.toml"))
    assert commands_in(hint_for(line, directory))[0] == ANSWERS[line]


#: Words that this program has, with an option or a word of another tool, and a part of the answer.
OPTIONS = {
    "create -f job.toml": "the command is: skahactl apply -f job.toml",
    "--log-level debug get jobs": "-v; -vv also logs",
    "login --force": "always gets a new certificate",
    "login -f": "always gets a new certificate",
    "get pods -l job-name=x": "the command is: skahactl get replicas x",
    "delete --all": "skahactl get jobs --state Running,Pending,Queued -o name | xargs -r skahactl delete",
    "retry tiles --item a.fits": "skahactl retry tiles --items -",
    "resume tiles --wait": "leave out --wait",
}


@pytest.mark.parametrize("line", OPTIONS)
def test_another_tool_s_option_is_answered_with_what_has_the_same_effect(line: str) -> None:
    from cyclopts import CycloptsError

    _, words = take_globals(line.split(), {})
    with pytest.raises(CycloptsError) as raised:
        app().parse_args(words, exit_on_error=False, print_error=False)
    hint = explain_argument_error(raised.value, words).hint or ""
    assert OPTIONS[line] in hint
    for command in commands_in(hint):
        check_command(command)


#: Commands of other tools that work here, or that are not available: nothing is suggested.
NOT_SUGGESTED = (*VERBS, "version", "sbatch", "data", "feedback")
#: Options that are read before the verb, or that make no difference.
OTHER_OPTIONS = re.compile("--(quiet|output|debug|force)")


def test_the_page_about_other_tools_names_the_command_that_the_program_suggests(directory: Path) -> None:
    checked = 0
    for row in pages.read("migrating").splitlines():
        typed, answers, *_ = [re.findall(r"`([^`]+)`", cell) for cell in row.split(" | ")] + [[], []]
        for line, answer in zip(typed, answers, strict=False):
            words = re.sub("^(canfar|kubectl) | -[a-z]$", "", line).replace("--status", "--status Running").split()
            if (
                not answer.startswith("skahactl")
                or words[0].startswith("-")
                or words[0] in NOT_SUGGESTED
                or OTHER_OPTIONS.search(line)
            ):
                continue
            suggested = commands_in(hint_for(" ".join(words).replace("--kind", "--kind headless"), directory))[0]
            assert with_one_name(f"skahactl {suggested}") == with_one_name(answer), row
            checked += 1
    assert checked > 20


def with_one_name(command: str) -> str:
    """The command with NAME for each word that is only a place for one."""
    return re.sub(r"\b(ID|IDP|JOB|SELECTOR)\b", "NAME", command)
