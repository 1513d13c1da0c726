"""The agent's side of a call: from words to audio on the stream."""
