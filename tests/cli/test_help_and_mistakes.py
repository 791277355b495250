"""The command line as a person meets it: every command with help, with mistakes, with words from other tools."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from skahactl.app import VERBS, app, examples
from skahactl.ledger.database import open_ledger
from tests import ledgers
from tests.workplace import Workplace

ROOT = Path(__file__).resolve().parents[2]
PROFILE_WORDS = ("list", "show", "use", "current", "add", "remove", "check")
COMMANDS = (*VERBS, *(f"profile {word}" for word in PROFILE_WORDS))

#: What is missing, or wrong, in a call of each command; every one of these is refused before anything is done.
MISSING = (
    "apply",
    "apply -f",
    "create",
    "create headless",
    "validate",
    "diff",
    "resume",
    "retry",
    "describe",
    "logs",
    "logs tiles -r",
    "events",
    "wait",
    "delete",
    "mark",
    "mark tiles",
    "mark tiles completed",
    "renew",
    "split --of",
    "profile use",
    "profile add",
    "profile remove",
    "completion",
    "get -o",
    "--log-file",
)
UNKNOWN = (
    "resume nojob",
    "retry nojob",
    "get jobs nojob",
    "get replicas nojob",
    "describe nojob",
    "events nojob",
    "logs nojob",
    "wait nojob",
    "delete nojob",
    "mark nojob completed --unknown",
    "renew nojob",
    "prune nojob --yes",
    "apply nofile.toml",
    "validate nofile.toml",
    "diff nofile.toml",
    "explain nokey",
    "profile show noprofile",
    "profile use noprofile",
    "-p noprofile get jobs",
    "login noprofile",
    "completion noshell",
)
WORDS = {
    "aply job.toml": "did you mean 'apply'?",
    "lgos tiles": "did you mean 'logs'?",
    "wait tilse": "did you mean 'tiles'?",
    "wait --timeuot 3 tiles": "did you mean '--timeout'?",
    "apply --dry-rnu job.toml": "did you mean '--dry-run'?",
    "get jbos": "did you mean 'get jobs'?",
    "get -o jsn": "did you mean 'json'?",
    "profile lst": "did you mean 'list'?",
    "profile use cafnar": "did you mean 'canfar'?",
    "explain resuorces": "did you mean 'resources'?",
    "create hedless img": "did you mean 'headless'?",
    "ps": "skahactl get sessions",
    "info": "skahactl describe JOB",
    "info a1b2c3d4": "skahactl describe a1b2c3d4",
    "run": "skahactl create headless IMAGE -- COMMAND",
    "launch": "skahactl create headless IMAGE -- COMMAND",
    "submit": "skahactl apply job.toml",
    "cancel": "skahactl delete JOB",
    "scancel": "skahactl delete JOB",
    "squeue": "skahactl get jobs",
    "create a/b:1 -r 2 -- echo hi": "skahactl create headless a/b:1 -r 2 -- echo hi",
    "create headless -p local -- echo hi": "skahactl -p local create headless IMAGE -- echo hi",
    "create headless tiles.toml": "skahactl apply tiles.toml",
    "retry tiles --item x": "echo x | skahactl retry tiles --items -",
    "resume tiles --wait": "resume always waits",
    "prune survey-": "skahactl delete survey-",
    "jobs": "skahactl get jobs",
    "job": "skahactl get jobs",
    "image list": "skahactl get images",
    "pods": "skahactl get replicas",
    "remove tiles": "skahactl delete tiles",
    "pause tiles": "cannot be paused",
    "replace": "skahactl apply FILE --replace",
    "requeue": "skahactl retry JOB",
    "scontrol requeue": "retry JOB",
    "cat tiles": "skahactl logs tiles",
    "watch": "skahactl get jobs -w",
    "server use x": "skahactl profile use x",
    "logout": "a certificate is a file",
    "--verison": "did you mean '--version'?",
    "logs tiles --since yesterday": "--tail N",
    "apply job.toml --force": "--replace",
    "apply empty/": "this directory contains no *.toml file",
    "apply tiels": "did you mean 'tiles.toml'?",
    "retry tiles --items missing.txt": "missing.txt: the items cannot be read",
    "mark tiles completed --items missing.txt": "missing.txt: the items cannot be read",
    "profile add x --server https://x/skaha/v1 --auth token": "--token-file FILE or --token-env NAME",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A record in its usual place that knows ``tiles``, and no profile chosen."""
    extra = {"SKAHACTL_PROFILE": "", "SKAHACTL_STATE_DIR": "", "SURVEY_TOKEN": "very-secret", "COLUMNS": "80"}
    made = Workplace(tmp_path_factory.mktemp("home"), extra=extra)
    ledger, _ = ledgers.survey(made.root / ".local" / "state" / "skahactl")
    ledger.close()
    (made.root / "empty").mkdir()
    made.write("tiles.toml", "")
    return made


def refused(here: Workplace, lines: Iterable[str]) -> dict[str, str]:
    """The message of each call, refused as the design says: exit 2, nothing on stdout, one message, no traceback."""
    lines = list(lines)
    messages = {}
    for line, done in zip(lines, here.each(*lines), strict=True):
        assert (done.returncode, done.stdout) == (2, ""), done
        first, *hints = done.stderr.splitlines()
        assert first.startswith("error: "), done
        assert all(hint.startswith(("help: ", "  ")) for hint in hints), done
        assert len(hints) <= 2, done
        messages[line] = done.stderr
    return messages


def test_the_front_page_fits_a_small_terminal_and_names_every_command(here: Workplace) -> None:
    pages = {here.run(*words.split()).stdout for words in ("--help", "-h")}
    (page,) = pages
    lines = page.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert {verb for verb in VERBS if verb not in re.findall(r"[a-z]+", page)} == set()
    assert not {"│", "╭"}.intersection(page)


@pytest.mark.once
def test_the_page_of_a_command(here: Workplace) -> None:
    """Usage with the real arguments, a description, the examples, options with the short form first."""
    pages = here.each(*(f"{command} --help" for command in COMMANDS))
    for command, done in zip(COMMANDS, pages, strict=True):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: skahactl {command}")
        others = "  -q" if command == "report" else "  -o FORMAT"  # report -o names the file
        assert done.stdout.splitlines()[-1].startswith(f"Global options  -p PROFILE{others}")
        assert not {"│", "╭"}.intersection(done.stdout)
        assert not re.search(r"\b(STR|INT|FLOAT|CHOICE|ARGS|BOOL|PATH)\b", done.stdout), command
        assert not re.search(r"^ +--[a-z-]+, -", done.stdout, re.MULTILINE), command
        bare = [line for line in done.stdout.splitlines() if re.fullmatch(r"  -\S*(, --\S+)?( \S+)?", line)]
        assert not bare, f"{command}: an option without a description"
        if command != "profile":
            lines = examples_of(command)
            assert 1 <= len(lines) <= 4
            assert {f"  {line}" for line in lines} <= set(done.stdout.splitlines())
            assert done.stdout.index("Examples\n") < done.stdout.index("Global options")


def test_help_in_a_pipe_has_one_line_per_entry(here: Workplace) -> None:
    lines = here.run("split", "--help").stdout.splitlines()
    assert "  --glob PATTERN  Use the matching file names as items; ** matches any depth." in lines
    assert any(line.endswith("with -s size also <TAB>bytes.") for line in lines)


def test_profile_alone_shows_its_commands_as_plain_text(here: Workplace) -> None:
    done = here.run("profile")
    assert done.stdout == here.run("profile", "--help").stdout
    assert "  use      Set the default profile.\n" in done.stdout
    assert done.stdout.isascii()


def test_a_page_of_the_manual_leads_to_the_options_and_other_words_to_a_page(here: Workplace) -> None:
    apply, quick, slurm, unknown = here.each("help apply", "help quickstart", "help Slurm", "help nosuch")
    assert apply.stdout.splitlines()[3] == "The options of the command: `skahactl apply --help`"
    assert [done.stdout.splitlines()[0].split()[0] for done in (quick, slurm)] == ["The", "Migrating"]
    assert "'skahactl --help' lists the commands" in unknown.stderr


def test_help_on_a_terminal_fits_its_width(here: Workplace) -> None:
    terminal = here.at_a_terminal("--no-pager", "split", "--help")
    assert terminal.ended() == 0
    lines = terminal.text.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("-n, --share I/N") for line in lines)


def test_a_missing_argument(here: Workplace) -> None:
    refused(here, MISSING)


def test_an_unknown_option(here: Workplace) -> None:
    said = refused(here, (f"{command} --no-such-option" for command in ("", *COMMANDS)))
    assert [line for line in said if "--no-such-option" not in said[line]] == []


def test_an_unknown_name(here: Workplace) -> None:
    said = refused(here, UNKNOWN)
    assert [line for line in said if not re.search(r"no(job|file|key|profile|shell)", said[line])] == []


def test_a_variable_that_is_not_set(here: Workplace) -> None:
    """``delete "$JOB"``: no name is never a name."""
    verbs = ("describe", "logs", "wait", "delete", "renew", "retry", "apply", "diff")
    for verb, done in zip(verbs, here.each(*((verb, "") for verb in verbs)), strict=True):
        assert (done.returncode, done.stdout) == (2, ""), verb
        expected = "the name of a manifest is empty" if verb in ("apply", "diff") else "invalid target ''"
        assert expected in done.stderr, verb


@pytest.mark.once
def test_other_words(here: Workplace) -> None:
    said = refused(here, WORDS)
    assert [said[line] for line in WORDS if WORDS[line] not in said[line]] == []


def test_options_go_before_and_after_the_verb(here: Workplace) -> None:
    lines = (
        "-o name -p local get jobs --cached",
        "get jobs --cached -o name -p local",
        "get -plocal jobs -oname --cached",
    )
    assert {here.run(*line.split()).stdout for line in lines} == {"tiles\n"}


def test_version(here: Workplace) -> None:
    from skahactl import __version__

    assert here.run("--version").stdout == f"{__version__}\n"
    told = here.run("-v", "--version").stdout
    for word in ("python", "platform", "cyclopts", "httpx", "sqlite", f"{here.root}/.local/state/skahactl", "local"):
        assert word in told


@pytest.mark.parametrize("words", [("apply", "-", "--dry-run"), ("diff", "-f", "-"), ("validate", "-")])
def test_a_manifest_on_standard_input(here: Workplace, words: tuple[str, ...]) -> None:
    manifest = 'name = "piped"\nimage = "images.canfar.net/a/b:1"\ncommand = ["true"]\n'
    assert "piped" in here.run(*words, input=manifest, expect=1 if words[0] == "diff" else 0).stdout


def test_words_after_two_hyphens_are_files(here: Workplace) -> None:
    manifest = 'name = "{}"\nimage = "images.canfar.net/a/b:1"\ncommand = ["true"]\n'
    here.write("-a.toml", manifest.format("one"))
    here.write("--dry-run", manifest.format("two"))
    here.write("v.toml", manifest.format("three"))
    words = ("validate", "-o", "name", "--")
    assert here.run(*words, "-a.toml", "v.toml", "--dry-run").stdout == "one\nthree\ntwo\n"
    assert here.run(*words, "-", input=manifest.format("four")).stdout == "four\n"
    told = here.run("apply", "--", "v.toml", "--wait", expect=2).stderr
    assert "./--wait: cannot be read: No such file or directory" in told


def test_a_line_for_each_request(here: Workplace, tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    done = here.run("-v", "--log-file", str(log), "get", "sessions")
    lines = [line for line in done.stderr.splitlines() if "GET" in line]
    assert len(lines) == 1
    assert lines[0] in log.read_text()
    assert "GET" not in here.run("get", "sessions").stderr


def test_a_command_quoted_as_a_whole(here: Workplace) -> None:
    words = ("create", "headless", "images.canfar.net/a/b:1", "--dry-run", "-n", "quoted", "--")
    assert "without the quotes" in here.run(*words, "sleep 60").stderr
    assert "without the quotes" not in here.run(*words, "sleep", "60").stderr


def examples_of(command: str) -> list[str]:
    verb = app()
    for word in command.split():
        verb = verb[word]
    assert verb.default_command is not None
    return examples(verb.default_command.__doc__ or "")


def calls_in(line: str) -> list[list[str]]:
    """The calls of skahactl in a shell line: what stands between pipes, ``&&`` and ``<( )``."""
    found = []
    for piece in re.split(r"\||&&|<\(|\)|>", line):
        words = shlex.split(piece)
        if "skahactl" in words:
            piped = ["tiles"] if words[0] == "xargs" else []
            found.append([*words[words.index("skahactl") + 1 :], *piped])
    return found


@pytest.mark.parametrize("command", [word for word in COMMANDS if word != "profile"])
def test_examples_are_true(command: str) -> None:
    """Every example is what the parser takes, with options in their places and values of their kinds."""
    from skahactl.invocation import take_globals

    root = app()
    shown = [call for line in examples_of(command) for call in calls_in(line)]
    assert any(call[: len(command.split())] == command.split() or command.split()[0] in call for call in shown)
    for call in shown:
        _, words = take_globals(call)
        root.parse_args(words, exit_on_error=False, print_error=False)


def test_the_ledger_is_left_alone(here: Workplace) -> None:
    with open_ledger(here.root / ".local" / "state" / "skahactl") as ledger:
        assert [row["name"] for row in ledger.rows("SELECT name FROM jobs")] == ["tiles"]


def test_a_dry_run_shows_what_would_be_sent(here: Workplace) -> None:
    """As data the very form, with references in place of secrets; for people the first, before encoding."""
    manifest = (
        'name = "dry"\nimage = "images.canfar.net/a/b:1"\nshell = "echo $HOME {replica}"\nreplicas = 3\n'
        '[env]\nTOKEN = { from-env = "SURVEY_TOKEN" }\n'
    )
    data = json.loads(here.run("apply", "-", "--dry-run", "-o", "json", input=manifest).stdout)
    sent = [step["request"] for step in data["jobs"][0]["steps"]]
    assert [request["cmd"] for request in sent] == ["bash"] * 3
    assert sent[2]["args"].startswith("-c echo\\\\x20")
    assert sent[0]["env"] == ["TOKEN=<env:SURVEY_TOKEN>", "REPLICA_ID=1", "REPLICA_COUNT=3"]
    shown = here.run("apply", "-", "--dry-run", input=manifest).stdout
    assert "  args   -c 'echo $HOME 1'\n" in shown
    assert "replicas 2-3: the same, except command and REPLICA_ID. To see each: -o json" in shown
    assert "  env    TOKEN=<env:SURVEY_TOKEN>\n" in shown
    assert "very-secret" not in shown + json.dumps(data)
