"""``skahactl explain``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl.context import current
from skahactl.errors import Exit


def explain(
    key: Annotated[str | None, Parameter(name="KEY", help="A dotted key; without one, all are listed.")] = None, /
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
        context.out(explained.explain(key))
        return Exit.DONE
    known = explained.keys()
    width = max(map(len, known)) + 2
    for name, meaning in known.items():
        context.out(f"{name:<{width}}{meaning}")
    return Exit.DONE
