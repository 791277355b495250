"""The service: wire encoding, client, credentials, replies."""
