"""Completion scripts for bash, zsh and fish: what cyclopts generates, with what a person's shell needs besides.

The generator takes every word that equals some verb for one, and leaves the order of the answers, names with blanks
and ``--`` to chance. The changes are made to its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cyclopts import App

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")

#: What the file of the script is called, so that each shell finds it.
FILES: dict[Shell, str] = {"bash": "skahactl.bash", "zsh": "_skahactl", "fish": "skahactl.fish"}


def script(shell: Shell) -> str:
    """The script for one shell; imports every verb."""
    from skahactl.app import app
    from skahactl.shells import bash, fish, zsh

    root = app()
    text = root.generate_completion(shell=shell)
    if shell == "bash":
        return bash.improved(text, sorted(_paths(root)))
    if shell == "zsh":
        return zsh.improved(text)
    return fish.improved(text, sorted(_paths(root)))


def _paths(app: App, before: str = "") -> Iterator[str]:
    """Every verb, and every verb with a word below it, as ``profile list``."""
    for name in app:
        if not name.startswith("-"):
            yield before + name
            yield from _paths(app[name], f"{before}{name} ")
