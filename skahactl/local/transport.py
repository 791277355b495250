"""The local platform as an httpx transport: the same requests and replies, without a socket."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from skahactl.errors import Exit, UnreachableError
from skahactl.local.api import Platform
from skahactl.local.http import HttpAnswer, LocalCall
from skahactl.local.queue import StoreError
from skahactl.profile import LocalSettings
from skahactl.skaha.transport import DIRECTORY

#: Bytes of a log per read.
PIECE = 256 * 1024


class LocalTransport(httpx.AsyncBaseTransport):
    """Serves ``http://local/skaha/...`` from the queue in ``state_dir``.

    Handlers run in their own threads, off the event loop. If the caller of a create is cancelled, the create is either
    dropped, or completed before the cancellation is passed on: nothing happens after the call has returned. If the
    queue cannot be used, the result is a ConnectError, and nothing was done.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: LocalSettings,
        directory: str,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ):
        self._platform = Platform(state_dir, settings, directory, environ, now)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="skahactl-local")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.aread()
        url = request.url
        directory = request.extensions.get(DIRECTORY)
        call = LocalCall(request.method, url.path, url.query.decode("ascii"), headers, body, directory)
        try:
            answer = await self._answered(call)
        except (OSError, sqlite3.Error, StoreError) as error:
            reason = f"the local platform cannot use its queue in {self._platform.root}: {error}"
            cause = _damaged(reason, error) if isinstance(error, StoreError) else error
            raise httpx.ConnectError(reason, request=request) from cause
        if answer.log is None:
            return httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)
        stream = LocalLogStream(*answer.log, self._threads)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, request=request)

    async def _answered(self, call: LocalCall) -> HttpAnswer:
        future = self._threads.submit(self._platform.answer, call)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            call.abandoned.set()
            await _settled(future)
            raise

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)


def _damaged(reason: str, error: StoreError) -> UnreachableError:
    """Return the error for a queue that the user must repair, as for a damaged ledger: waiting does not help."""
    found = UnreachableError(reason, hint=error.hint, code="queue", is_permanent=True)
    found.exit = Exit.USAGE
    return found


async def _settled(future: Future[HttpAnswer]) -> None:
    """Wait for an abandoned handler, even if cancelled repeatedly, and free its reply."""
    while not future.done():
        try:
            await asyncio.wait([asyncio.wrap_future(future)])
        except asyncio.CancelledError:
            continue
    if not future.cancelled() and future.exception() is None and (log := future.result().log) is not None:
        os.close(log[0])


class LocalLogStream(httpx.AsyncByteStream):
    """A stream of ``size`` bytes of an open file, read off the event loop; closing the stream closes the file."""

    def __init__(self, log: int, size: int, threads: ThreadPoolExecutor):
        self._log, self._left, self._threads, self._open = log, size, threads, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while self._left > 0:
            piece = await loop.run_in_executor(self._threads, os.read, self._log, min(PIECE, self._left))
            if not piece:
                return
            self._left -= len(piece)
            yield piece

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            os.close(self._log)
