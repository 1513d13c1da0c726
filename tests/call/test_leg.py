"""The carrier's side of a call by itself: what it reports of a scripted stream."""

from typing import Any

import pytest
import trio

from patter_trio.abc import AudioReceived, CallInfo, DigitPressed, MarkReached, StreamStopped
from patter_trio.call.keepalive import PING_AFTER_S
from patter_trio.call.leg import CLOSE_TIMEOUT_S, MAX_BAD_MESSAGES, Leg, MediaLeg
from patter_trio.call.output.writer import Stalled
from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed


class ScriptedSocket:
    """Gives messages, then raises, or is silent for ever."""

    def __init__(self, *messages: object) -> None:
        self._messages = list(messages)
        self.heard_at = trio.current_time()
        self.pings = 0
        self.close_timeout: float | None = None

    async def receive(self) -> object:
        await trio.lowlevel.checkpoint()
        if not self._messages:
            await trio.sleep_forever()
        message = self._messages.pop(0)
        if isinstance(message, SocketClosed):
            raise message
        return message

    def ping(self) -> None:
        self.pings += 1

    async def aclose(self, *, close_timeout: float) -> None:
        self.close_timeout = close_timeout


class AsTheyCome:
    """A codec whose messages are events already; a text breaks the protocol."""

    def receive(self, message: object) -> object:
        if isinstance(message, str):
            raise WireError(message)
        return message


class ScriptedWriter:
    """Writes until it fails, or for ever."""

    def __init__(self, seen: list[Any], failure: Exception | None) -> None:
        self._seen = seen
        self._failure = failure

    async def write(self) -> None:
        if self._failure is None:
            await trio.sleep_forever()
        else:
            raise self._failure

    def wake(self) -> None:
        self._seen.append("wake")

    def alive(self, now: float) -> None:
        """Ignore that a message has come; the events of the messages are recorded."""

    def reached(self, name: str, now: float) -> None:
        self._seen.append(("mark", name, now))


class Recorder:
    def __init__(self, seen: list[Any]) -> None:
        self._seen = seen

    def on_audio(self, audio: bytes) -> None:
        self._seen.append(audio)

    def on_digit(self, digit: str) -> None:
        self._seen.append(digit)

    def on_leg_down(self, reason: str) -> None:
        self._seen.append(("down", reason))

    def fail(self, why: str, kind: str) -> None:
        self._seen.append((kind, why))


async def reports_of(*messages: object, failure: Exception | None = None) -> list[Any]:
    """Run a leg for a minute, and return what it reported."""
    seen: list[Any] = []
    socket = ScriptedSocket(*messages)
    stream = MediaLeg(socket, AsTheyCome(), None, CallInfo("CA1", "", "", "inbound"))  # type: ignore[arg-type]
    leg = Leg(stream, ScriptedWriter(seen, failure), Recorder(seen))  # type: ignore[arg-type]
    with trio.move_on_after(60.0):
        async with trio.open_nursery() as nursery:
            leg.start(nursery)
    await leg.close()
    assert socket.close_timeout == CLOSE_TIMEOUT_S
    return seen


async def test_each_event_goes_to_its_handler(autojump_clock: Any) -> None:
    """The leg reports audio, marks, keys and the end of the stream to their handlers, in the order of the wire."""
    seen = await reports_of(AudioReceived(b"\xff"), MarkReached("m1"), DigitPressed("5"), StreamStopped())
    assert seen[:4] == [b"\xff", ("mark", "m1", pytest.approx(0.0)), "5", ("down", "caller_hung_up")]


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_normal_close_is_a_hang_up(code: int, autojump_clock: Any) -> None:
    """A close with code 1000 or 1001 counts as a hang-up of the caller."""
    assert (await reports_of(SocketClosed(code)))[0] == ("down", "caller_hung_up")


async def test_an_abnormal_close_is_a_failure(autojump_clock: Any) -> None:
    """A close with code 1006 is reported as a failure first and then as the end of the leg."""
    seen = await reports_of(SocketClosed(1006, "connection lost"))
    assert [kind for kind, _ in seen[:2]] == ["SocketClosed", "down"]
    assert seen[1] == ("down", "failed")


async def test_the_hundredth_bad_message_ends_the_stream(autojump_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The leg ignores 99 bad messages with one log line, and the hundredth one ends the stream."""
    seen = await reports_of(*["bad"] * MAX_BAD_MESSAGES, DigitPressed("1"))
    assert [one[0] for one in seen[:3]] == ["WireError", "SocketClosed", "down"]
    assert "1" not in seen
    assert [record.message for record in caplog.records] == [
        "call CA1: ignoring an invalid message from the carrier: bad"
    ]
    assert (await reports_of(*["bad"] * (MAX_BAD_MESSAGES - 1), DigitPressed("1")))[0] == "1"


async def test_a_carrier_that_stops_reading_is_gone(autojump_clock: Any) -> None:
    """A writer that notices a stalled carrier has the leg report a failure and go down."""
    assert (await reports_of(failure=Stalled("the carrier stopped reading")))[:2] == [
        ("Stalled", "the carrier stopped reading"),
        ("down", "failed"),
    ]


async def test_a_silent_carrier_is_pinged_then_gone(autojump_clock: Any) -> None:
    """The leg wakes the writer to ping a silent carrier, and goes down if no answer comes."""
    assert await reports_of() == [
        "wake",
        ("Silent", f"the carrier sent nothing for {2 * PING_AFTER_S:g} s"),
        ("down", "failed"),
    ]
