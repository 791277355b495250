"""Durations and instants, read and written."""

from __future__ import annotations

import re
import time
from functools import lru_cache

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_WHOLE = re.compile(r"\s*(?:\d+(?:\.\d+)?\s*[smhd]?\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse_duration(text: str | int | float) -> float:
    """Seconds of ``30``, ``30s``, ``5m``, ``2h``, ``1d``, ``1h30m``; ValueError says what is allowed."""
    if isinstance(text, bool) or (not isinstance(text, int | float) and not _WHOLE.fullmatch(text)):
        raise ValueError(f"'{text}' is no duration: write 30s, 5m, 2h, 1d or 1h30m")
    if isinstance(text, int | float):
        return float(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The two largest units at most: ``45 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 60:
        rest = total % 60
        return f"{minutes} min" + (f" {rest} s" if rest and minutes < 10 else "")
    if hours < 24:
        rest = minutes % 60
        return f"{hours} h" + (f" {rest} min" if rest else "")
    rest = hours % 24
    return f"{days} d" + (f" {rest} h" if rest else "")


@lru_cache(maxsize=1024)  # rows of one look share most of their times
def iso_time(epoch: float | None) -> str | None:
    """ISO 8601 UTC with seconds; None stays None."""
    return None if epoch is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def time_ago(epoch: float | None, now: float) -> str:
    """``3 min ago``; ``-`` for None."""
    return "-" if epoch is None else f"{format_duration(now - epoch)} ago"
