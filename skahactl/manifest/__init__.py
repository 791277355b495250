"""From TOML to the exact request of every replica.

``load`` reads and checks files, ``resolve`` makes jobs of them for a profile, ``read`` does both and tells every
problem at once; ``draft`` starts from values instead of a file. What a later attempt of a replica runs is ``each``'s,
what a session is called ``names``'. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skahactl.manifest.load import Draft, draft, load
    from skahactl.manifest.resolve import Difference, differences, read, resolve

__all__ = ["Difference", "Draft", "differences", "draft", "load", "read", "resolve"]

_HOMES = {
    "Difference": "content",
    "differences": "content",
    "Draft": "files",
    "draft": "files",
    "load": "files",
    "read": "jobs",
    "resolve": "jobs",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"skahactl.manifest.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
