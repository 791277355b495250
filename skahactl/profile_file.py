"""The TOML file of a profile, read strictly: every problem at once, with its key and the nearest known one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Union
from urllib.parse import urlsplit

from skahactl.errors import ProfileError
from skahactl.manifest.shared_record import SAFE_PATH, shared_problem
from skahactl.model import Limits, Resources
from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Auth, Profile, Registry, address_problem
from skahactl.system import home, read_limited
from skahactl.text import nearest, parse_duration
from skahactl.toml import toml_tables

#: A value as TOML has it, to the value as it is used; ValueError says what was expected.
Reader = Callable[[object], object]
TomlTable = Mapping[str, Union[Reader, "TomlTable"]]
Place = tuple[str, ...]
LARGEST = 1 << 20  # bytes of a profile


def check_table(data: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Return what the file says, read, by the keys that it has; and every problem in it, each with its key."""
    problems: list[str] = []
    return _values(FILE, data, (), problems), problems


def known_keys(place: Place = ()) -> tuple[str, ...]:
    """Return the keys that may stand below ``place``, as they are written."""
    table: Reader | TomlTable | None = FILE
    for part in place:
        table = table.get(part) if isinstance(table, Mapping) else None
    return tuple(key for key in table if key != _ANY) if isinstance(table, Mapping) else ()


def server_address(text: str) -> str:
    """Return the address as it is used, without a slash at its end; ValueError says what is expected."""
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
        raise ValueError("credentials do not belong into the address; see [auth]")
    if not re.search(r"/v\d+$", path):
        raise ValueError("expected the version at the end, as in https://ws-uv.canfar.net/skaha/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _values(table: TomlTable, given: Mapping[str, object], place: Place, problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    expected = dict.fromkeys(given, table[_ANY]) if _ANY in table else table
    for key, kind in expected.items():
        here = (*place, key)
        if key not in given:
            if here in _NEEDED:
                problems.append(f"{'.'.join(here)}: missing")
            continue
        try:
            found[key] = _value(kind, given[key], here, problems)
        except ValueError as error:
            problems.append(f"{'.'.join(here)}: {error}")
    for key in given:
        if key not in expected:
            problems.append(f"{'.'.join((*place, key))}: unknown key{_advice((*place, key))}")
    return found


def _value(kind: Reader | TomlTable, given: object, place: Place, problems: list[str]) -> object:
    if not isinstance(kind, Mapping):
        return kind(given)
    if not isinstance(given, Mapping):
        raise ValueError("expected a table")
    return _values(kind, given, place, problems)


def _advice(place: Place) -> str:
    word = place[-1]
    if word in ("token", "password", "secret", "registry-secret"):
        return (
            "; secrets are not written into profiles: see token-file, token-env, token-command, "
            "registry-secret-file and registry-secret-env"
        )
    known = known_keys(place[:-1])
    guess = nearest(word, known)
    if guess is not None:
        return f"; did you mean '{guess}'?"
    elsewhere = [f"[{table}]" for table in ("auth", "client", "local") if word in known_keys((table,))]
    return f"; it belongs below {elsewhere[0]}" if elsewhere and len(place) == 1 else f"; known: {', '.join(known)}"


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("expected text in quotes")
    return given


def _name(given: object) -> str:
    if given == "":
        raise ValueError("expected at least one character")
    return _text(given)


def _server(given: object) -> str:
    return server_address(_text(given))


def _url(given: object) -> str:
    text = _text(given)
    problem = address_problem(text, ("https", "http"))
    if problem is not None:
        raise ValueError(f"{problem}; expected an address such as https://ws.example.org/cred/generate")
    return text


def _command(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(word, str) and word for word in given):
        raise ValueError('expected a list of words, as in ["oidc-token", "srcnet"]')
    return tuple(given)


def _storage_root(given: object) -> str:
    text = _text(given).rstrip("/")
    if not SAFE_PATH.fullmatch(text) or text == "":
        raise ValueError("expected a directory inside sessions, such as /arc")
    return text


def _storage_url(given: object) -> str:
    text = _text(given).rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected an address such as https://ws-uv.canfar.net/arc")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into the address; see [auth]")
    return text


def _shared(given: object) -> str:
    problem = shared_problem(_text(given))
    if problem is not None:
        raise ValueError(problem)
    return _text(given)


def _method(given: object) -> str:
    if given not in ("x509", "token", "none"):
        raise ValueError("expected 'x509', 'token' or 'none'")
    return _text(given)


def _word(given: object) -> str:
    """Of [vars]: texts; whole numbers and booleans as manifests write them."""
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, int) else _text(given)


def _count(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError("expected a whole number")
    if given < 1:
        raise ValueError("expected 1 or more")
    return given


def _connections(given: object) -> int:
    number = _count(given)
    if number > 128:
        raise ValueError("expected 128 or less")
    return number


def _amount(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("expected a number")
    return _positive(_float(given))


def _seconds(given: object) -> float:
    """Return a number, or a text as ``durations.parse`` reads it."""
    if not isinstance(given, str | int | float):
        raise ValueError("expected a number")
    seconds = parse_duration(given) if isinstance(given, str | bool) else _float(given)
    if not seconds >= 0:  # not a number included
        raise ValueError("expected 0 or more")
    return seconds


def _some_seconds(given: object) -> float:
    return _positive(_seconds(given))


def _float(given: float) -> float:
    try:
        return float(given)
    except OverflowError:
        raise ValueError("expected a number") from None


def _positive(number: float) -> float:
    if not number > 0:
        raise ValueError("expected more than 0")
    return number


#: A key of any name.
_ANY = "*"

FILE: TomlTable = {
    "server": _server,
    "registry": _name,
    "registry-user": _name,
    "registry-secret-env": _name,
    "registry-secret-file": _name,
    "auth": {
        "method": _method,
        "certificate": _name,
        "token-file": _name,
        "token-env": _name,
        "token-command": _command,
        "login-url": _url,
    },
    "defaults": {
        "resources": {"cores": _amount, "ram": _amount, "gpus": _count},
        "limits": {"alive": _count, "pending": _count, "pending-timeout": _seconds, "failures": _count},
        "logs": {"shared": _shared},
    },
    "storage": {"root": _storage_root, "url": _storage_url},
    "notify": {"command": _command},
    "vars": {_ANY: _word},
    "client": {
        "concurrency": _connections,
        "timeout": _some_seconds,
        "settle": _seconds,
        "poll-min": _some_seconds,
        "poll-max": _some_seconds,
        "memory": _some_seconds,
        "backoff": _seconds,
        "log-patience": _seconds,
        "grace": _seconds,
        "ca-file": _name,
    },
    "local": {"slots": _count, "directory": _name, "memory": _some_seconds, "kill-after": _seconds},
}

#: Keys that are required if their table exists.
_NEEDED = frozenset({("auth", "method")})


TomlContent = Mapping[str, Any]


def read(path: Path, name: str, environ: Mapping[str, str], built_in: Profile | None = None) -> Profile:
    """Return the profile in the file at ``path``; what it leaves out is as in ``built_in``, if that is given."""
    try:
        text = read_limited(str(path), LARGEST)
        if len(text) > LARGEST:
            raise ProfileError(f"not a profile: it has more than {LARGEST >> 20} MiB", where=str(path))
        data = toml_tables(text.decode("utf-8"))
    except OSError as error:
        raise ProfileError(f"the profile cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise ProfileError(f"not TOML: {error}", where=str(path)) from None
    file, problems = check_table(data)
    problems = problems or list(_contradictions(file, built_in))
    if problems:
        raise ProfileError("\n".join(problems), where=str(path))
    return _profile(file, path, name, environ, built_in or Profile(name, LOCAL_SERVER, client=LOCAL_CLIENT))


def absolute(text: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Return a path as a profile writes it: ``~`` expanded, else from the folder of the profile."""
    if text == "~" or text.startswith("~/"):
        text = str(home(environ)) + text[1:]
    return os.path.abspath(folder / os.path.expanduser(text))


def _profile(file: TomlContent, path: Path, name: str, environ: Mapping[str, str], base: Profile) -> Profile:
    def full(text: str | None) -> str | None:
        return None if text is None else absolute(text, path.parent, environ)

    base = base.at(file.get("server", base.server))
    defaults, auth = file.get("defaults", {}), file.get("auth")
    profile = replace(
        base,
        name=name,
        path=str(path),
        registry=Registry(
            file.get("registry", base.registry.host),
            file.get("registry-user"),
            file.get("registry-secret-env"),
            full(file.get("registry-secret-file")),
        ),
        resources=Resources(**_fields(defaults["resources"])) if "resources" in defaults else None,
        limits=Limits(**_fields(defaults.get("limits", {}))),
        vars=file.get("vars", {}),
        storage=replace(base.storage, **_fields(file.get("storage", {}))),
        notify=tuple(file.get("notify", {}).get("command", base.notify)),
        shared_logs=defaults.get("logs", {}).get("shared"),
        client=replace(base.client, **_fields(file.get("client", {}), {"ca-file": full})),
        local=replace(base.local, **_fields(file.get("local", {}), {"directory": full})),
    )
    if auth is None:
        return profile
    certificate = auth.get("certificate", "~/.ssl/cadcproxy.pem" if auth["method"] == "x509" else None)
    kept = Auth(
        auth["method"],
        full(certificate),
        full(auth.get("token-file")),
        auth.get("token-env"),
        auth.get("token-command"),
    )
    return replace(profile, auth=kept, login_url=auth.get("login-url", base.login_url))


def _fields(table: TomlContent, paths: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Return what the file says under the names of our fields, paths made whole; the rest keeps its default."""
    return {key.replace("-", "_"): paths[key](value) if key in paths else value for key, value in table.items()}


def _contradictions(file: TomlContent, built_in: Profile | None) -> Iterator[str]:
    if "server" not in file and built_in is None:
        yield "server: missing; write the address, as in https://ws-uv.canfar.net/skaha/v1"
    auth = file.get("auth")
    if auth is not None:
        method = auth["method"]
        sources = [key for key in ("token-file", "token-env", "token-command") if key in auth]
        if method == "token" and len(sources) != 1:
            yield "auth: method token needs one of token-file, token-env and token-command"
        if method != "token" and sources:
            yield f'auth: {sources[0]} needs method = "token", but the method is "{method}"'
        if method != "x509" and "certificate" in auth:
            yield f'auth.certificate: belongs to method = "x509", and this is "{method}"'
    storage = file.get("storage", {})
    if built_in is None and ("root" in storage) != ("url" in storage):
        yield "storage: root and url belong together"
    secrets = ["registry-secret-env" in file, "registry-secret-file" in file]
    if any(secrets) != ("registry-user" in file) or all(secrets):
        yield "registry-user: goes with registry-secret-env or registry-secret-file, one of the two"
