"""OpenTelemetry: spans of calls, and where they go."""
