"""Why does a server drop our connections? A handshake alone tells whether it refuses our certificate.

With TLS 1.3 the refusal comes after the request has gone out, and may be lost in the reset of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator

_PATIENCE = 2.0
_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "UNSUPPORTED_CERTIFICATE",
    "ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
)


def refusal_in(error: BaseException) -> str | None:
    """The server's reason, such as "unknown ca", if it ended the handshake because of our certificate."""
    for link in exception_chain(error):
        reason = link.reason or "" if isinstance(link, ssl.SSLError) else ""
        if not isinstance(link, ssl.SSLCertVerificationError) and any(alert in reason for alert in _ALERTS):
            return reason.lower().split("alert_")[-1].replace("_", " ")
    return None


async def tls_refusal(host: str, port: int, context: ssl.SSLContext) -> str | None:
    """The server's reason for not accepting the certificate of ``context``; None if it seems to accept it."""
    writer = None
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            await reader.read(1)  # an accepting server waits for a request
    except (OSError, TimeoutError) as error:
        return refusal_in(error)
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return None


def exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
