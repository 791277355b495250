"""What sessions used of their memory and cores, as polls showed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.ledger.database import Ledger
from skahactl.ledger.records import dump_json

if TYPE_CHECKING:
    from skahactl.skaha.models import Listing


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one session. ``ram_peak`` is in GB as manifests count them (2**30 bytes), ``cpu_mean`` in cores; None where
    no poll showed a value. ``samples`` counts the polls that showed any."""

    ram_peak: float | None
    cpu_mean: float | None
    samples: int


def record_usage(ledger: Ledger, run_id: int, listing: Listing) -> None:
    """Adds what ``listing`` shows of the sessions of a run: one statement for any number of them."""
    shown = [
        [session.id, session.ram_in_use, session.cores_in_use]
        for session in listing.sessions
        if session.ram_in_use is not None or session.cores_in_use is not None
    ]
    if not shown:
        return
    with ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO usage (session, run, replica, attempt, ram_peak, cpu_sum, cpu_samples, samples)"
            " SELECT attempts.session, run, replica, number, json_extract(value, '$[1]'),"
            " coalesce(json_extract(value, '$[2]'), 0), json_extract(value, '$[2]') IS NOT NULL, 1"
            " FROM json_each(?) JOIN attempts ON attempts.session = json_extract(value, '$[0]') WHERE run = ?"
            " ON CONFLICT (session) DO UPDATE SET"
            " ram_peak = max(coalesce(ram_peak, excluded.ram_peak), coalesce(excluded.ram_peak, ram_peak)),"
            " cpu_sum = cpu_sum + excluded.cpu_sum, cpu_samples = cpu_samples + excluded.cpu_samples,"
            " samples = samples + 1",
            (dump_json(shown), run_id),
        )


def usage_of(ledger: Ledger, run_id: int) -> dict[tuple[int, int], Usage]:
    """What each attempt of the run used, by replica and attempt; attempts that no poll measured are left out."""
    rows = ledger.rows(
        "SELECT replica, attempt, ram_peak, cpu_sum, cpu_samples, samples FROM usage WHERE run = ?", run_id
    )
    return {
        (row["replica"], row["attempt"]): Usage(
            row["ram_peak"], row["cpu_sum"] / row["cpu_samples"] if row["cpu_samples"] else None, row["samples"]
        )
        for row in rows
    }
