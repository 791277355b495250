"""Items and counts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO


def write_json(rows: Iterable[Mapping[str, object]], output: str, stream: BinaryIO) -> None:
    """``jsonl``: an object a line, as they come; ``json``: one array of the same objects. Pure ASCII.

    Bytes of items that are not UTF-8 are lone surrogates (``\\udcff`` for 0xFF), from which ``os.fsencode`` makes
    the bytes again.
    """
    if output == "jsonl":
        for row in rows:
            stream.write(json.dumps(row).encode() + b"\n")
        return
    before = b"[\n"
    for row in rows:
        stream.write(before + json.dumps(row).encode())
        before = b",\n"
    stream.write(b"[]\n" if before == b"[\n" else b"\n]\n")
