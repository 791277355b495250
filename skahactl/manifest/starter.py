"""Write manifests to begin with: templates with every key, and converted batch scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from skahactl.manifest.schema import JobTable
from skahactl.toml import toml_value

#: For editors: where the schema of manifests is, beside the manifest.
SCHEMA_LINE = "#:schema ./skahactl.schema.json"
_ABOUT_SCHEMA = "The line above is for editors. To write its file: skahactl schema > skahactl.schema.json"

IMAGE = "images.canfar.net/skaha/astroml:latest"
WIDTH = 92


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key, as TOML text, and a comment for the end of its line."""

    value: str
    comment: str = ""


Settings = Mapping[str, Setting]  # by dotted key, such as resources.cores


_FOLDER = '"/arc/projects/my-project"'
_ARRAY = {
    "name": '"my-array"',
    "image": toml_value(IMAGE),
    "command": '["python3", "{folder}/process.py", "--tile", "{item}"]',
    "vars.folder": _FOLDER,
    "resources.cores": "2",
    "resources.ram": "8",
    "items.range": '"1-100"',
    "items.per-replica": "1",
    "limits.alive": "16",
    "retry.attempts": "2",
}
_LIST = {
    "name": '"my-list"',
    "image": toml_value(IMAGE),
    "command": '["python3", "{folder}/process.py", "--tile", "{item}"]',
    "vars.folder": _FOLDER,
    "replicas": "2",
    "resources.cores": "2",
    "resources.ram": "8",
    "items.values": '["271.281", "271.285", "272.101"]',
    "items.each": "true",
    "retry.attempts": "2",
}
_SHELL = {
    "name": '"my-job"',
    "image": toml_value(IMAGE),
    "shell": "'''\nset -euo pipefail\ncd \"{folder}\"\n"
    'python3 process.py --part "$REPLICA_ID" --of "$REPLICA_COUNT" > "part-$REPLICA_ID.log" 2>&1\n\'\'\'',
    "vars.folder": _FOLDER,
    "replicas": "4",
    "resources.cores": "2",
    "resources.ram": "8",
}
_NOTEBOOK = {
    "name": '"my-notebook"',
    "image": toml_value(IMAGE),
    "kind": '"notebook"',
    "resources.cores": "2",
    "resources.ram": "8",
}

#: Template: the keys that it sets.
TEMPLATES: Mapping[str, Mapping[str, str]] = {"array": _ARRAY, "list": _LIST, "shell": _SHELL, "notebook": _NOTEBOOK}

_ABOUT = {
    "array": "Runs a command for each number of a range, one session per number.",
    "list": "Divides a list of items among sessions, and runs a command once per item.",
    "shell": "Runs a few lines of bash in each of several sessions.",
    "notebook": "Starts a notebook, and prints its address.",
}
_REHEARSE = {
    "array": "--var folder=. --set items.range=1-2",
    "list": "--var folder=. --set 'items.values=[\"271.281\"]'",
    "shell": "--var folder=. --set replicas=1",
}
_NEXT = """\
Check it:    skahactl validate job.toml
Preview it:  skahactl apply job.toml -p canfar --dry-run
Run it:      skahactl apply job.toml -p canfar --wait
A key that begins with # is off. To learn more about a key: skahactl explain KEY"""

_HEADLESS_ONLY = frozenset({"command", "shell", "replicas", "env", "items", "retry"})


def template(name: str, answers: Mapping[str, str] | None = None) -> str:
    """Return the manifest of a template with every key of its kind.

    ``answers`` replace values; they are TOML text, and an empty one switches its key off.
    """
    values = {**TEMPLATES[name], **(answers or {})}
    settings = {key: Setting(value) for key, value in values.items() if value}
    hidden = _HEADLESS_ONLY if name == "notebook" else frozenset[str]()
    options = _REHEARSE.get(name)
    rehearse = (
        [f"Rehearse it: skahactl apply job.toml -p local {options} --set name=try --rerun --wait"] if options else []
    )
    return "\n".join([*_header([_ABOUT[name], *rehearse, *_NEXT.split("\n")]), "", *_every_key(settings, hidden)])


def manifest_text(settings: Settings, header: Sequence[str]) -> str:
    """Return a manifest with exactly these keys, below ``header`` as comments."""
    lines = _header(header)
    for table in dict.fromkeys(_table(key) for key in _ordered(settings)):
        lines += ["", *([f"[{table}]"] if table else [])]
        lines += [_line(key, settings[key]) for key in _ordered(settings) if _table(key) == table]
    return "\n".join([*lines, ""])


def _header(lines: Sequence[str]) -> list[str]:
    return [SCHEMA_LINE, *(f"# {line}".rstrip() for line in [_ABOUT_SCHEMA, "", *lines])]


def _ordered(settings: Settings) -> list[str]:
    """Return the keys in the order of the schema, the top of the file first."""
    tables = list(JobTable.model_fields)
    names = [_name(field) for field in tables]
    return sorted(settings, key=lambda key: ("." in key, names.index(key.partition(".")[0])))


def _table(key: str) -> str:
    return key.partition(".")[0] if "." in key else ""


def _line(key: str, setting: Setting) -> str:
    text = f"{key.partition('.')[2] or key} = {setting.value}"
    return f"{text}  # {setting.comment}" if setting.comment else text


def _every_key(settings: Settings, hidden: frozenset[str]) -> Iterator[str]:
    fields = {_name(name): field for name, field in JobTable.model_fields.items()}
    shown = {name: field for name, field in fields.items() if name not in hidden}
    tables = {name: _model(field) for name, field in shown.items() if _is_table(field)}
    for name, field in shown.items():
        if name not in tables:
            yield from _key(name, field, settings.get(name))
    for name, model in tables.items():
        yield from _whole_table(name, shown[name], model, settings)


def _key(name: str, field: FieldInfo, setting: Setting | None) -> Iterator[str]:
    yield from _comment(field)
    if setting is not None:
        yield _line(name, setting)
    else:
        yield from (f"#{line}" for line in _example(field).split("\n"))
    yield ""


def _whole_table(name: str, field: FieldInfo, model: type[BaseModel] | None, settings: Settings) -> Iterator[str]:
    active = any(_table(key) == name for key in settings)
    yield from _comment(field)
    if model is None:
        given = [key for key in settings if _table(key) == name]
        yield from (
            [f"[{name}]", *(_line(key, settings[key]) for key in given)]
            if given
            else (f"#{line}" for line in _example(field).split("\n"))
        )
        yield ""
        return
    yield f"[{name}]" if active else f"#[{name}]"
    for inner, part in model.model_fields.items():
        yield from _key(_name(inner), part, settings.get(f"{name}.{_name(inner)}"))


def _comment(field: FieldInfo) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(str(field.description), WIDTH)]


def _example(field: FieldInfo) -> str:
    return str((field.examples or [""])[0])


def _name(field: str) -> str:
    return field.replace("_", "-")


def _is_table(field: FieldInfo) -> bool:
    return _example(field).startswith("[")


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kinds: list[Any] = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
