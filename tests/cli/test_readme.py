"""The README and the manual describe the program that is there: every block is run, parsed or loaded."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from skahactl import profiles
from skahactl.app import VERBS, app
from skahactl.commands.help import TOPICS
from skahactl.errors import Exit, SkahactlError
from skahactl.invocation import take_globals
from skahactl.manifest.load import load
from skahactl.manifest.resolve import resolve
from skahactl.profile import LOCAL_SERVER, Profile

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "skahactl" / "manual"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(MANUAL.glob("*.md"))]}
README = PAGES["README"]
EVERYTHING = "\n".join(PAGES.values())
LOCAL = Profile(name="local", server=LOCAL_SERVER)


def block(page: str, mark: str, language: str) -> str:
    """The fenced block right after this comment of a page."""
    found = re.search(rf"^<!-- {mark} -->\n+```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)
    assert found, f"no {language} block after <!-- {mark} --> in {page}"
    return found[1]


def blocks(text: str, languages: str) -> list[str]:
    return re.findall(rf"^```(?:{languages})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _calls(text: str) -> list[str]:
    """The lines of a block; one that ends with a backslash goes with the next."""
    return text.replace("\\\n", "").splitlines()


def marked(mark: str, language: str) -> list[tuple[str, str]]:
    """Page and text of every block after a comment that matches ``mark``."""
    return [
        (page, found)
        for page, text in PAGES.items()
        for found in re.findall(rf"^<!-- {mark} -->\n+```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


# --- pages and links ---


def test_the_manual_has_every_topic_and_the_readme_links_to_each() -> None:
    assert sorted(path.stem for path in MANUAL.glob("*.md")) == list(TOPICS)
    assert [topic for topic in TOPICS if f"[{topic}](skahactl/manual/{topic}.md)" not in README] == []
    assert len(README.splitlines()) <= 250


def test_every_page_begins_with_its_title() -> None:
    assert [page for page, text in PAGES.items() if not text.startswith("# ")] == []


@pytest.mark.parametrize("mark", ["quickstart", "tests"])
def test_the_two_commands_are_whole_and_take_another_python(mark: str) -> None:
    command = block("README", mark, "sh")
    assert command.startswith("${PYTHON:-python3} -m venv ")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    assert command.count("&&\n") == command.count("\n") - 1, "one command: each line but the last continues"


def test_every_file_that_is_linked_or_applied_exists() -> None:
    missing = []
    for page, text in PAGES.items():
        folder = ROOT if page == "README" else MANUAL
        linked = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
        applied = [path for path in re.findall(r"\b(configs/[\w./-]*\w)", text) if "/results/" not in path]
        missing += [f"{page}: {path}" for path in linked if not (folder / path).exists()]
        missing += [f"{page}: {path}" for path in applied if not (ROOT / path).exists()]
    assert missing == []


# --- commands ---


def commands(page: str) -> Iterator[list[str]]:
    """The words of every skahactl command on a page: in blocks of shell and of screens, and in the text."""
    for text in blocks(page, "sh|bash"):
        yield from in_shell(text)
    for text in blocks(page, "console"):
        yield from in_shell("\n".join(line[2:] for line in text.splitlines() if line.startswith("$ ")))
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(skahactl [^`]*)`", prose):
        if "..." not in code and "COMMAND --help" not in code:
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
            while words and words[0] in ("xargs", "-r", "while", "do", "if", "nohup"):
                words = words[1:]
            if words[:1] in (["skahactl"], [".venv/bin/skahactl"]):
                yield words[1:]
            words = ["to a file"] if ">" in word or "<" in word else []
        else:
            words.append(word)


COMMANDS = {page: sorted({tuple(words) for words in commands(text)}) for page, text in PAGES.items()}


def parse_error(words: tuple[str, ...]) -> str | None:
    """What the program's own parser says against a command, None if it accepts it."""
    if words in ((), ("--version",), ("-v", "--version"), ("retry",), ("mark",), ("split",), ("retry", "--unknown")):
        return None  # named in the text, or given its job by xargs
    try:
        _, rest = take_globals(words)
        app().parse_args(rest, exit_on_error=False, print_error=False)
    except (CycloptsError, SkahactlError) as error:
        return f"skahactl {shlex.join(words)}: {error}"
    return None


def test_every_verb_is_shown_somewhere() -> None:
    shown = {words for page in COMMANDS.values() for words in page}
    assert set(VERBS) - {words[0] for words in shown if words} == set()
    assert ("apply", "configs/quickstart/job.toml", "--wait") in COMMANDS["README"]
    assert ("retry",) in COMMANDS["inspecting"], "after xargs, which gives it the job"
    assert len(shown) > 140


@pytest.mark.parametrize("page", PAGES)
def test_every_command_shown_is_accepted(page: str) -> None:
    errors = [error for words in COMMANDS[page] if (error := parse_error(words))]
    assert errors == []


# --- manifests, profiles, codes ---


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "images" / f"{name}.fits").touch()
    (tmp_path / "tile_numbers.txt").write_text("".join(f"271.{number}\n" for number in range(200)))
    (tmp_path / "tiles.txt").write_text("271.281\n271.282\n271.283\n")
    (tmp_path / "galaxies.csv").write_text("galaxy,ram\nngc1365,192\nic342,32\n")
    return tmp_path


@pytest.mark.parametrize(("page", "text"), marked("manifest: [^\n]*", "toml"))
def test_every_manifest_shown_resolves(page: str, text: str, inputs: Path) -> None:
    (inputs / "job.toml").write_text(text, encoding="utf-8")
    jobs = resolve(load([str(inputs / "job.toml")]), LOCAL, variables={})
    assert jobs
    assert [warning for job in jobs for warning in job.warnings] == []


@pytest.mark.parametrize(("page", "text"), marked("profile(?:: [^\n]*)?", "toml"))
def test_every_profile_shown_loads(page: str, text: str, tmp_path: Path) -> None:
    server = "" if text.startswith("server") else 'server = "https://ws-uv.canfar.net/skaha/v1"\n'
    (tmp_path / "canfar.toml").write_text(server + text, encoding="utf-8")
    profile = profiles.load(str(tmp_path / "canfar.toml"))
    assert profile.server == "https://ws-uv.canfar.net/skaha/v1"


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    checked = marked(r"(?:manifest: [^\n]*|bad manifest|profile(?:: [^\n]*)?)", "toml")
    assert len(checked) == len(blocks(EVERYTHING, "toml"))
    assert len(marked("python", "python")) == len(blocks(EVERYTHING, "python"))
    kinds = set(re.findall(r"^```(\w*)$(?=\n.)", re.sub(r"(?ms)^(```\w*\n).*?^```$", r"\1.", EVERYTHING), re.M))
    assert kinds <= {"sh", "bash", "console", "toml", "python", "text"}


def test_the_example_has_all_keys() -> None:
    text = block("manifest", "manifest: all keys", "toml")
    listed = subprocess.run(
        [sys.executable, "-m", "skahactl", "explain"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    keys = [line.split()[0] for line in listed.splitlines()]
    assert len(keys) > 25
    missing = [
        key
        for key in keys
        if key not in ("common", "job")  # several jobs in one file: another example
        and not re.search(rf"^(?:# )?{key.rpartition('.')[2]} = |^\[{key}\]", text, re.MULTILINE)
    ]
    assert missing == []


def test_the_file_with_mistakes_has_all_of_them_reported(tmp_path: Path, here: dict[str, str]) -> None:
    (tmp_path / "work" / "bad.toml").write_text(block("manifest", "bad manifest", "toml"))
    done = shell("skahactl validate bad.toml", tmp_path / "work", here)
    assert done.returncode == 2
    assert [key for key in ("command", "replica", "OMP_NUM_THREADS") if key not in done.stdout] == []


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGES["exit-codes"], re.MULTILINE)]
    assert codes == sorted(codes)
    assert set(Exit) <= set(codes) <= {*Exit, 70, 129}


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
    """A line without what differs between runs: session ids, times, widths."""
    line = re.sub(r"\b[a-z0-9]{8}\b(?=  )", "SESSION", line)
    line = re.sub(r"^::skahactl:[a-z2-7]{8} ", "::skahactl:NONCE ", line)
    line = re.sub(r"measure.sh: .*", "measure.sh: ...", line)  # each shell has its own message
    line = re.sub(r"(?<=  271\.285  Failed        1     )\d+|(?<=item 2 exit )[1-9]\d*", "CODE", line)
    return " ".join(re.sub(r"\b\d+ s\b", "TIME", line).split())


def walk() -> Iterator[tuple[str, str]]:
    """Language and text of each block of the first job."""
    text = README[README.index("<!-- walk -->") : README.index("<!-- /walk -->")]
    yield from re.findall(r"^```(sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_first_job_step_by_step(tmp_path: Path, here: dict[str, str]) -> None:
    """Every line shown under a command appears, in this order, when the reader pastes the same."""
    work = tmp_path / "work"
    shown = 0
    for language, text in walk():
        if language == "sh":
            assert shell(text, work, here).returncode == 0
            continue
        for command, screen in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            output = shell(command, work, here).stdout
            lines = iter([plain(line) for line in output.splitlines()])
            for line in screen.splitlines():
                assert plain(line) in lines, f"$ {command}\n{output}\nlacks: {line}"
                shown += 1
    assert shown > 20


def test_the_rehearsal_of_the_page_about_canfar_runs_two_items(tmp_path: Path, here: dict[str, str]) -> None:
    work = tmp_path / "work"
    assert shell(next(text for language, text in walk() if language == "sh"), work, here).returncode == 0
    (manifest,) = (text for page, text in marked("manifest: canfar", "toml") if page == "canfar")
    (work / "job.toml").write_text(manifest)
    (lines,) = (text for page, text in marked("rehearse", "sh") if page == "canfar")
    done = shell(f"set -e; {lines}", work, here)
    assert done.returncode == 0, done.stdout
    items = shell("skahactl -p local get items try -o csv", work, here).stdout
    assert re.findall("271[.]28.,Completed", items) == ["271.281,Completed", "271.282,Completed"]


def test_the_rehearsal_runs_two_items(tmp_path: Path, here: dict[str, str]) -> None:
    work = tmp_path / "work"
    assert shell(next(text for language, text in walk() if language == "sh"), work, here).returncode == 0
    found = re.search(r"<!-- rehearse -->\n\s*```sh\n(.*?)```", README, re.DOTALL)
    assert found
    for _ in range(2):
        done = shell("set -e; " + textwrap.dedent(found[1]), work, here)
        assert done.returncode == 0, done.stdout
    items = shell("skahactl -p local get items try -o csv", work, here).stdout
    assert items.count("Completed") == len(items.splitlines()) - 1 == 2


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "<!-- run -->" in text])
def test_commands_of_the_manual_run_after_the_first_job(page: str, tmp_path: Path, here: dict[str, str]) -> None:
    """Line by line, with the failed job of the README: never an error in usage, never an internal error."""
    work = tmp_path / "work"
    assert shell(next(text for language, text in walk() if language == "sh"), work, here).returncode == 0
    (work / "survey").mkdir()
    survey = 'name = "survey"\nimage = "skaha/astronomy:latest"\ncommand = ["echo", "{results}"]\n'
    (work / "survey" / "job.toml").write_text(survey)
    assert shell("skahactl apply job.toml --wait", work, here).returncode == 1
    lines = [line for name, text in marked("run", "sh") if name == page for line in _calls(text)]
    assert lines
    for line in lines:
        done = shell(line, work, here)
        assert done.returncode in (0, 1, 123 if "xargs" in line else 0), f"$ {line}\n{done.stdout}"
        assert "Traceback" not in done.stdout, f"$ {line}\n{done.stdout}"


def test_stages_by_exit_code(tmp_path: Path, here: dict[str, str]) -> None:
    work = tmp_path / "work"
    image = 'image = "skaha/astronomy:latest"\n'
    shard = "shell = '''if [ {index} = 1 ]; then test -e good; fi && echo {index} > shard_{index}'''\n"
    (work / "shards.toml").write_text(f'name = "shards"\nreplicas = 3\n{image}{shard}')
    (work / "merge.toml").write_text(f'name = "merge"\n{image}shell = "cat shard_* > merged"\n')
    line = block("apply", "stages", "sh")
    assert shell(line, work, here).returncode == 1
    assert not (work / "merged").exists()
    (work / "good").touch()
    assert shell("skahactl retry shards --wait", work, here).returncode == 0
    assert shell(line, work, here).returncode == 0
    assert (work / "merged").read_text() == "0\n1\n2\n"


@pytest.mark.parametrize(
    ("text", "output"),
    list(
        zip(
            [text for _, text in marked("python", "python")],
            ["3 [{'id': ", "2 [{'id': ", "['tile-0.fits', 'tile-1.fits', "],
            strict=True,
        )
    ),
)
def test_the_python_examples_run(text: str, output: str, tmp_path: Path, here: dict[str, str]) -> None:
    (tmp_path / "work" / "example.py").write_text(text)
    done = shell(f"{sys.executable} example.py", tmp_path / "work", here)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(output), done.stdout


def test_the_list_of_what_is_missing(tmp_path: Path, here: dict[str, str]) -> None:
    loop, command = block("retry", "missing", "sh").split("skahactl ", 1)
    assert command.startswith("apply missing.toml")
    (tmp_path / "1.OK").write_text("done")
    (tmp_path / "2.OK").write_text("")
    (tmp_path / "work" / "tile_numbers.txt").write_text("1\n2\n3\n")
    loop = loop.replace("/arc/projects/unions/psfex", str(tmp_path))
    assert shell(loop, tmp_path / "work", here).returncode == 0
    assert (tmp_path / "work" / "missing.txt").read_text() == "2\n3\n"
