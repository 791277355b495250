"""Requests and replies of the local platform as values, and the checks of a create."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from html import escape
from secrets import choice
from threading import Event
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A reply. ``log`` is an open file descriptor and its number of bytes to send; the receiver closes it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    log: tuple[int, int] | None = field(default=None)


class HttpRefusal(Exception):
    """The reply to a rejected request: HTTP status and body (text/plain)."""

    def __init__(self, status: int, body: str, headers: dict[str, str] | None = None):
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers or {}


def bad(message: str) -> HttpRefusal:
    """Return a reply with status 400, as the server sends it for an IllegalArgumentException."""
    return HttpRefusal(400, message + "\n")


def missing(message: str) -> HttpRefusal:
    return HttpRefusal(404, message + "\n")


def text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    answer = _of(status, "text/plain", body)
    answer.headers.update(headers or {})
    return answer


def xml(body: str) -> HttpAnswer:
    return _of(200, "text/xml", body)


def pretty(data: object) -> HttpAnswer:
    """Return JSON in the form of the server: indented by two spaces, no newline at the end."""
    return _of(200, "application/json", json.dumps(data, indent=2, ensure_ascii=False))


def compact(data: object) -> HttpAnswer:
    return _of(200, "application/json", json.dumps(data, separators=(",", ":")))


def empty() -> HttpAnswer:
    return HttpAnswer(200, {"content-length": "0"})


def _of(status: int, kind: str, body: str) -> HttpAnswer:
    data = body.encode("utf-8", "backslashreplace")
    return HttpAnswer(status, {"content-type": kind, "content-length": str(len(data))}, data)


@dataclass(frozen=True, slots=True)
class LocalCall:
    """A request: header names in lower case, ``query`` without its question mark.

    ``directory`` is the working directory of a created session, if the caller names one. ``abandoned`` is set when the
    caller no longer waits: a create that is not committed by then is rolled back.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    directory: str | None = None
    abandoned: Event = field(default_factory=Event)

    @property
    def origin(self) -> str:
        return "http://" + self.headers.get("host", "local")

    def allow(self, *methods: str) -> None:
        """Raise HttpRefusal with status 405 unless the method is one of these."""
        if self.method not in methods:
            raise HttpRefusal(405, f"unsupported: HTTP {self.method}\n", {"allow": ", ".join(methods)})


class CallAbandoned(Exception):
    """The caller no longer waits for the reply; nothing was created."""


#: The servlet container silently ignores parameters after this many.
MOST = 1000


class Parameters:
    """Parameters with case-insensitive names; of a single-valued parameter, the first value counts."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self._pairs = pairs[:MOST]

    def one(self, name: str) -> str | None:
        return next((value for key, value in self._pairs if key.lower() == name), None)

    def many(self, name: str) -> list[str]:
        """Return all values in order.

        Raises ValueError for a name in two spellings, because the library of the server fails then.
        """
        if len({key for key, _ in self._pairs if key.lower() == name}) > 1:
            raise ValueError("null")
        return [value for key, value in self._pairs if key.lower() == name]


def query_parameters(query: str) -> Parameters:
    return Parameters(_pairs(query, "utf-8"))


def post_parameters(query: str, headers: Mapping[str, str], body: bytes) -> Parameters:
    """Parse the parameters of a POST: query and form; of multipart only the fields; of any other content none."""
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


#: GET context without a LimitRange (skaha-api 7).
CORES = tuple(range(1, 17))
MEMORY = (
    *(1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64, 80, 92, 112, 128),
    *(140, 170, 192),
)
GPUS = tuple(range(1, 29))
CONTEXT: dict[str, object] = {
    "cores": {"default": 2, "defaultRequest": 1, "defaultLimit": 8, "options": CORES},
    "memoryGB": {"default": 8, "defaultRequest": 4, "defaultLimit": 32, "options": MEMORY},
    "gpus": {"options": GPUS},
    "maxInteractiveSessions": "0",
}
#: Hosts in the reply to GET repository; other images are accepted too, because none is started.
REPOSITORIES = ("images.canfar.net",)

AVAILABILITY = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:availability xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">
  <vosi:available>true</vosi:available>
  <vosi:note>Skaha Service Available. This is the local platform of skahactl.</vosi:note>
</vosi:availability>
"""

_CAPABILITIES = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
    xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <capability standardID="ivo://ivoa.net/std/VOSI#capabilities">
    <interface xsi:type="vs:ParamHTTP" role="std"><accessURL use="full">{base}/capabilities</accessURL></interface>
  </capability>
  <capability standardID="ivo://ivoa.net/std/VOSI#availability">
    <interface xsi:type="vs:ParamHTTP" role="std"><accessURL use="full">{base}/availability</accessURL></interface>
  </capability>
{apis}</vosi:capabilities>
"""
_API = """  <capability standardID="http://www.opencadc.org/std/platform#{name}-1">
    <interface xsi:type="vs:ParamHTTP" role="std" version="1.0">
      <accessURL use="base">{base}/v1/{name}</accessURL>
      <securityMethod standardID="ivo://ivoa.net/sso#token"/>
    </interface>
  </capability>
"""


def capabilities(base: str) -> str:
    """Return the capabilities; ``base`` is the scheme, host and ``/skaha`` that the client used."""
    apis = "".join(_API.format(base=escape(base), name=name) for name in ("session", "context", "image", "repository"))
    return _CAPABILITIES.format(base=escape(base), apis=apis)


KINDS = ("headless", "notebook", "desktop", "carta", "contributed", "firefly")
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fFdD]?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A valid create; ``name`` is in lower case."""

    name: str
    image: str
    cores: float | None
    ram: float | None
    gpus: int | None
    cmd: str | None
    args: str | None
    env: tuple[str, ...]


def session_request(parameters: Parameters) -> SessionRequest:
    """Return the create that a form asks for, after the checks 2 to 16 of skaha-api 3.3. Raises HttpRefusal."""
    image = _image(parameters.one("image"))
    kind = _kind(parameters.one("type"))
    cores = _amount("cores", parameters.one("cores"), CORES)
    ram = _amount("ram", parameters.one("ram"), MEMORY)
    name = _name(parameters.one("name"))
    if kind != "headless":
        raise bad(
            f"The local platform cannot run a {kind} session: it starts no images, only the commands of headless "
            "sessions, on this machine. Choose a profile of a Skaha server."
        )
    gpus = _gpus(parameters.one("gpus"))
    host_label("canfar.net/name", name.lower()[:63].rstrip("-"))
    if parameters.one("cmd") is None:
        raise bad(
            "The local platform cannot run an image's own entry point: it starts no images, only commands, on this "
            "machine. Give a command, or choose a profile of a Skaha server."
        )
    try:
        env = tuple(parameters.many("env"))
    except ValueError as error:
        raise bad(str(error)) from None
    return SessionRequest(name.lower(), image, cores, ram, gpus, parameters.one("cmd"), parameters.one("args"), env)


def _image(image: str | None) -> str:
    if image is None:
        raise bad("Missing parameter 'image'")
    if not image.strip():
        raise bad("image is required")
    if not _IMAGE.fullmatch(image):
        raise bad(f"session image '{image}' must come from one of [{', '.join(REPOSITORIES)}]")
    return image


def _kind(kind: str | None) -> str:
    if kind is None or not kind.strip():
        return "headless"
    if kind.strip().lower() not in KINDS:
        raise bad(f"Invalid session type: {kind}")
    return kind.strip().lower()


def _amount(name: str, value: str | None, options: tuple[int, ...]) -> float | None:
    """Return a number with an integer part that is one of the options; None (flexible) if empty. Raises HttpRefusal."""
    if value is None or not value.strip():
        return None
    if not _DOUBLE.fullmatch(value.strip()) or int(min(float(value.strip().rstrip("fFdD")), 1e9)) not in options:
        raise bad(f"Invalid value for '{name}': {value}")
    return float(value.strip().rstrip("fFdD"))


def _gpus(value: str | None) -> int | None:
    if value is None or not value.strip():
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,9}", value) or int(value) not in GPUS:
        raise bad(f"Invalid value for 'gpus': {value}")
    return int(value)


def _name(name: str | None) -> str:
    if name is None or not name.strip():
        raise bad("Missing parameter 'name'")
    if not re.fullmatch(r"[A-Za-z0-9\-]+", name):
        raise bad("name can only contain alpha-numeric chars and '-'")
    return name


def host_label(key: str, value: str) -> None:
    """Raise HttpRefusal if ``value`` is not a valid label by the rules of Kubernetes."""
    if not value:
        raise bad(f"{key} label value cannot be blank")
    if not _LABEL.fullmatch(value):
        raise bad(f"{key} label value must match Kubernetes label value syntax")
    if len(value) > 63:
        raise bad(f"{key} label value exceeds 63 characters")


def new_id() -> str:
    return choice(_LETTERS) + "".join(choice(_LETTERS + "0123456789") for _ in range(7))
