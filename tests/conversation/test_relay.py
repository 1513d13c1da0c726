"""Audio that is passed on from another call: as it comes, and never much of it at once."""

import math

from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.playback import NO_REPLY, Clear, Close, Mark, Media, Playback
from patter_trio.conversation.relay import MAX_AHEAD_S, MAX_WAITING_MESSAGES, Relay

FRAME_S = 0.02


def frame(number: int) -> bytes:
    return bytes([number % 256]) * 160


def test_frames_pass_as_they_come() -> None:
    """In real time each message is sent at once, unchanged, and nothing is due in between."""
    relay = Relay()
    for number in range(100):
        now = number * FRAME_S
        relay.put(frame(number))
        assert relay.next_audio(now) == frame(number)
        assert relay.next_audio(now) == math.inf
    assert relay.dropped == 0


def test_burst_is_bounded() -> None:
    """Of a burst after a stall, the carrier gets the newest 0.2 s; what is older is dropped."""
    relay = Relay()
    for number in range(150):
        relay.put(frame(number))
    assert relay.dropped == 150 - MAX_WAITING_MESSAGES
    sent = []
    while isinstance(audio := relay.next_audio(0.0), bytes):
        sent.append(audio)
    assert sent == [frame(number) for number in range(140, 150)]
    assert repr(relay) == "<Relay, 0 messages wait, 140 dropped>"


@given(st.lists(st.floats(0.0, 0.3), max_size=200))
def test_carrier_never_has_much(pauses: list[float]) -> None:
    """Whenever messages come, the carrier never has more than the limit and one message, and the order stays."""
    relay, now, end, sent = Relay(), 0.0, 0.0, []
    for number, pause in enumerate(pauses):
        # The writer sends what is due until the next message comes.
        until = now + pause
        while now <= until:
            due = relay.next_audio(now)
            if isinstance(due, bytes):
                end = max(end, now) + FRAME_S
                assert end - now <= MAX_AHEAD_S + FRAME_S + 1e-6
                sent.append(due[0])
            else:
                now = min(now + due, until) if due < math.inf else until
                if now == until:
                    break
        relay.put(frame(number))
    # Numbers count up to the number of messages, so the order is theirs.
    assert sent == sorted(sent)


def test_close_comes_before_what_waits() -> None:
    """The end of the stream does not wait behind the other party's audio."""
    playback = Playback()
    playback.relay(frame(1))
    playback.relay(frame(2))
    assert playback.next_message(0.0) == Media(frame(1), NO_REPLY)
    playback.hang_up()
    assert playback.next_message(0.0) == Close()


def test_backlog_is_emptied_once() -> None:
    """A mark that comes much later than the quickest one shows a backlog; those behind the clear do not."""
    relay, marks = Relay(), []
    for number in range(200):
        relay.put(frame(number))
        relay.next_audio(number * FRAME_S)
        if mark := relay.next_mark():
            marks.append(mark)
    assert marks == ["b1", "b2", "b3", "b4"]
    # The audio before it is played at 1.0; it comes 0.1 s later, which is the way of the network.
    assert not relay.is_behind("b1", 1.1)
    assert not relay.is_behind("b2", 2.6)
    assert relay.is_behind("b3", 4.7)
    assert not relay.is_behind("b4", 4.8)
    assert not relay.is_behind("unknown", 4.8)


def test_clear_follows_a_late_mark() -> None:
    """The ledger sends a mark behind each second, and a clear ahead of everything else when one comes late."""
    playback, sent = Playback(), []
    for number in range(101):
        playback.relay(frame(number))
        while not isinstance(message := playback.next_message(number * FRAME_S), float):
            sent.append(message)
    assert [message for message in sent if isinstance(message, Mark)] == [Mark("b1"), Mark("b2")]
    assert sent.index(Mark("b1")) == 50
    playback.reached("b1", 1.05)
    playback.reached("b2", 3.0)
    playback.relay(frame(0))
    assert playback.next_message(3.0) == Clear()
    assert playback.next_message(3.0) == Media(frame(0), NO_REPLY)
