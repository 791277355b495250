"""``python -m tests.skaha_server --port-file F [--plan PLAN.json]``: serves until its standard input ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import ssl
import sys
from pathlib import Path

from tests.skaha_server.plan import Plan
from tests.skaha_server.server import FakeSkaha


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.skaha_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, required=True, help="written once the server listens")
    parser.add_argument("--plan", type=Path, help="a plan as JSON")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--tls", type=Path, help="a PEM with the server's certificate and key")
    parser.add_argument("--client-ca", type=Path, help="clients must show a certificate of this authority")
    options = parser.parse_args()
    plan = Plan.read(options.plan) if options.plan else Plan()
    if options.seed is not None:
        plan.seed = options.seed
    server = FakeSkaha(plan, tls=_tls(options.tls, options.client_ca), port=options.port)
    with asyncio.Runner(loop_factory=_exact_loop) as runner:
        runner.run(_serve(server, options.port_file))
    return 0


def _exact_loop() -> asyncio.AbstractEventLoop:
    """Its timers are exact: those of epoll are whole milliseconds, rounded up, two in a hundred of a create's 50."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def _tls(certificate: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _serve(server: FakeSkaha, port_file: Path) -> None:
    async with server:
        draft = port_file.with_name(port_file.name + ".part")
        draft.write_text(str(server.port))
        os.replace(draft, port_file)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    sys.exit(main())
