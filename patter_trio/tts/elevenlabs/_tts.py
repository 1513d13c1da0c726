"""ElevenLabs: speech over one WebSocket per call (``_websocket.py``), or over one HTTP request per sentence."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal, Self

import attrs
import trio

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession, Usage, report_usage
from patter_trio.audio.formats import MULAW_8K
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.logs import shown_url
from patter_trio.net.http import Client, shared_client
from patter_trio.net.tasks import run_beside
from patter_trio.providers.attempts import says_something
from patter_trio.providers.credentials import credential
from patter_trio.providers.other_names import other_names, warn
from patter_trio.providers.validators import base_url, in_range, is_text, one_of
from patter_trio.scripts import primary_language
from patter_trio.tts.background_speech import BackgroundSpeech
from patter_trio.tts.elevenlabs._voices import voice_id
from patter_trio.tts.elevenlabs._websocket import WebSocketSession
from patter_trio.wire import elevenlabs as wire

KEY_VARIABLE: Final = "ELEVENLABS_API_KEY"
MAX_IDLE_S: Final = 180
"""Longest inactivity, in seconds, that the vendor allows."""
# Judged: two sentences. The voice continues in their tone.
MAX_CONTEXT_CHARACTERS: Final = 200
"""Most characters of the previous text in an HTTP request, so that the voice continues in the same way."""
# Judged: no sentence takes that long, so more is not an answer to what was asked.
MAX_SENTENCE_BYTES: Final = 10 * 60 * 8000
"""Most bytes of the speech of one sentence: ten minutes."""
_TELEPHONE_FORMAT: Final = "the voice comes in the telephone's format, ulaw_8000"
_VOICE_SETTINGS: Final = ("stability", "similarity_boost", "style", "speed", "use_speaker_boost")
_WITHOUT_LANGUAGE: Final = ("_v1", "_v2")
"""Suffixes of models that accept no language code: the vendor's reference says so about ``eleven_multilingual_v2``, and
the others of that age support only English."""


def _key(given: str | None) -> str:
    return credential(given, owner="ElevenLabsTTS", argument="api_key", variable=KEY_VARIABLE)


def _voice_settings(given: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = sorted(set(given) - set(_VOICE_SETTINGS))
    if unknown:
        raise ConfigurationError(f"voice_settings must have only {', '.join(_VOICE_SETTINGS)}, got {unknown[0]!r}")
    return given


def _output_format(given: object) -> Mapping[str, Any]:
    # The one format of a telephone call: nothing to convert, and nothing to set.
    if str(given) != "ulaw_8000":
        warn(f"ElevenLabsTTS: output_format= has no effect: {_TELEPHONE_FORMAT}, got {given!r}")
    return {}


@other_names(
    means={
        "voice_id": "voice",
        "model_id": "model",
        "language_code": "language",
        "voice_settings": _voice_settings,
        "output_format": _output_format,
    },
    no_effect={
        "auto_mode": "sentences are sent whole, and spoken at once",
        "chunk_length_schedule": "sentences are sent whole, and spoken at once",
        "chunk_size": "audio is passed on as it comes",
    },
)
@attrs.frozen
class ElevenLabsTTS(TextToSpeech):
    """A voice of ElevenLabs, in the telephone's format: mu-law at 8 kHz.

    Args:
        api_key: default: the environment variable ``ELEVENLABS_API_KEY``; never shown.
        voice: the voice's id, as the vendor's library shows it, or the name of one of the vendor's default voices, such
            as "rachel".
        model: ``eleven_flash_v2_5`` is the fastest; ``eleven_v3`` is available only with ``transport="http"``.
        transport: ``websocket``: one connection per call, ready before it is needed, with the time of each word;
            ``http``: one request per sentence, and the heard part of a sentence is estimated.
        stability: 0 to 1; lower is livelier. None: the voice's own setting, here and below.
        similarity_boost: 0 to 1.
        style: 0 to 1; more than 0 takes the vendor longer.
        speed: 0.7 to 1.2.
        use_speaker_boost: closer to the original speaker, but slower.
        language: ISO 639-1 code for the vendor; None: the agent's language, for models that accept one; empty: no code.
        normalization: whether numbers and dates are written out: ``auto``, ``on``, ``off``.
        logging: False: the vendor keeps no history (possible only with its enterprise plans).
        inactivity_timeout: seconds without text after which the vendor ends the connection, 5 to 180; a keep-alive
            message is sent after half of them.
        timeout: seconds until audio must come once there is text, and between the chunks once all text was sent.
        base_url: address of the vendor.

    Raises:
        ConfigurationError: the key is missing, or an option is not valid.
    """

    api_key: str = attrs.field(default=None, repr=False, converter=_key)
    voice: str = attrs.field(
        default="JBFqnCBsd6RMkjVDRZzb", converter=voice_id, validator=is_text(empty=False), kw_only=True
    )
    model: str = attrs.field(default="eleven_flash_v2_5", validator=is_text(empty=False), kw_only=True)
    transport: Literal["websocket", "http"] = attrs.field(
        default="websocket", validator=one_of("websocket", "http"), kw_only=True
    )
    stability: float | None = attrs.field(default=None, validator=in_range(0, 1), kw_only=True)
    similarity_boost: float | None = attrs.field(default=None, validator=in_range(0, 1), kw_only=True)
    style: float | None = attrs.field(default=None, validator=in_range(0, 1), kw_only=True)
    speed: float | None = attrs.field(default=None, validator=in_range(0.7, 1.2), kw_only=True)
    use_speaker_boost: bool | None = attrs.field(default=None, validator=one_of(None, True, False), kw_only=True)
    language: str | None = attrs.field(default=None, validator=is_text(optional=True), kw_only=True)
    normalization: Literal["auto", "on", "off"] | None = attrs.field(
        default=None, validator=one_of(None, "auto", "on", "off"), kw_only=True
    )
    logging: bool = attrs.field(default=True, kw_only=True)
    inactivity_timeout: int = attrs.field(
        default=MAX_IDLE_S, validator=in_range(5, MAX_IDLE_S, optional=False), kw_only=True
    )
    timeout: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    base_url: str = attrs.field(
        default="https://api.elevenlabs.io", validator=base_url("https", "http"), repr=shown_url, kw_only=True
    )

    @classmethod
    def for_twilio(cls, *arguments: Any, **options: Any) -> Self:
        """Return ``ElevenLabsTTS(...)``, which speaks in the telephone's format in any case.

        Getpatter has this name.
        """
        return cls(*arguments, **options)

    for_telnyx = for_twilio

    provider = "elevenlabs"
    emits = MULAW_8K

    def __attrs_post_init__(self) -> None:
        # Checked here: the vendor's own refusal would come only in the first call.
        if self.transport == "websocket" and self.model.startswith("eleven_v3"):
            raise ConfigurationError('ElevenLabsTTS: transport= must be "http" for eleven_v3, which has no WebSocket')

    def open(self, *, language: str) -> AbstractAsyncContextManager[TextToSpeechSession]:
        """Open a session for one call; with a WebSocket, connect it first.

        Raises:
            AuthenticationError: the vendor refused the key.
            RateLimitError: there are too many connections.
            ProviderTimeout: the vendor could not be reached in time.
            ProviderError: the vendor could not be reached.
        """
        return self._open_http(language) if self.transport == "http" else self._open_socket(language)

    def with_voice(self, voice: str) -> "ElevenLabsTTS":
        """Return the same provider with another voice, by its id.

        Raises:
            ConfigurationError: ``voice`` is empty.
        """
        return attrs.evolve(self, voice=voice)

    @property
    def settings(self) -> wire.Settings:
        """Settings of the voice that differ from its own."""
        # Only what was set: the voice's owner has chosen the rest.
        return {name: value for name in _VOICE_SETTINGS if (value := getattr(self, name)) is not None}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that authenticate a request."""
        return {"xi-api-key": self.api_key}

    def code_of(self, language: str) -> str:
        """Return the language code to send for a call in ``language``."""
        if self.language is not None:
            return self.language
        # Only the language: the vendor's codes have no region.
        return "" if self.model.endswith(_WITHOUT_LANGUAGE) else primary_language(language)

    @asynccontextmanager
    async def _open_socket(self, language: str) -> AsyncIterator[TextToSpeechSession]:
        target = wire.socket_target(
            self.voice,
            model=self.model,
            inactivity_timeout=int(self.inactivity_timeout),
            language=self.code_of(language),
            normalization=self.normalization or "",
            logging=self.logging,
        )
        session = WebSocketSession(
            # The scheme may have capitals.
            "ws" + self.base_url.rstrip("/")[len("http") :] + target,
            self.headers,
            self.settings,
            # Half, so that one lost keep-alive does not cost the connection.
            keep_alive=self.inactivity_timeout / 2,
            timeout=self.timeout,
        )
        async with run_beside(session.work):
            # Inside the block: ``work`` opens the connection.
            await session.ready()
            yield session

    @asynccontextmanager
    async def _open_http(self, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with shared_client() as client:
            yield _HttpSession(self, client, self.code_of(language))


@attrs.frozen(eq=False)
class _HttpSession(BackgroundSpeech):
    _provider: ElevenLabsTTS
    _client: Client
    _language: str

    async def _make(self, sentences: AsyncIterable[str], made: trio.MemorySendChannel[SpeechChunk]) -> None:
        before = ""
        # Closed at the end, or the reader would wait for ever.
        with made:
            async for sentence in sentences:
                if text := " ".join(sentence.split()):
                    await self._say(text, before, made)
                    # The end of it: the last words before a sentence matter most for its tone.
                    before = f"{before} {text}".strip()[-MAX_CONTEXT_CHARACTERS:]

    async def _say(self, text: str, before: str, made: trio.MemorySendChannel[SpeechChunk]) -> None:
        provider = self._provider
        body = wire.http_body(
            text,
            before,
            provider.settings,
            model=provider.model,
            language=self._language,
            normalization=provider.normalization or "",
        )
        async with self._client.stream(
            "POST",
            provider.base_url.rstrip("/") + wire.http_target(provider.voice, logging=provider.logging),
            content=body,
            headers={**provider.headers, "Content-Type": "application/json"},
            head_timeout=provider.timeout,
            piece_timeout=provider.timeout,
            max_bytes=MAX_SENTENCE_BYTES,
        ) as answer:
            # Reported once the vendor has accepted the text, so that a cut reply counts, too.
            report_usage(Usage(stage="tts", characters=len(text)))
            # A JSON body is an error, whatever the status says: it must not be played.
            if answer.content_type == "application/json":
                raise ProviderError("ElevenLabs must answer with audio, got JSON")
            begun = False
            async for piece in answer.pieces():
                if piece:
                    # The text belongs to the first piece: that is where the sentence begins.
                    await made.send(SpeechChunk(piece, "" if begun else text))
                    begun = True
            # Without a letter or digit there may be nothing to say.
            if not begun and says_something(text):
                raise ProviderError(f"ElevenLabs sent no audio for {len(text)} characters")
