"""From TOML to the exact request of every replica: load, schema, items, templates, replicas, resolve."""
