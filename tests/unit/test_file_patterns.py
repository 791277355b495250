"""File name patterns, compared with Python's glob, and where links lead in circles."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skahactl.split.patterns import matches

PATTERNS = (
    "**",
    "**/",
    "**/*.fits",
    "a/**",
    "a/**/*.fits",
    "**/a/**",
    "**/**/x*",
    "*/**/b/*",
    "a*/**",
    "./**/*",
    "**/[ab]/**/*.fits",
    "*.fits",
)
FILES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "b", ".h", "a*"]), max_size=4), st.sampled_from(["x.fits", "z.txt", ".k"])
    ),
    max_size=8,
)


@given(files=FILES)
@settings(max_examples=40)
def test_without_links_the_matches_are_those_of_glob(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for directories, name in files:
        place = root.joinpath(*directories)
        place.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    os.chdir(root)
    for pattern in PATTERNS:
        for whole in (pattern, f"{root}/{pattern}"):
            expected = {name for name in glob.glob(whole, recursive=True) if os.path.lexists(name)}
            found = matches(whole)
            assert set(found) == expected, whole
            assert len(found) == len(set(found)), whole


def test_links_to_directories_are_not_entered(tmp_path: Path) -> None:
    here = tmp_path / "images"
    for _ in range(8):
        here.mkdir()
        (here / "m.fits").touch()
        (here / "up").symlink_to(tmp_path / "images")
        (here / "other").symlink_to(tmp_path / "images")
        here = here / "next"
    found = matches(f"{tmp_path}/images/**/*.fits")
    assert len(found) == 8
    assert not any("/up/" in name or "/other/" in name for name in found)
    assert len(matches(f"{tmp_path}/**/up")) == 8  # a link itself is a match


def test_a_link_before_the_double_star_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "m.fits").touch()
    (tmp_path / "link").symlink_to("real")
    assert matches(f"{tmp_path}/link/**/*.fits") == [f"{tmp_path}/link/deep/m.fits"]
    assert matches(f"{tmp_path}/real/**/*.fits") == [f"{tmp_path}/real/deep/m.fits"]


def test_a_directory_that_cannot_be_read_matches_nothing(tmp_path: Path) -> None:
    assert matches(f"{tmp_path}/missing/**") == []
    (tmp_path / "file").touch()
    assert matches(f"{tmp_path}/file/**/*") == []
