"""A Skaha server for tests: on a real socket, independent of the package it tests, with faults drawn from a seed."""

from __future__ import annotations

from tests.skaha_server.plan import Plan
from tests.skaha_server.server import FakeSkaha

__all__ = ["FakeSkaha", "Plan"]
