"""``skahactl explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.context import current
from skahactl.errors import Exit

#: What Tab offers, without reading what they mean.
KEYS = (
    "name",
    "image",
    "kind",
    "command",
    "shell",
    "replicas",
    "session-name",
    "after",
    "resources",
    "resources.cores",
    "resources.ram",
    "resources.gpus",
    "env",
    "items",
    "items.file",
    "items.glob",
    "items.values",
    "items.csv",
    "items.matrix",
    "items.strategy",
    "items.per-replica",
    "items.each",
    "items.duplicates",
    "limits",
    "limits.alive",
    "limits.pending",
    "limits.pending-timeout",
    "retry",
    "retry.attempts",
    "logs",
    "logs.keep",
    "vars",
    "common",
    "job",
)

if TYPE_CHECKING:
    Key = str
else:
    Key = Literal[KEYS] | str


def explain(
    key: Annotated[
        Key | None, Parameter(name="KEY", show_choices=False, help="A dotted key; without one, all are listed.")
    ] = None,
    /,
) -> int:
    """Explain a key of the manifest: what it means, what it may be, an example.

    Examples:

    skahactl explain resources.cores

    skahactl explain items

    skahactl explain
    """
    from skahactl.manifest import explain as explained

    context = current()
    if key is not None:
        context.out(explained.explain_key(key))
        return Exit.DONE
    known = explained.manifest_keys()
    width = max(map(len, known)) + 2
    for name, meaning in known.items():
        context.out(f"{name:<{width}}{meaning}")
    return Exit.DONE
