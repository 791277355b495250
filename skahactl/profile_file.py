"""The TOML file of a profile, read strictly: every problem at once, with its key and the nearest known one."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from skahactl import durations
from skahactl.errors import ProfileError
from skahactl.job import Limits, Resources
from skahactl.paths import home
from skahactl.profile import LOCAL_CLIENT, LOCAL_SERVER, Auth, Profile, Registry
from skahactl.words import nearest


def server_address(text: str) -> str:
    """The address as it is used, without a slash at its end; ValueError says what is expected."""
    if text == LOCAL_SERVER:
        return text
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected an address such as https://ws-uv.canfar.net/skaha/v1, or local")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into the address; see [auth]")
    if not re.search(r"/v\d+$", path):
        raise ValueError("expected the version at the end, as in https://ws-uv.canfar.net/skaha/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _seconds(given: object) -> object:
    return durations.parse(given) if isinstance(given, str | int | float) else given


def _words(given: object) -> object:
    """[vars]: texts; whole numbers and booleans as manifests write them."""
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, int) else given


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Word = Annotated[str, BeforeValidator(_words)]
Name = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), hide_input_in_errors=True
    )


class _Auth(_Table):
    method: Literal["x509", "token", "none"]
    certificate: Name | None = None
    token_file: Name | None = None
    token_env: Name | None = None
    login_url: Name | None = None


class _Resources(_Table):
    cores: Annotated[float, Field(gt=0)] | None = None
    ram: Annotated[float, Field(gt=0)] | None = None
    gpus: Count | None = None


class _Limits(_Table):
    alive: Count | None = None
    pending: Count | None = None
    pending_timeout: Seconds | None = None


class _Defaults(_Table):
    resources: _Resources | None = None
    limits: _Limits = _Limits()


class _Client(_Table):
    concurrency: Annotated[int, Field(ge=1, le=128)] | None = None
    timeout: Annotated[Seconds, Field(gt=0)] | None = None
    settle: Seconds | None = None
    poll_min: Annotated[Seconds, Field(gt=0)] | None = None
    poll_max: Annotated[Seconds, Field(gt=0)] | None = None
    memory: Annotated[Seconds, Field(gt=0)] | None = None
    backoff: Seconds | None = None
    log_patience: Seconds | None = None
    grace: Seconds | None = None
    ca_file: Name | None = None


class _Local(_Table):
    slots: Count | None = None
    directory: Name | None = None
    memory: Annotated[Seconds, Field(gt=0)] | None = None
    kill_after: Seconds | None = None


class _File(_Table):
    server: Annotated[str, AfterValidator(server_address)] | None = None
    registry: Name | None = None
    registry_user: Name | None = None
    registry_secret_env: Name | None = None
    registry_secret_file: Name | None = None
    auth: _Auth | None = None
    defaults: _Defaults = _Defaults()
    vars: dict[str, Word] = {}
    client: _Client = _Client()
    local: _Local = _Local()


def read(path: Path, name: str, environ: Mapping[str, str], built_in: Profile | None = None) -> Profile:
    """The profile in the file at ``path``; what it leaves out is as in ``built_in``, if that is given."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"the profile cannot be read: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"this is no TOML: {error}", where=str(path)) from None
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise ProfileError("\n".join(_told(error)), where=str(path)) from None
    problems = list(_contradictions(file, built_in))
    if problems:
        raise ProfileError("\n".join(problems), where=str(path))
    return _profile(file, path, name, environ, built_in or Profile(name, LOCAL_SERVER, client=LOCAL_CLIENT))


def known_keys(place: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The keys that may stand below ``place``, as they are written."""
    model: Any = _File
    for part in place:
        model = _model_below(model, part)
        if model is None:
            return ()
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _profile(file: _File, path: Path, name: str, environ: Mapping[str, str], base: Profile) -> Profile:
    def full(text: str | None) -> str | None:
        return None if text is None else absolute(text, path.parent, environ)

    base = base.at(file.server or base.server)
    resources, limits = file.defaults.resources, file.defaults.limits
    paths = {"ca_file": full(file.client.ca_file), "directory": full(file.local.directory)}
    profile = replace(
        base,
        name=name,
        path=str(path),
        registry=Registry(
            file.registry or base.registry.host,
            file.registry_user,
            file.registry_secret_env,
            full(file.registry_secret_file),
        ),
        resources=None if resources is None else Resources(resources.cores, resources.ram, resources.gpus),
        limits=Limits(limits.alive, limits.pending, limits.pending_timeout),
        vars=dict(file.vars),
        client=replace(base.client, **_given(file.client, paths)),
        local=replace(base.local, **_given(file.local, paths)),
    )
    auth = file.auth
    if auth is None:
        return profile
    certificate = auth.certificate or ("~/.ssl/cadcproxy.pem" if auth.method == "x509" else None)
    kept = Auth(auth.method, full(certificate), full(auth.token_file), auth.token_env)
    return replace(profile, auth=kept, login_url=auth.login_url or base.login_url)


def _given(table: _Table, paths: Mapping[str, str | None]) -> dict[str, Any]:
    """What the file says, paths made whole; the rest keeps the default of the profile."""
    return {key: paths.get(key, value) for key, value in table.model_dump(exclude_none=True).items()}


def absolute(text: str, folder: Path, environ: Mapping[str, str]) -> str:
    """A path as a profile writes it: ``~`` expanded, else from the folder of the profile."""
    if text == "~" or text.startswith("~/"):
        text = str(home(environ)) + text[1:]
    return os.path.abspath(folder / os.path.expanduser(text))


def _contradictions(file: _File, built_in: Profile | None) -> Iterator[str]:
    if file.server is None and built_in is None:
        yield "server: missing; write the address, as in https://ws-uv.canfar.net/skaha/v1"
    auth = file.auth
    if auth is not None:
        if auth.method == "token" and (auth.token_file is None) == (auth.token_env is None):
            yield "auth: method token needs token-file or token-env, one of the two"
        if auth.method != "token" and (auth.token_file or auth.token_env):
            yield f'auth: token-file and token-env belong to method = "token", and this is "{auth.method}"'
        if auth.method != "x509" and auth.certificate:
            yield f'auth.certificate: belongs to method = "x509", and this is "{auth.method}"'
    secrets = [file.registry_secret_env, file.registry_secret_file]
    if any(secrets) != (file.registry_user is not None) or all(secrets):
        yield "registry-user: goes with registry-secret-env or registry-secret-file, one of the two"


def _told(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        place = tuple(str(part) for part in problem["loc"])
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            yield f"{key}: unknown key{_advice(place)}"
        elif problem["type"] == "missing":
            yield f"{key}: missing"
        else:
            message = problem["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
            yield f"{key}: {message}"


def _advice(place: tuple[str, ...]) -> str:
    word = place[-1]
    if word in ("token", "password", "secret", "registry-secret"):
        return "; secrets are not written into profiles: see token-file, token-env, registry-secret-file and -env"
    known = known_keys(place[:-1])
    guess = nearest(word, known)
    if guess is not None:
        return f"; did you mean '{guess}'?"
    elsewhere = [f"[{table}]" for table in ("auth", "client", "local") if word in known_keys((table,))]
    return f"; it belongs below {elsewhere[0]}" if elsewhere and len(place) == 1 else f"; known: {', '.join(known)}"


def _model_below(model: Any, key: str) -> Any:
    for name, field in model.model_fields.items():
        if (field.alias or name) == key:
            found = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_table(kind)]
            return found[0] if found else None
    return None


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Table)
