"""Logs: lines that come while a session runs, filler of any size, and the marks of a command that runs once an item."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator

from tests.skaha_server.plan import Plan
from tests.skaha_server.sessions import Session

BLOCK = b"".join(b"%06d the quick brown fox jumps over the lazy dog\n" % n for n in range(1200))[:65536]


def positions(argv: list[str]) -> list[int]:
    """The items of ``sh -c SCRIPT skahactl POS ROW... POS ROW...``; none for any other command.

    A row's width is the smallest for which every position is a number greater than the one before.
    """
    if len(argv) < 6 or argv[1] != "-c" or argv[3].partition(":")[0] != "skahactl":
        return []
    words = argv[4:]
    for width in range(1, len(words) + 1):
        found = words[::width]
        if len(words) % width == 0 and all(word.isdecimal() for word in found):
            numbers = [int(word) for word in found]
            if numbers == sorted(set(numbers)):
                return numbers
    return []


def lines(session: Session, plan: Plan) -> list[bytes]:
    """The whole log but for its filler. A session that dies does so somewhere among its items."""
    draw = random.Random(f"{plan.seed}:log:{session.name}")
    text = [f"{session.name}: line {n} of {plan.log_lines}\n".encode() for n in range(1, plan.log_lines + 1)]
    items = positions(session.argv)
    if session.dies:
        items = items[: draw.randrange(len(items) + 1)]
    for position in items:
        code = 1 if draw.random() < plan.item_fail else 0
        text += [f"item {position} of {session.name}\n".encode(), mark(position, code, session.argv[3])]
    return text


def mark(position: int, code: int, name: str) -> bytes:
    """``name`` is $0 of the script: with the nonce of the attempt."""
    return f"::{name} item {position} exit {code}\n".encode()


def item_failures(session: Session, plan: Plan) -> bool:
    return any(line.startswith(b"::skahactl") and not line.endswith(b" 0\n") for line in lines(session, plan))


def size(session: Session, plan: Plan, now: float) -> int:
    """How many bytes there are by now: all of them at the end, a share of the lines before."""
    text = lines(session, plan)
    if now >= session.ends:
        return sum(map(len, text)) + plan.log_bytes
    if now < session.runs or session.suspended:
        return 0
    length = session.ends - session.runs
    if math.isinf(length):
        return sum(map(len, text)) + plan.log_bytes
    share = (now - session.runs) / length
    return sum(map(len, text[: int(share * (len(text) + 1))])) + int(share * plan.log_bytes)


def chunks(session: Session, plan: Plan, now: float) -> tuple[int, Iterator[bytes]]:
    """What kubectl logs gives now: its length, and the bytes; the node keeps only ``log_keep`` of the newest."""
    total = size(session, plan, now)
    first = max(0, total - plan.log_keep) if plan.log_keep else 0
    return total - first, _range(session, plan, first, total)


def _range(session: Session, plan: Plan, first: int, last: int) -> Iterator[bytes]:
    text = b"".join(lines(session, plan))
    at = 0
    while at < last:
        block = text if at == 0 and text else BLOCK
        low, high = max(first - at, 0), min(last - at, len(block))
        if low < high:
            yield block[low:high]
        at += len(block)


def digest(session: Session, plan: Plan) -> tuple[int, str]:
    """Bytes and SHA-256 of the whole log at the end, as the node keeps it."""
    total, parts = chunks(session, plan, session.ends)
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return total, sha.hexdigest()
