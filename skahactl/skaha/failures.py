"""The meaning of an HTTP result: for a create, and for everything else (skaha-api 2, 3.3, 8).

A create certainly made no session if there was no connection, if the server rejected the request (400, 401, 403, 404,
405, and the statuses in CERTAIN and UNACCEPTABLE), if it could not find the new Job (500), or if it sent a 503 itself.
Anything else without a session id is ambiguous, such as another 5xx, a redirect, the page of a gateway, or a lost or
late reply: the session may exist, now or later. Messages never contain credentials: the body of a 401 may repeat the
token, so only known texts of it are shown.
"""

from __future__ import annotations

import html
import json
import os
import re
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.skaha.models import CreateOutcome, CreateResult, ServerError, parse_session_id
from skahactl.text import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import httpx


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
    """Return the server's reason, such as "unknown ca", if it ended the handshake because of our certificate."""
    for link in exception_chain(error):
        reason = (getattr(link, "reason", None) or "") if isinstance(link, ssl.SSLError) else ""
        if not isinstance(link, ssl.SSLCertVerificationError) and any(alert in reason for alert in _ALERTS):
            return reason.lower().split("alert_")[-1].replace("_", " ")
    return None


def exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes, and every member of a group (as for a host with several addresses)."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from exception_chain(member)
        error = error.__cause__ or error.__context__


ANONYMOUS = "cannot get group memberships for anonymous"
#: Control characters, and those that change the direction of text.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")

_SAFE_401 = ("Token has expired", "Unauthorized", "Invalid JWT token", "Cannot validate token using user info endpoint")
_LONGEST = 600
_LONGEST_PAUSE = 3600.0
_NO_NAME = ": null"  # the end of messages of a server without a name for the subject
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete HTTP reply, and the secrets that must be masked in its text."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: Sequence[str] = ()

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";", 1)[0].strip().lower()

    @property
    def is_page(self) -> bool:
        return "html" in self.content_type or bool(_MARKUP.match(self.text))

    @property
    def text(self) -> str:
        return self.body[: 64 * 1024].decode("utf-8", "replace").strip()

    @property
    def words(self) -> str:
        """Return the message of the server in a form that can be shown: no secrets, web pages or control characters."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return next((known for known in _SAFE_401 if self.text == known), phrase(self.status))
        if not self.body or self.is_page:
            return phrase(self.status)
        text = self.masked(self.text).removesuffix(_NO_NAME)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."

    def masked(self, text: str) -> str:
        """Return ``text`` in one line, without secrets and without characters that move a terminal's cursor."""
        for secret in _spellings(self.secrets):
            text = text.replace(secret, "***")
        return UNPRINTABLE.sub(" ", text)

    @property
    def retry_after(self) -> float | None:
        """Return the seconds of Retry-After (at most an hour); None without a valid header.

        A date is compared with the server's own Date header.
        """
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdecimal():
            return min(_LONGEST_PAUSE, float(value))
        try:
            until = parsedate_to_datetime(value).timestamp()
            pause = until - parsedate_to_datetime(self.headers["date"]).timestamp()
            return min(_LONGEST_PAUSE, max(0.0, pause))
        except (KeyError, ValueError, TypeError, OverflowError):
            return None

    @property
    def not_logged_in(self) -> bool:
        """Return whether the reply is 401, or a 400 with the message of the server or of nginx for bad credentials."""
        if self.status != HTTPStatus.BAD_REQUEST:
            return self.status == HTTPStatus.UNAUTHORIZED
        return self.text == ANONYMOUS or (self.is_page and "SSL certificate" in self.text)

    @property
    def own_503(self) -> bool:
        """Return whether the server itself reports that a service behind it is unavailable: nothing was created."""
        return self.status == 503 and self.content_type == "text/plain" and "temporarily unavailable" in self.text


def _spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return each secret in every form in which a server may repeat it, the longest first.

    The forms are: as it is, as sent in a form, escaped as JSON, HTML or a URL, and in base 64. Secrets of up to three
    characters are left out.
    """
    found: set[str] = set()
    for secret in secrets:
        if len(secret) <= 3:
            continue
        data = secret.encode("utf-8", "surrogatepass")
        plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], html.escape(secret)}
        coded = {coder(data) for coder in (quote_from_bytes, lambda raw: quote_from_bytes(raw, safe=""))}
        coded |= {text.replace("%20", "+") for text in coded}
        coded |= {re.sub("%..", lambda pair: pair[0].lower(), text) for text in coded}
        based = b64encode(data).decode()
        found |= plain | coded | {based, based.rstrip("=")}
    return tuple(sorted(found, key=len, reverse=True))


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


REJECTED = "the server does not accept this certificate ({})"

_NOT_MADE = {404, 405}
#: Statuses that mean that nothing was created; the same request may be accepted later.
CERTAIN = frozenset({408, 421, 429, 501})
#: Statuses that mean that nothing was created; the same request will never be accepted.
UNACCEPTABLE = frozenset({413, 414, 415, 431})
_NO_JOB = re.compile(r'jobs\.batch \\?"[^"\\]*\\?" not found')


def create_result(reply: HttpReply) -> CreateResult:
    """Return the result of a create from its reply."""
    status = reply.status
    if 200 <= status < 300:
        made = None if reply.is_page else parse_session_id(reply.body)
        if made is not None:
            return CreateResult(CreateOutcome.CREATED, made)
        message = "the reply of the server contains no session id"
        return _result(CreateOutcome.AMBIGUOUS, "unreadable", reply, message)
    if reply.not_logged_in:
        return CreateResult(CreateOutcome.AUTH, error=not_logged_in(reply))
    if status == HTTPStatus.FORBIDDEN:
        return _result(CreateOutcome.AUTH, "forbidden", reply, hint=FORBIDDEN_HINT)
    if status == HTTPStatus.BAD_REQUEST:
        return _result(CreateOutcome.REJECTED, "rejected", reply, hint=_refusal_hint(reply.text))
    if status == 500 and "jobs.batch" in reply.text and "not found" in reply.text:
        return _result(CreateOutcome.REJECTED, "rejected", reply, _rejected(reply), REJECTED_HINT)
    if status in _NOT_MADE:
        return _result(CreateOutcome.NOT_CREATED, "no-such-service", reply, hint=WRONG_URL)
    if status in UNACCEPTABLE:
        return _result(CreateOutcome.REJECTED, "rejected", reply)
    if status in CERTAIN:
        return _result(CreateOutcome.NOT_CREATED, "not-handled", reply)
    if reply.own_503:
        return _result(CreateOutcome.NOT_CREATED, "unavailable", reply)
    if 300 <= status < 400:
        return _result(CreateOutcome.AMBIGUOUS, "redirected", reply, _redirected(reply), WRONG_URL)
    return _result(CreateOutcome.AMBIGUOUS, "server-error", reply)


def _result(
    outcome: CreateOutcome, code: str, reply: HttpReply, message: str | None = None, hint: str | None = None
) -> CreateResult:
    """Return the result of a create without a session id. ``message`` replaces the server's message."""
    error = ServerError(code, reply.status, message or reply.words, hint)
    return CreateResult(outcome, error=error, retry_after=reply.retry_after)


FORBIDDEN_HINT = "this account may not use the platform, or its credential cannot be used; ask its administrators"
WRONG_URL = "this may not be a Skaha server; check its address, for example https://ws-uv.canfar.net/skaha/v1"
UNKNOWN_HOST = "no connection: the host name is unknown"
REJECTED_HINT = "do not send it again unchanged; check the environment, the resources and the name of the image"


def is_without_connection(error: Exception) -> bool:
    """Return whether a request failed before it had a connection, so that the server has not seen it."""
    import httpx

    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)


def create_result_of_error(error: Exception) -> CreateResult:
    """Return the result of a create that ended with an exception, one of FAILURES."""
    import httpx

    if refusal_in(error):
        return CreateResult(CreateOutcome.AUTH, error=ServerError("certificate", None, _describe_error(error)))
    if is_without_connection(error):
        return CreateResult(
            CreateOutcome.NOT_CREATED,
            error=ServerError("unreachable", None, _describe_error(error), _connect_hint(error)),
        )
    code = "timeout" if isinstance(error, httpx.TimeoutException) else "lost"
    return CreateResult(CreateOutcome.AMBIGUOUS, error=ServerError(code, None, _describe_error(error)))


def error_of_reply(reply: HttpReply) -> SkahactlError:
    """Return the error for a reply to anything except a create."""
    if reply.not_logged_in:
        words = not_logged_in(reply)
        return AuthError(words.message, hint=words.hint)
    if reply.status == HTTPStatus.FORBIDDEN:
        return AuthError(f"the server refused access: {reply.words}", hint=FORBIDDEN_HINT, code="forbidden")
    if 300 <= reply.status < 400:
        return UnreachableError(_redirected(reply), hint=WRONG_URL, code="redirected", is_permanent=True, answered=True)
    message = f"the server replied {reply.status}: {reply.words}"
    if reply.status in _NOT_MADE:
        return UnreachableError(message, hint=WRONG_URL, code="no-such-service", is_permanent=True, answered=True)
    hint = "this is a problem of the server; try again later"
    return UnreachableError(message, hint=hint, code="server-error", answered=True)


def error_of_exception(error: Exception) -> SkahactlError:
    """Return our error for an exception, one of FAILURES. The local platform raises one of ours as its cause."""
    for link in exception_chain(error):
        if isinstance(link, UnreachableError):
            return link
    if refusal_in(error):
        return AuthError(_describe_error(error), code="certificate")
    return UnreachableError(
        _describe_error(error), hint=_connect_hint(error), is_permanent=_is_permanent(error), code=_code_of(error)
    )


def _code_of(error: Exception) -> str:
    return "unknown-host" if any(map(_is_unknown_host, exception_chain(error))) else "unreachable"


def _is_permanent(error: Exception) -> bool:
    """Return whether a retry would fail in the same way: the host does not exist, or the server is not trusted."""
    return any(
        _is_unknown_host(link) or isinstance(link, ssl.SSLCertVerificationError) for link in exception_chain(error)
    )


def _is_unknown_host(error: BaseException) -> bool:
    """Return whether the host does not exist. EAI_AGAIN is an outage: the name server does not answer."""
    return isinstance(error, socket.gaierror) and error.errno not in (socket.EAI_AGAIN, socket.EAI_SYSTEM)


def not_logged_in(reply: HttpReply) -> ServerError:
    said = f" ({reply.words})" if reply.status == 401 and reply.words != phrase(401) else ""
    return ServerError("not-logged-in", reply.status, f"authentication failed{said}")


def _refusal_hint(text: str) -> str | None:
    if text.startswith("No authentication provided for unknown or private image"):
        return "add registry-user and registry-secret-env or -file to the profile"
    if "Invalid value for" in text:
        return f"to see what the platform offers: {suggest('get', 'resources')}"
    if "must come from one of" in text:
        return "write the image with its registry, or set registry in the profile"
    return None


def _rejected(reply: HttpReply) -> str:
    """Return a message with the server's message, without the wrappers of its libraries."""
    found = _NO_JOB.search(reply.words)
    words = found[0].replace("\\", "") if found else reply.words[:200]
    return f"the cluster rejected the session; message of the server: {words}"


def _redirected(reply: HttpReply) -> str:
    place = reply.masked(reply.headers.get("location", "elsewhere")).split("?", 1)[0][:200]
    return f"the server replied {reply.status} with a redirect to {place}; redirects are not followed"


def _describe_error(error: httpx.HTTPError | Exception) -> str:
    import httpx

    refused = refusal_in(error)
    if refused:
        return REJECTED.format(refused)
    for link in exception_chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"the certificate of the server is not trusted: {link.verify_message}"
    if isinstance(error, httpx.ConnectTimeout):
        return "the connection timed out"
    if isinstance(error, httpx.TimeoutException):
        return "the reply timed out"
    if any(map(_is_unknown_host, exception_chain(error))):
        return UNKNOWN_HOST
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {_system_message(error) or UNPRINTABLE.sub(' ', str(error)) or type(error).__name__}"
    if isinstance(error, httpx.ProxyError):
        return f"no connection through the proxy: {UNPRINTABLE.sub(' ', str(error))}"
    found = UNPRINTABLE.sub(" ", str(error)) or _system_message(error) or type(error).__name__
    return f"the connection broke: {found}"


def _system_message(error: Exception) -> str | None:
    """Return the message of the system or of the TLS library, such as "Connection refused"; None if there is none.

    The libraries above them only say that the connection failed. The errno of a TLS error is a number of the TLS
    library.
    """
    links = [link for link in exception_chain(error) if isinstance(link, OSError)]
    tls = next((link for link in links if isinstance(link, ssl.SSLError)), None)
    if tls is not None:
        return _tls_message(tls)
    numbered = [link for link in links if link.errno]
    if not numbered:
        return None
    last = numbered[-1]
    return last.strerror if isinstance(last, socket.gaierror) else os.strerror(last.errno or 0)


def _tls_message(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "the server does not speak TLS on this port"
    if "PROTOCOL" in reason:
        return "the server and this machine have no version of TLS in common"
    if isinstance(error, ssl.SSLEOFError) or "EOF" in reason:
        return "the server ended the connection during the TLS handshake"
    return f"the TLS connection failed ({reason.lower().replace('_', ' ') or 'no reason given'})"


def _connect_hint(error: Exception) -> str | None:
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in exception_chain(error)):
        return "for your own certificate authority, set ca-file in [client] of the profile"
    return None
