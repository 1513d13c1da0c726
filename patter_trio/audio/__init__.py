"""Pure audio: mu-law, frames, resampling, WAV. Nothing here uses a clock, a task or an open file."""
