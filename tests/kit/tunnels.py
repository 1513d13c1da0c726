"""Stand-ins for programs that make tunnels: scripts on PATH that print what the real ones print."""

import os
import sys
import textwrap
from pathlib import Path

import pytest

URL = "https://quiet-river-1234.trycloudflare.com"
CLOUDFLARED = f"""
for line in (
    "INF Thank you for trying Cloudflare Tunnel.",
    "INF Requesting new quick Tunnel on trycloudflare.com...",
    'ERR retrying: Post "https://api.trycloudflare.com/tunnel"',
    "INF |  Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):  |",
    "INF |  {URL}  |",
    "INF Registered tunnel connection connIndex=0 location=fra06 protocol=quic",
):
    print("2026-11-30T12:00:00Z", line, file=sys.stderr, flush=True)
time.sleep(3600)
"""
"""Prints what cloudflared prints for a quick tunnel, and waits."""
NGROK = """
import json, socket, threading

def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)

def carry(client):
    host, port = arguments[1].removeprefix("http://").rsplit(":", 1)
    server = socket.create_connection((host, int(port)))
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)

listener = socket.create_server(("127.0.0.1", 0))
print("starting ...")
print(json.dumps({"lvl": "info", "msg": "no configuration paths supplied"}))
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
print(json.dumps({"lvl": "info", "msg": "started tunnel", "addr": arguments[1], "url": url}), flush=True)
while True:
    threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()
"""
"""Carries connections from a port of its own to the server, as ngrok does from its public URL."""


class Tunnels:
    """A folder that is the whole PATH, and the programs in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))

    def install(self, name: str, code: str) -> None:
        """Put a program on PATH; it notes its process and its arguments in files beside it."""
        program = self._folder / name
        head = f"""\
            #!{sys.executable} -S
            import os, sys, time
            arguments = sys.argv[1:]
            with open({str(program)!r} + ".new", "w") as file:
                file.write("\\n".join([str(os.getpid()), *arguments]))
            os.rename({str(program)!r} + ".new", {str(program)!r} + ".run")
            """
        program.write_text(textwrap.dedent(head) + code)
        program.chmod(0o755)

    def arguments(self, name: str) -> list[str]:
        """Return the arguments with which a program was started; empty if it was not."""
        file = self._folder / f"{name}.run"
        return file.read_text().split("\n")[1:] if file.exists() else []

    def runs(self, name: str) -> bool:
        """Return True if the process of a program is still there."""
        file = self._folder / f"{name}.run"
        if not file.exists():
            return False
        try:
            os.kill(int(file.read_text().split("\n")[0]), 0)
        except ProcessLookupError:
            return False
        return True
