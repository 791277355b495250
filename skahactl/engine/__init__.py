"""Observe, plan and execute until the platform matches the manifest."""
