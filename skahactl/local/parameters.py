"""A request's parameters as the server's library reads them (skaha-api 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from urllib.parse import parse_qsl

#: More parameters than this are silently not read, by the servlet container.
MOST = 1000


class Parameters:
    """Case-insensitive names; the first value of a single-valued one wins."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self._pairs = pairs[:MOST]

    def one(self, name: str) -> str | None:
        return next((value for key, value in self._pairs if key.lower() == name), None)

    def many(self, name: str) -> list[str]:
        """All values in order; ValueError if the name comes in two spellings, as the server's library fails on it."""
        if len({key for key, _ in self._pairs if key.lower() == name}) > 1:
            raise ValueError("null")
        return [value for key, value in self._pairs if key.lower() == name]


def query_parameters(query: str) -> Parameters:
    return Parameters(_pairs(query, "utf-8"))


def post_parameters(query: str, headers: Mapping[str, str], body: bytes) -> Parameters:
    """The parameters of a POST: query and form, a multipart's fields alone, and none at all for any other content."""
    content = Message()
    content["Content-Type"] = headers.get("content-type", "text/plain")
    kind = content.get_content_type()
    if kind == "application/x-www-form-urlencoded":
        charset = _known(content.get_content_charset("iso-8859-1"))
        return Parameters([*_pairs(query, "utf-8"), *_pairs(body.decode("latin-1"), charset)])
    if kind == "multipart/form-data":
        return Parameters(_fields(content["Content-Type"], body))
    return Parameters([])


def _pairs(text: str, charset: str) -> list[tuple[str, str]]:
    raw = parse_qsl(text, keep_blank_values=True, encoding="latin-1", separator="&")
    return [(_decoded(name, charset), _decoded(value, charset)) for name, value in raw]


def _decoded(text: str, charset: str) -> str:
    return text.encode("latin-1", "replace").decode(charset, "replace")


def _known(charset: str) -> str:
    try:
        "".encode(charset)
    except LookupError:
        return "iso-8859-1"
    return charset


def _fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    whole = BytesParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    fields: list[tuple[str, str]] = []
    for part in whole.walk():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields.append((name, payload.decode("utf-8", "replace")))
    return fields
