"""The local record of every run, replica and attempt."""
