"""The TOML file of a profile: its keys as pydantic models, and the conversion to a profile.

Only profiles with a file import this module, and with it pydantic.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from skahactl.errors import Problem, ProfileFileError
from skahactl.manifest.file_format import Duration, FileFormat, Finding, Scalar, Table, list_text, string_for_words
from skahactl.manifest.shared_record import SAFE_PATH, shared_problem
from skahactl.manifest.syntax import SourceMap, SourceText, order_problems, parse_toml, read_text
from skahactl.model import Limits, Resources
from skahactl.profile import (
    LOCAL_CLIENT,
    LOCAL_SERVER,
    NO_CREDENTIALS,
    Auth,
    Profile,
    Registry,
    address_problem,
    server_address,
)
from skahactl.system import home
from skahactl.text import join_words

LARGEST = 1 << 20  # bytes of a profile


def _check_url(text: str) -> str:
    problem = address_problem(text, ("https", "http"))
    if problem is not None:
        raise ValueError(f"{problem}; expected an address such as https://ws.example.org/cred/generate")
    return text


def _check_storage_root(text: str) -> str:
    text = text.rstrip("/")
    if not SAFE_PATH.fullmatch(text) or text == "":
        raise ValueError("expected a directory inside sessions, such as /arc")
    return text


def _check_storage_url(text: str) -> str:
    text = text.rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected an address such as https://ws-uv.canfar.net/arc")
    if parts.username is not None or parts.password is not None:
        raise ValueError(NO_CREDENTIALS)
    return text


def _check_shared(text: str) -> str:
    problem = shared_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _whole_path(text: str, info: ValidationInfo) -> str:
    """Return a path in a profile as an absolute path: ``~`` is expanded, and a relative path starts at the profile's
    folder."""
    assert info.context is not None
    folder, environ = info.context
    if text == "~" or text.startswith("~/"):
        text = str(home(environ)) + text[1:]
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))


Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(_whole_path)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveDuration = Annotated[Duration, Field(gt=0)]


def _check_words(value: object, info: ValidationInfo) -> object:
    """Reject a string in place of the list of its words."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return []  # reported as an empty list
    key = str(info.field_name).replace("_", "-")
    raise string_for_words(key, value, f"{key} = {list_text(['sh', '-c', value])}")


Words = Annotated[list[Text], BeforeValidator(_check_words)]


def _words(example: str) -> Any:
    return Field(default=None, min_length=1, examples=[example])


class AuthTable(Table):
    method: Literal["x509", "token", "none"]
    certificate: PathText | None = None
    token_file: PathText | None = None
    token_env: Text | None = None
    token_command: Words | None = _words('token-command = ["oidc-token", "srcnet"]')
    login_url: Annotated[str, AfterValidator(_check_url)] | None = None


class DefaultResourcesTable(Table):
    cores: Amount | None = None
    ram: Amount | None = None
    gpus: Count | None = None


class DefaultLimitsTable(Table):
    alive: Count | None = None
    pending: Count | None = None
    pending_timeout: Duration | None = None
    failures: Count | None = None


class DefaultLogsTable(Table):
    shared: Annotated[str, AfterValidator(_check_shared)] | None = None


class DefaultsTable(Table):
    resources: DefaultResourcesTable | None = None
    limits: DefaultLimitsTable = DefaultLimitsTable()
    logs: DefaultLogsTable = DefaultLogsTable()


class StorageTable(Table):
    root: Annotated[str, AfterValidator(_check_storage_root)] | None = None
    url: Annotated[str, AfterValidator(_check_storage_url)] | None = None


class NotifyTable(Table):
    command: Words | None = _words('command = ["notify-send", "skahactl"]')


class ClientTable(Table):
    concurrency: Annotated[int, Field(ge=1, le=128)] | None = None
    timeout: PositiveDuration | None = None
    settle: Duration | None = None
    poll_min: PositiveDuration | None = None
    poll_max: PositiveDuration | None = None
    memory: PositiveDuration | None = None
    backoff: Duration | None = None
    log_patience: Duration | None = None
    grace: Duration | None = None
    ca_file: PathText | None = None


class LocalTable(Table):
    slots: Count | None = None
    directory: PathText | None = None
    memory: PositiveDuration | None = None
    kill_after: Duration | None = None


class ProfileTable(Table):
    """The top level of the file. What it leaves out is as in the built-in profile of its name, or the default."""

    server: Annotated[str, AfterValidator(server_address)] | None = None
    registry: Text | None = None
    registry_user: Text | None = None
    registry_secret_env: Text | None = None
    registry_secret_file: PathText | None = None
    auth: AuthTable | None = None
    defaults: DefaultsTable = DefaultsTable()
    storage: StorageTable = StorageTable()
    notify: NotifyTable = NotifyTable()
    vars: dict[str, Scalar] = Field(default_factory=dict)
    client: ClientTable = ClientTable()
    local: LocalTable = LocalTable()


_NO_SECRETS = (
    "secrets are not written into profiles: see token-file, token-env, token-command, registry-secret-file and "
    "registry-secret-env"
)
PROFILE = FileFormat(
    ProfileTable, advice=dict.fromkeys(("token", "password", "secret", "registry-secret"), _NO_SECRETS)
)
#: A line with such a word may contain a secret, so messages do not show it.
_SECRET = re.compile(r"token|password|secret|@", re.IGNORECASE)


def read_profile(path: Path, name: str, environ: Mapping[str, str], built_in: Profile | None) -> Profile:
    """Return the profile in the file at ``path``. Missing keys have the values of ``built_in``, if given, else the
    defaults.

    Raises ProfileFileError with every mistake in the file.
    """
    text = read_text(str(path), str(path), "a profile", LARGEST)
    if isinstance(text, Problem):
        raise ProfileFileError((text,))
    tables = parse_toml(str(path), text)
    if isinstance(tables, Problem):
        raise ProfileFileError((_without_secrets(tables),))
    file = PROFILE.validate(tables, (path.parent, environ))
    found = list(_contradictions(tables, built_in))
    if isinstance(file, list) or found:
        found = [*(file if isinstance(file, list) else ()), *found]
        places = SourceMap(str(path), SourceText.of(text, is_valid=True))
        problems = order_problems([places.problem(*finding) for finding in found])
        raise ProfileFileError(tuple(map(_without_secrets, problems)))
    base = built_in or Profile(name, LOCAL_SERVER, client=LOCAL_CLIENT)
    return replace(_profile(file, base.at(file.server or base.server), environ), name=name, path=str(path))


def _without_secrets(problem: Problem) -> Problem:
    if problem.source is None or not _SECRET.search(problem.source):
        return problem
    # without a key, the file is not valid TOML, and the hint can quote the line; as a str, a Guess gets its own line
    return replace(problem, source=None, hint=str(problem.hint) if problem.key and problem.hint else None)


def _profile(file: ProfileTable, base: Profile, environ: Mapping[str, str]) -> Profile:
    """Return ``base`` with the values of the file. Registry credentials, defaults and [vars] come from the file
    alone."""
    defaults, auth = file.defaults, file.auth
    profile = replace(
        base,
        registry=Registry(
            file.registry or base.registry.host,
            file.registry_user,
            file.registry_secret_env,
            file.registry_secret_file,
        ),
        resources=None if defaults.resources is None else Resources(**_given(defaults.resources)),
        limits=Limits(**_given(defaults.limits)),
        vars=file.vars,
        storage=replace(base.storage, **_given(file.storage)),
        notify=tuple(file.notify.command or base.notify),
        shared_logs=defaults.logs.shared,
        client=replace(base.client, **_given(file.client)),
        local=replace(base.local, **_given(file.local)),
    )
    if auth is None:
        return profile
    proxy = str(home(environ) / ".ssl" / "cadcproxy.pem") if auth.method == "x509" else None
    command = None if auth.token_command is None else tuple(auth.token_command)
    kept = Auth(auth.method, auth.certificate or proxy, auth.token_file, auth.token_env, command)
    return replace(profile, auth=kept, login_url=auth.login_url or base.login_url)


def _given(table: Table) -> dict[str, Any]:
    """Return the values that the file sets, by field name."""
    return table.model_dump(exclude_unset=True)


def _contradictions(table: Mapping[str, Any], built_in: Profile | None) -> Iterator[Finding]:
    """Yield a finding for each broken rule between keys. It reads the table before validation, so that a wrong value
    does not hide another finding."""
    if "server" not in table and built_in is None:
        yield Finding(
            ("server",), "missing", 'write the address, as in https://ws-uv.canfar.net/skaha/v1, or server = "local"'
        )
    auth, storage = table.get("auth"), table.get("storage", {})
    method = auth.get("method") if isinstance(auth, Mapping) else None
    if isinstance(auth, Mapping) and method in ("x509", "token", "none"):
        sources = [key for key in ("token-file", "token-env", "token-command") if key in auth]
        if method == "token" and len(sources) > 1:
            number = "both" if len(sources) == 2 else "all"
            yield Finding(("auth",), f"{join_words(sources)} are {number} set; keep one")
        if method == "token" and not sources:
            yield Finding(("auth",), "method token needs one of token-file, token-env and token-command")
        if method != "token" and sources:
            message = f'needs method = "token", but the method is "{method}"'
            yield Finding(("auth", sources[0]), message, at_key=True)
        if method != "x509" and "certificate" in auth:
            message = f'belongs to method = "x509", and this is "{method}"'
            yield Finding(("auth", "certificate"), message, at_key=True)
    if built_in is None and isinstance(storage, Mapping) and ("root" in storage) != ("url" in storage):
        yield Finding(("storage",), "root and url belong together")
    secrets = ["registry-secret-env" in table, "registry-secret-file" in table]
    if any(secrets) != ("registry-user" in table) or all(secrets):
        message = "goes with registry-secret-env or registry-secret-file, one of the two"
        yield Finding(("registry-user",), message, at_key=True)
