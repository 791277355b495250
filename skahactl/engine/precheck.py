"""What can be known to go wrong before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from skahactl.durations import format_duration
from skahactl.engine.desk import Runtime
from skahactl.errors import AnswerNo, ManifestError, Problem, UnreachableError
from skahactl.job import Job, Request
from skahactl.profile import Profile
from skahactl.skaha import encoding
from skahactl.skaha.client import Client
from skahactl.skaha.models import Options


async def precheck(jobs: Sequence[Job], desk: Runtime, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings; raises for what the platform is certain to refuse, for secrets that cannot be read, and for a server
    that failed the canary and a job that needs the encoding."""
    options, listed = await asyncio.gather(_options(desk.client), _listed(desk.client))
    problems = [] if options is None else [p for job in jobs for p in _resource_problems(job, options)]
    if problems:
        raise ManifestError(tuple(problems))
    for job in jobs:
        for request in _secret_kinds(job):
            encoding.secret_texts(request, environ)
    warnings = [warning for job in jobs for warning in job.warnings]
    now = desk.clock.now()
    warnings += _encoding(jobs, desk.profile, desk.ledger.state_dir, now)
    warnings += _images(jobs, listed, desk.profile)
    return (*warnings, *_certificate(desk.profile, now))


async def _options(client: Client) -> Options | None:
    """What the platform offers; None for one that answers, but does not tell."""
    try:
        return await client.options()
    except UnreachableError as error:
        if error.code == "unreachable":
            raise
        return None


async def _listed(client: Client) -> set[str]:
    """The public images; none for a platform that does not tell."""
    try:
        return {str(image.get("id")) for image in await client.images()}
    except UnreachableError:
        return set()


def _resource_problems(job: Job, options: Options) -> Iterable[Problem]:
    told: set[str] = set()
    for replica in job.replicas:
        resources = replica.request.resources
        for key, value, allowed in (
            ("cores", resources.cores, options.cores),
            ("ram", resources.ram, options.ram),
            ("gpus", resources.gpus, options.gpus),
        ):
            if value is None or not allowed or int(value) in allowed:
                continue
            message = f"replica {replica.number} asks for {value:g} {key}, which this platform does not offer"
            if f"{key}{value}" not in told:
                told.add(f"{key}{value}")
                yield Problem(
                    job.manifest or "command line", message, key=f"resources.{key}", hint=_nearest(value, allowed)
                )


def _nearest(value: float, allowed: Sequence[int]) -> str:
    above = [option for option in allowed if option >= value]
    best = f"the next it offers is {min(above)}; " if above else f"the most it offers is {max(allowed)}; "
    return best + "see 'skahactl get resources'"


def _secret_kinds(job: Job) -> Iterable[Request]:
    """One request for every set of secrets that the replicas refer to."""
    seen: set[tuple[str, ...]] = set()
    for replica in job.replicas:
        secrets = tuple(
            f"{key}={value.reference()}" for key, value in replica.request.env if not isinstance(value, str)
        )
        if secrets and secrets not in seen:
            seen.add(secrets)
            yield replica.request


def _encoding(jobs: Sequence[Job], profile: Profile, state_dir: Path, now: float) -> list[str]:
    """The encoding rests on how servers up to 1.4.0 decode; a server may have been found to differ."""
    if profile.is_local or not any(
        encoding.needs_encoding(replica.request) for job in jobs for replica in job.replicas
    ):
        return []
    from skahactl.skaha import canary

    answer = canary.remembered_result(state_dir, profile.server, now)
    if answer is False:
        raise AnswerNo(
            f"{profile.host} does not give commands and values back as they were written, and this job needs that",
            hint="'skahactl profile check --canary IMAGE' tests it again; or put the command into a script",
        )
    if answer is None:
        return [
            f"{profile.host} was never tested with blanks, quotes or $ in commands; "
            "'skahactl profile check --canary IMAGE' does"
        ]
    return []


def _images(jobs: Sequence[Job], listed: set[str], profile: Profile) -> list[str]:
    if not listed or profile.registry.user is not None:
        return []
    return [
        f"{image} is not among the public images that {profile.host} lists; a new tag may take half an hour to appear, "
        "and a private one needs registry-user and registry-secret-env in the profile"
        for image in sorted({job.image for job in jobs} - listed)
    ]


def _certificate(profile: Profile, now: float) -> list[str]:
    from skahactl.skaha.credentials import ends_at

    end = ends_at(profile)
    if end is None or end - now > 2 * 86400:
        return []
    login = f"skahactl login {profile.name}"
    return [f"the certificate of {profile.name} ends in {format_duration(end - now)}; '{login}' gets a new one in time"]
