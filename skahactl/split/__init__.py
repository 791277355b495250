"""Divide items among replicas: read lists, assign items, write a replica's share."""
