"""Check jobs before anything is recorded: requests, secrets, images, the encoding and the certificate."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

from skahactl.engine.runtime import Runtime
from skahactl.errors import (
    ManifestError,
    NegativeResult,
    Problem,
    UnreachableError,
    UsageError,
)
from skahactl.ledger import runs
from skahactl.model import Job, Request
from skahactl.skaha import credentials, encoding
from skahactl.system import write_atomically
from skahactl.text import amounts, format_duration, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from skahactl.model import Resources
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Options


async def precheck(jobs: Sequence[Job], runtime: Runtime, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Check the jobs, and return warnings; those about a manifest only when it is applied for the first time.

    Raise ManifestError for resources that the platform does not offer, UsageError for unreadable secrets and for images
    on the local platform, and NegativeResult for a job that needs the encoding on a server that failed the canary. For
    a job with an unfinished run, an unreadable secret is only a warning.
    """
    if runtime.profile.is_local:
        _refuse_images(jobs)
    options, listed = await asyncio.gather(_options(runtime.client), _listed(runtime.client))
    problems = (
        []
        if options is None
        else [
            problem
            for job in jobs
            for problem in (*_resource_problems(job, options), *_retry_ram_problems(job, options))
        ]
    )
    if problems:
        raise ManifestError(tuple(problems))
    unfinished = {run.key.name for run in runs.unfinished_runs(runtime.ledger, runtime.profile.server)}
    missing: list[str] = []
    for job in jobs:
        try:
            await require_secrets(job, runtime)
        except UsageError as error:
            if error.code != "secret" or job.name not in unfinished:
                raise
            missing.append(f"{job.name}: {error.message}; replicas that need it stay Queued")
    applied = {(run.key.name, run.digest) for run in runs.last_runs(runtime.ledger, runtime.profile.server)}
    first = [job for job in jobs if (job.name, job.digest) not in applied]
    warnings = [*missing, *(warning for job in first for warning in job.warnings)]
    now = runtime.clock.now()
    notes = [*_encoding(jobs, runtime.profile, runtime.ledger.state_dir, now), *_images(jobs, listed, runtime.profile)]
    warnings += _not_shown_yet(runtime.ledger.state_dir, runtime.profile, notes)
    return (*warnings, *_certificate(runtime.profile, now))


async def require_secrets(job: Job, runtime: Runtime) -> None:
    """Raise UsageError with code ``secret`` for a secret of the job or of the image registry that cannot be read, and
    ProfileError for secrets that may not be sent to this server."""
    kinds = list(_secret_kinds(job))
    if kinds:
        credentials.require_safe_secrets(runtime.profile)
    await runtime.client.registry_auth()
    for request in kinds:
        await runtime.client.secrets.reveal(request)


def _refuse_images(jobs: Sequence[Job]) -> None:
    """Raise UsageError for a job that needs its image, because the local platform starts no images."""
    for job in jobs:
        request = job.replicas[0].request
        needs = f"a {request.kind} session" if request.kind != "headless" else "the command of the image"
        if request.kind != "headless" or not any(request.command[:1]):
            raise UsageError(
                f"{job.name} needs {needs}, but the local platform starts no images: it runs only commands, on this "
                "machine",
                hint="choose a server: -p canfar" + ("" if request.kind != "headless" else ", or give a command"),
            )


def _not_shown_yet(state_dir: Path, profile: Profile, notes: Sequence[str]) -> list[str]:
    """Return those of these notes about a server or an image that this machine has not shown for this profile.

    They are stored in a file of the state directory. If it cannot be read, all notes are shown; if it cannot be
    written, they are shown again.
    """
    if not notes:
        return []
    path = state_dir / "shown-notes.json"
    try:
        known = set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = set()
    keys = {note: hashlib.sha256(f"{profile.name}\n{note}".encode()).hexdigest()[:16] for note in notes}
    new = [note for note in notes if keys[note] not in known]
    if new:
        with contextlib.suppress(OSError):
            write_atomically(path, json.dumps(sorted(known | set(keys.values()))).encode())
    return new


async def _options(client: Client) -> Options | None:
    """Return the resources that the platform offers; None if it answers without a usable list."""
    try:
        return await client.options()
    except UnreachableError as error:
        if not error.answered:
            raise
        return None


async def _listed(client: Client) -> set[str]:
    """Return the public images; an empty set if the platform does not list them."""
    try:
        return {str(image.get("id")) for image in await client.images()}
    except UnreachableError:
        return set()


async def check_offered(client: Client, resources: Resources) -> None:
    """Raise UsageError if the platform does not offer these resources of a retry."""
    options = await _options(client)
    for key, amount, hint in () if options is None else _not_offered(resources, options):
        raise UsageError(f"this platform does not offer {amount}", where=f"--{key}", hint=hint)


def _not_offered(resources: Resources, options: Options) -> Iterable[tuple[str, str, str]]:
    """Yield (key, amount with unit, hint) for each resource that the platform does not offer."""
    for key, value, allowed in (
        ("cores", resources.cores, options.cores),
        ("ram", resources.ram, options.ram),
        ("gpus", resources.gpus, options.gpus),
    ):
        if value is not None and allowed and int(value) not in allowed:
            yield key, "".join(amounts({key: value})), _nearest(value, allowed)


def _resource_problems(job: Job, options: Options) -> Iterable[Problem]:
    reported: set[str] = set()
    for replica in job.replicas:
        for key, amount, hint in _not_offered(replica.request.resources, options):
            message = f"replica {replica.number} requests {amount}, which this platform does not offer"
            if key + amount not in reported:
                reported.add(key + amount)
                yield Problem(job.manifest or "command line", message, key=f"resources.{key}", hint=hint)


def _retry_ram_problems(job: Job, options: Options) -> Iterable[Problem]:
    for ram in dict.fromkeys(job.retry_ram):
        if options.ram and int(ram) not in options.ram:
            message = f"{ram:g} GB are requested, which this platform does not offer"
            yield Problem(job.manifest or "command line", message, key="retry.ram", hint=_nearest(ram, options.ram))


def _nearest(value: float, allowed: Sequence[int]) -> str:
    above = [option for option in allowed if option >= value]
    best = f"the next larger size is {min(above)}; " if above else f"the largest size is {max(allowed)}; "
    return best + f"see {suggest('get', 'resources')}"


def _secret_kinds(job: Job) -> Iterable[Request]:
    """Yield one request for each set of secrets that the replicas use."""
    seen: set[tuple[str, ...]] = set()
    for replica in job.replicas:
        secrets = tuple(
            f"{key}={value.reference()}" for key, value in replica.request.env if not isinstance(value, str)
        )
        if secrets and secrets not in seen:
            seen.add(secrets)
            yield replica.request


def _encoding(jobs: Sequence[Job], profile: Profile, state_dir: Path, now: float) -> list[str]:
    """Check whether the server passes encoded commands on unchanged; return a warning if that was never tested.

    The encoding depends on how servers up to 1.4.0 decode. Raise NegativeResult if a canary showed a difference.
    """
    if profile.is_local or not any(
        (job.shared is not None and replica.request.command) or encoding.needs_encoding(replica.request)
        for job in jobs
        for replica in job.replicas
    ):
        return []
    from skahactl.skaha import canary

    answer = canary.remembered_result(state_dir, profile.server, now)
    if answer is False:
        raise NegativeResult(
            f"{profile.host} changes spaces, quotes or $ in commands and values, but this job contains them",
            hint=f"put the command into a script, or test again: skahactl profile check {profile.name} --canary IMAGE",
        )
    if answer is None:
        return [
            f"the command contains spaces, quotes or $, and it was never tested whether {profile.host} passes them on "
            f"unchanged. To test it: skahactl profile check {profile.name} --canary IMAGE"
        ]
    return []


def _images(jobs: Sequence[Job], listed: set[str], profile: Profile) -> list[str]:
    if not listed or profile.registry.user is not None:
        return []
    return [
        f"{profile.host} does not list {image} as a public image; a new tag can take half an hour to appear, "
        "and a private one needs registry-user and registry-secret-env in the profile"
        for image in sorted({job.image for job in jobs} - listed)
    ]


def _certificate(profile: Profile, now: float) -> list[str]:
    from skahactl.skaha.credentials import ends_at

    end = ends_at(profile)
    if end is None or end - now > 2 * 86400:
        return []
    login = f"skahactl login {profile.name}"
    return [f"the certificate of {profile.name} ends in {format_duration(end - now)}; to renew it: {login}"]
