"""One HTTP answer, read whole, and what of it may be shown to a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

ANONYMOUS = "cannot get group memberships for anonymous"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_SAFE_401 = ("Token has expired", "Unauthorized", "Invalid JWT token", "Cannot validate token using user info endpoint")
_LONGEST = 600
_LONGEST_PAUSE = 3600.0
_NO_NAME = ": null"  # what a server's words end with where it has no name for what it speaks of
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)


class HttpReply:
    """One HTTP answer, read whole: status, content type, body, and what must not be shown of it."""

    __slots__ = ("body", "headers", "secrets", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str] = ()) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.secrets = tuple(sorted((text for text in secrets if len(text) > 3), key=len, reverse=True))

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
        """What the server said, fit to be shown: no secret, no web page, no control character, not too long."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return next((known for known in _SAFE_401 if self.text == known), phrase(self.status))
        if not self.body or self.is_page:
            return phrase(self.status)
        text = self.text
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = UNPRINTABLE.sub(" ", text).removesuffix(_NO_NAME)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."

    @property
    def retry_after(self) -> float | None:
        """Seconds, an hour at most, from either form of the header; a date is taken against the server's own clock."""
        told = self.headers.get("retry-after", "").strip()
        if told.isascii() and told.isdecimal():
            return min(_LONGEST_PAUSE, float(told))
        try:
            until = parsedate_to_datetime(told).timestamp()
            pause = until - parsedate_to_datetime(self.headers["date"]).timestamp()
            return min(_LONGEST_PAUSE, max(0.0, pause))
        except (KeyError, ValueError, TypeError, OverflowError):
            return None

    @property
    def not_logged_in(self) -> bool:
        """401; or 400 in the words of a server for a stranger, or of nginx for a certificate that it did not like."""
        if self.status != HTTPStatus.BAD_REQUEST:
            return self.status == HTTPStatus.UNAUTHORIZED
        return self.text == ANONYMOUS or (self.is_page and "SSL certificate" in self.text)

    @property
    def own_503(self) -> bool:
        """The server's own words that a service behind it is away: nothing was created."""
        return self.status == 503 and self.content_type == "text/plain" and "temporarily unavailable" in self.text


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"
