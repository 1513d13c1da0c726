"""What is measured, one file a server. Each is a program: it takes a folder of sounds and a port, and says when it listens."""
