"""How the package is put together: which way imports run, what starts with what, and how large things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "skahactl"

#: From low to high: a module imports from its own layer and from those before it, never from a later one.
LAYERS = (
    ("errors", "model", "text", "toml", "spelling", "system"),
    ("eventloop",),
    ("profile",),
    ("split", "helpers"),
    ("profile_file", "profiles", "manifest"),
    ("skaha",),
    ("local",),
    ("platforms",),
    ("ledger",),
    ("targets", "shapes", "schemas"),
    ("engine", "logs"),
    ("session_runtime",),
    ("session", "sessions"),
    ("invocation", "completers"),
    ("render",),
    ("commands", "app"),
    ("suggestions", "manpage"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "completions",
    "configs",
    "pyproject.toml",
    "skahactl",
    "tests",
}

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "configs").rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part(module: str) -> str:
    """The layer's word of ``skahactl.engine.plan``: engine."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """The modules of ours that a module imports, at its top or late; what only a type checker reads is left out."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "skahactl" else node.module for alias in node.names
            }
    return {name for name in found if name.startswith("skahactl.") and not name.endswith("__version__")}


def test_every_module_has_its_layer() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts - {"__init__"} == set(RANK)


def test_imports_run_one_way() -> None:
    wrong = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for module in imported(path):
            if own != "__init__" and RANK[part(module)] > RANK[own]:
                wrong.append(f"{named(path)} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (["--version"], {"cyclopts", "rich", "httpx", "pydantic", "sqlite3", "asyncio"}),
        (["--help"], {"cyclopts", "rich", "httpx", "pydantic", "sqlite3", "asyncio"}),
        (["apply", "--help"], {"httpx", "pydantic", "sqlite3", "rich.live", "rich.progress"}),
        (["split", "--of", "3", "--replica", "1", __file__], {"httpx", "pydantic", "sqlite3", "asyncio", "rich"}),
        (["__complete", "logs", ""], {"httpx", "pydantic", "rich", "skahactl.skaha"}),
        (["__complete", "get", "jobs", "-r", ""], {"httpx", "pydantic", "rich", "skahactl.skaha"}),
        (["get", "jobs", "--cached"], {"httpx", "asyncio", "pydantic", "skahactl.skaha.models"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",  # a set has no order of its own
)
def test_what_a_start_does_not_pay_for(tmp_path: Path, words: list[str], never: set[str]) -> None:
    assert not never & imports_of(words, tmp_path)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["apply", "--help"], ["split", "--of", "3", "--replica", "1", __file__], ["__complete", "logs", ""]],
    ids=lambda words: " ".join(words[:2]),
)
def test_these_do_not_read_the_file_of_a_profile(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / ".config/skahactl/profiles").mkdir(parents=True)
    (tmp_path / ".config/skahactl/profiles/local.toml").write_text("[local]\nslots = 1\n")
    assert "pydantic" in imports_of(["get", "jobs", "--cached"], tmp_path)  # a profile file is read by it
    assert "pydantic" not in imports_of(words, tmp_path)


@pytest.fixture(scope="module")
def with_a_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home without a profile file, and a job that has ended here."""
    home = tmp_path_factory.mktemp("home")
    job = home / "job.toml"
    job.write_text('name = "tiles"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["true"]\n')
    assert "pydantic" in imports_of(["apply", str(job), "--wait"], home)  # manifests are read by it: it can be seen
    return home


@pytest.mark.parametrize(
    "words",
    [
        "get jobs --cached",
        "get jobs",
        "get replicas tiles",
        "get sessions",
        "get stats",
        "describe tiles",
        "logs tiles",
        "events tiles",
        "wait tiles",
        "mark tiles completed -r 1",
        "retry tiles --failed --dry-run",
        "delete tiles --dry-run",
        "resume tiles",
        "prune --dry-run",
        "profile show local",
    ],
)
def test_a_verb_without_a_manifest_does_not_pay_for_reading_one(with_a_job: Path, words: str) -> None:
    assert not {"pydantic", "rich", "skahactl.manifest.schema"} & imports_of(words.split(), with_a_job)


def imports_of(words: list[str], home: Path) -> set[str]:
    """The modules that a command has imported when it ends, and ends well."""
    code = (
        "import sys\nsys.argv[0] = 'skahactl'\nfrom skahactl.cli import run\n"
        "try:\n    run()\nfinally:\n    print('\\n' + '\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


def test_help_of_all_imports_no_command(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom skahactl.cli import main\nmain(['--help'])\n"
        "print([name for name in sys.modules if name.startswith('skahactl.commands')], file=sys.stderr)"
    )
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_functions_are_small() -> None:
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                if length > 50:
                    long.append(f"{named(path)}: {node.name} has {length} lines below its docstring")
    assert not long, "\n".join(long)


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(named(path))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_nothing_is_unfinished_and_no_test_patches_our_modules() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "monkeypatch" + ".setattr", "mock" + ".patch", "unittest" + ".mock")
    found = [f"{named(path)}: {word}" for path in SOURCES for word in words if word in path.read_text()]
    assert not found, "\n".join(found)


def test_the_top_of_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no git here")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP


def test_what_is_imported_is_declared_and_reported_with_the_version() -> None:
    from skahactl.cli import version_rows
    from skahactl.invocation import Invocation

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=~! ]", line)[0] for line in declared}
    foreign = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                foreign |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                foreign.add(node.module.split(".")[0])
    foreign = {{"yaml": "pyyaml", "markdown_it": "markdown-it-py"}.get(name, name) for name in foreign}
    foreign -= {*sys.stdlib_module_names, "skahactl", "_typeshed", "pydantic_core"}  # the last comes with pydantic
    assert {name.replace("_", "-") for name in foreign} <= names
    assert names <= {name for name, _ in version_rows(Invocation())}


def test_the_lowest_versions_have_no_known_vulnerabilities_and_the_project_has_addresses() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    lowest = {name: tuple(map(int, version.split("."))) for name, version in (line.split(">=") for line in declared)}
    assert lowest["httpcore"] >= (1, 0, 9)  # with h11 0.16
    assert lowest["cryptography"] >= (44, 0, 1)
    assert lowest["hatchling"] >= (1, 26, 3)
    assert all(address.startswith("https://") for address in project["project"]["urls"].values())
