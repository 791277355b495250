"""Manifests for tests: written to a directory, read with the real functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from skahactl.errors import ManifestError, Problem
from skahactl.manifest.resolve import read
from skahactl.model import Job
from skahactl.profile import Profile, Registry

LOCAL = Profile("test", "local", registry=Registry("images.example.net"))

HEAD = 'name = "tiles"\nimage = "a.example/b/c:1"\n'
#: Three jobs with common keys, one after another, and one with items.
SEVERAL = """
[vars]
out = "o"
[common]
image = "a.b/c:1"
replicas = 2
command = ["common", "{out}"]
[common.env]
A = 1
B = 1
[[job]]
name = "one"
[job.env]
B = 2
[[job]]
name = "two"
shell = "two"
after = ["one"]
replicas = 1
[[job]]
name = "three"
[job.items]
matrix = { k = ["p", "q", "r"] }
"""


def write(directory: Path, text: str, name: str = "job.toml") -> str:
    """The path of a file in ``directory`` with this text."""
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def jobs(
    directory: Path, text: str, *, profile: Profile = LOCAL, sets: tuple[str, ...] = (), **variables: str
) -> tuple[Job, ...]:
    """The jobs of a manifest with this text."""
    return read([write(directory, text)], profile, sets=sets, variables=variables)


def job(directory: Path, text: str, *, profile: Profile = LOCAL, sets: tuple[str, ...] = (), **variables: str) -> Job:
    """The only job of a manifest, which begins with HEAD and goes on with ``text``."""
    (made,) = jobs(directory, HEAD + text, profile=profile, sets=sets, **variables)
    return made


def problems(
    directory: Path, text: str, *, profile: Profile = LOCAL, sets: tuple[str, ...] = (), **variables: str
) -> tuple[Problem, ...]:
    """What is wrong with a manifest of this text."""
    with pytest.raises(ManifestError) as caught:
        jobs(directory, text, profile=profile, sets=sets, **variables)
    return caught.value.problems
