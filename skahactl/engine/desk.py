"""What every act on the platform works with."""

from __future__ import annotations

from dataclasses import dataclass

from skahactl.clock import Clock
from skahactl.engine.report import Reporter
from skahactl.engine.stop import Stop
from skahactl.ledger.database import Ledger
from skahactl.profile import Profile
from skahactl.skaha.client import Client


@dataclass(frozen=True, slots=True)
class Runtime:
    """Opened once a command, closed by whoever opened it. ``stop``: set by a signal; every wait is given up then."""

    ledger: Ledger
    client: Client
    profile: Profile
    clock: Clock
    reporter: Reporter
    stop: Stop
