"""A simulated Twilio: its messages, its webhooks and its media streams."""
