"""DeepgramSTT without a call: options, connection, and faults of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio import (
    AuthenticationError,
    ConfigurationError,
    DeepgramSTT,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.abc import SpeechToTextSession, Transcript, Usage, VoiceEdge
from patter_trio.abc._usage import usage_sink
from patter_trio.audio import g711
from patter_trio.net.websocket_client import CONNECT_TIMEOUT_S
from patter_trio.providers.outage import OUTAGE_TIMEOUT_S
from patter_trio.stt import deepgram
from patter_trio.stt.deepgram import _session
from patter_trio.stt.deepgram._session import (
    FLUSH_TIMEOUT_S,
    MAX_REPEATED_S,
    OPENING_RETRY_S,
    RESULT_TIMEOUT_S,
)
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.deepgram import DeepgramServer, DeepgramServerConnection, FakeDeepgram, serve_deepgram

FLUX = "flux-general-en"


def provider(vendor: DeepgramServer, **options: Any) -> DeepgramSTT:
    return DeepgramSTT(**{"api_key": "key", "base_url": vendor.url} | options)


def speech(text: str, seconds: float) -> bytes:
    return audible_text.encode(text, audible_text.frames_of(seconds))


async def hear(session: SpeechToTextSession, audio: bytes) -> None:
    """Send audio at its own pace: one frame every 20 ms."""
    for begin in range(0, len(audio), 160):
        await session.send(audio[begin : begin + 160])
        await trio.sleep(0.02)


@asynccontextmanager
async def collecting(session: SpeechToTextSession) -> AsyncIterator[list[Transcript]]:
    reported: list[Transcript] = []

    async def collect() -> None:
        add = reported.append
        async for transcript in session.transcripts():
            add(transcript)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        yield reported
        nursery.cancel_scope.cancel()


async def over(connection: DeepgramServerConnection) -> None:
    with trio.fail_after(5):
        await connection.ended.wait()


async def goes_away(vendor: DeepgramServer, seconds: float) -> None:
    """Lose all connections, and refuse new ones for a time."""
    script = vendor.script
    vendor.script = attrs.evolve(script, status=503)
    for connection in vendor.connections:
        await connection.lose()
    await trio.sleep(seconds)
    vendor.script = script


# Options --------------------------------------------------------------------------------------------------------------
def test_deepgram_key_source_and_secrecy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key comes from the argument or the environment, and DeepgramSTT never shows it."""
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"DeepgramSTT.*api_key=.*DEEPGRAM_API_KEY"):
        DeepgramSTT()
    monkeypatch.setenv("DEEPGRAM_API_KEY", "hush")
    assert deepgram.DeepgramSTT().api_key == "hush"
    assert "hush" not in repr(DeepgramSTT())
    assert DeepgramSTT(api_key="mine").api_key == "mine"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"eot_threshold": 0.7}, "nova-3, which does not detect ends of turns"),
        ({"model": FLUX, "eot_threshold": 0.4}, "eot_threshold= must be from 0.5 to 1"),
        ({"model": FLUX, "eager_eot_threshold": 0.95}, "eager_eot_threshold= must be from 0.3 to 0.9"),
        ({"model": FLUX, "eager_eot_threshold": 0.8}, "must not be above"),
        ({"model": FLUX, "eot_timeout_ms": 100}, "eot_timeout_ms= must be from 500"),
        ({"base_url": "https://api.deepgram.com"}, "base_url= must be a URL that begins with wss:// or ws://"),
        ({"model": None}, "model= must be a string that is not empty, got None"),
        ({"language": 1}, "language= must be a string, got 1"),
    ],
)
def test_invalid_deepgram_options_raise_at_construction(options: dict[str, Any], why: str) -> None:
    """DeepgramSTT raises ConfigurationError for invalid options in its constructor."""
    with pytest.raises(ConfigurationError, match=why):
        DeepgramSTT(api_key="k", **options)


async def test_nova_requests_mulaw_without_utterance_ends() -> None:
    """DeepgramSTT asks Nova for mu-law at 8 kHz and does not ask for utterance ends."""
    async with serve_deepgram() as vendor:
        stt = provider(
            vendor, keyterm=["Patter", "trio"], numerals=True, parameters={"mip_opt_out": True, "tag": ["a", "b"]}
        )
        async with stt.open(language="pt-BR"):
            [connection] = vendor.connections
    assert connection.path == "/v1/listen"
    assert connection.headers["authorization"] == "Token key"
    assert connection.query == {
        "model": ["nova-3"], "encoding": ["mulaw"], "sample_rate": ["8000"], "channels": ["1"], "language": ["pt-BR"],
        "interim_results": ["true"], "endpointing": ["false"], "smart_format": ["true"], "punctuate": ["true"],
        "keyterm": ["Patter", "trio"], "numerals": ["true"], "mip_opt_out": ["true"], "tag": ["a", "b"],
    }  # fmt: skip


async def test_flux_is_asked_for_what_it_knows_alone() -> None:
    """DeepgramSTT asks Flux for /v2/listen with mu-law at 8 kHz, the thresholds, the language hint and the key term."""
    async with serve_deepgram() as vendor:
        stt = provider(vendor, model="flux-general-multi", eot_threshold=0.8, eager_eot_threshold=0.4, keyterm="Patter")
        async with stt.open(language="de"):
            [connection] = vendor.connections
    assert connection.path == "/v2/listen"
    assert connection.query == {
        "model": ["flux-general-multi"], "encoding": ["mulaw"], "sample_rate": ["8000"], "language_hint": ["de"],
        "eot_threshold": ["0.8"], "eager_eot_threshold": ["0.4"], "eot_timeout_ms": ["1500"], "keyterm": ["Patter"],
    }  # fmt: skip


async def test_english_flux_rejects_other_languages() -> None:
    """The English Flux model raises ProviderError for any language except English."""
    async with serve_deepgram() as vendor:
        with pytest.raises(ProviderError, match="the language of flux-general-en must be English, got 'de'"):
            async with provider(vendor, model=FLUX).open(language="de"):
                pass
        async with provider(vendor, model=FLUX).open(language="en-GB"):
            assert len(vendor.connections) == 1


# Opening --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationError), (403, AuthenticationError), (429, RateLimitError), (400, ProviderError),
     (503, ProviderError)],
)  # fmt: skip
async def test_a_refusal_is_reported_in_our_terms(status: int, kind: type[ProviderError]) -> None:
    """A refused upgrade raises the error class of its HTTP status, with Deepgram's reason."""
    async with serve_deepgram(FakeDeepgram(status=status)) as vendor:
        with pytest.raises(ProviderError, match=f"status {status}, refused, as scripted") as raised:
            async with provider(vendor).open(language="en"):
                pass
    assert type(raised.value) is kind


async def test_opening_has_a_deadline(autojump_clock: MockClock) -> None:
    """A connection that does not open within 5 s raises ProviderTimeout."""
    async with serve_deepgram(FakeDeepgram(accepting=60)) as vendor:
        began = trio.current_time()
        with pytest.raises(ProviderTimeout):
            async with provider(vendor).open(language="en"):
                pass
        assert trio.current_time() - began == CONNECT_TIMEOUT_S


async def test_nobody_listening_is_a_provider_error(autojump_clock: MockClock) -> None:
    """A closed port raises ProviderError."""
    async with serve_deepgram() as vendor:
        stt = provider(vendor)
    with pytest.raises(ProviderError, match="could not be reached"):
        async with stt.open(language="en"):
            pass


async def test_prewarming_succeeds_without_server() -> None:
    """prewarm() succeeds without a server."""
    await DeepgramSTT(api_key="k").prewarm()


# Listening ------------------------------------------------------------------------------------------------------------
async def test_deepgram_audio_arrives_unchanged_in_pieces(autojump_clock: MockClock) -> None:
    """Deepgram receives the audio unchanged, and Flux receives it in pieces of 80 ms."""
    audio = bytes(range(256)) * 20
    async with serve_deepgram() as vendor:
        for model, sizes in (("nova-3", {160}), (FLUX, {640})):
            async with provider(vendor, model=model).open(language="en") as session:
                await hear(session, audio)
            await over(vendor.connections[-1])
            assert vendor.connections[-1].audio == audio
            assert set(vendor.connections[-1].sizes) == sizes


async def test_voice_end_finalizes_nova_only(
    autojump_clock: MockClock,
) -> None:
    """The end of a voice sends Finalize to Nova behind all audio, and sends Flux nothing."""
    async with serve_deepgram() as vendor:
        for model in ("nova-3", FLUX):
            async with provider(vendor, model=model).open(language="en") as session, collecting(session) as reported:
                await session.voice(VoiceEdge(speaking=True, offset=0))
                await hear(session, speech("hello there", 1.0))
                await session.voice(VoiceEdge(speaking=False, offset=8000))
                await trio.sleep(1)
                said, reported_so_far = list(vendor.connections[-1].types()), list(reported)
            finals = [one.text for one in reported_so_far if one.final]
            assert (said, finals) == ((["Finalize"], ["hello there"]) if model == "nova-3" else ([], []))


@pytest.mark.parametrize(("model", "asked"), [("nova-3", "Finalize"), (FLUX, "ForceEndTurn")])
async def test_deepgram_flush_returns_all_words(model: str, asked: str, autojump_clock: MockClock) -> None:
    """A flush returns the words of all audio that was sent."""
    async with (
        serve_deepgram() as vendor,
        provider(vendor, model=model).open(language="en") as session,
        collecting(session) as reported,
    ):
        await hear(session, speech("hello there", 1.0))
        await session.flush()
        await trio.sleep(0.2)
        assert vendor.connections[0].types() == [asked]
        assert [one.text for one in reported if one.final] == ["hello there"]
        await trio.sleep(2)
        assert [one.text for one in reported if one.final] == ["hello there"]


@pytest.mark.parametrize("model", ["nova-3", FLUX])
async def test_unanswered_deepgram_flush_ends_without_words(model: str, autojump_clock: MockClock) -> None:
    """A flush that Deepgram leaves unanswered ends with an empty final transcript after its timeout."""
    async with (
        serve_deepgram(FakeDeepgram(answers_finalize=False)) as vendor,
        provider(vendor, model=model).open(language="en") as session,
        collecting(session) as reported,
    ):
        await hear(session, g711.silence(1.0))
        began = trio.current_time()
        await session.flush()
        assert trio.current_time() == began
        await trio.sleep(FLUSH_TIMEOUT_S + 0.01)
        assert reported == [Transcript("", final=True, segment=0)]


async def test_a_socket_without_audio_is_kept_open(autojump_clock: MockClock) -> None:
    """A session without audio sends KeepAlive every 4 s, and Deepgram still hears words after 60 s."""
    async with (
        serve_deepgram() as vendor,
        provider(vendor).open(language="en") as session,
        collecting(session) as reported,
    ):
        await trio.sleep(60)
        await hear(session, speech("hello", 0.6))
        await trio.sleep(5)
        [connection] = vendor.connections
        assert {"KeepAlive"} == set(connection.types())
        assert 15 <= len(connection.types()) <= 17
        assert reported[-1].text == "hello"


async def test_flux_socket_without_audio_gets_no_message(autojump_clock: MockClock) -> None:
    """A Flux session without audio sends nothing, because any unknown message is fatal there, and hears words later."""
    async with (
        serve_deepgram() as vendor,
        provider(vendor, model=FLUX).open(language="en") as session,
        collecting(session) as reported,
    ):
        await trio.sleep(60)
        await hear(session, speech("hello", 0.6) + g711.silence(0.5))
        [connection] = vendor.connections
        assert connection.said == []
        assert reported[-1].text == "hello"


async def test_leaving_deepgram_disconnects_at_once(autojump_clock: MockClock) -> None:
    """Leaving a session closes the Deepgram connection at once, also under cancellation."""
    async with serve_deepgram() as vendor:
        with trio.move_on_after(1.0):
            async with provider(vendor).open(language="en") as session:
                await hear(session, g711.silence(60))
        left = trio.current_time()
        [connection] = vendor.connections
        await over(connection)
        assert connection.said[-1] == (left, {"type": "CloseStream"})
        assert connection.ended_at - left <= 0.05


async def test_deepgram_usage_includes_resent_audio(
    autojump_clock: MockClock,
) -> None:
    """The STT session reports its usage once, at the end, and includes audio that it sent again."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with serve_deepgram(FakeDeepgram(lose_after=(2.0,))) as vendor:
        async with provider(vendor, language="multi").open(language="en") as session, collecting(session):
            await hear(session, g711.silence(1.0) + speech("a b c", 2.0))
            await trio.sleep(0.1)
        for connection in vendor.connections:
            await over(connection)
    [usage] = used
    assert (usage.stage, usage.model) == ("stt", "nova-3-multilingual")
    assert usage.seconds == pytest.approx(sum(len(one.audio) for one in vendor.connections) / 8000, abs=0.05)
    assert usage.seconds > 3.0


# Losing the connection ------------------------------------------------------------------------------------------------
async def test_audio_that_is_final_is_not_sent_again(autojump_clock: MockClock) -> None:
    """After a loss the session sends only the audio again that has no final words yet."""
    async with serve_deepgram() as vendor:
        async with provider(vendor).open(language="en") as session, collecting(session) as reported:
            await hear(session, speech("one two", 1.0))
            await session.voice(VoiceEdge(speaking=False, offset=8000))
            await trio.sleep(0.2)
            await hear(session, speech("three", 0.6))
            await vendor.connections[0].lose()
            await hear(session, speech("four", 0.6))
            await session.flush()
            await trio.sleep(0.3)
        assert vendor.connections[1].audio == speech("three", 0.6) + speech("four", 0.6)
        assert [one.text for one in reported if one.final] == ["one two", "three four"]


async def test_what_is_sent_again_is_bounded(autojump_clock: MockClock) -> None:
    """After a loss the session sends at most the last 10 s of audio again."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session, collecting(session):
        await hear(session, g711.silence(30.0))
        await vendor.connections[0].lose()
        await trio.sleep(0.1)
        assert len(vendor.connections[1].audio) == MAX_REPEATED_S * 8000


async def test_deepgram_request_lost_with_connection_is_repeated(autojump_clock: MockClock) -> None:
    """DeepgramSTT repeats a request that was lost with its connection."""
    async with (
        serve_deepgram(FakeDeepgram(answers_finalize=False)) as vendor,
        provider(vendor).open(language="en") as session,
        collecting(session) as reported,
    ):
        await hear(session, speech("hello", 0.6))
        await session.voice(VoiceEdge(speaking=False, offset=4800))
        vendor.script = FakeDeepgram()
        await vendor.connections[0].lose()
        await trio.sleep(0.3)
        assert vendor.connections[1].types() == ["Finalize"]
        assert [one.text for one in reported if one.final] == ["hello"]


@pytest.mark.parametrize("model", ["nova-3", FLUX])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 3.7, 8.0])
async def test_deepgram_outage_loses_no_word(seconds: float, model: str, autojump_clock: MockClock) -> None:
    """The session gets each word once that was spoken before, in and after an outage of up to 8 s."""
    async with (
        serve_deepgram() as vendor,
        provider(vendor, model=model).open(language="en") as session,
        collecting(session) as reported,
    ):
        async with trio.open_nursery() as nursery:
            await hear(session, speech("before the", 1.0))
            nursery.start_soon(goes_away, vendor, seconds)
            await hear(session, speech("outage and after it", max(seconds, 1.0)))
        await hear(session, g711.silence(3.0))
        await session.flush()
        await trio.sleep(0.3)
    assert " ".join(one.text for one in reported if one.final and one.text) == "before the outage and after it"


async def test_deepgram_attempts_are_spaced_in_an_outage(autojump_clock: MockClock) -> None:
    """The pauses between the attempts grow, and the session fails after 10 s with the last reason."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session:
        began = trio.current_time()
        vendor.script = attrs.evolve(vendor.script, status=503)
        await vendor.connections[0].lose()
        with pytest.raises(ProviderError, match=r"did not work for 10 s: .*status 503, refused, as scripted"):
            async for _ in session.transcripts():
                pass
        assert trio.current_time() - began == pytest.approx(9.85, abs=0.01)
        assert vendor.refused == 13
        for use in (session.send(b"\xff" * 160), session.flush()):
            with pytest.raises(ProviderError):
                await use


async def test_deepgram_that_accepts_and_drops_fails(autojump_clock: MockClock) -> None:
    """Connections that are accepted and dropped before any final words count as one outage."""
    async with serve_deepgram(FakeDeepgram(lose_after=(1.0, *[0.1] * 50))) as vendor:
        async with provider(vendor).open(language="en") as session:
            with pytest.raises(ProviderError, match="did not work for 10 s"):
                await hear(session, speech("one two three four", 30.0))
        assert vendor.connections[0].opened_at + 1 + OUTAGE_TIMEOUT_S - trio.current_time() == pytest.approx(0, abs=0.5)
        assert len(vendor.connections) < 15


async def test_deepgram_losses_far_apart_never_add_up(autojump_clock: MockClock) -> None:
    """A session survives any number of losses with final words, or 10 s, between them."""
    async with (
        serve_deepgram() as vendor,
        provider(vendor).open(language="en") as session,
        collecting(session) as reported,
    ):
        for number in range(5):
            await session.voice(VoiceEdge(speaking=True, offset=0))
            await hear(session, speech(f"word{number}", 0.6))
            await session.voice(VoiceEdge(speaking=False, offset=0))
            await hear(session, g711.silence(0.4))
            await vendor.connections[-1].lose()
            await hear(session, g711.silence(2.4))
        for _ in range(3):
            await vendor.connections[-1].lose()
            await trio.sleep(11)
        assert len(vendor.connections) == 9
    assert [one.text for one in reported if one.final] == [f"word{number}" for number in range(5)]


async def test_hanging_reopening_is_tried_again(autojump_clock: MockClock) -> None:
    """An attempt that hangs is given up after 2 s, and the next one may succeed."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session, collecting(session):
        script = vendor.script
        vendor.script = attrs.evolve(script, accepting=60)
        await vendor.connections[0].lose()
        await trio.sleep(1)
        vendor.script = script
        await trio.sleep(1.2)
        assert len(vendor.connections) == 2


async def test_deepgram_key_refused_in_call_fails_at_once(autojump_clock: MockClock) -> None:
    """A key that is refused when the connection is reopened fails the session at once."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session:
        vendor.script = attrs.evolve(vendor.script, key="another")
        began = trio.current_time()
        await vendor.connections[0].lose()
        with pytest.raises(AuthenticationError):
            async for _ in session.transcripts():
                pass
        assert trio.current_time() == began


async def test_blink_at_opening_is_survived(autojump_clock: MockClock) -> None:
    """Opening is tried again for 2 s if the server cannot be reached, or breaks the connection."""
    began = trio.current_time()
    async with serve_deepgram() as vendor:
        stt = provider(vendor)
    with pytest.raises(ProviderError, match="could not be reached"):
        async with stt.open(language="en"):
            pass
    assert OPENING_RETRY_S <= trio.current_time() - began <= OPENING_RETRY_S + 2


# A vendor that hangs --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["nova-3", FLUX])
async def test_mute_deepgram_is_replaced_within_voice(
    model: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that stays open and mute is replaced after 3 s of voice, and no word is lost."""
    async with (
        serve_deepgram(FakeDeepgram(mute_after=(1.0,))) as vendor,
        provider(vendor, model=model).open(language="en") as session,
        collecting(session) as reported,
    ):
        await hear(session, g711.silence(1.0))
        await session.voice(VoiceEdge(speaking=True, offset=8000))
        await hear(session, speech("can you hear me now please", 3.5))
        await session.voice(VoiceEdge(speaking=False, offset=36000))
        await hear(session, g711.silence(1.0))
        [first, second] = vendor.connections
        assert second.opened_at == pytest.approx(first.opened_at + 1.0 + RESULT_TIMEOUT_S, abs=0.03)
        await session.flush()
        await trio.sleep(0.2)
    assert " ".join(one.text for one in reported if one.final and one.text) == "can you hear me now please"
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == ("call -: Deepgram is gone, trying again: Deepgram sent no result for 3 s of voice")


async def test_short_voices_add_up_to_mute_deepgram(autojump_clock: MockClock) -> None:
    """Flux, which answers no request to finalize, is replaced when several short voices have brought no result."""
    async with (
        serve_deepgram(FakeDeepgram(mute_after=(0.0,))) as vendor,
        provider(vendor, model=FLUX).open(language="en") as session,
        collecting(session),
    ):
        for _ in range(4):
            await session.voice(VoiceEdge(speaking=True, offset=0))
            await hear(session, speech("hello", 0.8))
            await session.voice(VoiceEdge(speaking=False, offset=0))
            await hear(session, g711.silence(1.0))
        assert len(vendor.connections) == 2


@pytest.mark.parametrize("interim_results", [True, False])
async def test_unanswered_finalize_replaces_mute_nova(*, interim_results: bool, autojump_clock: MockClock) -> None:
    """Nova is replaced when one short voice and its request to finalize bring nothing for 3 s."""
    async with (
        serve_deepgram(FakeDeepgram(mute_after=(0.0,))) as vendor,
        provider(vendor, interim_results=interim_results).open(language="en") as session,
        collecting(session) as reported,
    ):
        await session.voice(VoiceEdge(speaking=True, offset=0))
        await hear(session, speech("yes", 0.5))
        await session.voice(VoiceEdge(speaking=False, offset=4000))
        asked = trio.current_time()
        await hear(session, g711.silence(4.0))
        assert vendor.connections[1].opened_at == pytest.approx(asked + RESULT_TIMEOUT_S, abs=0.03)
    assert [one.text for one in reported if one.final] == ["yes"]


async def test_voice_without_words_keeps_deepgram_connected(autojump_clock: MockClock) -> None:
    """Noise that the VAD takes for a voice, and that brings empty results, replaces no connection."""
    async with serve_deepgram() as vendor:
        for model in ("nova-3", FLUX):
            async with provider(vendor, model=model).open(language="en") as session, collecting(session):
                await session.voice(VoiceEdge(speaking=True, offset=0))
                await hear(session, bytes(range(160)) * 1000)
        assert len(vendor.connections) == 2


async def test_deepgram_that_stays_mute_fails_the_session(autojump_clock: MockClock) -> None:
    """The session fails when the replacements of a mute connection are mute, too, though the caller is quiet."""
    async with serve_deepgram(FakeDeepgram(mute_after=(0.0,) * 20)) as vendor:
        async with provider(vendor).open(language="en") as session:
            await session.voice(VoiceEdge(speaking=True, offset=0))
            await hear(session, speech("hello", 0.5))
            await session.voice(VoiceEdge(speaking=False, offset=4000))
            with pytest.raises(ProviderError, match=r"did not work for 10 s: Deepgram sent no result"):
                await hear(session, g711.silence(30.0))
        assert trio.current_time() - vendor.connections[0].opened_at <= 0.5 + RESULT_TIMEOUT_S + OUTAGE_TIMEOUT_S + 3


# Closes and errors ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_orderly_close_counts_as_loss(code: int, autojump_clock: MockClock) -> None:
    """A close with 1000, 1001 or 1011 counts as a loss, and the session reconnects."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en"):
        vendor.connections[0].close(code)
        await trio.sleep(1)
        assert len(vendor.connections) == 2


async def test_deepgram_close_blaming_audio_fails_at_once(autojump_clock: MockClock) -> None:
    """A close code that blames the audio fails the session at once."""
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session:
        vendor.connections[0].close(1008)
        with pytest.raises(ProviderError, match="1008"):
            async for _ in session.transcripts():
                pass
        assert len(vendor.connections) == 1


@pytest.mark.parametrize("model", ["nova-3", FLUX])
@pytest.mark.parametrize("kind", ["DATA-0000", "UNPARSABLE_CLIENT_MESSAGE", "BAD_REQUEST", "INVALID_AUTH"])
async def test_deepgram_error_that_recurs_fails_at_once(kind: str, model: str, autojump_clock: MockClock) -> None:
    """An error message about the audio, the request or the account fails the session at once."""
    async with serve_deepgram() as vendor, provider(vendor, model=model).open(language="en") as session:
        vendor.connections[0].say({"type": "Error", "code": kind, "description": "oops"})
        with pytest.raises(ProviderError, match=f"{kind} oops"):
            async for _ in session.transcripts():
                pass
        assert len(vendor.connections) == 1


@pytest.mark.parametrize("model", ["nova-3", FLUX])
@pytest.mark.parametrize("kind", ["INTERNAL_SERVER_ERROR", "NET-0000", "NEW-KIND"])
async def test_other_deepgram_error_reopens_the_connection(kind: str, model: str, autojump_clock: MockClock) -> None:
    """An error message about the server's own state reopens the connection."""
    async with serve_deepgram() as vendor, provider(vendor, model=model).open(language="en") as session:
        vendor.connections[0].say({"type": "Error", "code": kind, "description": "oops"})
        await trio.sleep(0.1)
        await session.send(g711.silence(0.02))
        assert len(vendor.connections) == 2


async def test_metadata_before_a_loss_is_what_counts(autojump_clock: MockClock) -> None:
    """The usage adds the duration that Deepgram billed before the loss (7 s) and the audio sent again (1 s)."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with serve_deepgram() as vendor, provider(vendor).open(language="en") as session:
        await hear(session, g711.silence(1.0))
        vendor.connections[0].say({"type": "Metadata", "duration": 7.0, "request_id": "r"})
        vendor.connections[0].close(1000)
        await trio.sleep(1)
    assert used[0].seconds == pytest.approx(7.0 + 1.0, abs=0.05)


@pytest.mark.parametrize("after", [0.0, 0.001, 0.02, 0.35, 1.0, 1.5])
@pytest.mark.parametrize("model", ["nova-3", FLUX])
async def test_deepgram_cancellation_leaves_no_task_behind(model: str, after: float, autojump_clock: MockClock) -> None:
    """A session that is cancelled at any point ends at once and leaves no task behind."""
    async with serve_deepgram(FakeDeepgram(accepting=0.01, lose_after=(0.5,))) as vendor:
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + after
            async with provider(vendor, model=model).open(language="en") as session, collecting(session):
                await hear(session, speech("one two three", 1.0))
                await session.flush()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() - scope.deadline <= _session.CLOSE_TIMEOUT_S + 0.05
        for connection in vendor.connections:
            await over(connection)
