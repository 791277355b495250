"""Completion: the committed scripts, real shells on a pseudo terminal, and what Tab is answered."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from skahactl.commands.completion import FILES, Shell
from skahactl.commands.manifest import manifest_keys
from skahactl.completers import key_words
from skahactl.ledger.database import open_ledger
from tests import completion_scripts, ledgers, shells
from tests.workplace import SHELL

pytestmark = pytest.mark.once

COMPLETIONS = shells.ROOT / "completions"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a ledger, a profile, and a directory ``work`` to stand in.

    Jobs, the newest first: ``tiles-new``, 3 replicas that wait for their first session; ``tiles-b``, 12 replicas with
    sessions; ``survey``.
    """
    home = tmp_path_factory.mktemp("home")
    with open_ledger(home / ".local" / "state" / "skahactl") as ledger:
        for name, count, started in (("survey", 2, 2), ("tiles-b", 12, 12), ("tiles-new", 3, 0)):
            items = [["tile-1"], ["tile-2"]] if name == "survey" else ()
            run = ledgers.add(ledger, ledgers.job(name, count, items=items))
            ledgers.start(ledger, run, range(1, started + 1))
    profiles = home / ".config" / "skahactl" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "lagoon.toml").write_text('server = "https://skaha.example.org/skaha/v1"\n')
    work = home / "work"
    (work / "a dir").mkdir(parents=True)
    (work / "logs-dir").mkdir()
    for name in ("first.toml", "notes.txt", "logs.txt", "a dir/my job.toml"):
        (work / name).write_text("")
    return home


@contextlib.contextmanager
def opened(name: str, place: Path) -> Iterator[shells.Shell]:
    program = name.partition("_")[0]
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    shell = shells.SHELLS[name](place / "work", shells.home_at(place).environ)
    yield shell
    shell.close()


#: zsh reads one script in two ways.
NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "zsh_source" else ()) for name in shells.SHELLS]


@pytest.fixture(scope="module", params=NAMES)
def shell(request: pytest.FixtureRequest, place: Path) -> Iterator[shells.Shell]:
    with opened(request.param, place) as shell:
        yield shell


class TestShells:
    """What is typed, what Tab shows, and what it must not show."""

    @pytest.mark.parametrize(
        ("typed", "shown", "hidden"),
        [
            pytest.param("skahactl ", ("apply", "describe", "completion"), ("tiles-b", "first.toml"), id="empty"),
            pytest.param("skahactl lo", ("login", "logs"), ("apply",), id="prefix"),
            pytest.param("skahactl des", ("cribe",), (), id="one"),
            pytest.param("skahactl -p local -o json des", ("cribe",), (), id="after-options"),
            pytest.param("skahactl logs --f", ("--failed", "--follow"), ("--tail",), id="options"),
            pytest.param("skahactl wait --pro", ("file",), (), id="global-option"),
            pytest.param("skahactl get jobs -o j", ("json", "jsonl"), ("apply",), id="option-value"),
            pytest.param("skahactl split --strategy s", ("stripe", "size"), ("chunk",), id="choice"),
            pytest.param("skahactl wait --for ", ("complete", "running", "deleted"), (), id="choice-of-ours"),
            pytest.param("skahactl explain items.", ("file", "strategy"), ("resources",), id="key"),
            pytest.param("skahactl profile ", ("list", "use", "check"), ("apply",), id="below-a-verb"),
            pytest.param("skahactl completion ", ("bash", "zsh", "fish", "install"), (), id="shells"),
            pytest.param("skahactl completion install ", ("bash", "zsh", "fish"), (), id="installed"),
            pytest.param(
                "skahactl completion install --shell ", ("bash", "zsh", "fish"), ("install\n",), id="for-shell"
            ),
            pytest.param("skahactl logs t", ("tiles-new", "tiles-b"), ("survey",), id="jobs"),
            pytest.param("skahactl logs -p local tiles-b/1", ("b/1", "b/10", "b/11", "b/12"), ("b/2",), id="replicas"),
            pytest.param("skahactl get replicas tiles-b -r 1,1", ("1,10", "1,11", "1,12"), ("1,2",), id="comma"),
            pytest.param("skahactl get events su", ("vey",), (), id="noun-that-is-a-verb"),
            pytest.param("skahactl get ", ("jobs", "replicas", "survey"), ("first.toml",), id="nouns"),
            pytest.param("skahactl get jobs --state Failed,R", ("Running", "Rejected"), ("Queued",), id="states"),
            pytest.param("skahactl -p ", ("local", "canfar", "lagoon"), ("apply",), id="profiles"),
            pytest.param("skahactl profile use la", ("goon",), (), id="profile"),
            pytest.param("skahactl apply ", ("a dir", "first.toml"), ("notes", "survey"), id="manifests"),
            pytest.param("skahactl diff -f f", ("irst.toml",), (), id="manifest"),
            pytest.param("skahactl logs survey --save lo", ("gs-dir/",), ("logs.txt",), id="directories"),
            pytest.param("skahactl logs survey --save a\\ dir/", (), ("my",), id="no-files-for-a-directory"),
            pytest.param("skahactl retry survey --items n", ("otes.txt",), (), id="any-file"),
            pytest.param("skahactl create headless img -- cat n", ("otes.txt",), (), id="after-dashes"),
            pytest.param("skahactl create headless img -- mkf", ("ifo",), (), id="command-after-dashes"),
            pytest.param("skahactl get replicas --sort-by fi", ("nished",), ("apply",), id="sort-by"),
            pytest.param("skahactl logs tiles-b/7,1", ("7,10", "7,11", "7,12"), ("7,7",), id="replicas-after-comma"),
            pytest.param("skahactl logs tiles-b/9-", ("9-10", "9-11", "9-12"), ("9-3",), id="replicas-after-hyphen"),
            pytest.param("skahactl get jobs --state r", ("running", "rejected"), ("queued",), id="lower-case-states"),
            pytest.param("skahactl describe job/ti", ("les-b", "les-new"), ("survey",), id="noun-and-job"),
            pytest.param("skahactl logs survey --item t", ("tile-1", "tile-2"), ("first",), id="items"),
            pytest.param("skahactl logs tiles-b --attempt ", ("all", "1"), ("first.toml",), id="attempts"),
            pytest.param("skahactl get tiles-b --run ", ("1",), ("first.toml",), id="runs"),
            pytest.param("skahactl apply first.toml --set resources.c", ("ores=",), (), id="manifest-keys"),
            pytest.param("skahactl create headless images.", ("canfar.net/skaha/astroml",), (), id="images"),
            pytest.param("skahactl get jobs --color a", ("auto", "always"), ("first",), id="color"),
            pytest.param("skahactl wait tiles-b --timeout ", (), ("first.toml", "notes"), id="no-files-for-a-duration"),
            pytest.param("skahactl help man", ("ifest",), ("first",), id="topics"),
            pytest.param("skahactl help ge", ("t",), ("first",), id="commands-of-help"),
            pytest.param("skahactl get jobs,re", ("plicas", "sources"), ("jobs,jobs", "survey"), id="noun-list"),
            pytest.param("skahactl logs tiles-b 1", ("10", "11", "12"), ("first", "2\n"), id="replicas-after-a-job"),
            pytest.param(
                "skahactl create headless images.canfar.net/skaha/astroml:", ("latest",), ("first",), id="after-a-colon"
            ),
        ],
    )
    def test_tab(self, shell: shells.Shell, typed: str, shown: tuple[str, ...], hidden: tuple[str, ...]) -> None:
        screen = shell.tab(typed, *shown) if typed != "skahactl apply " else self._files(shell, typed)
        assert not [word for word in hidden if word in screen.replace(typed, "")], screen
        assert "Traceback" not in screen

    def _files(self, shell: shells.Shell, typed: str) -> str:
        """Shells show the blank of a name as they like."""
        screen = shell.tab(typed, "dir/", "first.toml").replace("\\ ", " ")
        assert "a dir/" in screen
        return screen

    def test_a_path_with_blanks(self, shell: shells.Shell) -> None:
        shell.tab("skahactl validate a\\ dir/m", "y\\ job.toml")

    def test_a_script_that_zsh_reads_by_source(self, place: Path) -> None:
        with opened("zsh_source", place) as shell:
            shell.tab("skahactl logs t", "tiles-new", "tiles-b")
            shell.tab("skahactl wait --for ", "complete", "running", "deleted")

    def test_newest_first_and_only_what_has_sessions(self, shell: shells.Shell) -> None:
        screen = shell.tab("skahactl describe ", "tiles-new", "tiles-b", "survey")
        assert screen.index("tiles-new") < screen.index("tiles-b") < screen.index("survey")
        screen = shell.tab("skahactl delete ", "tiles-b", "survey")
        assert "tiles-new" not in screen


class TestAnswers:
    """``skahactl __complete``, as the scripts call it."""

    def ask(self, home: Path, *words: str, **environ: str) -> list[str]:
        done = shells.home_at(home).run("__complete", *words, extra=environ)
        assert done.stderr == ""
        return done.stdout.split("\x1fbegin\n")[1].splitlines()

    def test_jobs_say_how_they_stand(self, place: Path) -> None:
        assert self.ask(place, "logs", "") == [
            "tiles-new\trun 1: 3 Queued",
            "tiles-b\trun 1: 12 Pending",
            "survey\trun 1: 2 Pending",
        ]

    def test_a_job_is_offered_once(self, place: Path) -> None:
        assert [line.split("\t")[0] for line in self.ask(place, "wait", "survey", "")] == ["tiles-new", "tiles-b"]

    @pytest.mark.parametrize("verb", ["retry", "delete", "renew"])
    def test_only_jobs_with_sessions(self, place: Path, verb: str) -> None:
        assert [line.split("\t")[0] for line in self.ask(place, verb, "t")] == ["tiles-b"]

    @pytest.mark.parametrize("verb", ["describe", "events", "logs", "mark", "prune", "resume", "wait"])
    def test_all_jobs(self, place: Path, verb: str) -> None:
        assert len(self.ask(place, verb, "t")) == 2

    @pytest.mark.parametrize("words", [("-r", "3"), ("--replicas=3",), ("--replicas", "3")])
    def test_replicas_of_the_job(self, place: Path, words: tuple[str, ...]) -> None:
        assert self.ask(place, "delete", "tiles-new", *words) == ["3\tQueued"]

    def test_jobs_of_the_chosen_profile_alone(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path / "state") as ledger:
            for server in ("local", "https://other.example.org/skaha/v1"):
                run = ledgers.add(ledger, ledgers.job(f"on-{server[:5]}", 1), server=server)
                with ledger.transaction() as connection:
                    connection.execute("UPDATE runs SET profile = ? WHERE id = ?", (server[:5], run.id))
        found = {
            profile: [
                line.split("\t")[0] for line in self.ask(tmp_path, *words, SKAHACTL_STATE_DIR=f"{tmp_path}/state")
            ]
            for profile, words in {
                "local": ("-p", "local", "logs", ""),
                "https": ("logs", "-p", "https", ""),
                "never used": ("logs", "--profile=lagoon", ""),
            }.items()
        }
        assert found == {"local": ["on-local"], "https": ["on-https"], "never used": ["on-https", "on-local"]}

    @pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
    def test_a_broken_ledger_offers_nothing(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "state").mkdir()
            (tmp_path / "state" / "ledger.sqlite3").write_bytes(content)
        for words in (("logs", ""), ("logs", "x", "-r", ""), ("get", "jobs", ""), ("delete", "x/")):
            assert self.ask(tmp_path, *words, SKAHACTL_STATE_DIR=f"{tmp_path}/state") == []
        assert not (tmp_path / "state").exists() or len(list((tmp_path / "state").iterdir())) == 1

    def test_nonsense_offers_nothing(self, place: Path) -> None:
        assert self.ask(place, "nonsense", "--frob", "") == []
        assert self.ask(place, "logs", "--frob", "") == []
        assert self.ask(place) == []


class TestScripts:
    @pytest.mark.parametrize("shell", FILES)
    def test_the_committed_script_is_what_is_generated(self, shell: Shell) -> None:
        path = COMPLETIONS / FILES[shell]
        assert path.read_text() == completion_scripts.script(shell), "python -m tests.completion_scripts"

    @pytest.mark.parametrize(
        "words", [["", "a"], ["a", ""], ["profile", ""], ["nonsense", ""], ["logs", ""], ["create", "x", "--", ""]]
    )
    def test_a_shell_that_is_strict_about_variables(self, tmp_path: Path, words: list[str]) -> None:
        line = 'set -u; . "$1"; shift; COMP_WORDS=(skahactl "$@"); COMP_CWORD=$#; _skahactl; echo "${#COMPREPLY[@]}"'
        done = shells.home_at(tmp_path).run(line, "bash", str(COMPLETIONS / FILES["bash"]), *words, program=SHELL)
        assert done.stderr == ""
        assert done.stdout

    @pytest.mark.parametrize("shell", FILES)
    def test_completion_prints_and_installs_it(self, tmp_path: Path, shell: str) -> None:
        path = COMPLETIONS / FILES[shell]  # type: ignore[index]
        here = shells.home_at(tmp_path)
        printed = here.run("completion", shell)
        assert (printed.stdout, printed.stderr) == (path.read_text(), "")
        installed = here.run("completion", "install", extra={"SHELL": f"/usr/bin/{shell}"})
        places = {
            "bash": ".local/share/bash-completion/completions/skahactl.bash",
            "zsh": ".zsh/completions/_skahactl",
            "fish": ".config/fish/completions/skahactl.fish",
        }
        assert (tmp_path / places[shell]).read_text() == path.read_text()
        assert f"{tmp_path / places[shell]}: written" in installed.stderr
        assert installed.stdout == ""
        (tmp_path / places[shell]).unlink()
        here.run("completion", "install", shell, extra={"SHELL": "/bin/tcsh"})
        assert (tmp_path / places[shell]).read_text() == path.read_text()

    @pytest.mark.parametrize("words", [["completion"], ["completion", "install"]])
    def test_an_unknown_login_shell_leads_to_the_same_call_with_a_shell(self, tmp_path: Path, words: list[str]) -> None:
        said = shells.home_at(tmp_path).run(*words, extra={"SHELL": "/bin/tcsh"}, expect=2).stderr
        assert said.endswith(f"\nhelp: skahactl {' '.join(words)} bash\n")

    def test_keys_of_explain_are_all_offered(self) -> None:
        assert set(key_words()) == set(manifest_keys())
