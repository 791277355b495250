"""skahactl: declarative batch work on Skaha, the session service of the CANFAR Science Platform."""

__version__ = "0.1.0"
