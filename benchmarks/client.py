"""The callers' process: raw sockets, one loop, prebuilt frames in real time. Its command line has the task as JSON."""

import errno
import gc
import http.client
import json
import os
import random
import re
import resource
import select
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from benchmarks.caller import Caller, Tally, media_frames, stream_sid, text_frame
from benchmarks.lines import AnnouncedLine
from benchmarks.sounds import FRAME_BYTES, INTERRUPTION, QUESTION, frames_of, voiced
from patter_trio.audio.g711 import SILENCE_BYTE
from patter_trio.carriers.twilio import Twilio

# One process, one thread, no event loop of a library: between two frames lies a quarter of a
# millisecond at 80 calls, and whatever delays this process is measured as latency of the server. Set-up
# blocks; from the first tick on nothing does.

SAMPLE_INTERVAL_S: Final = 0.02
SETTLING_TIME_S: Final = 12.0
"""Seconds before the window: a complete round of the script, so that the callers are spread over all of it."""
# /proc counts processor time in ticks of usually 10 ms, and memory in pages.
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process with all its threads."""
    # After the last ")": the second field is the name of the program, which may contain spaces and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


class CallerSocket:
    """A caller and its socket."""

    def __init__(
        self, server: dict[str, Any], sounds: tuple[list[bytes], list[bytes]], first: int, number: int = 0
    ) -> None:
        line = AnnouncedLine(server) if server.get("carrier", "twilio") != "twilio" else None
        call, sid = "CA" + os.urandom(16).hex(), stream_sid()
        headers: Mapping[str, str] = {}
        path, parameters = server.get("path", "/").replace("{call}", call), {}
        if line is not None:
            path, headers = urlsplit(line.order.url).path, line.protocol.upgrade_headers(line.order)
        elif "webhook" in server:
            path, parameters = announce(server, call)
        # A server that limits the calls from one address is called from many addresses.
        address = f"127.0.{number // 200}.{number % 200 + 1}" if server.get("addresses") else "127.0.0.1"
        self.socket = socket.create_connection(("127.0.0.1", server["port"]), timeout=30, source_address=(address, 0))
        # A frame must leave when it is due, not when the one before it is acknowledged.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = upgrade(self.socket, path, server["port"], headers)
        protocol = self._protocol = None if line is None else line.protocol
        self._frames = 0
        if line is not None:
            opening = [text_frame(message.encode()) for message in line.protocol.opening(line.order)]
            self.socket.sendall(b"".join(opening))
        else:
            self._open(sid, call, parameters)
        # Only now: handshake and start may take as long as the server needs.
        self.socket.setblocking(False)
        made = partial(media_frames, sid) if protocol is None else list[bytes]
        question, interruption = (made(frames) for frames in sounds)
        (silence,) = made([bytes([SILENCE_BYTE]) * FRAME_BYTES])
        stop = text_frame({"event": "stop", "streamSid": sid, "stop": {"callSid": call}})
        if protocol is not None:
            stopped = protocol.stopped()
            stop = b"" if stopped is None else text_frame(stopped.encode())
        self.stop = stop
        self.caller = Caller(sid, question, interruption, silence, first, protocol=protocol)
        if rest:
            self.caller.feed(rest, time.perf_counter())
        # Data that the kernel did not take, because the server does not read; it goes first the next time, in order.
        self.unsent = bytearray()

    def _open(self, sid: str, call: str, parameters: dict[str, str]) -> None:
        """Send Twilio's opening messages."""
        start = {
            "streamSid": sid,
            "accountSid": "AC" + "0" * 32,
            "callSid": call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }
        self.socket.sendall(text_frame({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        self.socket.sendall(text_frame({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": sid}))

    def tick(self, now: float) -> None:
        if not self.caller.alive:
            return
        frame = self.caller.frame(now)
        if self._protocol is not None:
            # Made now, unlike Twilio's: a frame has its number in the stream, by which Telnyx's are put in order.
            self._frames += 1
            frame = text_frame(self._protocol.media(self._frames, frame).encode())
        self.send(frame)

    def send(self, frame: bytes) -> None:
        data = frame
        if self.caller.out or self.unsent:
            data = bytes(self.unsent) + frame + bytes(self.caller.out)
            self.caller.out.clear()
            self.unsent.clear()
        if not data:
            return
        try:
            sent = self.socket.send(data)
        # The kernel's buffer is full. Waiting would delay all other callers.
        except BlockingIOError:
            sent = 0
        # The server has ended the connection; that is counted, and the other callers go on.
        except OSError:
            self.lost()
            return
        if sent < len(data):
            self.unsent += data[sent:]

    def readable(self, now: float) -> None:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        # A reset is how an overloaded or dying server ends a call. Anything else is a fault of this program.
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            data = b""
        if not data:
            self.lost()
            return
        self.caller.feed(data, now)
        # Answers to pings, and marks after a clear, at once: their time is what the server measures.
        if self.caller.out:
            self.send(b"")

    def lost(self) -> None:
        if self.caller.alive:
            self.caller.alive = False
            self.caller.tally.lost += 1

    def hang_up(self) -> None:
        with suppress(OSError):
            self.send(self.stop)
        self.socket.close()


def announce(server: dict[str, Any], call: str) -> tuple[str, dict[str, str]]:
    """Announce a call to the server as Twilio does; return the path of the stream, and its parameters."""
    form = {
        "CallSid": call,
        "From": "+15550100001",
        "To": "+15550100002",
        "Direction": "inbound",
        "AccountSid": "AC" + "0" * 32,
    }
    public, webhook = server.get("public", f"http://127.0.0.1:{server['port']}"), server["webhook"]
    # By the package's own code, before any measurement: only our own server has a webhook here.
    signature = Twilio(account_sid="AC" + "0" * 32, auth_token=server["token"]).sign(public + webhook, form)
    connection = http.client.HTTPConnection("127.0.0.1", server["port"], timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    connection.request("POST", webhook, urlencode(form), headers | server.get("headers", {}))
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    # The path only: the public address in it is not the server's.
    found = re.search(r'url="wss?://[^/"]+(/[^"]*)"', body)
    if response.status != 200 or not found:
        # SystemExit, because a benchmark without this call would mean nothing; ``overload`` catches it as a refusal.
        raise SystemExit(f"the webhook must answer 200 with a stream URL, got {response.status}: {body[:300]}")
    return found[1], dict(re.findall(r'<Parameter name="([^"]*)" value="([^"]*)"', body))


def upgrade(line: socket.socket, path: str, port: int, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Open the WebSocket; return the data that came after the handshake."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        # The key of RFC 6455's example: it need not be secret, and the answer to it is not checked.
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        data = line.recv(4096)
        if not data:
            break
        head += data
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"the server must accept a WebSocket at {path}, got {head[:200]!r}")
    return head.partition(b"\r\n\r\n")[2]


class Pace:
    """A scheduler for all lines: it sends frames at their instants, spread evenly over 20 ms, and reads data in
    between.
    """

    def __init__(self, lines: list[CallerSocket]) -> None:
        self._lines = lines
        self._poll = select.epoll()
        self._by_fd = {line.socket.fileno(): line for line in lines}
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._began = time.perf_counter()
        self._sent = 0
        self.late: list[float] = []

    def run(self, until: float) -> None:
        """Run until the instant ``until``."""
        # Evenly over the 20 ms, as the callers of a real carrier are; in step, they would
        # wait for each other at the server.
        gap = SAMPLE_INTERVAL_S / len(self._lines)
        poll, fd = self._poll, [self._poll.fileno()]
        while True:
            # From the beginning, so that a frame that is late does not delay those after it.
            due = self._began + self._sent * gap
            if due >= until:
                return
            now = time.perf_counter()
            # select() waits with microsecond precision; the timeout of epoll is rounded up to milliseconds.
            if now < due and not select.select(fd, [], [], due - now)[0]:
                now = time.perf_counter()
            else:
                # Everything that is readable, before the frame: the time of arrival is what is measured.
                for number, _ in poll.poll(0):
                    line = self._by_fd[number]
                    line.readable(time.perf_counter())
                    # A closed socket is readable for ever.
                    if not line.caller.alive:
                        poll.unregister(number)
                now = time.perf_counter()
            if now >= due:
                self.late.append(now - due)
                self._lines[self._sent % len(self._lines)].tick(now)
                self._sent += 1


def measure(server: dict[str, Any], calls: int, seconds: float, settling: float = SETTLING_TIME_S) -> dict[str, Any]:
    """Run ``calls`` calls with a server for a window of ``seconds``, and return the measurements."""
    sounds = frames_of(voiced(QUESTION)), frames_of(voiced(INTERRUPTION))
    pid = server["pid"]
    warm = CallerSocket(server, sounds, 10)  # data that a server loads for its first call is not memory of a call
    # 6 s are enough for a question and the beginning of its answer: the server has loaded what it loads once.
    Pace([warm]).run(time.perf_counter() + min(settling, 6.0))
    warm.hang_up()
    # For the server to give back what the call held.
    time.sleep(0.5)
    empty = rss_bytes(pid)
    # The first questions fall into the first 70 % of the settling time, so that each
    # caller has had an answer at its end.
    spread = int(0.7 * settling / SAMPLE_INTERVAL_S)
    lines = [CallerSocket(server, sounds, 10 + random.randrange(spread), number) for number in range(calls)]
    # A garbage collection in this process would delay frames and count as latency of the server.
    gc.freeze()
    gc.disable()
    pace = Pace(lines)
    pace.run(time.perf_counter() + settling)
    for line in lines:
        # Lost calls are lost for the whole window, whenever it happened.
        line.caller.tally = Tally(lost=line.caller.tally.lost)
    # Opening the connections had delayed the first frames.
    pace.late.clear()
    # In one line, and again right after the window: cost and time are of the same stretch.
    own, cpu, began = resource.getrusage(resource.RUSAGE_SELF), cpu_seconds(pid), time.perf_counter()
    pace.run(began + seconds)
    elapsed, spent = time.perf_counter() - began, cpu_seconds(pid) - cpu
    mine = resource.getrusage(resource.RUSAGE_SELF)
    # While the calls are up.
    full = rss_bytes(pid)
    total = Tally()
    for line in lines:
        total.add(line.caller.tally)
        line.hang_up()
    late = sorted(pace.late)
    return {
        "calls": calls,
        "seconds": elapsed,
        "cpu_ms_per_call_second": 1000 * spent / (calls * elapsed),
        "server_load": spent / elapsed,
        "client_load": (mine.ru_utime + mine.ru_stime - own.ru_utime - own.ru_stime) / elapsed,
        "client_late_p99_ms": 1000 * late[int(0.99 * len(late))],
        "memory_per_call_mb": (full - empty) / calls / 1e6,
        "answers_ms": [1000 * value for value in total.answers],
        "clears_ms": [1000 * value for value in total.clears],
        **{name: getattr(total, name) for name in ("turns", "missed", "stray", "gaps", "lost")},
    }


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    random.seed(task.get("seed", 1))
    print(json.dumps(measure(**task["measure"])))
