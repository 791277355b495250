"""The TOML file of a profile, read strictly: every problem at once, with its key and the nearest known one."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skahactl.errors import ProfileError
from skahactl.job import Limits, Resources
from skahactl.paths import home
from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Auth, Profile, Registry
from skahactl.profile_keys import check_table

TomlContent = Mapping[str, Any]


def read(path: Path, name: str, environ: Mapping[str, str], built_in: Profile | None = None) -> Profile:
    """The profile in the file at ``path``; what it leaves out is as in ``built_in``, if that is given."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"the profile cannot be read: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"this is no TOML: {error}", where=str(path)) from None
    file, problems = check_table(data)
    problems = problems or list(_contradictions(file, built_in))
    if problems:
        raise ProfileError("\n".join(problems), where=str(path))
    return _profile(file, path, name, environ, built_in or Profile(name, LOCAL_SERVER, client=LOCAL_CLIENT))


def absolute(text: str, folder: Path, environ: Mapping[str, str]) -> str:
    """A path as a profile writes it: ``~`` expanded, else from the folder of the profile."""
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
        client=replace(base.client, **_fields(file.get("client", {}), {"ca-file": full})),
        local=replace(base.local, **_fields(file.get("local", {}), {"directory": full})),
    )
    if auth is None:
        return profile
    certificate = auth.get("certificate", "~/.ssl/cadcproxy.pem" if auth["method"] == "x509" else None)
    kept = Auth(auth["method"], full(certificate), full(auth.get("token-file")), auth.get("token-env"))
    return replace(profile, auth=kept, login_url=auth.get("login-url", base.login_url))


def _fields(table: TomlContent, paths: Mapping[str, Any] = {}) -> dict[str, Any]:
    """What the file says under the names of our fields, paths made whole; the rest keeps its default."""
    return {key.replace("-", "_"): paths[key](value) if key in paths else value for key, value in table.items()}


def _contradictions(file: TomlContent, built_in: Profile | None) -> Iterator[str]:
    if "server" not in file and built_in is None:
        yield "server: missing; write the address, as in https://ws-uv.canfar.net/skaha/v1"
    auth = file.get("auth")
    if auth is not None:
        method = auth["method"]
        if method == "token" and ("token-file" in auth) == ("token-env" in auth):
            yield "auth: method token needs token-file or token-env, one of the two"
        if method != "token" and ("token-file" in auth or "token-env" in auth):
            yield f'auth: token-file and token-env belong to method = "token", and this is "{method}"'
        if method != "x509" and "certificate" in auth:
            yield f'auth.certificate: belongs to method = "x509", and this is "{method}"'
    secrets = ["registry-secret-env" in file, "registry-secret-file" in file]
    if any(secrets) != ("registry-user" in file) or all(secrets):
        yield "registry-user: goes with registry-secret-env or registry-secret-file, one of the two"
