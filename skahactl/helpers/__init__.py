"""What user programs import."""
