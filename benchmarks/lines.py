"""The callers' side of Telnyx and Plivo: announcements, in blocking code, and messages made by the test kit."""

import http.client
import os
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patter_trio.testing.carriers.plivo import PlivoProtocol
from patter_trio.testing.carriers.protocol import (
    CallFacts,
    CarrierProtocol,
    RESTRequest,
    StreamOrder,
    Webhook,
    WebhookAnswer,
)
from patter_trio.testing.carriers.telnyx import TelnyxProtocol, public_key_of

SIGNING_KEY: Final = bytes(range(32))
PUBLIC_KEY: Final = public_key_of(SIGNING_KEY)
COMMAND_TIMEOUT_S: Final = 30.0
"""Seconds that a server may take to answer a call by a command."""


class _Interface:
    """Telnyx's REST interface, in a thread: it works while calls begin and end, and does nothing during a window."""

    def __init__(self, port: int) -> None:
        self.calls: dict[str, AnnouncedLine] = {}
        interface = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                _, _, call, _, command = unquote(self.path).split("/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, content = interface.calls[call].obey(RESTRequest("POST", command, headers, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


_interfaces: dict[int, _Interface] = {}


class AnnouncedLine:
    """One call, announced to a server as its carrier does; a line in the sense of the test kit's protocols."""

    def __init__(self, server: dict[str, Any]) -> None:
        self.public_url: str = server["public"]
        self._port = server["port"]
        self._commanded = threading.Event()
        self.protocol: CarrierProtocol
        if server["carrier"] == "telnyx":
            facts = CallFacts(f"v3:{os.urandom(16).hex()}")
            key = Ed25519PrivateKey.from_private_bytes(SIGNING_KEY)
            self.protocol = TelnyxProtocol(facts, key, server["token"], time.time)
            port = server["api_port"]
            if port not in _interfaces:
                _interfaces[port] = _Interface(port)
            _interfaces[port].calls[facts.call_id] = self
        else:
            self.protocol = PlivoProtocol(CallFacts(str(uuid.uuid4())), server["account"], server["token"])
            self._commanded.set()
        self.order: StreamOrder = trio.run(self.protocol.ask, self)

    async def post(self, webhook: Webhook) -> WebhookAnswer:
        """Send a webhook, and wait for the command that follows it at a carrier that takes commands."""
        await trio.lowlevel.checkpoint()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        parts = urlsplit(webhook.url)
        connection.request(
            "POST", parts.path + (f"?{parts.query}" if parts.query else ""), webhook.body, dict(webhook.headers)
        )
        response = connection.getresponse()
        answer = WebhookAnswer(response.status, response.getheader("content-type") or "", response.read())
        connection.close()
        if not self._commanded.wait(COMMAND_TIMEOUT_S):
            raise SystemExit("the server must answer the call by a command")
        return answer

    def obey(self, request: RESTRequest) -> tuple[int, bytes]:
        """Carry out a command."""
        answer = trio.run(self.protocol.obey, self, request)
        self._commanded.set()
        return answer.status, msgspec.json.encode(answer.body)

    async def transfer(self, to: str) -> None:
        """Do nothing: no caller of a benchmark is transferred."""

    def sound(self, digits: str) -> None:
        """Do nothing: no caller of a benchmark hears digits."""

    def agent_hangs_up(self) -> None:
        """Do nothing: the caller leaves by itself."""
