"""What README.md shows is what is there: commands, screens, manifests, exit codes, files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from skahactl import manifest, profiles
from skahactl.errors import Exit
from skahactl.options import take_globals
from skahactl.profile import LOCAL_SERVER, Profile
from skahactl.verbs import VERBS, app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCAL = Profile(name="local", server=LOCAL_SERVER)


def block(mark: str, language: str) -> str:
    """The fenced block right after this comment."""
    found = re.search(rf"^<!-- {mark} -->\n+```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"no {language} block after <!-- {mark} -->"
    return found[1]


def blocks(text: str, languages: str) -> list[str]:
    return re.findall(rf"^```(?:{languages})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# --- quickstart, links ---


@pytest.mark.parametrize("mark", ["quickstart", "tests"])
def test_the_two_commands_are_whole_and_take_another_python(mark: str) -> None:
    command = block(mark, "sh")
    assert command.startswith("${PYTHON:-python3} -m venv ")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    assert command.count("&&\n") == command.count("\n") - 1, "one command: each line but the last goes on"


def test_the_manifest_shown_is_the_quickstart_s() -> None:
    assert block("manifest", "toml") == (ROOT / "configs" / "quickstart" / "job.toml").read_text(encoding="utf-8")


def test_every_file_that_is_linked_or_applied_is_there() -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", README)
    applied = [path for path in re.findall(r"\b(configs/[\w./-]*\w)", README) if "/results/" not in path]
    assert len(linked) > 5
    assert [path for path in {*linked, *applied} if not (ROOT / path).exists()] == []


def test_every_link_within_the_page_has_its_heading() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", README, re.M)
    }
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert len(links) > 10
    assert [anchor for anchor in links if anchor not in headings] == []


# --- commands ---


def commands() -> Iterator[list[str]]:
    """The words of every skahactl command on the page: in blocks of shell and of screens, and in the text."""
    for text in blocks(README, "sh|bash"):
        yield from in_shell(text)
    for text in blocks(README, "console"):
        yield from in_shell("\n".join(line[2:] for line in text.splitlines() if line.startswith("$ ")))
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(skahactl [^`]*)`", prose):
        if "..." not in code:
            yield from in_shell(code.replace("\\|", "|"))


def in_shell(text: str) -> Iterator[list[str]]:
    """Each command of a shell text that begins with skahactl."""
    text = re.sub(r"<<'END'\n.*?^END$", "", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[|&;<>()]+", word):
            while words and words[0] in ("xargs", "-r", "while", "do", "if"):
                words = words[1:]
            if words[:1] in (["skahactl"], [".venv/bin/skahactl"]):
                yield words[1:]
            words = ["to a file"] if ">" in word or "<" in word else []
        else:
            words.append(word)


COMMANDS = sorted({tuple(words) for words in commands()})


def test_commands_are_found_wherever_they_stand() -> None:
    assert {words[0] for words in COMMANDS if words and words[0] in VERBS} == set(VERBS)
    assert ("apply", "configs/quickstart/job.toml", "--wait") in COMMANDS
    assert ("retry",) in COMMANDS, "after xargs, which gives it the job"
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_shown_is_one(words: tuple[str, ...]) -> None:
    _, rest = take_globals(words)
    if rest in ([], ["--version"], ["retry"], ["mark"], ["split"]):
        return  # named in the text, or given its job by xargs
    try:
        app().parse_args(rest, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"skahactl {shlex.join(words)}: {error}")


# --- manifests, profiles, codes ---


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "images" / f"{name}.fits").touch()
    (tmp_path / "tile_numbers.txt").write_text("".join(f"271.{number}\n" for number in range(200)))
    (tmp_path / "galaxies.csv").write_text("galaxy,ram\nngc1365,192\nic342,32\n")
    return tmp_path


@pytest.mark.parametrize("mark", re.findall(r"^<!-- (manifest: .*) -->$", README, re.MULTILINE))
def test_every_manifest_shown_resolves(mark: str, inputs: Path) -> None:
    (inputs / "job.toml").write_text(block(mark, "toml"), encoding="utf-8")
    jobs = manifest.resolve(manifest.load([str(inputs / "job.toml")]), LOCAL, variables={})
    assert jobs
    assert [warning for job in jobs for warning in job.warnings] == []


def test_every_block_of_toml_is_checked() -> None:
    marked = re.findall(r"^<!-- (?:manifest.*|profile) -->\n```toml$", README, re.MULTILINE)
    assert len(marked) == len(blocks(README, "toml")) == 4


def test_the_example_has_all_keys() -> None:
    text = block("manifest: all keys", "toml")
    listed = subprocess.run(
        [sys.executable, "-m", "skahactl", "explain"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    keys = [line.split()[0] for line in listed.splitlines()]
    assert len(keys) > 25
    missing = [
        key
        for key in keys
        if key not in ("common", "job")  # several jobs in a file: the other example
        and not re.search(rf"^(?:# )?{key.rpartition('.')[2]} = |^\[{key}\]", text, re.MULTILINE)
    ]
    assert missing == []


def test_the_mistakes_shown_are_told_so(tmp_path: Path, here: dict[str, str]) -> None:
    bad = [
        'name = "bad"',
        'image = "skaha/astronomy:latest"',
        'command = "python run.py --all *.fits"',
        "replica = 3",
        "",
        "",
        "[env]",
        "OMP_NUM_THREADS = 4",
    ]
    (tmp_path / "work" / "bad.toml").write_text("\n".join(bad))
    done = shell("skahactl validate bad.toml", tmp_path / "work", here)
    assert (done.returncode, done.stdout) == (2, block("mistakes", ""))


def test_the_profile_shown_loads(tmp_path: Path) -> None:
    (tmp_path / "canfar.toml").write_text(block("profile", "toml"), encoding="utf-8")
    profile = profiles.load(str(tmp_path / "canfar.toml"))
    assert (profile.server, profile.limits.alive) == ("https://ws-uv.canfar.net/skaha/v1", 512)


def test_the_exit_codes_are_those_of_the_program() -> None:
    table = README[README.index("| exit | meaning |") :].split("\n\n")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == sorted(Exit)


# --- what is shown is what happens ---


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty home and skahactl on the PATH."""
    for name in ("bin", "home", "work"):
        (tmp_path / name).mkdir()
    tool = tmp_path / "bin" / "skahactl"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m skahactl "$@"\n')
    tool.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKAHACTL_", "XDG_", "REPLICA_"))}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "PATH": path, "LC_ALL": "C"}


def shell(line: str, directory: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def plain(line: str) -> str:
    """A line without what differs from run to run: session ids, times, widths."""
    line = re.sub(r"\b[a-z0-9]{8}\b(?=  )", "SESSION", line)
    line = re.sub(r"measure.sh: .*", "measure.sh: ...", line)  # each shell has its own words for it
    line = re.sub(r"(?<=  271\.285  Failed        1     )\d+|(?<=item 2 exit )[1-9]\d*", "CODE", line)
    return " ".join(re.sub(r"\b\d+ s\b", "TIME", line).split())


def test_the_job_step_by_step(tmp_path: Path, here: dict[str, str]) -> None:
    """Every line shown under a command comes, in this order, when the reader pastes the same."""
    walk = README[README.index("<!-- walk -->") : README.index("<!-- /walk -->")]
    work = tmp_path / "work"
    shown = 0
    for language, text in re.findall(r"^```(sh|console)\n(.*?)^```$", walk, re.MULTILINE | re.DOTALL):
        if language == "sh":
            assert shell(text, work, here).returncode == 0
            continue
        for command, screen in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            said = shell(command, work, here).stdout
            lines = iter([plain(line) for line in said.splitlines()])
            for line in screen.splitlines():
                assert plain(line) in lines, f"$ {command}\n{said}\ndoes not say: {line}"
                shown += 1
    assert shown > 20


def test_stages_by_exit_code(tmp_path: Path, here: dict[str, str]) -> None:
    work = tmp_path / "work"
    image = 'image = "skaha/astronomy:latest"\n'
    shard = "shell = '''if [ {index} = 1 ]; then test -e good; fi && echo {index} > shard_{index}'''\n"
    (work / "shards.toml").write_text(f'name = "shards"\nreplicas = 3\n{image}{shard}')
    (work / "merge.toml").write_text(f'name = "merge"\n{image}shell = "cat shard_* > merged"\n')
    (line,) = [text for text in blocks(README, "sh") if text.startswith("skahactl apply shards.toml --wait &&")]
    assert shell(line, work, here).returncode == 1
    assert not (work / "merged").exists()
    (work / "good").touch()
    assert shell("skahactl retry shards --wait", work, here).returncode == 0
    assert shell(line, work, here).returncode == 0
    assert (work / "merged").read_text() == "0\n1\n2\n"


def test_the_python_example_runs(tmp_path: Path, here: dict[str, str]) -> None:
    (tmp_path / "work" / "example.py").write_text(block("python", "python"))
    done = shell(f"{sys.executable} example.py", tmp_path / "work", here)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("3 [{'id': "), done.stdout


def test_the_list_of_what_is_missing(tmp_path: Path, here: dict[str, str]) -> None:
    (text,) = [text for text in blocks(README, "sh") if text.startswith("while read -r tile")]
    loop, command = text.split("skahactl ", 1)
    assert command.startswith("apply configs/survey-tiles/missing.toml")
    (tmp_path / "1.OK").write_text("done")
    (tmp_path / "2.OK").write_text("")
    (tmp_path / "work" / "tile_numbers.txt").write_text("1\n2\n3\n")
    loop = loop.replace("/arc/projects/unions/psfex", str(tmp_path))
    assert shell(loop, tmp_path / "work", here).returncode == 0
    assert (tmp_path / "work" / "missing.txt").read_text() == "2\n3\n"
