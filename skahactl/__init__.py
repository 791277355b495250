"""Batch jobs on Skaha, the session service of the CANFAR Science Platform."""

__version__ = "0.2.0"
