"""The client of a Skaha server: encoding, transport, credentials, replies."""
