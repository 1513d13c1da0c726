"""The caller's side of a call: from audio to words."""
