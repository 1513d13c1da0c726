"""OpenTelemetry: the spans of calls, and their export."""
