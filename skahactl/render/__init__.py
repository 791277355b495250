"""The only user of rich: tables, progress, data formats."""
