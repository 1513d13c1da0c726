"""Media streams that are lost: the call goes on over another stream, and ends after ten seconds without one."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.abc import CallReturned
from patter_trio.audio.wav import HEAD_BYTES
from patter_trio.call.streams import RECONNECT_TIMEOUT_S
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.refusals import MAX_LINES_OF_CALLS
from patter_trio.testing import ScriptedLLM
from patter_trio.testing.faults import FAULTS
from patter_trio.testing.faults.injections import CLOSE_OPCODE, frame
from patter_trio.testing.scripted_providers.band_limited import sounds_in
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.call import agent_of
from tests.kit.wire import Order, Stream, Wire, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
GREETING = "Hotel Miller, good evening. How can I help you today?"
# 60 ms a character: the first sentence sounds from 0.2 to 1.82, the second until 3.38.
FIRST, SECOND = "Hotel Miller, good evening.", "How can I help you today?"


def heard(caller: SimulatedCaller) -> list[tuple[float, str]]:
    """Return the sound of the agent that reached the caller: each stretch with its begin, in words."""
    return [
        (round(stretch.at, 3), "".join(sound.words for sound in sounds_in(stretch.audio)))
        for stretch in caller.carrier.played()
    ]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == "patter_trio.call"]
    return [record.getMessage().partition(": ")[2] for record in records if record.levelno >= logging.WARNING]


@pytest.mark.all_carriers(quick=True)
async def test_reply_goes_on_with_its_sentence(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """After 3 s without a stream the caller hears the broken sentence again, whole, and the rest; the call goes on."""
    async with call_simulator(agent_of("It is noon.", first_message=GREETING)) as caller:
        caller.carrier.return_delay = 3.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        first = await caller.hears()
        await caller.speaks("What time is it", 1.0)
        await caller.hears()
    assert caller.carrier.streams == 2
    assert heard(caller)[:2] == [(0.2, "Hotel Miller,"), (4.0, FIRST + SECOND)]
    assert first.ended == pytest.approx(4.0 + 0.06 * len(FIRST + SECOND))
    # What was said twice was heard once, as far as history and metrics go.
    assert caller.dialogue == [("assistant", GREETING), ("user", "What time is it"), ("assistant", "It is noon.")]
    assert caller.payloads("agent_speech_ended")[0]["speech_duration_ms"] == 60 * len(FIRST + SECOND)
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]
    [line] = warnings_of(caplog)
    assert line.startswith("goes on after 3.0 s over another stream: the carrier's stream was lost")


@pytest.mark.all_carriers(quick=True)
async def test_heard_sentence_is_not_repeated(call_simulator: CallSimulator) -> None:
    """A stream that is lost in the second sentence repeats the second alone.

    One lost behind the end repeats nothing.
    """
    async with call_simulator(agent_of("Yes.", first_message=GREETING)) as caller:
        await caller.at(2.5)
        caller.carrier.lose_stream()
        await caller.hears()
        caller.carrier.lose_stream()
        await caller.waits(3.0)
    assert "".join(words for _, words in heard(caller)) == FIRST + "How can I" + SECOND
    assert caller.carrier.streams == 3


@pytest.mark.all_carriers(quick=True)
async def test_question_across_the_loss_is_answered(call_simulator: CallSimulator) -> None:
    """What the caller said before the loss ends in silence, and its answer waits for the next stream."""
    async with call_simulator(agent_of("It is noon.")) as caller:
        caller.carrier.return_delay = 5.0
        await caller.at(1.0)
        await caller.speaks("What time is it", 1.0)
        await caller.at(2.1)
        caller.carrier.lose_stream()
        answer = await caller.hears()
    assert (answer.text, round(answer.started, 3)) == ("It is noon.", 7.1)
    # Silence took the place of the lost audio at once: the utterance ended as with a stream.
    assert caller.times("user_speech_eos") == [pytest.approx(2.5, abs=0.021)]
    assert caller.dialogue == [("user", "What time is it"), ("assistant", "It is noon.")]


@pytest.mark.parametrize("delay", [0.3, 4.0])
async def test_recording_has_silence_for_the_loss(call_simulator: CallSimulator, tmp_path: Path, delay: float) -> None:
    """Both sides of the recording stay on the call's clock: lost audio of the caller is silence of the same length."""
    async with call_simulator(agent_of("It is noon.", first_message=GREETING), record_to=tmp_path) as caller:
        caller.carrier.return_delay = delay
        await caller.at(1.0)
        caller.carrier.lose_stream()
        # Said into the void.
        await caller.speaks("Hello", min(0.2, delay))
        await caller.heard(0)
        said = await caller.speaks("What time is it", 1.0)
        await caller.heard(1)
        await caller.at(13.0)
    left, right = sides_in(tmp_path)
    begin, end = round(said.started * 8000), round(said.ended * 8000)
    sent, played = caller.carrier.recording()
    np.testing.assert_array_equal(left[begin:end], sent[begin:end])
    assert not left[8000 : round((1.0 + delay) * 8000)].any()
    length = min(len(right), len(played))
    np.testing.assert_array_equal(right[:length], played[:length])


@pytest.mark.parametrize("losses", [[6.0], [2.5, 2.8], [1.0, 6.0]], ids=str)
async def test_losses_keep_the_recording(call_simulator: CallSimulator, tmp_path: Path, losses: list[float]) -> None:
    """The recording keeps what the caller heard, no less and no more.

    A stream is lost behind the end of the greeting; also after one that was lost within it, and went on; and twice
    within it, the second time before the caller has heard as much as the first time.
    """
    async with call_simulator(agent_of("It is noon.", first_message=GREETING), record_to=tmp_path) as caller:
        for loss in losses:
            await caller.at(loss)
            caller.carrier.lose_stream()
        await caller.at(10.0)
    _, right = sides_in(tmp_path)
    _, played = caller.carrier.recording()
    length = min(len(right), len(played))
    np.testing.assert_array_equal(right[:length], played[:length])
    assert not right[length:].any()
    assert not played[length:].any()


def sides_in(folder: Path) -> tuple[Any, Any]:
    [path] = folder.iterdir()
    samples = np.frombuffer(path.read_bytes()[HEAD_BYTES:], np.int16)
    return samples[::2], samples[1::2]


@pytest.mark.all_carriers(quick=True)
async def test_call_without_another_stream_ends(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten seconds after the loss the call ends as before: failed, once, with the reason; Telnyx is told to hang up."""
    async with call_simulator(agent_of("Yes.", first_message=GREETING)) as caller:
        caller.carrier.return_delay = 60.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        await caller.waits(RECONNECT_TIMEOUT_S + 1.0)
        assert caller.outcome == "failed"
    [end] = caller.payloads("call_end")
    assert end["error"].startswith("the carrier's stream was lost")
    assert caller.times("call_end") == [pytest.approx(1.0 + RECONNECT_TIMEOUT_S, abs=0.001)]
    assert caller.dialogue == [("assistant", "Hotel Miller,")]
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("name", ["connection reset", "connection ended", "truncated frame", "closed by an error"])
async def test_losses_of_the_catalogue_are_survived(call_simulator: CallSimulator, name: str) -> None:
    """A reset, an end without a close frame, half a frame, and code 1011 of a proxy: the carrier comes back."""
    async with call_simulator(agent_of("Yes.", first_message=GREETING)) as caller:
        await caller.at(1.0)
        FAULTS[name].injection(caller.carrier)
        caller.carrier.returns = True
        await caller.hears()
    assert "".join(words for _, words in heard(caller)) == "Hotel Miller," + FIRST + SECOND
    assert caller.outcome == "caller_hung_up"


async def test_cut_without_stream_keeps_heard_text(call_simulator: CallSimulator) -> None:
    """A reply that is cut during the loss counts as heard up to its begin, and says nothing more."""
    phone = Patter()
    agent = agent_of("Yes.", first_message=GREETING)
    async with call_simulator(agent, phone) as caller:
        caller.carrier.return_delay = 2.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        await caller.at(2.0)
        phone.calls[0].say("One moment.", interrupt=True)
        await caller.at(6.0)
    assert [words for _, words in heard(caller)] == ["Hotel Miller,", "One moment."]
    assert caller.dialogue == [("assistant", "Hotel Miller,"), ("assistant", "One moment.")]


@pytest.mark.all_carriers(quick=True)
async def test_agent_hangs_up_without_a_stream(call_simulator: CallSimulator) -> None:
    """An agent that hangs up during the loss ends the call at once, also at the carrier, before that comes back."""
    phone = Patter()
    async with call_simulator(agent_of("Yes."), phone) as caller:
        caller.carrier.return_delay = 3.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        await caller.at(2.0)
        phone.calls[0].hang_up()
        await caller.at(3.0)
        assert caller.carrier.ended == "agent_hung_up"
    assert caller.outcome == "agent_hung_up"
    assert caller.times("call_end") == [pytest.approx(2.0, abs=0.001)]


async def test_slow_answer_waits_for_the_stream(call_simulator: CallSimulator) -> None:
    """An answer that is ready during the loss is said over the next stream, and does not count as failed."""
    agent = agent_of(llm=ScriptedLLM(["It is noon."], first_token=5.0))
    async with call_simulator(agent) as caller:
        caller.carrier.return_delay = 9.0
        await caller.at(1.0)
        await caller.speaks("What time is it", 1.0)
        await caller.at(3.0)
        caller.carrier.lose_stream()
        answer = await caller.hears()
    assert (answer.text, answer.started) == ("It is noon.", pytest.approx(12.0))


@pytest.mark.all_carriers(quick=True)
async def test_caller_hangs_up_without_a_stream(call_simulator: CallSimulator) -> None:
    """A caller who hangs up during the loss ends the call at once: the carrier reports it, as no stream can."""
    async with call_simulator(agent_of("Yes.")) as caller:
        caller.carrier.return_delay = 5.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        await caller.at(2.0)
        await caller.hangs_up()
    assert caller.times("call_end") == [pytest.approx(2.0, abs=0.001)]
    assert caller.carrier.ended == "caller_hung_up"


async def test_second_loss_without_a_stream_changes_nothing(call_simulator: CallSimulator) -> None:
    """A test that loses the stream again before the next one is there still gets the next one."""
    async with call_simulator(agent_of("Yes.", first_message=GREETING)) as caller:
        caller.carrier.return_delay = 3.0
        await caller.at(1.0)
        caller.carrier.lose_stream()
        await caller.at(2.0)
        caller.carrier.lose_stream()
        await caller.hears()
    assert heard(caller) == [(0.2, "Hotel Miller,"), (4.0, FIRST + SECOND)]
    assert caller.outcome == "caller_hung_up"


@each_carrier
async def test_each_refusal_of_a_lost_call_is_logged(
    name: str, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that waits for a stream is not under the limit of lines about calls, which may be those of strangers."""
    async with wire_to_server(name) as wire:
        order, stream = await live(wire)
        await stream.lose()
        for _ in range(MAX_LINES_OF_CALLS + 2):
            await closed(await wire.open_stream(wire.call_id(), order))
        wire.post("completed", wire.call_id())
        await trio.sleep(1.0)
    refused = [line for line in caplog.messages if "wrong, used or expired" in line]
    assert len(refused) == MAX_LINES_OF_CALLS + 2
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


# Tokens ---------------------------------------------------------------------------------------------------------------
async def live(wire: Wire) -> tuple[Order, Stream]:
    order = await wire.announce(wire.call_id())
    assert order is not None
    stream = await wire.open_stream(wire.call_id(), order)
    await trio.sleep(0.5)
    return order, stream


async def lost(wire: Wire) -> tuple[Order, Order]:
    """Open the stream of a call and lose it; return its order, and that of the next stream."""
    first, stream = await live(wire)
    await stream.lose()
    order = await wire.again(wire.call_id())
    assert order is not None
    return first, order


async def closed(stream: Stream) -> tuple[int, str] | None:
    with trio.fail_after(20):
        await stream.over.wait()
    return stream.closed


@each_carrier
async def test_strangers_cannot_take_a_lost_call(name: str, autojump_clock: CLOCK) -> None:
    """The used token does not open a lost call; that of the wait does, once, whatever asked for it how often."""
    refused = (1008, "the call is unknown, or its token is wrong, used or expired")
    async with wire_to_server(name) as wire:
        order, stream = await live(wire)
        # No stranger makes a live call lose its stream: without a loss there is no token.
        assert await closed(await wire.open_stream(wire.call_id(), order)) == refused
        await stream.lose()
        await trio.sleep(0.1)
        assert await closed(await wire.open_stream(wire.call_id(), order)) == refused
        first, second = await wire.again(wire.call_id()), await wire.again(wire.call_id())
        assert first is not None
        assert first == second
        assert first.token != order.token
        taken = await wire.open_stream(wire.call_id(), first)
        await trio.sleep(1.0)
        assert taken.closed is None
        assert await closed(await wire.open_stream(wire.call_id(), first)) == refused
        await taken.hang_up()
        # Over: nothing is minted for an ended id.
        assert await wire.again(wire.call_id()) is None
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]
    assert len(wire.starts) == 1


@pytest.mark.parametrize("name", ["twilio", "plivo"])
async def test_carrier_may_notice_a_loss_first(name: str, autojump_clock: CLOCK) -> None:
    """A carrier that asks how the call goes on has lost its stream, even if the socket looks alive."""
    async with wire_to_server(name) as wire:
        _, stream = await live(wire)
        order = await wire.again(wire.call_id())
        assert order is not None
        taken = await wire.open_stream(wire.call_id(), order)
        assert await closed(stream) is not None
        await trio.sleep(1.0)
        await taken.hang_up()
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


@pytest.mark.parametrize("name", ["twilio", "plivo"])
async def test_repeated_return_leaves_the_next_stream(name: str, autojump_clock: CLOCK) -> None:
    """The question about the first stream, repeated while the second runs, gets no token and ends nothing."""
    async with wire_to_server(name) as wire:
        first, order = await lost(wire)
        taken = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(2.0)
        assert await wire.again(wire.call_id(), first) is None
        await trio.sleep(12.0)
        assert (taken.closed, wire.ends) == (None, [])
        # A further loss is asked about with the stream's own reference.
        await taken.lose()
        third = await wire.again(wire.call_id(), order)
        assert third is not None
        assert third.token != order.token
        taken = await wire.open_stream(wire.call_id(), third)
        await trio.sleep(1.0)
        await taken.hang_up()
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


@pytest.mark.parametrize("name", ["twilio", "plivo"])
async def test_stream_that_did_not_open_is_ordered_again(name: str, autojump_clock: CLOCK) -> None:
    """A carrier that cannot open the second stream asks about that one, and gets the same order again."""
    async with wire_to_server(name) as wire:
        _, order = await lost(wire)
        await trio.sleep(3.0)
        again = await wire.again(wire.call_id(), order)
        assert again == order
        taken = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(1.0)
        assert taken.closed is None
        await taken.hang_up()
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


async def test_slow_stream_of_telnyx_is_accepted(autojump_clock: CLOCK) -> None:
    """A stream that opens 2.5 s after its command is taken, although a second command was given meanwhile."""
    async with wire_to_server("telnyx") as wire:
        _, stream = await live(wire)
        seen = len(wire.commands)
        await stream.lose()
        await trio.sleep(2.5)
        first, second = [body for name, body in wire.commands[seen:] if name == "streaming_start"]
        # Telnyx would ignore a second command with the id of the first.
        assert "command_id" not in first
        assert first == second
        taken = await wire.open_stream(wire.call_id(), Order(first["stream_url"], first["stream_auth_token"]))
        await trio.sleep(9.0)
        assert (taken.closed, wire.ends) == (None, [])
        assert len([name for name, _ in wire.commands[seen:] if name == "streaming_start"]) == 2
        await taken.hang_up()
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


@each_carrier
@pytest.mark.parametrize("status", ["completed", "busy"])
@pytest.mark.parametrize("first", [False, True])
async def test_hang_up_ends_a_lost_call(
    name: str, status: str, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture, *, first: bool
) -> None:
    """A final status behind the loss of a stream, or just before it, ends the call at once as a hang-up, not a failure.

    Whatever the status is: the carrier has not lost the call, and with an orderly stream it would be a hang-up, too.
    """
    async with wire_to_server(name) as wire:
        _, stream = await live(wire)
        if first:
            wire.post(status, wire.call_id())
            await trio.sleep(0.1)
        await stream.lose()
        await trio.sleep(0.1)
        if not first:
            assert wire.ends == []
            wire.post(status, wire.call_id())
        await trio.sleep(1.0)
        assert [(end["outcome"], "error" in end) for end in wire.ends] == [("caller_hung_up", False)]
        assert await wire.again(wire.call_id()) is None
    assert warnings_of(caplog) == []


@each_carrier
async def test_lost_call_is_ended_by_request(name: str, autojump_clock: CLOCK) -> None:
    """A call without a stream is ended over REST, once, at every carrier, which no close can tell that it is over."""
    async with wire_to_server(name) as wire:
        _, stream = await live(wire)
        await stream.lose()
        await trio.sleep(RECONNECT_TIMEOUT_S - 1.0)
        assert wire.hang_ups == 0
        await trio.sleep(20.0)
        assert wire.hang_ups == 1
        assert [end["outcome"] for end in wire.ends] == ["failed"]


@each_carrier
@pytest.mark.parametrize("hung_up", [False, True])
async def test_proxy_that_goes_away_loses_the_stream(name: str, autojump_clock: CLOCK, *, hung_up: bool) -> None:
    """A close with 1001 and without a stop is a loss: the call goes on, or ends as the carrier's report says."""
    async with wire_to_server(name) as wire:
        _, stream = await live(wire)
        await stream.socket.aclose(1001, "restarting")
        await trio.sleep(0.1)
        assert wire.ends == []
        if hung_up:
            wire.post("completed", wire.call_id())
        else:
            order = await wire.again(wire.call_id())
            assert order is not None
            stream = await wire.open_stream(wire.call_id(), order)
            await trio.sleep(12.0)
            assert (stream.closed, stream.words) == (None, "Hello.")
            await stream.hang_up()
        await trio.sleep(1.0)
        assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


@each_carrier
async def test_close_without_a_code_is_a_hang_up(
    name: str, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty close frame ends the call at once, as one with 1000 does: the peer has closed in order."""
    async with wire_to_server(name) as wire:
        _, stream = await live(wire)
        await stream.socket._stream.send_all(frame(CLOSE_OPCODE))
        await trio.sleep(0.1)
        assert [(end["outcome"], "error" in end) for end in wire.ends] == [("caller_hung_up", False)]
        assert await wire.again(wire.call_id()) is None
    assert warnings_of(caplog) == []


@each_carrier
async def test_ended_stream_needs_no_request(name: str, autojump_clock: CLOCK) -> None:
    """A call that got its stream back and then ends with it is ended by request at Telnyx alone, as any other."""
    async with wire_to_server(name) as wire:
        _, order = await lost(wire)
        await wire.open_stream(wire.call_id(), order)
        await trio.sleep(1.0)
        wire.phone.calls[0].hang_up()
        await trio.sleep(5.0)
        assert wire.hang_ups == (name == "telnyx")


@pytest.mark.parametrize("name", ["twilio", "plivo"])
@pytest.mark.parametrize("placed", [False, True])
async def test_hang_up_before_the_first_stream(
    name: str, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture, *, placed: bool
) -> None:
    """A carrier that asks with a final status before a stream has come reports the caller's hang-up, not a failure."""
    async with wire_to_server(name) as wire:
        if placed:
            await wire.phone.call("+15550100009")
            order = await wire.announce(wire.placed_id, wire.reference)
        else:
            order = await wire.announce(wire.call_id())
        assert order is not None
        call_id = wire.placed_id if placed else wire.call_id()
        await trio.sleep(0.5)
        wire.server.on_returned(CallReturned(call_id, order.reference, is_over=True))
        wire.post("completed", call_id)
        await trio.sleep(1.0)
        assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]
    assert warnings_of(caplog) == []
