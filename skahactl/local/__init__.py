"""The local platform: queue, workers, HTTP answers, serve."""
