"""The local platform: queue, workers, and HTTP replies."""
