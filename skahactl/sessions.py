"""The names of skahactl.session under the module name that the canfar client has."""

from __future__ import annotations

from skahactl.session import AsyncSession, CreateError, Session

__all__ = ["AsyncSession", "CreateError", "Session"]
