"""The checks of a create, in the server's order and words (skaha-api 3.3), and the session that passes them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from tests.skaha_server import mangle
from tests.skaha_server.messages import job_refused, words
from tests.skaha_server.parameters import Parameters
from tests.skaha_server.plan import Plan
from tests.skaha_server.sessions import Cluster, Session
from tests.skaha_server.views import CORES, RAM

KINDS = ("headless", "notebook", "desktop", "carta", "contributed", "firefly")


@dataclass
class Create:
    """A create that passed the checks; ``refused``: the cluster would not make the Job."""

    session: Session
    refused: bool


def check(parameters: Parameters, registry_auth: str, user: str, plan: Plan, cluster: Cluster) -> Create:
    """The session as it would be made; its times are not drawn yet. Raises Refusal in the server's words."""
    image = _image(parameters.first("image"), plan)
    kind = (parameters.first("type") or "").strip().lower() or "headless"
    if kind not in KINDS:
        raise words(400, f"Invalid session type: {parameters.first('type')}")
    cores = _number(parameters.first("cores"), "cores", CORES)
    ram = _number(parameters.first("ram"), "ram", RAM)
    name = _name(parameters.first("name"))
    _interactive_limit(kind, user, plan, cluster)
    gpus = _gpus(parameters.first("gpus"), plan)
    _registry(image, registry_auth, plan)
    if name.startswith("-"):
        raise words(400, "canfar.net/name label value must match Kubernetes label value syntax")
    session = _session(cluster, user, kind, image, name.lower())
    session.cores, session.ram, session.gpus = cores, ram, gpus
    refused = len(name) > 63 or name.endswith("-") or name.lower() in ("y", "n")
    if kind == "headless":
        refused = not _decode(session, parameters, plan) or refused
    return Create(session, refused)


def refusal(create: Create) -> Exception:
    return job_refused(create.session.job)


def _session(cluster: Cluster, user: str, kind: str, image: str, name: str) -> Session:
    now = cluster.now()
    return Session(
        id=cluster.new_id(),
        name=name,
        user=user,
        kind=kind,
        image=image,
        visible=now,
        asked=now,
        runs=now,
        ends=now,
        outcome="Completed",
        memory=cluster.plan.memory,
    )


def _image(image: str | None, plan: Plan) -> str:
    if image is None:
        raise words(400, "Missing parameter 'image'")
    if not image.strip():
        raise words(400, "image is required")
    if not image.startswith(plan.registries):
        raise words(400, f"session image '{image}' must come from one of [{', '.join(plan.registries)}]")
    return image


def _number(text: str | None, what: str, options: list[int]) -> float | None:
    if text is None:
        return None
    try:
        value = float(text.strip())
        if "_" in text or int(value) not in options:
            raise ValueError
    except (ValueError, OverflowError):
        raise words(400, f"Invalid value for '{what}': {text}") from None
    return value


def _gpus(text: str | None, plan: Plan) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[-+]?[0-9]+", text) or not 1 <= int(text) <= plan.gpus:
        raise words(400, f"Invalid value for 'gpus': {text}")
    return int(text)


def _name(name: str | None) -> str:
    if name is None or not name.strip():
        raise words(400, "Missing parameter 'name'")
    if not re.fullmatch(r"[A-Za-z0-9\-]+", name):
        raise words(400, "name can only contain alpha-numeric chars and '-'")
    return name


def _interactive_limit(kind: str, user: str, plan: Plan, cluster: Cluster) -> None:
    if kind == "headless":
        return
    now = cluster.now()
    alive = [s for s in cluster.of(user) if s.kind != "headless" and s.status(now) in ("Pending", "Running")]
    if len(alive) >= plan.max_interactive:
        raise words(400, f"User {user} has reached the maximum of {plan.max_interactive} active sessions.")


def _registry(image: str, header: str, plan: Plan) -> None:
    if not header:
        if plan.strict_images and image not in plan.images:
            raise words(
                400,
                "No authentication provided for unknown or private image.  "
                "Use x-skaha-registry-auth request header with base64Encode(username:secret).",
            )
        return
    try:
        text = base64.b64decode(header, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    if len(mangle.java_split(text, ":")) != 2:
        raise words(400, "Invalid input.  Must be in form of username:secret")


def _decode(session: Session, parameters: Parameters, plan: Plan) -> bool:
    """Fills in what the container gets; False: the cluster refuses it."""
    cores = max(1, int(session.cores or 1))
    platform = {
        "skaha_hostname": session.name,
        "skaha_username": session.user,
        "skaha_sessionid": session.id,
        "HOME": f"/arc/home/{session.user}",
        "PWD": f"/arc/home/{session.user}",
        "OMP_NUM_THREADS": str(cores),
    }
    cmd, args, env = parameters.first("cmd"), parameters.first("args"), parameters.all("env")
    try:
        got = mangle.container(cmd, args, env, platform, decode=plan.decode)
    except mangle.JobRefused:
        return False
    session.argv, session.env = got.argv, got.env
    return True
