"""Observe, plan, execute, until it is so."""
