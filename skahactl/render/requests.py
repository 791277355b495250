"""What a dry run would send: each request as data, and of a job the first one in lines that a person can read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from skahactl.context import Invocation
from skahactl.engine.outcome import Outcome
from skahactl.job import Job, Request, Secret
from skahactl.ranges import format_ranges as ranges_text
from skahactl.skaha.encoding import masked_fields

_SENT = frozenset({"create", "retry", "resend"})


def add_requests(outcome: Outcome, jobs: Sequence[Job]) -> None:
    """Each step that sends gets ``request``: the form as it would be sent, encoded, secrets as references.

    A field that is there once is a string, ``env`` a list.
    """
    for part, job in _pairs(outcome, jobs):
        replicas = {replica.number: replica for replica in job.replicas}
        for step in part.steps:
            if step["action"] in _SENT:
                step["request"] = _form(replicas[int(str(step["replica"]))].request, str(step["name"]))


def show_requests(context: Invocation, outcome: Outcome, jobs: Sequence[Job]) -> None:
    """The first request of each job, and how the others differ."""
    for part, job in _pairs(outcome, jobs):
        sent = [int(str(step["replica"])) for step in part.steps if step["action"] in _SENT]
        replicas = {replica.number: replica.request for replica in job.replicas}
        if sent:
            context.out(f"{job.name}/{sent[0]} would be sent:")
            for line in _lines(replicas[sent[0]]):
                context.out(f"  {line}")
        if len(sent) > 1:
            differing = _differing(replicas[sent[0]], [replicas[number] for number in sent[1:]])
            context.out(f"{ranges_text(sent[1:])}: {differing}; -o json shows each")


def _pairs(outcome: Outcome, jobs: Sequence[Job]) -> Iterator[tuple[Any, Job]]:
    known = {job.name: job for job in jobs}
    return ((part, known[part.name]) for part in outcome.jobs if part.action != "refuse")


def _form(request: Request, name: str) -> dict[str, object]:
    form: dict[str, object] = {}
    several: list[str] = []
    for key, text in masked_fields(request, name):
        if key == "env":
            several.append(text)
        else:
            form[key] = text
    return {**form, "env": several}


def _lines(request: Request) -> Iterator[str]:
    """Before encoding, each word as a shell would want it."""
    yield f"image  {request.image}"
    amounts = ((key, getattr(request.resources, key)) for key in ("cores", "ram", "gpus"))
    given = [f"{key} {amount:g}" for key, amount in amounts if amount is not None]
    yield f"needs  {', '.join(given) or 'flexible'}"
    if request.command:
        yield f"cmd    {shlex.quote(request.command[0])}"
    if len(request.command) > 1:
        yield f"args   {shlex.join(request.command[1:])}"
    for key, content in request.env:
        shown = f"<{content.reference()}>" if isinstance(content, Secret) else shlex.quote(str(content))
        yield f"env    {key}={shown}"


def _differing(first: Request, others: Sequence[Request]) -> str:
    """In which words the others differ: ``the same but for args and env REPLICA_ID``."""
    names: dict[str, None] = {}
    own = dict(first.env)
    for other in others:
        for what, mine, theirs in (
            ("image", first.image, other.image),
            ("resources", first.resources, other.resources),
            ("command", first.command, other.command),
        ):
            if mine != theirs:
                names[what] = None
        for key, content in other.env:
            if own.get(key) != content:
                names[f"env {key}"] = None
    return f"the same but for {', '.join(names)}" if names else "the same"
