"""A profile as a value: where to run, credentials, and defaults for manifests."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from skahactl.model import Limits, Resources

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOCAL_SERVER = "local"


def address_problem(text: str, schemes: Iterable[str]) -> str | None:
    """Return why ``text`` is not an address with one of these schemes, in words; None if it is one."""
    from urllib.parse import urlsplit

    if not text.isprintable() or " " in text:
        return "it contains a blank or a control character"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "the port is not a number from 1 to 65535, or a bracket is missing"
    if parts.scheme not in schemes:
        return f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if port == 0 or parts.netloc.endswith(":"):
        return "the port is not a number from 1 to 65535"
    return "it has no host" if not parts.hostname else _host_problem(parts.hostname)


NO_CREDENTIALS = "credentials do not belong in an address; see [auth]"


def server_address(text: str) -> str:
    """Return the address of a server without a slash at its end. Raises ValueError with an example for an invalid
    one."""
    from urllib.parse import urlsplit

    if text == LOCAL_SERVER:
        return text
    problem = address_problem(text, ("https", "http"))
    if problem is not None:
        raise ValueError(f"{problem}; expected an address such as https://ws-uv.canfar.net/skaha/v1, or local")
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment:
        raise ValueError("expected an address such as https://ws-uv.canfar.net/skaha/v1, or local")
    if parts.username is not None or parts.password is not None:
        raise ValueError(NO_CREDENTIALS)
    if not re.search(r"/v\d+$", path):
        raise ValueError("expected the version at the end, as in https://ws-uv.canfar.net/skaha/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _host_problem(host: str) -> str | None:
    import ipaddress

    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    if ":" in host:
        return f"'{host}' is not an IPv6 address"
    if not host.isascii() or "xn--" in host:
        try:
            host = host.encode("idna").decode("ascii")
            host.encode("ascii").decode("idna")
        except UnicodeError:
            return f"'{host}' is not a valid international host name"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")):
        return f"'{host}' is not a valid host name"
    return None


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Auth:
    """The source of the credentials; a token itself is read when it is sent, and never stored here."""

    method: str = "none"  # x509 | token | none
    certificate: str | None = None  # absolute path of a PEM with certificate and key
    token_file: str | None = None
    token_env: str | None = None
    token_command: tuple[str, ...] | None = None  # prints a token on its first line


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry (``host``) for images that name none, and the user and secret to send for private images."""

    host: str | None = None
    user: str | None = None
    secret_env: str | None = None
    secret_file: str | None = None

    def full_name(self, image: str) -> str:
        """Return the image with this registry in front, unless the image names one."""
        first, slash, _ = image.partition("/")
        names_one = slash and ("." in first or ":" in first or first == "localhost")
        return image if names_one or not self.host else f"{self.host.rstrip('/')}/{image}"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Settings of the client. ``concurrency`` counts connections; durations are in seconds: ``timeout`` for a request
    without a reply, ``settle`` for the session of a lost create to appear, ``poll_min`` and ``poll_max`` between
    polls."""

    concurrency: int = 16
    timeout: float = 120.0
    settle: float = 120.0
    poll_min: float = 1.0
    poll_max: float = 60.0
    memory: float = 3600.0  # how long the server lists a finished headless session (skaha-api 9)
    backoff: float = 10.0  # before the second attempt, or after a temporary error; doubles up to 5 minutes
    log_patience: float = 20.0  # how long an empty log of an ended session is read again
    grace: float = 30.0  # after a delete, a pod may still write
    ca_file: str | None = None  # extra certificate authorities to trust


#: For the local platform: a create without a committed session did not happen, so there is no session to wait for.
LOCAL_CLIENT = ClientSettings(settle=0.0, poll_min=0.2, backoff=1.0, log_patience=0.0, grace=0.0)


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The local platform: worker slots (None: processors), working directory (None: the caller's), memory in s."""

    slots: int | None = None
    directory: str | None = None
    memory: float = 3600.0  # how long a finished session is listed
    kill_after: float = 10.0  # from TERM to KILL

    @property
    def slot_count(self) -> int:
        return max(1, self.slots or os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """The shared storage: its directory in sessions, and the address of its service (skaha-api 15); None: no
    service."""

    root: str | None = None  # the top-level directory inside sessions, such as /arc
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: the values of its file and the built-in defaults."""

    name: str
    server: str  # base URL, version included, without a trailing slash; LOCAL_SERVER for the embedded platform
    path: str | None = None  # the file it was read from; None: built in
    auth: Auth = Auth()
    registry: Registry = Registry()
    resources: Resources | None = None  # [defaults.resources]; as a whole for manifests without [resources]
    limits: Limits = Limits()  # [defaults.limits]
    vars: dict[str, str] = field(default_factory=dict)
    client: ClientSettings = ClientSettings()
    local: LocalSettings = LocalSettings()
    storage: StorageSettings = StorageSettings()
    shared_logs: str | None = None  # [defaults.logs] shared
    notify: tuple[str, ...] = ()  # [notify] command: runs at the end of a wait of more than a minute
    login_url: str = "https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/cred/generate?daysValid=30"

    def at(self, server: str) -> Profile:
        """Return the profile for another server, with the client settings of a server or of the local platform."""
        storage = self.storage if server == self.server else StorageSettings()
        if (server == LOCAL_SERVER) == self.is_local:
            return replace(self, server=server, storage=storage)
        return replace(
            self, server=server, storage=storage, client=LOCAL_CLIENT if server == LOCAL_SERVER else ClientSettings()
        )

    @property
    def is_local(self) -> bool:
        return self.server == LOCAL_SERVER

    @property
    def memory(self) -> float:
        """How long, in seconds, the platform lists an ended headless session."""
        return self.local.memory if self.is_local else self.client.memory

    @property
    def noun(self) -> str:
        """How messages call the platform."""
        return "the local platform" if self.is_local else "the server"

    @property
    def host(self) -> str:
        """The host of the server, for summaries; "this machine" for the local platform."""
        if self.is_local:
            return "this machine"
        return self.server.split("://", 1)[-1].split("/", 1)[0]


def profile_data(profile: Profile) -> dict[str, object]:
    """Return all values of the profile, including defaults; None for unset ones."""
    return {"name": profile.name, "path": profile.path, **_tables(profile)}


def profile_toml(profile: Profile) -> str:
    """Return the values as TOML, without unset ones, below a comment with the name and the file."""
    import tomli_w

    known = _without_none(_tables(profile))
    return f"# {profile.name}: {profile.path or 'built in'}\n" + tomli_w.dumps(known)


def _tables(profile: Profile) -> dict[str, object]:
    registry = profile.registry
    return {
        "server": profile.server,
        "registry": registry.host,
        "registry-user": registry.user,
        "registry-secret-env": registry.secret_env,
        "registry-secret-file": registry.secret_file,
        "auth": {
            **_settings(profile.auth),
            "login-url": profile.login_url if profile.auth.method == "x509" else None,
        },
        "defaults": {
            "resources": profile.resources and _settings(profile.resources),
            "limits": _settings(profile.limits),
            "logs": {"shared": profile.shared_logs},
        },
        "storage": _settings(profile.storage),
        "notify": {"command": profile.notify or None},
        "vars": profile.vars,
        "client": _settings(profile.client),
        "local": _settings(profile.local),
    }


def _settings(table: DataclassInstance) -> dict[str, object]:
    return {field.name.replace("_", "-"): getattr(table, field.name) for field in fields(table)}


def _without_none(table: Mapping[str, object]) -> dict[str, object]:
    known: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            below = _without_none(value)
            if below:
                known[key] = below
        elif value is not None:
            known[key] = value
    return known
