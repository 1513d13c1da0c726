"""The codec of ElevenLabs' messages, by table and at random."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.errors import WireError
from patter_trio.wire import elevenlabs as wire
from patter_trio.wire.elevenlabs import Audio, Character, Failed, Fault, Finished

SOUND = base64.b64encode(b"abc").decode()
TIMES = {"chars": ["H", "i"], "charStartTimesMs": [0, 50], "charDurationsMs": [50, 25]}
HI = (Character("H", 0.0, 0.05), Character("i", 0.05, 0.075))


@pytest.mark.parametrize(
    ("message", "events"),
    [
        ({"audio": SOUND, "contextId": "a"}, (Audio("a", b"abc"),)),
        ({"audio": SOUND, "context_id": "a", "alignment": None}, (Audio("a", b"abc"),)),
        ({"audio": SOUND, "contextId": "a", "alignment": TIMES}, (Audio("a", b"abc", HI),)),
        (
            {
                "audio": SOUND,
                "contextId": "a",
                "alignment": {"chars": ["H"], "charStartTimesMs": [0], "charsDurationsMs": [50]},
            },
            (Audio("a", b"abc", HI[:1]),),
        ),
        ({"audio": SOUND, "contextId": "a", "alignment": {**TIMES, "chars": ["H"]}}, (Audio("a", b"abc"),)),
        ({"audio": SOUND, "contextId": "a", "alignment": {**TIMES, "chars": [1, 2]}}, (Audio("a", b"abc"),)),
        (
            {"audio": SOUND, "contextId": "a", "alignment": {**TIMES, "charStartTimesMs": [-1, 2]}},
            (Audio("a", b"abc"),),
        ),
        ({"audio": SOUND}, (Audio("", b"abc"),)),
        ({"audio": "", "contextId": "a"}, ()),
        ({"audio": None, "isFinal": True, "contextId": "a"}, (Finished("a"),)),
        ({"is_final": True, "contextId": "a"}, (Finished("a"),)),
        ({"audio": SOUND, "isFinal": True, "contextId": "a"}, (Audio("a", b"abc"), Finished("a"))),
        ({"audio": SOUND, "isFinal": None, "contextId": "a"}, (Audio("a", b"abc"),)),
        ({"isFinal": "yes"}, ()),
        ({"message": "wrong", "error": "invalid_api_key", "code": 1008}, (Failed("", Fault.CREDENTIALS, "wrong"),)),
        ({"error": "quota_exceeded", "contextId": "a"}, (Failed("a", Fault.TOO_MUCH, "quota_exceeded"),)),
        ({"message": "idle", "error": "input_timeout_exceeded", "code": 1008}, (Failed("", Fault.IDLE, "idle"),)),
        ({"message": "odd", "code": 1011}, (Failed("", Fault.OTHER, "odd"),)),
        ({"contextId": "a", "warming": 1}, ()),
        ({"error": {"message": "no such voice"}}, (Failed("", Fault.OTHER, "no such voice"),)),
        ({"error": {"code": "quota_exceeded", "message": "used up"}}, (Failed("", Fault.TOO_MUCH, "used up"),)),
        ({"type": "error", "message": "odd", "contextId": "a"}, (Failed("a", Fault.OTHER, "odd"),)),
        ({"type": "error"}, (Failed("", Fault.OTHER, "an error without a reason"),)),
        ({"detail": "Not found"}, (Failed("", Fault.OTHER, "Not found"),)),
        ({"detail": {"status": "invalid_api_key", "message": "wrong"}}, (Failed("", Fault.CREDENTIALS, "wrong"),)),
        ({"error": None, "contextId": "a"}, ()),
        ({"error": "x" * 1000}, (Failed("", Fault.OTHER, "x" * 300),)),
        ({"audio": SOUND, "contextId": "a", "error": "warning"}, (Audio("a", b"abc"),)),
    ],
)
def test_each_message_is_read_as_its_events(message: dict[str, object], events: tuple[wire.Event, ...]) -> None:
    """Each message of the table, as text or as bytes, is read as exactly its events."""
    assert wire.receive(json.dumps(message)) == events
    assert wire.receive(json.dumps(message).encode()) == events


@pytest.mark.parametrize(
    "spelling", ["charStartTimesMs", "charsStartTimesMs", "char_start_times_ms", "chars_start_times_ms"]
)
@pytest.mark.parametrize("lengths", ["charDurationsMs", "charsDurationsMs", "char_durations_ms", "chars_durations_ms"])
@pytest.mark.parametrize("texts", ["chars", "characters"])
@pytest.mark.parametrize("name", ["alignment", "normalizedAlignment", "normalized_alignment"])
def test_times_of_characters_in_each_spelling(spelling: str, lengths: str, texts: str, name: str) -> None:
    """Times of characters are read in each spelling, also if only those of the normalized text are there."""
    given = {texts: ["H", "i"], spelling: [0, 50], lengths: [50, 25]}
    message = {"audio": SOUND, "contextId": "a", "alignment": None, name: given}
    assert wire.receive(json.dumps(message)) == (Audio("a", b"abc", HI),)


def test_times_of_the_sent_text_come_first() -> None:
    """Of two alignments the one of the text as it was sent counts, unless it is malformed."""
    other = {"chars": ["x"], "charStartTimesMs": [0], "charDurationsMs": [1]}
    message = {"audio": SOUND, "contextId": "a", "alignment": TIMES, "normalizedAlignment": other}
    assert wire.receive(json.dumps(message)) == (Audio("a", b"abc", HI),)
    message |= {"alignment": {"chars": 3}, "normalizedAlignment": TIMES}
    assert wire.receive(json.dumps(message)) == (Audio("a", b"abc", HI),)


@pytest.mark.parametrize(
    "message", ["", "nonsense", "[]", "1", '{"audio": 1}', '{"audio": "é"}', '{"audio": "abc"}', b"\xff", "[" * 10**5]
)
def test_elevenlabs_protocol_violation_raises_wire_error(message: str | bytes) -> None:
    """A message that violates the ElevenLabs protocol raises WireError."""
    with pytest.raises(WireError):
        wire.receive(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(
    ["audio", "contextId", "context_id", "alignment", "isFinal", "is_final", "error", "message", "code"]
)


@given(st.dictionaries(KEYS, JSON | st.just(SOUND) | st.just(TIMES)) | JSON)
def test_no_json_crashes_it(message: object) -> None:
    """For any JSON, the codec returns events or raises WireError."""
    try:
        events = wire.receive(json.dumps(message))
    except WireError:
        return
    assert all(isinstance(event, wire.Event) for event in events)


@given(st.binary() | st.text())
def test_no_bytes_crash_it(message: str | bytes) -> None:
    """For any text or bytes, the codec raises nothing but WireError."""
    try:
        wire.receive(message)
    except WireError:
        return


@given(st.text(st.characters(exclude_categories=())), st.text(min_size=1))
def test_elevenlabs_text_message_is_valid_for_any_text(text: str, context: str) -> None:
    """The codec encodes any text, and the encoded text is never empty."""
    context = context.encode(errors="replace").decode()
    message = json.loads(wire.say(context, text))
    assert message["text"].endswith(" ")
    assert message["context_id"] == context


def test_a_voices_id_cannot_change_the_address() -> None:
    """A voice id with slashes, a query and a fragment is escaped in both URLs."""
    target = wire.socket_target(
        "../../x?y=#z", model="m", inactivity_timeout=20, language="", normalization="", logging=False
    )
    assert target.startswith("/v1/text-to-speech/..%2F..%2Fx%3Fy%3D%23z/multi-stream-input?model_id=m&")
    assert "enable_logging=false" in target
    assert wire.http_target("a/b", logging=True) == "/v1/text-to-speech/a%2Fb/stream?output_format=ulaw_8000"
