"""The servers that are measured, one program each: it gets a folder of sounds, and prints its port when it listens."""
