"""Helpers for user programs."""
