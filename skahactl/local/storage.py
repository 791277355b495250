"""A storage service like the one beside a Skaha server (Cavern, skaha-api 15), over a directory of this machine.

``GET /arc/files/PATH`` returns a whole file (204 if it is empty), without ranges and validators.
``GET /arc/nodes/PATH`` lists a directory as VOSpace XML. Writing is not offered: replicas write to the file system.
"""

from __future__ import annotations

import os
import stat
import time
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from skahactl.local import http
from skahactl.local.http import HttpAnswer, HttpRefusal, LocalCall, query_parameters

PREFIX = "/arc/"
_NAMESPACES = 'xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_PROPERTY = "ivo://ivoa.net/vospace/core#"
#: Characters of a decoded path that Cavern cannot parse, and those that end it.
_BROKEN = frozenset(' %[]{}|^\\"<>`')
_ENDS = "#?"


class Storage:
    """Answers requests below ``/arc/`` from the files in ``directory``."""

    def __init__(self, directory: Path, user: str) -> None:
        self._directory = directory
        self._headers = {"x-vo-authenticated": user}

    def answer(self, call: LocalCall) -> HttpAnswer:
        """Return the answer to one request; ``call.path`` is decoded."""
        service, _, path = call.path.removeprefix(PREFIX).partition("/")
        try:
            if service not in ("files", "nodes"):
                raise http.missing(f"not found: {call.path}")
            call.allow("GET", "HEAD")
            answered = self._file(path) if service == "files" else self._node(path, call)
        except HttpRefusal as refusal:
            answered = http.text(refusal.body, refusal.status, refusal.headers)
        except PermissionError:
            answered = http.text(f"PermissionDenied: vos://local~arc/{path}\n", 403)
        except (FileNotFoundError, NotADirectoryError):
            answered = http.text(f"NodeNotFound: vos://local~arc/{path}\n", 404)
        answered.headers.update(self._headers)
        return answered

    def _file(self, path: str) -> HttpAnswer:
        handle = os.open(self._path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise http.bad(f"not a data node: vos://local~arc/{path}")
        if status.st_size == 0:
            os.close(handle)
            return HttpAnswer(204, {})
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(status.st_size),
            "last-modified": formatdate(status.st_mtime, usegmt=True),
        }
        return HttpAnswer(200, headers, log=(handle, status.st_size))

    def _node(self, path: str, call: LocalCall) -> HttpAnswer:
        parameters = query_parameters(call.query)
        own = self._path(path)
        with_properties = parameters.one("detail") != "min"
        children: list[str] = []
        if own.is_dir() and parameters.one("limit") != "0" and os.access(own, os.R_OK):
            base = path.strip("/")
            for entry in os.scandir(own):
                name = f"{base}/{entry.name}" if base else entry.name
                try:
                    children.append(_element("vos:node", Path(entry.path), name, with_properties))
                except FileNotFoundError:  # it vanished meanwhile
                    continue
        nodes = "".join(children)
        inner = f"<vos:nodes>{nodes}</vos:nodes>" if own.is_dir() else ""
        return http.xml(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            + _element("vos:node", own, path.strip("/"), with_properties, inner, f" {_NAMESPACES}")
            + "\n"
        )

    def _path(self, path: str) -> Path:
        """Return the file of a decoded path, which Cavern parses a second time, as a URI.

        Raises HttpRefusal for a path that Cavern rejects, and FileNotFoundError.
        """
        if _BROKEN & set(path):
            raise HttpRefusal(500, f"unexpected exception: java.net.URISyntaxException: Illegal character: {path}")
        for end in _ENDS:
            path = path.partition(end)[0]
        parts = [part for part in path.split("/") if part]
        if any(part in (".", "..") for part in parts):
            raise http.bad(f"invalid path: {path}")
        found = self._directory.joinpath(*parts)
        found.lstat()
        return found


def _element(tag: str, path: Path, name: str, with_properties: bool, inner: str = "", namespaces: str = "") -> str:
    status = path.lstat()
    kind = "Data"
    if stat.S_ISDIR(status.st_mode):
        kind = "Container"
    elif stat.S_ISLNK(status.st_mode):
        kind = "Link"
    properties = ""
    if with_properties:
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000", time.gmtime(status.st_mtime))
        values = {"date": date, **({"length": str(status.st_size)} if kind == "Data" else {})}
        properties = "".join(
            f'<vos:property uri="{_PROPERTY}{key}" readOnly="true">{text}</vos:property>'
            for key, text in values.items()
        )
    uri = quoteattr(f"vos://local~arc/{quote(os.fsencode(name))}")
    return (
        f'<{tag}{namespaces} uri={uri} xsi:type="vos:{kind}Node">'
        f"<vos:properties>{properties}</vos:properties>{inner}</{tag}>"
    )
