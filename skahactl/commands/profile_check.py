"""What ``profile check`` looks at, a line each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skahactl.clock import SystemClock
from skahactl.context import Invocation
from skahactl.durations import format_duration, iso_time, parse_duration
from skahactl.errors import AnswerNo, Exit, UsageError

if TYPE_CHECKING:
    from skahactl.clock import Clock
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Options


def run_check(profile: Profile, canary: str | None, timeout: str, context: Invocation) -> int:
    """Prints what holds; raises for the first thing that does not."""
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise UsageError(str(error), where="--timeout") from None
    return asyncio.run(_check_server(profile, canary, seconds, context, SystemClock()))


async def _check_server(profile: Profile, image: str | None, timeout: float, context: Invocation, clock: Clock) -> int:
    from skahactl.platforms import open_client
    from skahactl.skaha import credentials

    context.out(f"profile      {profile.name} ({profile.path or 'built in'})")
    context.out(f"server       {profile.server if not profile.is_local else 'this machine'}")
    directory = profile.local.directory or context.cwd
    client = open_client(
        profile,
        clock=clock,
        environ=context.environ,
        directory=directory,
        report=context.debug,
        verbose=context.verbose,
    )
    async with client:
        context.out(f"availability {await client.available()}")
        credentials.check(profile, clock.now(), context.environ)
        context.out(f"credentials  {_credentials(profile, clock.now())}")
        listing = await client.sessions()
        context.out(f"user         {listing.user or 'not told'}, {len(listing.sessions)} sessions")
        context.out(f"resources    {_resources(await client.options())}")
        if image is not None:
            await _canary(client, profile, image, timeout, context, clock)
        else:
            context.out(f"encoding     {_remembered_canary(profile, context, clock.now())}")
    return Exit.DONE


async def _canary(
    client: Client, profile: Profile, image: str, timeout: float, context: Invocation, clock: Clock
) -> None:
    from skahactl.manifest.schema import names_host
    from skahactl.paths import state_dir
    from skahactl.skaha import canary

    if profile.registry.host and not names_host(image):
        image = f"{profile.registry.host.rstrip('/')}/{image}"
    context.say(f"starting one small session of {image}; it is deleted again")
    verdict = await canary.run_canary(client, image, clock, timeout=timeout, patience=profile.client.log_patience)
    canary.remember_result(state_dir(context.environ), profile.server, verdict.arrived, clock.now())
    if verdict.arrived:
        context.out("encoding     proven: command and environment arrived byte for byte; remembered for 30 days")
        return
    context.out("encoding     different: command or environment arrived changed; remembered for 30 days")
    context.warn("what the canary printed:")
    for line in verdict.log[:2000].decode("utf-8", "replace").splitlines()[:12]:
        context.warn("  " + "".join(char if char.isprintable() else "?" for char in line))
    raise AnswerNo(
        f"{profile.host} does not decode commands as Skaha servers up to 1.4.0 do",
        hint="manifests with blanks, quotes, $ or backslashes in command or [env] are refused there",
        code="canary",
    )


def _credentials(profile: Profile, now: float) -> str:
    from skahactl.skaha.credentials import ends_at

    auth = profile.auth
    if auth.method == "none":
        return "none"
    if auth.method == "token":
        return f"token from {auth.token_file or f'${auth.token_env}'}"
    ends = ends_at(profile)
    left = "" if ends is None else f", valid until {iso_time(ends)} ({format_duration(ends - now)})"
    return f"certificate {auth.certificate}{left}"


def _resources(options: Options) -> str:
    parts = [
        f"{name} {min(offered)} to {max(offered)}{unit}" if offered else f"no {name}"
        for name, offered, unit in (
            ("cores", options.cores, ""),
            ("ram", options.ram, " GB"),
            ("gpus", options.gpus, ""),
        )
    ]
    return ", ".join(parts)


def _remembered_canary(profile: Profile, context: Invocation, now: float) -> str:
    from skahactl.paths import state_dir
    from skahactl.skaha.canary import remembered_result

    known = remembered_result(state_dir(context.environ), profile.server, now)
    if known is None:
        return f"not proven here; prove it with: skahactl profile check {profile.name} --canary IMAGE"
    return "proven by a canary" if known else "different, as a canary showed"
