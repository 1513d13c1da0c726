"""The server on one port: a carrier's webhooks and media streams, and the health check."""
