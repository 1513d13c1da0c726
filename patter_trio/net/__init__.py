"""The shells that touch the world, written once: sockets, HTTP, deadlines, threads."""
