"""``skahactl schema``."""

from __future__ import annotations

from skahactl.context import current
from skahactl.errors import Exit


def schema() -> int:
    """Print the JSON Schema of manifests, with which an editor completes and checks them.

    A manifest names it in its first line: #:schema ./skahactl.schema.json

    Examples:

    skahactl schema > skahactl.schema.json
    """
    import json

    from skahactl.manifest.explain import json_schema

    current().out(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return Exit.DONE
