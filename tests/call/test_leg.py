"""The carrier's side of a call by itself: what it reports of a scripted stream."""

from typing import Any

import pytest
import trio

from patter_trio.abc import AudioReceived, CallInfo, DigitPressed, MarkReached, StreamStopped
from patter_trio.call.keepalive import PING_AFTER_S
from patter_trio.call.leg import CLOSE_TIMEOUT_S, LOST_CLOSE_CODES, MAX_BAD_MESSAGES, Leg, LostStream, MediaLeg
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


async def reports_of(*messages: object, failure: Exception | None = None) -> list[Any]:
    """Run a leg for a minute, and return what it reported, and then why its stream was lost."""
    seen: list[Any] = []
    socket = ScriptedSocket(*messages)
    stream = MediaLeg(socket, AsTheyCome(), None, CallInfo("CA1", "", "", "inbound"))  # type: ignore[arg-type]
    leg = Leg(stream, ScriptedWriter(seen, failure), Recorder(seen))  # type: ignore[arg-type]
    with trio.move_on_after(15.0 if not failure and messages else 60.0):
        seen.append(await leg.run())
    await leg.close()
    assert leg.closed.is_set()
    assert socket.close_timeout == CLOSE_TIMEOUT_S
    return seen


async def test_each_event_goes_to_its_handler(autojump_clock: Any) -> None:
    """The leg reports audio, marks, keys and the end of the stream to their handlers, in the order of the wire."""
    seen = await reports_of(AudioReceived(b"\xff"), MarkReached("m1"), DigitPressed("5"), StreamStopped())
    assert seen[:4] == [b"\xff", ("mark", "m1", pytest.approx(0.0)), "5", ("down", "caller_hung_up")]


@pytest.mark.parametrize("code", [1000, 1005])
async def test_a_normal_close_is_a_hang_up(code: int, autojump_clock: Any) -> None:
    """A close with code 1000, or without a code, counts as a hang-up of the caller."""
    assert (await reports_of(SocketClosed(code)))[0] == ("down", "caller_hung_up")


@pytest.mark.parametrize("code", [*LOST_CLOSE_CODES, 1002, 1007, 1008, 1009])
async def test_an_abnormal_close_loses_the_stream(code: int, autojump_clock: Any) -> None:
    """The call may go on over another stream after a loss, and not after a peer that broke the protocol."""
    why = f"the carrier's stream was lost: websocket closed ({code}, lost)"
    lost = LostStream(why, "SocketClosed", may_return=code in LOST_CLOSE_CODES)
    assert await reports_of(SocketClosed(code, "lost")) == [lost]


async def test_the_hundredth_bad_message_ends_the_stream(autojump_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The leg ignores 99 bad messages with one log line, and the hundredth one ends the stream."""
    why = f"the carrier's stream sent {MAX_BAD_MESSAGES} messages that its protocol does not allow"
    lost = LostStream(why, "WireError", may_return=False)
    assert await reports_of(*["bad"] * MAX_BAD_MESSAGES, DigitPressed("1")) == [lost]
    assert [record.message for record in caplog.records] == [
        "call CA1: ignoring an invalid message from the carrier: bad"
    ]
    assert (await reports_of(*["bad"] * (MAX_BAD_MESSAGES - 1), DigitPressed("1")))[0] == "1"


async def test_a_carrier_that_stops_reading_is_gone(autojump_clock: Any) -> None:
    """A writer that notices a stalled carrier loses the stream."""
    lost = LostStream("the carrier stopped reading", "Stalled")
    assert await reports_of(failure=Stalled("the carrier stopped reading")) == [lost]


async def test_a_silent_carrier_is_pinged_then_gone(autojump_clock: Any) -> None:
    """The leg wakes the writer to ping a silent carrier, and loses the stream if no answer comes."""
    lost = LostStream(f"the carrier sent nothing for {2 * PING_AFTER_S:g} s", "Silent")
    assert await reports_of() == ["wake", lost]
