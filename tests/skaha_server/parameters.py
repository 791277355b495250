"""How the server reads parameters (skaha-api 3.1): forms and queries merged, multipart alone, anything else ignored."""

from __future__ import annotations

import email.parser
import email.policy
import re
from urllib.parse import unquote_to_bytes

from tests.skaha_server.messages import Call, words

MAX_FORM = 2 * 1024 * 1024
MAX_PARAMETERS = 1000


class Parameters:
    """Values by name in any case, in the order they came; a repeated single value is ignored."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self.pairs = pairs[:MAX_PARAMETERS]

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.pairs if key.lower() == name), None)

    def all(self, name: str) -> list[str]:
        spellings = {key for key, _ in self.pairs if key.lower() == name}
        if len(spellings) > 1:
            raise words(400, "null")
        return [value for key, value in self.pairs if key.lower() == name]


def read(call: Call) -> Parameters:
    query = _pairs(call.query.encode("latin-1"), "utf-8")
    if call.method != "POST":
        return Parameters(query)
    content_type = call.header("content-type")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        body = call.body if len(call.body) <= MAX_FORM else b""
        return Parameters(query + _pairs(body, _charset(content_type)))
    if kind == "multipart/form-data":
        return Parameters(_multipart(content_type, call.body))
    return Parameters([])


def _charset(content_type: str) -> str:
    found = re.search(r'charset="?([\w-]+)', content_type, re.I)
    return found.group(1) if found else "iso-8859-1"


def _pairs(text: bytes, charset: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(b"&"):
        if part:
            key, _, value = part.partition(b"=")
            pairs.append((_decoded(key, charset), _decoded(value, charset)))
    return pairs


def _decoded(text: bytes, charset: str) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode(charset, "replace")


def _multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    pairs = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            pairs.append((name, payload.decode("utf-8", "replace")))
    return pairs
