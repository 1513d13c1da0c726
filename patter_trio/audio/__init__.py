"""Pure audio: mu-law, framing, resampling of whole buffers, WAV. No clock, no task, no file handle kept."""
