"""What differs between the carriers, row by row: the kit keeps each carrier's rules, and our server keeps to them."""

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.abc import CallInfo
from patter_trio.carriers.plivo import Plivo
from patter_trio.carriers.telnyx import Telnyx
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import CallRefused, ScriptedTTS
from patter_trio.testing.carriers import plivo_messages, telnyx_messages, twilio_messages
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import (
    BadAnswer,
    BadMessage,
    CarrierProtocol,
    StreamOrder,
    Tones,
    checked_stream_url,
)
from patter_trio.testing.faults.injections import swapped
from patter_trio.testing.simulation.carriers import (
    CARRIERS,
)
from patter_trio.testing.simulation.simulator import PUBLIC_URL, CallInvariantError
from tests.kit.call import agent_of
from tests.kit.carriers import line_of, line_to_server

SOUND = base64.b64encode(bytes(160)).decode()
each_carrier = pytest.mark.parametrize("name", CARRIERS)


def protocol_of(name: str) -> CarrierProtocol:
    return line_of(name).protocol


# Who decides after the webhook, and the socket's authentication -------------------------------------------------------
@each_carrier
async def test_full_server_lets_callers_hear_busy(autojump_clock: trio.testing.MockClock, name: str) -> None:
    """A caller whom a full server refuses hears busy, by the webhook's answer or by a command."""
    async with line_to_server(name, max_calls=0) as line:
        with pytest.raises(CallRefused) as refused:
            await line.run()
        assert refused.value.outcome == "busy"


async def test_webhook_answer_alone_opens_no_telnyx_call(autojump_clock: trio.testing.MockClock) -> None:
    """For Telnyx, the webhook's answer decides nothing: without a command the call is not answered."""
    async with trio.open_nursery() as nursery:

        async def connect() -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(answer, theirs)
            return ours

        async def answer(stream: trio.abc.Stream) -> None:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 11\r\n\r\n<Response/>")

        with pytest.raises(CallRefused, match="no command answered the call within 15 s"):
            await line_of("telnyx", connect).run()
        assert trio.current_time() == pytest.approx(15.0)


class _Again(SimulatedCarrier):
    """A stream that presents what another stream has presented before."""

    order = StreamOrder("")

    async def announce(self) -> StreamOrder:
        await trio.lowlevel.checkpoint()
        return self.order


@each_carrier
async def test_used_token_opens_no_second_stream(autojump_clock: trio.testing.MockClock, name: str) -> None:
    """A token is good for one stream: a second one with the same secrets is closed, and the first call goes on."""
    async with line_to_server(name) as line, trio.open_nursery() as nursery:
        order = await line.announce()
        first = _Again(line._connect, PUBLIC_URL, line.protocol)
        second = _Again(line._connect, PUBLIC_URL, line.protocol)
        first.order = second.order = order
        # A carrier has one stream for a call, and would ask how the call goes on when that is over.
        second.returns = False
        await nursery.start(first.run)
        nursery.start_soon(second.run)
        await trio.sleep(1.0)
        assert second.close_code == 1008
        assert first.ended is None
        nursery.cancel_scope.cancel()


# Messages -------------------------------------------------------------------------------------------------------------
OPENINGS: Mapping[str, tuple[list[str], str]] = {
    "twilio": (["connected", "start"], "streamSid"),
    "telnyx": (["connected", "start"], "stream_id"),
    "plivo": (["start"], "streamId"),
}


@each_carrier
def test_first_frame_and_stream_id(name: str) -> None:
    """The first frame, and the place of the stream's id, are the carrier's."""
    protocol = protocol_of(name)
    opening = [json.loads(message) for message in protocol.opening(StreamOrder("wss://agent.test/x"))]
    events, key = OPENINGS[name]
    assert [message["event"] for message in opening] == events
    assert len(opening) == protocol.opening_messages
    start, later = opening[-1], json.loads(protocol.played("m"))
    assert later[key] == protocol.stream_id
    # Plivo's is within the start message, and at the top only afterwards.
    assert (key in start) == (name != "plivo")
    assert name != "plivo" or start["start"][key] == protocol.stream_id


@each_carrier
def test_numbers_are_text_except_plivos(name: str) -> None:
    """Numbers are text for Twilio and Telnyx; for Plivo they are numbers, except the timestamp."""
    message = json.loads(protocol_of(name).media(2, bytes(160)))
    number = 2 if name == "plivo" else "2"
    assert (message["media"]["chunk"], message["media"]["timestamp"]) == (number, "20")
    sequence = message["sequence_number" if name == "telnyx" else "sequenceNumber"]
    assert type(sequence) is (int if name == "plivo" else str)


# Whether each message may do without the stream's id.
WITHOUT_ID: Mapping[str, dict[str, tuple[dict[str, Any], bool]]] = {
    "twilio": {
        "audio": ({"event": "media", "media": {"payload": SOUND}}, False),
        "mark": ({"event": "mark", "mark": {"name": "m"}}, False),
        "clear": ({"event": "clear"}, False),
    },
    "telnyx": {
        "audio": ({"event": "media", "media": {"payload": SOUND}}, True),
        "mark": ({"event": "mark", "mark": {"name": "m"}}, True),
        "clear": ({"event": "clear"}, True),
    },
    "plivo": {
        "audio": (
            {"event": "playAudio", "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": SOUND}},
            True,
        ),
        "mark": ({"event": "checkpoint", "name": "m"}, False),
        "clear": ({"event": "clearAudio"}, False),
    },
}


@each_carrier
@pytest.mark.parametrize("kind", ["audio", "mark", "clear"])
def test_stream_id_is_needed_where_documented(name: str, kind: str) -> None:
    """A message without the stream's id is refused where the carrier needs the id, and nowhere else."""
    message, is_accepted = WITHOUT_ID[name][kind]
    if is_accepted:
        protocol_of(name).read(json.dumps(message))
        return
    with pytest.raises(BadMessage):
        protocol_of(name).read(json.dumps(message))


@pytest.mark.parametrize(
    ("name", "other"), [(a, b) for a in CARRIERS for b in CARRIERS if "plivo" in (a, b) and a != b]
)
def test_audio_of_another_carrier_is_refused(name: str, other: str) -> None:
    """Audio in the event of another carrier is refused."""
    message, _ = WITHOUT_ID[other]["audio"]
    with pytest.raises(BadMessage):
        protocol_of(name).read(json.dumps(message))


# The order of a stream ------------------------------------------------------------------------------------------------
GOOD_XML = (
    '<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000">'
    "wss://agent.test/x</Stream></Response>"
)
GOOD_COMMAND = {"stream_url": "wss://agent.test/x", "stream_track": "inbound_track", "stream_bidirectional_mode": "rtp"}


@pytest.mark.parametrize("left_out", ["bidirectional", "keepCallAlive", "contentType"])
def test_plivo_streams_are_one_way_by_default(left_out: str) -> None:
    """A stream of Plivo's without what makes it an agent's is refused: one-way, L16, or ended at once."""
    assert isinstance(plivo_messages.read_xml(GOOD_XML.encode()), plivo_messages.StreamXML)
    with pytest.raises(BadAnswer, match=left_out):
        plivo_messages.read_xml(GOOD_XML.replace(f"{left_out}=", "streamTimeout=").encode())


@pytest.mark.parametrize("left_out", ["stream_bidirectional_mode", "stream_track"])
def test_telnyx_streams_are_mp3_by_default(left_out: str) -> None:
    """A stream of Telnyx's without its mode or track is refused: it would be MP3, or bring our own speech back."""
    assert telnyx_messages.checked_stream_options(GOOD_COMMAND) == "wss://agent.test/x"
    with pytest.raises(BadAnswer, match=left_out):
        telnyx_messages.checked_stream_options({k: v for k, v in GOOD_COMMAND.items() if k != left_out})


def test_twilio_streams_are_two_way_by_connect() -> None:
    """A stream of Twilio's that is only forked is refused."""
    with pytest.raises(BadAnswer, match="<Connect>"):
        twilio_messages.read_twiml(b'<Response><Start><Stream url="wss://agent.test/x"/></Start></Response>')


def test_only_telnyx_takes_queries_of_streams() -> None:
    """The address of a stream may have a query for Telnyx alone."""
    with pytest.raises(BadAnswer, match="31920"):
        twilio_messages.read_twiml(b'<Response><Connect><Stream url="wss://agent.test/x?a=1"/></Connect></Response>')
    with pytest.raises(BadAnswer, match="query"):
        checked_stream_url("wss://agent.test/x?a=1", public_url=PUBLIC_URL)
    assert checked_stream_url("wss://agent.test/x?a=1", public_url=PUBLIC_URL, may_have_query=True)


@each_carrier
async def test_token_comes_back_in_the_start(autojump_clock: trio.testing.MockClock, name: str) -> None:
    """What the server gives the carrier comes back where the carrier puts it."""
    async with line_to_server(name) as line:
        order = await line.announce()
        start = json.loads(line.protocol.opening(order)[-1])
        match name:
            case "twilio":
                assert list(start["start"]["customParameters"]) == ["token"]
            case "telnyx":
                token = line.protocol.upgrade_headers(order)["x-telnyx-streaming-auth-token"]
                assert token in base64.b64decode(start["start"]["client_state"]).decode()
            case _:
                assert start["extra_headers"].startswith("token=")


# DTMF, hang-up and clear ----------------------------------------------------------------------------------------------
def test_plivo_sends_digits_within_the_stream() -> None:
    """Plivo's stream takes digits for the caller; the others' streams have no such message."""
    message = Plivo("MA1", "hush").new_codec().digits("12#")
    assert protocol_of("plivo").read(message) == Tones("12#")
    for name in ("twilio", "telnyx"):
        with pytest.raises(BadMessage):
            protocol_of(name).read(message)


async def test_telnyx_sends_digits_by_request(call_simulator: CallSimulator) -> None:
    """Telnyx sends digits to the caller by a command."""
    phone = Patter(carrier=Telnyx(api_key="key", public_key=base64.b64encode(bytes(32)).decode()))
    async with call_simulator(agent_of(first_message="Hello."), phone) as caller:
        await caller.hears()
        info = CallInfo(caller.carrier.call_id, "+15550100001", "+15550100002", "inbound")
        assert await phone.carrier.send_digits(info, "12#")
        assert caller.carrier.tones == "12#"


class _Careless(Telnyx):
    """Telnyx as if the end of the stream ended the call."""

    ends_with_stream: ClassVar[bool] = True


async def test_telnyx_calls_outlive_their_streams(call_simulator: CallSimulator) -> None:
    """The kit notices a server that closes Telnyx's stream and leaves the caller in silence."""
    phone = Patter(carrier=_Careless(api_key="key", public_key=base64.b64encode(bytes(32)).decode()))

    def on_dtmf(event: dict[str, Any], call: Any) -> None:
        call.hang_up()

    async def call() -> None:
        async with call_simulator(agent_of(first_message="Hello."), phone, on_dtmf=on_dtmf) as caller:
            await caller.hears()
            await caller.presses("1")
            await caller.waits(20.0)

    with pytest.raises(CallInvariantError, match="nobody ended the call"):
        await call()


@each_carrier
async def test_marks_behind_a_clear(call_simulator: CallSimulator, name: str) -> None:
    """Waiting marks come back after a clear, but Plivo confirms the clear instead; the caller hears the same."""
    sent: list[dict[str, Any]] = []

    def record(message: str) -> tuple[str]:
        sent.append(json.loads(message))
        return (message,)

    agent = agent_of("Five.", first_message="One two three four.", tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, carrier=name) as caller:
        caller.carrier.alter_messages(record)
        await caller.at(2.0)
        await caller.speaks("Stop", 0.6)
        answer = await caller.hears()
        assert answer.text == "Five."
    asked = [arrival.mark for arrival in caller.carrier.arrivals if arrival.mark]
    back = [
        message.get("name") or message["mark"]["name"]
        for message in sent
        if message["event"] in ("mark", "playedStream")
    ]
    confirmed = [message for message in sent if message["event"] == "clearedAudio"]
    if name == "plivo":
        assert confirmed
        assert set(back) < set(asked)
    else:
        assert back == asked
        assert not confirmed


async def test_telnyx_media_may_come_out_of_order(call_simulator: CallSimulator) -> None:
    """Frames that overtake each other are put back in order: the caller's words are understood and answered."""
    async with call_simulator(agent_of("At nine.", first_message="Hello."), carrier="telnyx") as caller:
        await caller.hears()
        swapped("media")(caller.carrier)
        await caller.speaks("When do you open", 1.2)
        assert (await caller.hears()).text == "At nine."
    assert ("user", "When do you open") in caller.dialogue
