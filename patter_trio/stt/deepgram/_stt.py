"""Deepgram's cloud recognition, by Nova, or by Flux, which detects the end of the caller's turn itself.

* The caller's audio is sent unchanged, mu-law at 8 kHz.
* **Nova** does not look for the ends of utterances: at the end of each voice (found by our VAD) it is asked to
  finalize, which brings the final words at once.
* **Flux** reports when the caller has finished (``Transcript.finished``). If it is sure before the silence is long
  enough, the caller is answered sooner; if it is not, the caller gets time to think.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Self

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Usage, report_usage
from patter_trio.audio.formats import MULAW_8K, RATE_HZ
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.logs import shown_url
from patter_trio.net.http import tls_context
from patter_trio.net.tasks import run_beside
from patter_trio.providers.credentials import credential, not_a_model
from patter_trio.providers.languages import is_english
from patter_trio.providers.other_names import other_names
from patter_trio.providers.validators import base_url, in_range, is_text
from patter_trio.stt.deepgram._session import ListenSession
from patter_trio.wire.deepgram import FluxCodec, NovaCodec, Value, listen_url

_FLUX_CHUNK_BYTES: Final = RATE_HZ * 80 // 1000
"""Bytes of audio in a message to Flux, which works in steps of 80 ms."""


# Deepgram's keys are 40 hexadecimal digits; the names of its models begin with their family.
_MODEL_NAME: Final = re.compile(r"(nova|flux|enhanced|base|whisper)(-[\w.-]*)?")


def _api_key(given: str) -> str:
    # In a converter, so that the environment is read when the agent is made, not in the first call.
    key = credential(given, owner="DeepgramSTT", argument="api_key", variable="DEEPGRAM_API_KEY")
    return not_a_model(key, owner="DeepgramSTT", pattern=_MODEL_NAME)


def _terms(given: str | Sequence[str]) -> tuple[str, ...]:
    # A single term as a text, because a text is a sequence of letters.
    return (given,) if isinstance(given, str) else tuple(given)


_CALL_ENDS_UTTERANCES: Final = "the call decides where an utterance ends, see phone.agent(endpointing_ms=)"
_TELEPHONE_AUDIO: Final = "audio is sent as the telephone brings it, mu-law at 8 kHz"


@other_names(
    no_effect={
        "encoding": _TELEPHONE_AUDIO,
        "sample_rate": _TELEPHONE_AUDIO,
        "endpointing_ms": _CALL_ENDS_UTTERANCES,
        "utterance_end_ms": _CALL_ENDS_UTTERANCES,
        "vad_events": _CALL_ENDS_UTTERANCES,
    }
)
@attrs.frozen
class DeepgramSTT(SpeechToText):
    """Deepgram's streaming recognition; a model whose name begins with ``flux`` detects the end of turns itself.

    Args:
        api_key: default: the environment variable ``DEEPGRAM_API_KEY``.
        model: such as ``nova-3``, ``nova-3-medical``, ``flux-general-en``, ``flux-general-multi``.
        language: BCP 47 tag, or ``multi``; default: the agent's. Flux in several languages takes it as a hint.
        keyterm: words and phrases to expect, such as names.
        smart_format: Nova formats dates, numbers and amounts for reading.
        punctuate: Nova adds punctuation, which ``smart_format`` does too.
        numerals: numbers are written as digits.
        profanity_filter: profanity is replaced by asterisks.
        interim_results: Nova reports words before they are final. Words interrupt and delay replies, so leave it on.
        eot_threshold: Flux: the confidence, 0.5 to 1, that ends a turn; default: the vendor's 0.7.
        eager_eot_threshold: Flux: the confidence, 0.3 to 0.9, at which an end counts as probable: then the usual
            silence (``endpointing_ms``) is enough. Default: never.
        eot_timeout_ms: Flux: milliseconds of silence, 500 to 60000, that end a turn in any case.
        parameters: further parameters of the URL, by the vendor's names, such as ``{"mip_opt_out": True}``.
        base_url: URL of the vendor, or of another server with its protocol.

    Raises:
        ConfigurationError: the API key is missing, or an option is out of range or not for this model.
    """

    api_key: str = attrs.field(default="", repr=False, converter=_api_key)
    model: str = attrs.field(default="nova-3", validator=is_text(empty=False), kw_only=True)
    language: str = attrs.field(default="", validator=is_text(), kw_only=True)
    keyterm: tuple[str, ...] = attrs.field(default=(), converter=_terms, kw_only=True)
    smart_format: bool = attrs.field(default=True, kw_only=True)
    punctuate: bool = attrs.field(default=True, kw_only=True)
    numerals: bool = attrs.field(default=False, kw_only=True)
    profanity_filter: bool = attrs.field(default=False, kw_only=True)
    interim_results: bool = attrs.field(default=True, kw_only=True)
    eot_threshold: float | None = attrs.field(default=None, validator=in_range(0.5, 1.0), kw_only=True)
    eager_eot_threshold: float | None = attrs.field(default=None, validator=in_range(0.3, 0.9), kw_only=True)
    # Judged: the vendor's 5 s are too long for a caller who has finished in a way that the model does not understand.
    eot_timeout_ms: int = attrs.field(default=1500, validator=in_range(500, 60_000, optional=False), kw_only=True)
    parameters: Mapping[str, Value] = attrs.field(factory=dict, hash=False, kw_only=True)
    base_url: str = attrs.field(
        default="wss://api.deepgram.com", validator=base_url("wss", "ws"), repr=shown_url, kw_only=True
    )

    @classmethod
    def for_twilio(cls, *arguments: Any, **options: Any) -> Self:
        """Return ``DeepgramSTT(...)``, which takes the telephone's audio in any case; getpatter has this name."""
        return cls(*arguments, **options)

    provider = "deepgram"
    accepts = MULAW_8K

    def __attrs_post_init__(self) -> None:
        # Refused, not ignored: who sets it believes that it works.
        if not self.flux and (self.eot_threshold is not None or self.eager_eot_threshold is not None):
            raise ConfigurationError(
                f"DeepgramSTT: eot_threshold= and eager_eot_threshold= must be unset for {self.model}, which does not "
                "detect ends of turns"
            )
        eager, sure = self.eager_eot_threshold, self.eot_threshold
        # The vendor refuses it, too, but only in the first call.
        if eager is not None and eager > (0.7 if sure is None else sure):
            raise ConfigurationError(
                f"DeepgramSTT: eager_eot_threshold= must not be above eot_threshold= (default 0.7), got {eager!r}"
            )

    @property
    def gives_interims(self) -> bool:
        """True if the model reports words before they are final."""
        return self.flux or self.interim_results

    @property
    def flux(self) -> bool:
        """True if the model detects ends of turns."""
        # By the name: the vendor gives its other protocol no other sign.
        return self.model.startswith("flux")

    def url(self, *, language: str) -> str:
        """Return the address for a call in this language.

        Raises:
            ProviderError: the model does not support the language.
        """
        # The provider's own language first: an agent's may be a default.
        spoken = self.language or language
        audio: dict[str, Value] = {"encoding": "mulaw", "sample_rate": RATE_HZ}
        if not self.flux:
            mine: dict[str, Value | None] = {
                **audio,
                "channels": 1,
                "language": spoken,
                "interim_results": self.interim_results,
                "endpointing": False,  # the call itself decides where an utterance ends
                "smart_format": self.smart_format,
                "punctuate": self.punctuate,
            }
            return self._url(NovaCodec.path, mine)
        multilingual = not self.model.endswith("-en")
        # Checked here, because the vendor would transcribe another language as nonsense English.
        if not multilingual and not is_english(spoken):
            raise ProviderError(f"the language of {self.model} must be English, got {spoken!r}: use flux-general-multi")
        mine = {
            **audio,
            # "multi" is Nova's word for several languages; Flux does without a hint then.
            "language_hint": spoken if multilingual and spoken != "multi" else None,
            "eot_threshold": self.eot_threshold,
            "eager_eot_threshold": self.eager_eot_threshold,
            "eot_timeout_ms": self.eot_timeout_ms,
        }
        return self._url(FluxCodec.path, mine)

    def _url(self, path: str, mine: Mapping[str, Value | None]) -> str:
        both: dict[str, Value | None] = {
            "keyterm": self.keyterm,
            # None leaves the parameter out; the vendor's default is the same.
            "numerals": self.numerals or None,
            "profanity_filter": self.profanity_filter or None,
        }
        # The application's last, so that it can replace any of ours.
        return listen_url(self.base_url, path, {"model": self.model, **mine, **both, **self.parameters})

    def billed_model(self, language: str) -> str:
        """Return the model's name in the price list; empty if it is the same."""
        return "nova-3-multilingual" if (self.model, self.language or language) == ("nova-3", "multi") else ""

    async def prewarm(self) -> None:
        """Create the TLS context now (about 20 ms), so that the first call does not wait for it."""
        tls_context()
        await trio.lowlevel.checkpoint()

    def open(self, *, language: str) -> AbstractAsyncContextManager[SpeechToTextSession]:
        """Connect for one call.

        Raises:
            AuthenticationError: the vendor refused the key.
            RateLimitError: there are too many connections.
            ProviderTimeout: the connection was not open in time.
            ProviderError: the vendor refused in another way or could not be reached, or the model does not support the
                language.
        """
        return self._open(language)

    @asynccontextmanager
    async def _open(self, language: str) -> AsyncIterator[SpeechToTextSession]:
        headers = {"Authorization": f"Token {self.api_key}"}
        codec = FluxCodec() if self.flux else NovaCodec(gives_interims=self.interim_results)
        # Nova takes frames of any size: each is sent as it comes.
        session = ListenSession(self.url(language=language), headers, codec, _FLUX_CHUNK_BYTES if self.flux else 1)
        try:
            async with run_beside(session.work):
                await session.ready()
                yield session
        # Also after a failure or a cancellation: the vendor has billed what it got.
        finally:
            if session.seconds:
                report_usage(Usage(stage="stt", seconds=session.seconds, model=self.billed_model(language)))
