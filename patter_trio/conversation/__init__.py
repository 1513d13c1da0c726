"""The rules of a conversation: pure functions of inputs and time. No clock, no socket, no task."""
