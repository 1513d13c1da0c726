"""The vendor's own SDK as the judge of our messages and of our codec, and its client against our fake server."""

import base64
import inspect
import json
import subprocess
import sys
import warnings
from itertools import chain
from typing import Any

import pytest
import trio

pytest.importorskip("elevenlabs", reason="the vendor's SDK is not installed: pip install 'patter-trio[oracles]'")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import elevenlabs.types as vendor_types
    from elevenlabs.text_to_speech.client import TextToSpeechClient
    from elevenlabs.v_1_text_to_speech_voice_id_multi_stream_input.types import ReceiveMessageMulti, SendMessageMulti

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from patter_trio.testing.servers.elevenlabs import FakeElevenLabs, serve_elevenlabs
from patter_trio.tts.elevenlabs import ElevenLabsTTS
from patter_trio.wire import elevenlabs as wire

pytestmark = pytest.mark.no_coverage

SETTINGS: wire.Settings = {
    "stability": 0.5,
    "similarity_boost": 0.7,
    "style": 0.0,
    "speed": 1.1,
    "use_speaker_boost": True,
}
SENT = [
    (wire.begin("c", SETTINGS), vendor_types.InitializeConnectionMulti),
    (wire.begin("c", {}), vendor_types.InitializeConnectionMulti),
    (wire.say("c", "Good morning."), vendor_types.SendTextMulti),
    (wire.flush("c"), vendor_types.FlushContext),
    (wire.close("c"), vendor_types.CloseContext),
    (wire.keep_alive("c"), vendor_types.KeepContextAlive),
    (wire.keep_alive(), vendor_types.SendTextMulti),
]
MISTAKES = [
    ({"text": " ", "contextId": "c"}, vendor_types.InitializeConnectionMulti),
    ({"text": " ", "context_id": "c", "voice_settings": {"stabilty": 1}}, vendor_types.InitializeConnectionMulti),
    ({"text": "x", "context_id": "c"}, vendor_types.InitializeConnectionMulti),
    ({"context_id": "c"}, vendor_types.SendTextMulti),
    ({"context_id": "c", "flush": "perhaps"}, vendor_types.FlushContext),
    ({"context_id": "c", "close": True}, vendor_types.CloseContext),
    ({"context_id": "c", "text": " "}, vendor_types.KeepContextAlive),
]


class NotTheirs(Exception):
    """The error for a key that the vendor's model does not have."""


def strictly(kind: type[BaseModel], raw: dict[str, Any]) -> BaseModel:
    """Validate a message, and refuse also unknown keys at any depth and names instead of aliases."""
    parsed = TypeAdapter(kind).validate_python(raw)
    _walk(parsed, raw)
    return parsed


def _walk(parsed: object, raw: object) -> None:
    if isinstance(parsed, BaseModel) and isinstance(raw, dict):
        fields = type(parsed).model_fields
        names = {field.alias or name: name for name, field in fields.items()}
        if unknown := set(raw) - set(names):
            raise NotTheirs(f"{type(parsed).__name__} has no {unknown}")
        for key, value in raw.items():
            _walk(getattr(parsed, names[key]), value)


@pytest.mark.parametrize(("message", "kind"), SENT)
def test_what_we_send_is_one_of_their_messages(message: str, kind: type[BaseModel]) -> None:
    """The SDK's models accept each message that the codec sends and know all its keys."""
    strictly(kind, json.loads(message))
    TypeAdapter(SendMessageMulti).validate_python(json.loads(message))


@pytest.mark.deep
@pytest.mark.parametrize(("message", "kind"), MISTAKES)
def test_a_message_with_a_mistake_is_refused(message: dict[str, Any], kind: type[BaseModel]) -> None:
    """The oracle refuses a message with a wrong key, a missing key or a wrong value."""
    with pytest.raises((NotTheirs, ValidationError)):
        strictly(kind, message)


TIMES = st.lists(st.tuples(st.text(min_size=1, max_size=1), st.integers(0, 9999), st.integers(0, 999)), max_size=20)


@st.composite
def their_alignment(draw: st.DrawFn) -> Any:
    rows = draw(TIMES)
    return vendor_types.Alignment(
        chars=[c for c, _, _ in rows],
        charStartTimesMs=[s for _, s, _ in rows],
        charDurationsMs=[d for _, _, d in rows],
    )


@pytest.mark.deep
@given(st.binary(min_size=1), their_alignment() | st.none(), st.sampled_from(["c", None]), st.booleans())
def test_all_that_their_models_can_say_is_understood(
    sound: bytes, alignment: Any, context: str | None, exclude: bool
) -> None:
    """The codec reads audio, times and end from any message that the SDK's models can produce."""
    said = vendor_types.AudioOutputMulti(audio=base64.b64encode(sound).decode(), alignment=alignment, contextId=context)
    [event] = wire.receive(said.model_dump_json(by_alias=True, exclude_none=exclude))
    assert isinstance(event, wire.Audio)
    assert (event.context, event.audio) == (context or "", sound)
    if alignment is None:
        assert event.characters is None
    else:
        assert event.characters is not None
        assert [c.text for c in event.characters] == alignment.chars
        assert [round(c.start * 1000) for c in event.characters] == alignment.char_start_times_ms
    over = vendor_types.FinalOutputMulti(isFinal=True, contextId=context)
    assert wire.receive(over.model_dump_json(by_alias=True)) == (wire.Finished(context or ""),)


@pytest.mark.deep
async def test_elevenlabs_server_sends_only_vendor_messages() -> None:
    """Every message of our fake server and of our client fits a message model of the ElevenLabs SDK."""
    heard: list[dict[str, Any]] = []
    received = wire.receive

    def noting(message: str | bytes) -> tuple[wire.Event, ...]:
        heard.append(json.loads(message))
        return received(message)

    async def text() -> Any:
        for sentence in ("Good morning.", "Bye."):
            yield sentence

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "receive", noting)
        async with (
            serve_elevenlabs(FakeElevenLabs(first_audio=0.0, speed=1000)) as vendor,
            ElevenLabsTTS(api_key="key", base_url=vendor.url, **SETTINGS).open(language="en") as session,  # type: ignore[arg-type]
            session.speak(text()) as chunks,
        ):
            assert [chunk async for chunk in chunks]
        for seen in vendor.messages:
            TypeAdapter(SendMessageMulti).validate_python(seen.message)
            kinds = chain(dict.fromkeys(kind for _, kind in SENT))
            assert any(_fits(kind, seen.message) for kind in kinds)
    assert heard
    for message in heard:
        TypeAdapter(ReceiveMessageMulti).validate_python(message)
        assert _fits(vendor_types.AudioOutputMulti, message) or _fits(vendor_types.FinalOutputMulti, message)


def _fits(kind: type[BaseModel], message: dict[str, Any]) -> bool:
    try:
        strictly(kind, message)
    except (NotTheirs, ValidationError):
        return False
    return True


CLIENT = """
import sys
from elevenlabs.client import ElevenLabs
client = ElevenLabs(api_key=sys.argv[2], base_url=sys.argv[1])
if sys.argv[3] == "stream":
    pieces = client.text_to_speech.stream("voice", text="Good morning.", output_format="ulaw_8000", model_id="m")
else:
    client.text_to_speech._ws_base_url = sys.argv[1].replace("http", "ws", 1)
    pieces = client.text_to_speech.convert_realtime("voice", text=iter(["Good ", "morning."]), model_id="m")
sys.stdout.buffer.write(b"".join(pieces))
"""


async def run_client(url: str, key: str, way: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, url, key, way]
    with trio.fail_after(60):
        return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


@pytest.mark.deep
@pytest.mark.parametrize("way", ["stream", "realtime"])
async def test_their_client_is_content_with_our_server(way: str) -> None:
    """The vendor's client gets at least 10 frames from our fake server, over HTTP and over the WebSocket."""
    async with serve_elevenlabs(FakeElevenLabs(first_audio=0.0, speed=1000)) as vendor:
        done = await run_client(vendor.url, "key", way)
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout) >= 160 * 10
    assert "text-to-speech/voice/stream" in vendor.targets[0]


@pytest.mark.deep
@pytest.mark.parametrize("way", ["stream", "realtime"])
async def test_their_client_is_refused_with_a_wrong_key(way: str) -> None:
    """Our fake server refuses the vendor's client with a wrong key and speaks nothing."""
    async with serve_elevenlabs() as vendor:
        done = await run_client(vendor.url, "wrong", way)
    assert done.returncode != 0
    assert not done.stdout
    assert vendor.spoken == 0


@pytest.mark.deep
async def test_our_http_request_has_the_keys_of_theirs() -> None:
    """Our HTTP request has the query, the keys and the settings that the vendor's client sends and knows."""

    async def once() -> Any:
        yield "Good morning."

    async with serve_elevenlabs(FakeElevenLabs(first_audio=0.0, speed=1000)) as vendor:
        await run_client(vendor.url, "key", "stream")
        tts = ElevenLabsTTS(api_key="key", base_url=vendor.url, transport="http", normalization="on", **SETTINGS)  # type: ignore[arg-type]
        async with tts.open(language="en") as session, session.speak(once()) as chunks:
            assert [chunk async for chunk in chunks]
    theirs, ours = vendor.requests
    assert theirs.items() <= {**ours, "model_id": "m"}.items()
    assert vendor.targets[0].partition("?")[2] == vendor.targets[1].partition("?")[2]
    assert set(ours) <= set(inspect.signature(TextToSpeechClient.stream).parameters)
    strictly(vendor_types.VoiceSettings, ours["voice_settings"])
