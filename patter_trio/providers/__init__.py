"""Code shared by providers: credentials, validators, model weights, and fallback."""
