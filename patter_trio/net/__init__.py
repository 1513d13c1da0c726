"""I/O around the wire protocols: streams, HTTP, WebSockets, deadlines, threads.

Foreign exceptions are translated here.
"""
