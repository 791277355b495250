"""The record, on this machine, of every run, replica and attempt."""
