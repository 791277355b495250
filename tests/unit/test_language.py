"""Plain English: phrases that readers stumbled over do not come back, and a class name has one meaning."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "skahactl"

#: Phrases that are not to be used, and what to write instead.
BANNED = {
    r"(?<!there )\bis no (?!longer\b|one\b)": "is not a",
    r"\btold\b": "reported, said, shown",
    r"\bwhose\b": "with, of which",
    r"\bgoes on\b": "continues",
    r"\bgo on\b": "continue",
    r"\bis so\b": "the condition is met",
    r"\bwhat is meant\b": "the default",
    r"\b(if|when) nothing (else )?is said\b": "default",
    r"\bwithout a word\b": "without output",
    r"\bnobody\b": "no command, no one",
    r"\btwins?\b": "duplicate",
    r"\bstrays?\b": "unrecognised session",
    r"\bUnsettled\b": "Creating or Unconfirmed",
    r"\bshould not have happened\b": "internal error",
    r"\bnote ends\b": "record results",
    r"\bmore of the same\b": "additional",
    r"\bso (long|many|much|far) (ago|at)\b": "at least this long ago",
    r"\bat most so many\b": "maximum number of",
    r"\b(has|have|are|is) forgotten\b": "has discarded, has removed",
    r"\bforgotten it\b": "discarded it",
    r"\bwho asks\b": "the caller",
    r"\bby and by\b": "gradually",
    r"\bbesides\b(?=,)": "also",
    r"\bhitherto\b|\bthereof\b|\bwherein\b|\bthereby\b|\bhenceforth\b": "a plain word",
    r"(?-i:\bAnswerNo\b|\bServerWords\b|\bDesk\b|\bWishes\b|\bGlance\b|\bLookout\b)": "the name in the glossary",
    r"\blooks? (whether|until|that)\b": "check",
    r"\bhave (a|one more) look\b|\ba look at\b|\bone look\b": "poll",
    r"\bat work\b": "running",
    r"\bwhat must be known\b": "results, warnings and errors",
    r"\bgives? up by itself\b": "gives up",
    r"\bin doubt\b": "unconfirmed",
    r"\bnot be any more\b": "no longer",
    r"\bends? badly\b|\bended badly\b": "failed",
    r"\bstands? (here|there|in|for|beside|alone)\b": "is",
}

#: Names of 0.1 in tables that tell its users what they are called now.
OLD_NAMES = {"skahactl/manual/states.md", "CHANGELOG.md"}
#: Names of tables and states in files of 0.1, which the ledger migrates.
MIGRATION = "skahactl/ledger/database.py"

#: Packages that still have old text. Only ever shorter.
NOT_YET: tuple[str, ...] = ()


def texts() -> list[Path]:
    """Everything that a reader sees: sources, manual, README, CHANGELOG, examples, completion scripts."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.md")]
    found += [*(ROOT / "configs").rglob("*.toml"), *(ROOT / "configs").rglob("*.py"), *(ROOT / "completions").iterdir()]
    return sorted(path for path in found if not named(path).startswith(NOT_YET or ("//",)))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_banned_phrase_is_used() -> None:
    hits = []
    patterns = [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in BANNED.items()]
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (named(path) in OLD_NAMES and line.startswith("|")) or named(path) == MIGRATION:
                continue
            hits += [
                f"{named(path)}:{number}: {found[0]!r}: write {instead!r}: {line.strip()}"
                for pattern, instead in patterns
                if (found := pattern.search(line))
            ]
    assert hits == [], f"{len(hits)} hits:\n" + "\n".join(hits)


def test_no_banned_phrase_is_used_in_the_name_of_a_test() -> None:
    names = [
        node.name
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    sentences = {name: name.removeprefix("test_").replace("_", " ") for name in names}
    banned = re.compile("|".join(BANNED), re.IGNORECASE)
    assert [name for name, sentence in sentences.items() if banned.search(sentence)] == []


def test_a_class_name_occurs_once_in_the_package() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{named(path)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
