"""Logs: kept before the platform forgets them, followed, read again."""
