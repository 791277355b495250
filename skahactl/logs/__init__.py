"""Logs: save them before the platform discards them, show and follow them."""
