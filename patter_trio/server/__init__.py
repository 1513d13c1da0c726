"""One port: webhooks, health and media streams of a carrier."""
