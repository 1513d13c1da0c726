"""ElevenLabsTTS against a server that speaks the vendor's protocol on loopback, in virtual time."""

import logging
import math
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import attrs
import pytest
import trio
import trio.testing

import patter_trio
from patter_trio import Fallback, Patter
from patter_trio.abc import SpeechChunk, TextToSpeechSession, Usage
from patter_trio.abc._usage import usage_sink
from patter_trio.agent.agent import Agent
from patter_trio.errors import (
    AuthenticationError,
    ConfigurationError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.net.tasks import run_beside
from patter_trio.net.websocket import connect
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller
from patter_trio.testing.scripted_providers.audible_text import Decoder, frames_of, word_times
from patter_trio.testing.servers.elevenlabs import ElevenLabsServer, FakeElevenLabs, serve_elevenlabs, serve_stream
from patter_trio.testing.servers.loopback import on_loopback
from patter_trio.tts.elevenlabs import ElevenLabsTTS
from patter_trio.tts.elevenlabs._websocket import WebSocketSession
from patter_trio.wire import elevenlabs as wire

Simulate = Callable[..., AbstractAsyncContextManager[SimulatedCaller]]
LONG = "Our opening hours are from nine in the morning to five in the afternoon on every day of the week."
WIRE = 0.05
"""Seconds within which a barge-in has to be on the wire."""


@pytest.fixture
def jumping(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


def provider(vendor: ElevenLabsServer, **options: object) -> ElevenLabsTTS:
    return ElevenLabsTTS(**{"api_key": "key", "base_url": vendor.url, **options})  # type: ignore[arg-type]


class Paced(AsyncIterator[str]):
    """A plain iterator of sentences, each ``every`` seconds after the one before, that can be left at any point."""

    def __init__(self, *sentences: str, every: float = 0.0) -> None:
        self._sentences = list(sentences)
        self._every = every
        self._pause = 0.0

    async def __anext__(self) -> str:
        await trio.sleep(self._pause)
        self._pause = self._every
        if not self._sentences:
            raise StopAsyncIteration
        return self._sentences.pop(0)


async def said(session: TextToSpeechSession, *sentences: str, every: float = 0.0) -> list[SpeechChunk]:
    async with session.speak(Paced(*sentences, every=every)) as chunks:
        return [chunk async for chunk in chunks]


def words_in(chunks: list[SpeechChunk]) -> str:
    decoder = Decoder()
    sounds = [sound for chunk in chunks for sound in decoder.feed(chunk.audio)] + decoder.finish()
    return "".join(sound.words for sound in sounds)


def spoken_as(sentence: str) -> list[tuple[str, float, float]]:
    """Return the words of a sentence, with the times at which the server's voice says them."""
    return word_times(sentence, frames_of(len(sentence) * FakeElevenLabs().per_character))


def agent_of(tts: ElevenLabsTTS, *replies: str, **options: object) -> Agent:
    return Patter().agent(
        "...", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(list(replies) or [LONG]), tts=tts, **options
    )


# The provider ---------------------------------------------------------------------------------------------------------
def test_missing_elevenlabs_key_error_names_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a missing API key names the class, its argument and the environment variable."""
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"ElevenLabsTTS.*api_key=.*ELEVENLABS_API_KEY"):
        ElevenLabsTTS()


def test_elevenlabs_key_from_environment_stays_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """ElevenLabsTTS reads the API key from the environment and never shows it."""
    monkeypatch.setenv("ELEVENLABS_API_KEY", "secret-of-the-environment")
    tts = ElevenLabsTTS()
    assert tts.headers == {"xi-api-key": "secret-of-the-environment"}
    assert "secret" not in repr(tts)
    assert "secret" not in repr(attrs.evolve(tts, voice="another"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stability": 1.1}, "stability"),
        ({"speed": 2}, "speed"),
        ({"use_speaker_boost": "yes"}, "use_speaker_boost"),
        ({"transport": "carrier pigeon"}, "transport"),
        ({"inactivity_timeout": 181}, "inactivity_timeout"),
        ({"voice": " "}, "voice"),
        ({"base_url": "ftp://somewhere"}, "base_url"),
        ({"language": 49}, "language= must be a string, got 49"),
        ({"api_key": "line\nbreak"}, "api_key"),
        ({"model": "eleven_v3"}, "eleven_v3"),
        ({"timeout": math.nan}, "timeout"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, object], named: str) -> None:
    """An invalid option of ElevenLabsTTS raises ConfigurationError that names the option or its value."""
    with pytest.raises(ConfigurationError, match=named):
        ElevenLabsTTS(**{"api_key": "key", **options})  # type: ignore[arg-type]


def test_it_is_exported_and_reached_by_its_module() -> None:
    """The package exports the class ElevenLabsTTS of patter_trio.tts.elevenlabs."""
    from patter_trio.tts import elevenlabs  # noqa: PLC0415 (the import is what is tested)

    assert patter_trio.ElevenLabsTTS is elevenlabs.ElevenLabsTTS


# The WebSocket --------------------------------------------------------------------------------------------------------
async def test_elevenlabs_reply_uses_one_full_context(jumping: object) -> None:
    """One context speaks the whole reply: the session opens, feeds, flushes and closes it."""
    async with serve_elevenlabs() as vendor, provider(vendor, stability=0.4).open(language="en-GB") as session:
        chunks = await said(session, "Good morning.", "How are you?")
        assert words_in(chunks) == "Good morning.How are you?"
        assert [chunk.text for chunk in chunks if chunk.text] == ["Good morning.", "How are you?"]
        await trio.sleep(0.1)
    assert [seen.message for seen in vendor.messages] == [
        {"text": " ", "context_id": "reply-1", "voice_settings": {"stability": 0.4}},
        {"text": "Good morning. ", "context_id": "reply-1"},
        {"text": "How are you? ", "context_id": "reply-1"},
        {"context_id": "reply-1", "flush": True},
        {"context_id": "reply-1", "close_context": True},
    ]
    [target] = vendor.targets
    assert target == (
        "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/multi-stream-input?model_id=eleven_flash_v2_5&output_format=ulaw_8000"
        "&auto_mode=true&sync_alignment=true&inactivity_timeout=180&language_code=en"
    )


async def test_elevenlabs_connects_early_and_shares_connection(jumping: object) -> None:
    """The session connects before the first reply, and all replies share the connection."""
    async with (
        serve_elevenlabs(FakeElevenLabs(accepting=0.3)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        assert trio.current_time() == pytest.approx(vendor.opened[0])
        for _ in range(7):
            assert words_in(await said(session, "Yes."))
        assert len(vendor.opened) == 1


async def test_elevenlabs_word_ends_have_true_offsets(jumping: object) -> None:
    """ElevenLabsTTS reports the end of every word at its true position in the audio."""
    async with serve_elevenlabs(FakeElevenLabs(chunk=0.1)) as vendor, provider(vendor).open(language="en") as session:
        chunks = await said(session, "One two three.", "Four five.")
    position, ends, starts = 0.0, [], []
    for chunk in chunks:
        ends += [(word.text, round(position + word.end, 2)) for word in chunk.words]
        starts += [round(position, 2)] if chunk.text else []
        position += len(chunk.audio) / 8000
    first = [(word, round(end, 2)) for word, _, end in spoken_as("One two three.")]
    second = [(word, round(0.84 + end, 2)) for word, _, end in spoken_as("Four five.")]
    assert ends == first + second
    assert starts == [0.0, 0.84]  # 14 characters of 60 ms


async def test_elevenlabs_barge_in_closes_context_at_once(jumping: object) -> None:
    """A barge-in closes its context at once, and the next reply contains none of its audio."""
    script = FakeElevenLabs(speed=1.0, late=3)
    async with serve_elevenlabs(script) as vendor, provider(vendor).open(language="en") as session:
        with trio.move_on_after(1.0) as scope:
            async with session.speak(Paced(LONG, every=math.inf)) as chunks:
                async for _ in chunks:
                    pass
        decided = scope.deadline
        assert words_in(await said(session, "You are welcome.")) == "You are welcome."
        [closed] = vendor.sent(context_id="reply-1", close_context=True)
        assert closed.at - decided < WIRE
        assert not vendor.sent(context_id="reply-1", flush=True)
        assert len(vendor.opened) == 1


async def test_barge_in_after_flush_replaces_connection(jumping: object) -> None:
    """A barge-in after the flush of all text closes the connection and opens another one at once."""
    script = FakeElevenLabs(speed=1.0)
    async with serve_elevenlabs(script) as vendor, provider(vendor).open(language="en") as session:
        with trio.move_on_after(1.0) as scope:
            await said(session, LONG)
        await trio.sleep(1.0)
        assert vendor.ended[0][0] - scope.deadline < WIRE
        assert len(vendor.opened) == 2
        assert vendor.opened[1] - scope.deadline < 2 * WIRE
        assert words_in(await said(session, "Yes.")) == "Yes."


async def test_reply_cut_before_text_leaves_no_context(jumping: object) -> None:
    """A reply that is cut before its first text leaves no open context."""
    async with serve_elevenlabs() as vendor, provider(vendor).open(language="en") as session:
        for _ in range(8):
            with trio.move_on_after(0.1):
                async with session.speak(Paced("", every=math.inf)) as chunks:
                    await anext(chunks)
        await trio.sleep(0.1)
        assert vendor.messages == []
        assert words_in(await said(session, "Yes.")) == "Yes."


async def test_unfinished_contexts_stay_within_vendor_limit(jumping: object) -> None:
    """The number of contexts that ElevenLabs has not finished stays within its limit."""
    script = FakeElevenLabs(speed=1.0, final_delay=60.0)
    async with serve_elevenlabs(script) as vendor, provider(vendor).open(language="en") as session:
        for _ in range(12):
            with trio.move_on_after(0.5):
                async with session.speak(Paced(LONG, every=math.inf)) as chunks:
                    async for _ in chunks:
                        pass
            await trio.sleep(0.5)
        assert len(vendor.opened) == 4
        async with session.speak(Paced("Yes.", every=math.inf)) as chunks:
            assert (await anext(chunks)).text == "Yes."


async def test_idle_elevenlabs_connection_is_kept_alive(jumping: object) -> None:
    """The session keeps an idle connection alive within the inactivity limit of ElevenLabs."""
    async with (
        serve_elevenlabs() as vendor,
        provider(vendor, inactivity_timeout=20).open(language="en") as session,
    ):
        await trio.sleep(300)
        assert len(vendor.opened) == 1
        assert vendor.sent(text="")
        assert words_in(await said(session, "Yes.")) == "Yes."


async def test_waiting_context_gets_keep_alive_by_id(jumping: object) -> None:
    """The session keeps a context that waits for text alive under the id of that context."""
    async with (
        serve_elevenlabs() as vendor,
        provider(vendor, inactivity_timeout=20).open(language="en") as session,
    ):
        assert words_in(await said(session, "One moment.", "Here it is.", every=50)) == "One moment.Here it is."
        assert {seen.message.get("context_id") for seen in vendor.sent(text="")} == {"reply-1"}


async def test_connection_closed_between_replies_is_reopened(jumping: object) -> None:
    """The session reopens a connection at once that ElevenLabs closed between replies."""
    async with serve_elevenlabs() as vendor, provider(vendor).open(language="en") as session:
        assert words_in(await said(session, "One.")) == "One."
        vendor.close_all()
        await trio.sleep(1)
        assert len(vendor.opened) == 2
        assert words_in(await said(session, "Two.")) == "Two."


async def test_connection_with_inactivity_error_is_reopened(
    jumping: object,
) -> None:
    """The session reopens a connection that ended with an inactivity error."""
    async with serve_elevenlabs() as vendor:
        url = f"{vendor.url.replace('http', 'ws')}/v1/text-to-speech/v/multi-stream-input?inactivity_timeout=20"
        session = WebSocketSession(url, {"xi-api-key": "key"}, {}, keep_alive=math.inf, timeout=5.0)
        async with run_beside(session.work):
            await session.ready()
            await trio.sleep(50)
            assert [round(at) for at in vendor.opened] == [0, 20, 40]
            assert words_in(await said(session, "Yes.")) == "Yes."


async def test_elevenlabs_server_works_over_memory_streams(jumping: object) -> None:
    """The fake ElevenLabs server works over memory streams as well."""
    ours, theirs = trio.testing.memory_stream_pair()
    vendor = ElevenLabsServer("http://vendor.test", FakeElevenLabs(first_audio=0.3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, vendor, theirs)
        socket = await connect(ours, "ws://vendor.test/v1/text-to-speech/v/multi-stream-input", {"xi-api-key": "key"})
        await socket.send(wire.say("c", "Yes."))
        [event] = wire.receive(await socket.receive())
        assert isinstance(event, wire.Audio)
        assert trio.current_time() == pytest.approx(0.3)
        await socket.aclose()


async def test_unheard_reply_restarts_on_new_connection(jumping: object) -> None:
    """A reply without any audio so far restarts on a new connection after a loss."""
    script = FakeElevenLabs(first_audio=1.0)
    async with serve_elevenlabs(script) as vendor, provider(vendor).open(language="en") as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_at, vendor, 0.5)
            chunks = await said(session, "One.", "Two.")
        assert words_in(chunks) == "One.Two."
        assert vendor.texts("reply-1") == ["One.", "Two.", "One.", "Two."]


async def _close_at(vendor: ElevenLabsServer, at: float) -> None:
    await trio.sleep(at)
    vendor.close_all()


async def test_connection_lost_mid_reply_fails_that_reply_only(
    jumping: object,
) -> None:
    """A connection loss in the middle of a reply fails that reply and not the next one."""
    async with (
        serve_elevenlabs(FakeElevenLabs(close_after=2)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        with pytest.raises(ProviderError, match="ended"):
            await said(session, LONG)
        assert words_in(await said(session, "Yes.")) == "Yes."


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthenticationError), (403, AuthenticationError), (429, RateLimitError), (503, ProviderError)],
)
@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_elevenlabs_refusal_status_raises_matching_error(
    jumping: object, transport: str, status: int, error: type[ProviderError]
) -> None:
    """A refusal by HTTP status raises the matching ProviderError without the key."""
    async with serve_elevenlabs(FakeElevenLabs(status=status)) as vendor:
        with pytest.raises(error) as caught:
            async with provider(vendor, transport=transport).open(language="en") as session:
                await said(session, "Yes.")
        assert type(caught.value) is error
        assert "key" not in str(caught.value)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (("invalid_api_key", "Invalid API key"), AuthenticationError),
        (("quota_exceeded", "This request exceeds your quota"), RateLimitError),
        (("max_active_conversations", "Maximum simultaneous contexts exceeded (5)"), RateLimitError),
        (("", "Unauthorized: invalid API key"), AuthenticationError),
        (("voice_not_found", "A voice with that id was not found"), ProviderError),
    ],
)
async def test_elevenlabs_in_band_refusal_raises_matching_error(
    jumping: object, refusal: tuple[str, str], error: type[ProviderError]
) -> None:
    """A refusal on the open connection fails the reply with the matching ProviderError."""
    async with (
        serve_elevenlabs(FakeElevenLabs(refusal=refusal)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        with pytest.raises(error, match=refusal[1][:10]) as caught:
            await said(session, "Yes.")
        assert type(caught.value) is error
        await trio.sleep(600)
        assert len(vendor.opened) <= 2  # it does not try for ever on its own


async def test_unreachable_elevenlabs_raises_provider_error() -> None:
    """An unreachable ElevenLabs server raises ProviderError."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ProviderError, match="could not be reached"):
        async with ElevenLabsTTS(api_key="key", base_url=f"http://127.0.0.1:{port}").open(language="en"):
            pass


@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("after", [0, 2])
async def test_a_vendor_that_falls_silent_is_a_timeout(jumping: object, transport: str, after: int) -> None:
    """A vendor that falls silent for the timeout of 4 s raises ProviderTimeout, over both transports."""
    async with (
        serve_elevenlabs(FakeElevenLabs(hang_after=after)) as vendor,
        provider(vendor, transport=transport, timeout=4).open(language="en") as session,
    ):
        began = trio.current_time()
        with pytest.raises(ProviderTimeout):
            await said(session, LONG)
        assert 4 <= trio.current_time() - began < 5


# A context that ends without its audio -------------------------------------------------------------------------------
@pytest.mark.parametrize("timings", [True, False])
async def test_speech_without_audio_is_a_failure(jumping: object, *, timings: bool) -> None:
    """A context that the vendor ends without audio raises ProviderError at once, and the next reply is spoken."""
    async with (
        serve_elevenlabs(FakeElevenLabs(speaks=(0,), timings=timings)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        began = trio.current_time()
        with pytest.raises(ProviderError, match="ended the speech without audio for 17 characters"):
            await said(session, "Yes, we are open.")
        assert trio.current_time() - began < 1.0
        assert words_in(await said(session, "Yes.")) == "Yes."
        assert len(vendor.opened) == 1


@pytest.mark.parametrize("every", [0.0, 1.0])
async def test_sentence_without_audio_is_not_reported(jumping: object, every: float) -> None:
    """If only the first sentence is spoken, the second is not reported as spoken, and the reply fails."""
    chunks: list[SpeechChunk] = []
    async with (
        serve_elevenlabs(FakeElevenLabs(speaks=(1,))) as vendor,
        provider(vendor).open(language="en") as session,
    ):

        async def collect() -> None:
            async with session.speak(Paced("Yes.", "Your order number is seventy-one.", every=every)) as speech:
                async for chunk in speech:
                    chunks.append(chunk)  # noqa: PERF401 (those before the failure)

        with pytest.raises(ProviderError, match="without audio for 33 characters"):
            await collect()
    assert words_in(chunks) == "Yes."
    assert " ".join(chunk.text for chunk in chunks if chunk.text) == "Yes."


@pytest.mark.parametrize("text", ["...", "😊", "…", "***"])
async def test_text_without_letters_may_stay_silent(jumping: object, text: str) -> None:
    """A text without a letter or digit may have no audio."""
    async with (
        serve_elevenlabs(FakeElevenLabs(speaks=(0,))) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        assert await said(session, text) == []


async def test_http_answer_without_audio_is_a_failure(jumping: object) -> None:
    """An HTTP answer without audio raises ProviderError."""

    async def empty(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: audio/basic\r\nContent-Length: 0\r\n\r\n")

    async with on_loopback(empty) as port:
        tts = ElevenLabsTTS(api_key="key", base_url=f"http://127.0.0.1:{port}", transport="http")
        async with tts.open(language="en") as session:
            with pytest.raises(ProviderError, match="no audio for 4 characters"):
                await said(session, "Yes.")


async def test_context_that_ended_early_is_opened_again(jumping: object) -> None:
    """A context that the vendor ends while the LLM pauses is opened again by the next sentence."""
    over = '{"isFinal": true, "contextId": "reply-1"}'
    async with (
        serve_elevenlabs(FakeElevenLabs(garbage=(over,))) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        chunks = await said(session, "Yes, we are open.", "From nine to five.", every=3.0)
    assert words_in(chunks) == "Yes, we are open.From nine to five."


async def test_fallback_speaks_what_elevenlabs_did_not(call_simulator: Simulate) -> None:
    """A context that ends without audio makes the next TTS of a Fallback speak the reply."""
    async with serve_elevenlabs(FakeElevenLabs(speaks=(0,) * 9)) as vendor:
        tts = Fallback(provider(vendor), ScriptedTTS())
        async with call_simulator(agent_of(tts, "Yes, we are open.")) as caller:  # type: ignore[arg-type]
            await caller.speaks("Are you open?", seconds=1.0)
            assert (await caller.hears()).text == "Yes, we are open."


GARBAGE = (
    "not json",
    "[1, 2]",
    "{}",
    b"\xff\xfe",
    '{"audio": "!!!"}',
    '{"audio": 5, "contextId": "reply-1"}',
    '{"something": "new", "contextId": "reply-1"}',
    '{"audio": "", "isFinal": false, "contextId": "reply-1"}',
    '{"audio": "AAAA", "contextId": "of another"}',
    '{"isFinal": true, "contextId": "of another"}',
    "[" * 100_000,
)


async def test_garbage_is_skipped_and_the_reply_goes_on(jumping: object) -> None:
    """The session skips malformed messages and messages of other contexts, and speaks the whole reply."""
    async with (
        serve_elevenlabs(FakeElevenLabs(garbage=GARBAGE)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        assert words_in(await said(session, "Yes, we are open.")) == "Yes, we are open."


async def test_context_failure_fails_only_its_reply(jumping: object) -> None:
    """The failure of one context fails only its own reply."""
    failure = '{"contextId": "reply-1", "error": "text_not_allowed", "message": "not this text", "code": 1008}'
    async with (
        serve_elevenlabs(FakeElevenLabs(garbage=(failure,))) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        with pytest.raises(ProviderError, match="not this text"):
            await said(session, "Yes.")
        assert words_in(await said(session, "No.")) == "No."
        assert len(vendor.opened) == 1


async def test_unread_reply_does_not_block_the_next_one(jumping: object) -> None:
    """A reply with unread audio holds up ElevenLabs and does not block the next reply."""
    script = FakeElevenLabs(chunk=0.02, speed=1000)
    async with serve_elevenlabs(script) as vendor, provider(vendor).open(language="en") as session:
        with trio.move_on_after(5.0):
            async with session.speak(Paced(LONG, every=math.inf)) as chunks:
                await anext(chunks)
                await trio.sleep(60)
        assert words_in(await said(session, "Yes.")) == "Yes."


async def test_reply_cut_while_connecting_is_never_sent(jumping: object) -> None:
    """The session never sends a reply that is cut while its connection opens."""
    async with (
        serve_elevenlabs(FakeElevenLabs(accepting=0.5)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        vendor.close_all()
        await trio.sleep(0.1)
        with trio.move_on_after(0.1):
            await said(session, "Never said.")
        assert words_in(await said(session, "Yes.")) == "Yes."
        assert vendor.texts() == ["Yes."]


async def test_without_times_each_sentence_still_has_its_text(jumping: object) -> None:
    """Without an alignment from ElevenLabs each sentence still has a chunk with its text."""
    async with (
        serve_elevenlabs(FakeElevenLabs(timings=False)) as vendor,
        provider(vendor).open(language="en") as session,
    ):
        chunks = await said(session, "Good morning.", "How are you?", every=3)
        assert [chunk.text for chunk in chunks if chunk.text] == ["Good morning.", "How are you?"]


async def test_reply_without_text_sends_no_request(jumping: object) -> None:
    """A reply without text yields no audio and sends no request."""
    async with serve_elevenlabs() as vendor, provider(vendor).open(language="en") as session:
        assert await said(session, "  ", "") == []
        assert vendor.messages == []


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_elevenlabs_usage_includes_cut_replies(jumping: object, transport: str) -> None:
    """ElevenLabsTTS reports the characters that it sent, also for a reply that was cut."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with (
        serve_elevenlabs(FakeElevenLabs(speed=1.0)) as vendor,
        provider(vendor, transport=transport).open(language="en") as session,
    ):
        await said(session, "Good morning.")
        with trio.move_on_after(1.0):
            await said(session, LONG)
    assert used == [Usage(stage="tts", characters=13), Usage(stage="tts", characters=len(LONG))]


@pytest.mark.parametrize("model", ["eleven_multilingual_v2", "eleven_flash_v2"])
async def test_language_code_is_omitted_for_models_without_it(jumping: object, model: str) -> None:
    """The session omits language_code for models that do not support it."""
    async with serve_elevenlabs() as vendor:
        async with provider(vendor, model=model).open(language="de"):
            pass
        async with provider(vendor, language="fr").open(language="de"):
            pass
    assert "language_code" not in vendor.targets[0]
    assert "language_code=fr" in vendor.targets[1]


async def test_connections_opened_at_once_have_different_numbers(jumping: object) -> None:
    """The fake numbers its connections without repetition, also those that are opened at the same instant."""
    async with serve_elevenlabs() as vendor, trio.open_nursery() as nursery:

        async def greet() -> None:
            async with provider(vendor).open(language="en") as session:
                await said(session, "Good morning.")

        nursery.start_soon(greet)
        nursery.start_soon(greet)
    assert {seen.connection for seen in vendor.messages} == {0, 1}


# HTTP -----------------------------------------------------------------------------------------------------------------
async def test_elevenlabs_http_sends_sentences_with_previous_text(jumping: object) -> None:
    """Over HTTP, each sentence is one request that carries the text before it."""
    async with (
        serve_elevenlabs() as vendor,
        provider(vendor, transport="http", speed=1.1).open(language="en") as session,
    ):
        chunks = await said(session, "Good morning.", "How are you?")
    assert words_in(chunks) == "Good morning.How are you?"
    assert [chunk.text for chunk in chunks if chunk.text] == ["Good morning.", "How are you?"]
    common = {"model_id": "eleven_flash_v2_5", "voice_settings": {"speed": 1.1}, "language_code": "en"}
    assert vendor.requests == [
        {"text": "Good morning.", **common},
        {"text": "How are you?", **common, "previous_text": "Good morning."},
    ]
    assert set(vendor.targets) == {"/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format=ulaw_8000"}


async def test_elevenlabs_http_barge_in_ends_request(jumping: object) -> None:
    """Over HTTP, a barge-in ends the request at once."""
    async with (
        serve_elevenlabs(FakeElevenLabs(speed=1.0)) as vendor,
        provider(vendor, transport="http").open(language="en") as session,
    ):
        with trio.move_on_after(1.0) as scope:
            await said(session, LONG)
        await trio.sleep(0.1)
        assert vendor.interrupted[0] - scope.deadline < WIRE
        assert words_in(await said(session, "Yes.")) == "Yes."


async def test_lost_http_answer_is_no_interruption(jumping: object) -> None:
    """An HTTP answer that the server itself breaks off does not count as one that the client left."""
    async with (
        serve_elevenlabs(FakeElevenLabs(close_after=1)) as vendor,
        provider(vendor, transport="http").open(language="en") as session,
    ):
        with pytest.raises(ProviderError):
            await said(session, LONG)
        await trio.sleep(0.1)
        assert vendor.interrupted == []


async def test_http_sender_may_notice_first_that_client_left(jumping: object) -> None:
    """An HTTP answer that can no longer be sent counts as left, though the client's side of the stream is open."""
    vendor = ElevenLabsServer("", FakeElevenLabs())
    ours, theirs = trio.testing.memory_stream_pair()
    body = b'{"text": "Good morning."}'
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, vendor, theirs)
        head = b"POST /stream HTTP/1.1\r\nHost: vendor\r\nxi-api-key: key\r\nContent-Length: %d\r\n\r\n" % len(body)
        await ours.send_all(head + body)
        await ours.receive_some()
        await ours.receive_stream.aclose()
    assert len(vendor.interrupted) == 1


# Whole calls ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_elevenlabs_call_greets_and_answers(call_simulator: Simulate, transport: str) -> None:
    """The agent greets and answers with ElevenLabs in a whole call."""
    async with serve_elevenlabs(FakeElevenLabs(first_audio=0.15)) as vendor:
        tts = provider(vendor, transport=transport)
        async with call_simulator(agent_of(tts, "We close at five.", first_message="Good morning.")) as caller:
            assert (await caller.hears()).text == "Good morning."
            await caller.speaks("When do you close?", seconds=1.0)
            answer = await caller.hears()
        assert answer.text == "We close at five."
        assert not answer.interrupted
        assert caller.metrics is not None
        assert caller.metrics.tts_provider == "elevenlabs"
        assert caller.metrics.cost.tts == pytest.approx(30 * 0.05 / 1000)


async def test_elevenlabs_call_barge_in_keeps_heard_words(
    call_simulator: Simulate,
) -> None:
    """A barge-in reaches the wire in time, and the history holds exactly the words that the caller heard."""
    script = FakeElevenLabs(first_audio=0.1, speed=1.2)
    async with serve_elevenlabs(script) as vendor:
        # A second sentence is still being thought, so that the context is open.
        llm = ScriptedLLM([f"{LONG} {'And so on, ' * 27}end.", "Bye."], duration=20.0)
        agent = attrs.evolve(agent_of(provider(vendor)), llm=llm)
        async with call_simulator(agent) as caller:
            origin = trio.current_time() - caller.now
            await caller.at(0.5)
            await caller.speaks("Hours?", seconds=0.5)
            await caller.at(8.5)
            await caller.speaks("Stop it!", seconds=0.8)
            heard = await caller.heard(0)
            assert heard.interrupted
            [end] = [p for t, n, p in caller.events if n == "agent_speech_ended"][:1]
            text = next(p["text"] for p in caller.payloads("transcript") if p["role"] == "assistant")
            seconds = end["speech_duration_ms"] / 1000
            assert text == " ".join(word for word, _, over in spoken_as(LONG) if over <= seconds)
            assert 5 < len(text) < len(LONG)
            [closed] = vendor.sent(context_id="reply-1", close_context=True)
            assert not vendor.sent(context_id="reply-1", flush=True)
            assert closed.at - origin - caller.times("agent_speech_ended")[0] < WIRE
        assert len(vendor.opened) == 1


async def test_two_calls_at_once_have_a_connection_each(call_simulator: Simulate) -> None:
    """Two concurrent calls of one agent have one connection each, and both connections end with the calls."""
    async with serve_elevenlabs() as vendor:
        agent = agent_of(provider(vendor), first_message="Hello.")
        async with call_simulator(agent) as one, call_simulator(agent) as two:
            assert (await one.heard(0)).text == (await two.heard(0)).text == "Hello."
            assert len(vendor.opened) == 2
        await trio.sleep(0.2)
        assert len(vendor.ended) == 2


# Secrets --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("status", [0, 401])
async def test_elevenlabs_key_stays_out_of_logs_and_errors(
    jumping: object, caplog: pytest.LogCaptureFixture, transport: str, status: int
) -> None:
    """No log line and no error contains the API key."""
    secret = "sk_5ecret5ecret"
    caplog.set_level(logging.DEBUG)
    async with serve_elevenlabs(FakeElevenLabs(key=secret, status=status, garbage=("x",))) as vendor:
        tts = provider(vendor, transport=transport, api_key=secret)
        raised = ""
        try:
            async with tts.open(language="en") as session:
                await said(session, "Yes.")
        except ProviderError as error:
            raised = "".join(traceback.format_exception(error))
    assert bool(raised) == bool(status)
    assert secret not in raised
    assert caplog.records
    assert secret not in caplog.text
    assert secret not in "".join(repr(vars(record)) for record in caplog.records)
