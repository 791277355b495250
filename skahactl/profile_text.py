"""A profile written out: as data, as TOML, and as a file that a person would have written. Secrets are never in it."""

from __future__ import annotations

from collections.abc import Mapping

from skahactl.profile import ClientSettings, LocalSettings, Profile


def profile_data(profile: Profile) -> dict[str, object]:
    """Everything, defaults included; null for what is not set."""
    return {"name": profile.name, "path": profile.path, **_tables(profile)}


def profile_toml(profile: Profile) -> str:
    """The same as a profile's TOML; what is not set is left out, where it comes from is a comment."""
    import tomli_w

    known = _without_none(_tables(profile))
    return f"# {profile.name}: {profile.path or 'built in'}\n" + tomli_w.dumps(known)


def new_file(tables: Mapping[str, Mapping[str, str]], server: str, registry: str | None) -> str:
    """The text of a new profile: what was answered, and in comments what else may stand in it."""
    lines = ["# A profile of skahactl: where to run, and defaults for manifests.", f"server = {_quote_key(server)}"]
    if registry is not None:
        lines.append(f"registry = {_quote_key(registry)}  # put before images that name none")
    for table, entries in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {_quote_key(text)}" for key, text in entries.items())]
    return "\n".join([*lines, "", *_SUGGESTIONS, ""])


_SUGGESTIONS = (
    "# For manifests without [resources]; without this, the platform allocates flexibly.",
    "# [defaults.resources]",
    "# cores = 2",
    "# ram = 8",
    "",
    "# [defaults.limits]",
    "# alive = 512",
    "# pending = 50",
)


def _tables(profile: Profile) -> dict[str, object]:
    auth, registry, resources, limits = profile.auth, profile.registry, profile.resources, profile.limits
    return {
        "server": profile.server,
        "registry": registry.host,
        "registry-user": registry.user,
        "registry-secret-env": registry.secret_env,
        "registry-secret-file": registry.secret_file,
        "auth": {
            "method": auth.method,
            "certificate": auth.certificate,
            "token-file": auth.token_file,
            "token-env": auth.token_env,
            "login-url": profile.login_url if auth.method == "x509" else None,
        },
        "defaults": {
            "resources": resources and {"cores": resources.cores, "ram": resources.ram, "gpus": resources.gpus},
            "limits": {
                "alive": limits.alive,
                "pending": limits.pending,
                "pending-timeout": limits.pending_timeout,
            },
        },
        "vars": dict(profile.vars),
        "client": _settings(profile.client),
        "local": _settings(profile.local),
    }


def _settings(settings: ClientSettings | LocalSettings) -> dict[str, object]:
    return {name.replace("_", "-"): getattr(settings, name) for name in settings.__slots__}


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


def _quote_key(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
