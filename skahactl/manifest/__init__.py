"""From TOML to the exact request of every replica."""
