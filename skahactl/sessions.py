"""The same as skahactl.session, under the name that it has in canfar."""

from __future__ import annotations

from skahactl.session import AsyncSession, CreateError, Session

__all__ = ["AsyncSession", "CreateError", "Session"]
