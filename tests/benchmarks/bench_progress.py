"""One frame of a driver's progress for 5,000 replicas: at most 20 ms of processor time."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest

from skahactl.render.cells import draw
from skahactl.render.terminal import RepaintedDisplay
from tests.rendering import mixed, progress

pytestmark = pytest.mark.benchmark

LIMIT = 0.020
FRAMES = 20


def frames(display: RepaintedDisplay) -> Iterator[float]:
    """Seconds of processor time of each frame."""
    one = progress(mixed(completed=2400, running=512, failed=10, queued=2078))
    for tick in range(FRAMES):
        begun = time.thread_time()
        display.paint(lambda size, tick=tick: draw([one], size, True, tick))  # type: ignore[misc]
        yield time.thread_time() - begun


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
def test_a_frame_of_thousands_of_replicas_is_cheap(size: tuple[int, int]) -> None:
    display = RepaintedDisplay(io.StringIO(), {"TERM": "xterm"}, lambda: size)
    assert sorted(frames(display))[FRAMES // 2] < LIMIT
