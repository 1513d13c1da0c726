"""OpenAI's Realtime models: speech in, speech out, over one WebSocket for each call.

The call keeps turn-taking to itself: the vendor neither answers nor stops by itself. It may report the ends of turns.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal

import attrs
import trio

from patter_trio.abc import Engine, EngineSession, EngineSetup
from patter_trio.audio.formats import MULAW_8K
from patter_trio.engines.openai_realtime._session import RealtimeSession
from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_url
from patter_trio.net.http import tls_context
from patter_trio.net.tasks import run_beside
from patter_trio.providers.credentials import credential, not_a_model
from patter_trio.providers.other_names import other_names
from patter_trio.providers.validators import base_url, in_range, is_text, one_of
from patter_trio.wire.openai_realtime import SemanticVAD, ServerVAD, TurnDetection, session_update, socket_url

# Not ``gpt-realtime``: the vendor has announced its end for 20 January 2027.
DEFAULT_MODEL: Final = "gpt-realtime-2.1"
# Not ``whisper-1`` or ``gpt-4o-transcribe``: the vendor has announced their end for 26 February 2027.
DEFAULT_TRANSCRIPTION_MODEL: Final = "gpt-transcribe"
RENEW_AFTER_S: Final = 55 * 60.0
"""Seconds after which a connection is renewed in the next quiet moment: the vendor ends it after 60 minutes."""
# Judged: the network, the vendor's work, and the pauses in which its own detector has not decided.
TURN_END_DELAY_S: Final = 1.5
"""Seconds after the silence that ends a turn within which the vendor reports it."""
SEMANTIC_SILENCE_S: Final = {"low": 10.0, "medium": 6.0, "auto": 6.0, "high": 4.0}
"""Longest silence, by eagerness, of turns that are judged by their words: the vendor waits for at most 8, 4, 4 and 2 s
(https://platform.openai.com/docs/guides/realtime-vad)."""
_EFFORTS: Final = ("", "none", "minimal", "low", "medium", "high", "xhigh")
_DETECTIONS: Final[dict[str, ServerVAD | SemanticVAD]] = {"server_vad": ServerVAD(), "semantic_vad": SemanticVAD()}


_MODEL_NAME: Final = re.compile(r"gpt-[\w.-]*")
"""Names of the vendor's Realtime models; its keys begin with "sk-"."""


def _api_key(given: str | None) -> str:
    key = credential(given, owner="OpenAIRealtime", argument="api_key", variable="OPENAI_API_KEY")
    return not_a_model(key, owner="OpenAIRealtime", pattern=_MODEL_NAME)


def _detection(given: TurnDetection | Literal["server_vad", "semantic_vad"]) -> TurnDetection:
    """Return the vendor's turn detection; it may never answer or interrupt by itself."""
    if isinstance(given, str):
        found = _DETECTIONS.get(given)
        if found is None:
            raise ConfigurationError(
                f"OpenAIRealtime: turn_detection= must be None, {' or '.join(map(repr, _DETECTIONS))}, got {given!r}"
            )
        given = found
    if given is None:
        return None
    if not isinstance(given, ServerVAD | SemanticVAD):
        raise ConfigurationError(
            f"OpenAIRealtime: turn_detection= must be None, a name, a ServerVAD or a SemanticVAD, got {given!r}"
        )
    # WARNING: whatever the application says: two judges of the same call would answer twice.
    return attrs.evolve(given, create_response=False, interrupt_response=False)


def _ends_turns(engine: "OpenAIRealtime") -> Literal["", "vad_silence", "semantic_turn_detector"]:
    if engine.turn_detection is None:
        return ""
    return "vad_silence" if isinstance(engine.turn_detection, ServerVAD) else "semantic_turn_detector"


def _longest_silence(engine: "OpenAIRealtime") -> float:
    match engine.turn_detection:
        case ServerVAD() as detection:
            return detection.silence + TURN_END_DELAY_S
        case SemanticVAD() as detection:
            return SEMANTIC_SILENCE_S[detection.eagerness]
        case _:
            return 0.0


@other_names(
    means={
        "input_audio_transcription_model": "transcription",
        "transcription_language": "language",
        # getpatter's None stands for the default.
        "noise_reduction": "noise_reduction",
        "reasoning_effort": "reasoning_effort",
    },
    no_effect={"gate_response_on_transcript": "the answer never waits for the transcript"},
)
@attrs.frozen
class OpenAIRealtime(Engine):
    """A Realtime model of OpenAI (GA protocol), mu-law at 8 kHz both ways.

    Args:
        api_key: default: ``OPENAI_API_KEY``.
        model: its name.
        voice: the voice in which it speaks.
        turn_detection: the judge of the end of a turn. None: the agent (``endpointing_ms``, ``turn_detector``);
            ``"server_vad"`` or a ``ServerVAD``: the vendor, by silence; ``"semantic_vad"`` or a ``SemanticVAD``: the
            vendor, by the words. The vendor never answers or stops by itself.
        transcription: the model that transcribes the caller.
        language: the caller's; default: the agent's.
        noise_reduction: ``"near_field"`` or ``"far_field"``; empty: none.
        max_output_tokens: most tokens of one answer, 1 to 4096.
        parallel_tool_calls: whether several tools may be called at once; None: the model's default.
        speed: of the speech, 0.25 to 1.5.
        reasoning_effort: such as ``"low"``, for reasoning models; the caller hears silence while the model reasons.
        base_url: URL of the vendor, or of another server with its protocol, including ``/v1``.
        first_audio: seconds until an answer begins.
        between: seconds for each next piece of it; if an answer stops in the middle, the caller hears silence for that
            long.
        renew_after: seconds after which a connection is renewed in the next quiet moment.

    Raises:
        ConfigurationError: the API key is missing, or an option is out of range.
    """

    api_key: str = attrs.field(default="", repr=False, converter=_api_key)
    model: str = attrs.field(default=DEFAULT_MODEL, validator=is_text(empty=False), kw_only=True)
    voice: str = attrs.field(default="marin", validator=is_text(empty=False), kw_only=True)
    turn_detection: TurnDetection = attrs.field(default=None, converter=_detection, kw_only=True)
    transcription: str = attrs.field(default=DEFAULT_TRANSCRIPTION_MODEL, validator=is_text(empty=False), kw_only=True)
    language: str = attrs.field(default="", validator=is_text(), kw_only=True)
    noise_reduction: Literal["", "near_field", "far_field"] = attrs.field(
        default="", validator=one_of("", "near_field", "far_field"), kw_only=True
    )
    # The bounds here and below are the vendor's.
    max_output_tokens: int | None = attrs.field(default=None, validator=in_range(1, 4096), kw_only=True)
    parallel_tool_calls: bool | None = attrs.field(default=None, kw_only=True)
    speed: float | None = attrs.field(default=None, validator=in_range(0.25, 1.5), kw_only=True)
    reasoning_effort: str = attrs.field(default="", validator=one_of(*_EFFORTS), kw_only=True)
    base_url: str = attrs.field(
        default="wss://api.openai.com/v1", validator=base_url("wss", "ws"), repr=shown_url, kw_only=True
    )
    # Judged: a model with tools and a long conversation may need some seconds.
    first_audio: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    # Judged. Shorter than the first: in the middle of a sentence silence is noticed sooner.
    between: float = attrs.field(default=4.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    # At most the vendor's hour.
    renew_after: float = attrs.field(default=RENEW_AFTER_S, validator=in_range(1.0, 3600, optional=False), kw_only=True)
    ends_turns: Literal["", "vad_silence", "semantic_turn_detector"] = attrs.field(
        init=False, default=attrs.Factory(_ends_turns, takes_self=True)
    )
    longest_silence: float = attrs.field(init=False, default=attrs.Factory(_longest_silence, takes_self=True))

    provider = "openai_realtime"
    accepts = MULAW_8K
    emits = MULAW_8K

    def with_voice(self, voice: str) -> "OpenAIRealtime":
        """Return the same engine with another voice."""
        return attrs.evolve(self, voice=voice)

    async def prewarm(self) -> None:
        """Create the TLS context now (about 20 ms), so that the first call does not wait for it."""
        tls_context()
        await trio.lowlevel.checkpoint()

    def setup_message(self, setup: EngineSetup) -> str:
        """Return the message that configures a connection for a call."""
        return session_update(
            instructions=setup.instructions,
            voice=self.voice,
            turn_detection=self.turn_detection,
            transcription=self.transcription,
            # The engine's own language first: an agent's may be a default.
            language=self.language or setup.language,
            tools=setup.tools,
            noise_reduction=self.noise_reduction,
            max_output_tokens=self.max_output_tokens,
            parallel_tool_calls=self.parallel_tool_calls,
            speed=self.speed,
            reasoning=self.reasoning_effort,
        )

    def open(self, setup: EngineSetup) -> AbstractAsyncContextManager[EngineSession]:
        """Connect for one call.

        Raises:
            AuthenticationError: the vendor refused the key.
            RateLimitError: there are too many connections, or the account has no money left.
            ProviderTimeout: the session was not ready in time.
            ProviderError: the vendor refused in another way, or could not be reached.
        """
        return self._open(setup)

    @asynccontextmanager
    async def _open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        session = RealtimeSession(
            socket_url(self.base_url, self.model),
            {"Authorization": f"Bearer {self.api_key}"},
            self.setup_message(setup),
            setup.conversation,
            detects_turns=self.turn_detection is not None,
            late_after=(self.first_audio, self.between),
            renew_after=self.renew_after,
            transcription=self.transcription,
        )
        async with run_beside(session.work):
            # Inside the block: ``work`` opens the connection.
            await session.ready()
            yield session
