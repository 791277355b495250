"""What a create must satisfy, in the server's order and words (skaha-api 3.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from secrets import choice

from skahactl.local import pages, template
from skahactl.local.answers import bad
from skahactl.local.parameters import Parameters

KINDS = ("headless", "notebook", "desktop", "carta", "contributed", "firefly")
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fFdD]?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A create that passed; ``name`` in lower case."""

    name: str
    image: str
    cores: float | None
    ram: float | None
    gpus: int | None
    cmd: str | None
    args: str | None
    env: tuple[str, ...]


def session_request(parameters: Parameters) -> SessionRequest:
    """The checks 2 to 16; raises Refusal."""
    image = _image(parameters.one("image"))
    kind = _kind(parameters.one("type"))
    cores = _amount("cores", parameters.one("cores"), pages.CORES)
    ram = _amount("ram", parameters.one("ram"), pages.MEMORY)
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
        raise bad(f"session image '{image}' must come from one of [{', '.join(pages.REPOSITORIES)}]")
    return image


def _kind(kind: str | None) -> str:
    if kind is None or not kind.strip():
        return "headless"
    if kind.strip().lower() not in (*KINDS, "desktop-app"):
        raise bad(f"Invalid session type: {kind}")
    return kind.strip().lower()


def _amount(name: str, value: str | None, options: tuple[int, ...]) -> float | None:
    """A decimal number whose integer part is an option; None: flexible."""
    if value is None or not value.strip():
        return None
    if not _DOUBLE.fullmatch(value.strip()) or int(min(float(value.strip().rstrip("fFdD")), 1e9)) not in options:
        raise bad(f"Invalid value for '{name}': {value}")
    return float(value.strip().rstrip("fFdD"))


def _gpus(value: str | None) -> int | None:
    if value is None or not value.strip():
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,9}", value) or int(value) not in pages.GPUS:
        raise bad(f"Invalid value for 'gpus': {value}")
    return int(value)


def _name(name: str | None) -> str:
    if name is None or not name.strip():
        raise bad("Missing parameter 'name'")
    if not re.fullmatch(r"[A-Za-z0-9\-]+", name):
        raise bad("name can only contain alpha-numeric chars and '-'")
    return name


def host_label(key: str, value: str) -> None:
    """A label's value as Kubernetes wants it, else Refusal."""
    if not value:
        raise bad(f"{key} label value cannot be blank")
    if not _LABEL.fullmatch(value):
        raise bad(f"{key} label value must match Kubernetes label value syntax")
    if len(value) > 63:
        raise bad(f"{key} label value exceeds 63 characters")


def check_host_name(name: str, job: str) -> None:
    """The pod's host name is the whole name: Kubernetes refuses the Job where that is no DNS label."""
    if len(name) > 63 or name.endswith("-") or name in ("y", "n"):
        raise template.template_message(job)


def new_id() -> str:
    return choice(_LETTERS) + "".join(choice(_LETTERS + "0123456789") for _ in range(7))
