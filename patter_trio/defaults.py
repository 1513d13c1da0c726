"""The embedded providers, which an agent uses when it names none: no account, no key, no network."""

# ruff: noqa: PLC0415 (an agent with its own providers must not pay for importing these)

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from patter_trio.abc import SpeechToText, TextToSpeech

if TYPE_CHECKING:
    from patter_trio.vad.silero import SileroVAD

# A context variable, because agents are made while a program is imported: nothing can be passed to them.
_STAND_INS: Final[ContextVar[tuple[SpeechToText, TextToSpeech] | None]] = ContextVar("stand_ins", default=None)


@contextmanager
def standing_in(stt: SpeechToText, tts: TextToSpeech) -> Iterator[None]:
    """Let agents that are made within the block have these as their defaults: no extra is needed for them."""
    token = _STAND_INS.set((stt, tts))
    try:
        yield
    finally:
        _STAND_INS.reset(token)


def default_stt() -> SpeechToText:
    """Return the embedded STT.

    Raises:
        MissingExtraError: the extra ``local`` is not installed; the message contains the command.
    """
    if (stand_ins := _STAND_INS.get()) is not None:
        return stand_ins[0]
    from patter_trio.stt.whisper import WhisperSTT

    # A new object for each agent: it has no state, and the models behind it are loaded once per process.
    return WhisperSTT()


def default_tts() -> TextToSpeech:
    """Return the embedded TTS.

    Raises:
        MissingExtraError: the extra ``local`` is not installed; the message contains the command.
    """
    if (stand_ins := _STAND_INS.get()) is not None:
        return stand_ins[1]
    from patter_trio.tts.piper import PiperTTS

    return PiperTTS()


def default_vad() -> "SileroVAD":
    """Return the embedded VAD, which needs no extra."""
    from patter_trio.vad.silero import SileroVAD

    return SileroVAD()


async def prewarm() -> None:
    """Load all embedded models now, so that the first call does not wait a second or two for them.

    Raises:
        MissingExtraError: the extra ``local`` is not installed.
        ConfigurationError: a model file is missing, or differs from the pinned version.
        ProviderError: a model cannot be loaded.
    """
    # One after another: each loads a model in a thread, and two at once would only slow each other down.
    for provider in (default_vad(), default_stt(), default_tts()):
        await provider.prewarm()
