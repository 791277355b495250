"""The local platform against GNU parallel: 500 small sessions on two slots."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.local_platform import create, ended, platform


@pytest.mark.benchmark
def test_five_hundred_trues_take_at_most_three_times_gnu_parallel(tmp_path: Path) -> None:
    parallel = shutil.which("parallel")
    if parallel is None:
        pytest.skip("GNU parallel is not installed")

    async def run() -> None:
        async with platform(tmp_path) as client:
            for number in range(500):
                await create(client, f"true-{number}", "true")
            assert set((await ended(client)).values()) == {"Completed"}

    begun = time.perf_counter()
    asyncio.run(run())
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    words = "\n".join(map(str, range(500)))
    subprocess.run([parallel, "--will-cite", "-j2", "true"], input=words, text=True, check=True, capture_output=True)
    theirs = time.perf_counter() - begun
    print(f"\n500 x true on two slots: {ours:.2f} s, GNU parallel {theirs:.2f} s, {ours / theirs:.2f} times")
    assert ours <= 3 * theirs
