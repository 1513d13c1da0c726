"""The rules of a conversation, as pure functions of inputs and time: no clock, no socket, no task."""
