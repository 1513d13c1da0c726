"""What providers share: credentials, validators, model weights, and fallback."""
