"""Fallback between providers: when one fails or stays silent, the next one takes its place.

::

    phone.agent(..., llm=Fallback(OpenAILLM(...), OpenAILLM(base_url=..., ...)))

* **Order**: the providers are tried in the order given. A provider that failed is skipped for ``recover_after``
  seconds, then tried again. If all have failed recently, all are tried: a doubtful provider is better than no provider.
* **Health** is shared by all calls of one trio run: what one call found out, the next need not wait for.
* **Never after the first token or sample**: once the caller has heard the beginning of a reply, no other provider
  starts it again in another voice or with other words. A later failure fails the reply; the next reply then begins with
  another provider.
* **Nothing is a failure**, too: an answer without a word or a tool call, and speech without sound. The provider is
  tried once more before the next one.
* The call chooses an LLM and a TTS provider for each reply. It keeps its STT provider until that one fails or is
  silent; then it opens the next one, which gets the audio that was not answered (``call/input/recognition.py``).
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, Generic, TypeVar, overload

import attrs
import trio

from patter_trio.abc import (
    LanguageModel,
    Message,
    Prewarmable,
    RecognitionProgress,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
    VoiceEdge,
)
from patter_trio.audio.convert import rate_problem
from patter_trio.audio.formats import AudioFormat
from patter_trio.errors import AnswerCut, ConfigurationError, PatterConnectionError, ProviderError, full_name
from patter_trio.providers.attempts import KeptText, NothingCame, open_answer, open_speech, timed
from patter_trio.providers.validators import is_number_above_zero

# Judged: a healthy provider needs some tenths of a second.
DEFAULT_ATTEMPT_TIMEOUT_S: Final = 4.0
"""Default seconds that a provider gets: well above the time of a healthy provider's first token or sample, and half of
what callers tolerate."""
# Judged. Too short, and each reply of an outage waits for the broken provider; too long, and the better one stays
# unused.
DEFAULT_RECOVERY_S: Final = 60.0
"""Default seconds for which a failed provider is skipped; it limits the cost of an outage that ends sooner."""
# Judged: far more than an application has. Full: the oldest failure is forgotten, and its provider is tried again.
_MAX_REMEMBERED_PROVIDERS: Final = 256
"""Most providers whose failures are remembered."""
# Both, because a connection that could not be made need not be a provider's own error.
_FAILURES: Final = (ProviderError, PatterConnectionError)

_log = logging.getLogger("patter_trio.fallback")
_failures: Final = trio.lowlevel.RunVar[list[tuple[object, float]]]("patter_trio_fallback")
"""Failed providers, and the time of each one's last failure on trio's clock. A list: they are few, and not all are
hashable."""

P = TypeVar("P", bound=SpeechToText | LanguageModel | TextToSpeech)
Spoken = TypeVar("Spoken", bound=SpeechToText | TextToSpeech)
T = TypeVar("T")


def _failed_at(provider: object) -> float:
    """Return the time of a provider's last failure; minus infinity if it is healthy."""
    # By equality: two providers with equal options fail together.
    return next((at for other, at in _failures.get([]) if other == provider), -math.inf)


def _note(provider: object, at: float | None) -> None:
    """Record that a provider failed at ``at``, or with None that it is healthy."""
    others = [(other, then) for other, then in _failures.get([]) if other != provider]
    # Bounded, because an application may make a provider for a single call and never use it again.
    _failures.set(others if at is None else [*others[1 - _MAX_REMEMBERED_PROVIDERS :], (provider, at)])


@attrs.frozen
class _Choice(Generic[P]):
    """Providers of one kind in their order, and the rules for trying them."""

    providers: tuple[P, ...]
    patience: float
    recover_after: float

    def in_order(self) -> list[P]:
        """Return the healthy providers, then those that failed recently."""
        now = trio.current_time()
        # A stable sort: the application's order holds among the healthy, and among the others.
        return sorted(self.providers, key=lambda provider: now < _failed_at(provider) + self.recover_after)

    def failed(self, provider: P, error: BaseException) -> None:
        """Skip this provider for a while."""
        now = trio.current_time()
        if _failed_at(provider) != now:  # a lost session raises in each task that uses it: log it once
            _log.warning("%s failed: %s", provider_name(provider), error)
        _note(provider, now)

    def _another_failed(self, provider: P, error: BaseException, errors: list[str]) -> None:
        """Record a failure, and add it to the errors of the providers tried before.

        Raises:
            ProviderError: no provider is left to try.
        """
        self.failed(provider, error)
        errors.append(f"{provider_name(provider)}: {error}")
        # By count: each provider is tried once.
        if len(errors) == len(self.providers):
            raise ProviderError(f"every provider failed: {'; '.join(errors)}") from error

    def is_well(self, provider: P) -> None:
        """Forget that the provider failed."""
        _note(provider, None)

    @contextmanager
    def watched(self, provider: P) -> Iterator[None]:
        """Record a failure of this provider if the block raises one."""
        try:
            yield
        except AnswerCut:  # too long, or not wanted by a filter: that is not an outage
            raise
        except _FAILURES as error:
            self.failed(provider, error)
            # Raised unchanged: only the beginning of a reply may be repeated.
            raise

    @asynccontextmanager
    async def first_of(self, attempt: Callable[[P], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
        """Yield what the first healthy provider returns.

        Errors raised inside the caller's block pass through unrecorded.

        Raises:
            ProviderError: all providers failed; the message has each one's error.
        """
        errors: list[str] = []
        waiting = deque(self.in_order())
        silent = False
        async with AsyncExitStack() as stack:
            while True:
                provider = waiting.popleft()
                try:
                    got = await stack.enter_async_context(attempt(provider))
                except NothingCame as error:
                    if silent:
                        self._another_failed(provider, error, errors)
                        continue
                    # Once, for all providers together: nothing is more often an accident than an outage.
                    silent = True
                    _log.warning("%s, and is tried once more", error)
                    waiting.appendleft(provider)
                except _FAILURES as error:
                    self._another_failed(provider, error, errors)
                else:
                    # At the first sign of life: the next call need not wait for ``recover_after``.
                    self.is_well(provider)
                    break
            # Outside the try, so that an error of the caller's block never starts the next provider.
            yield got

    @asynccontextmanager
    async def first_session(
        self, open_session: Callable[[P], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[tuple[P, T]]:
        """Yield the first healthy provider whose session opens in time, and that session.

        Raises:
            ProviderError: all providers failed.
        """

        @asynccontextmanager
        async def attempt(provider: P) -> AsyncIterator[tuple[P, T]]:
            with timed(self.patience, provider_name(provider)) as scope:
                async with open_session(provider) as session:
                    # Open: from here on the session may take any time, because the caller may be silent.
                    scope.deadline = math.inf
                    yield provider, session

        async with self.first_of(attempt) as opened:
            yield opened

    async def prewarm(self) -> None:
        errors: list[str] = []
        for provider in self.providers:
            try:
                await provider.prewarm()
            # Only if all fail is that an error: one that cannot be loaded may recover until it is needed.
            except _FAILURES as error:
                self._another_failed(provider, error, errors)


def provider_name(provider: SpeechToText | LanguageModel | TextToSpeech) -> str:
    """Return the name that identifies a provider in a log."""
    return full_name(provider.provider, provider.model)


@attrs.frozen(kw_only=True)
class _FallbackProvider(Prewarmable, Generic[P]):
    """Base of the three kinds of fallback."""

    choice: _Choice[P]

    async def prewarm(self) -> None:
        """Load all providers, so that none has to be waited for when it is needed.

        Raises:
            ProviderError: all providers failed.
            ConfigurationError: a file of one is missing, or differs from what it should be.
        """
        await self.choice.prewarm()


class _SpokenFallback(_FallbackProvider[Spoken]):
    """What fallbacks of STT and TTS providers have in common: they may not know every language."""

    def language_problem(self, language: str) -> str:
        """Return why no provider can be used in this language; empty if one can."""
        problems = [provider.language_problem(language) for provider in self.choice.providers]
        # One that can is enough: a call is opened with the others left out.
        return "" if "" in problems else "; ".join(problems)


# Recognition ----------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackSTT(_SpokenFallback[SpeechToText], SpeechToText):
    """STT providers; a session is opened from the first healthy one. Made by :func:`Fallback`."""

    def __attrs_post_init__(self) -> None:
        first = self.choice.providers[0]
        # The format of the first: the call converts to that of the session that it gets.
        _set_names(self, first, accepts=first.accepts)

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        """Open a session from the first healthy STT provider.

        Raises:
            ProviderError: all STT providers failed.
        """
        async with self.choice.first_session(lambda stt: stt.open(language=language)) as (stt, session):
            # Around the block, too: the call that finds the session silent leaves it with that error.
            with self.choice.watched(stt):
                # A function, because each use needs a context of its own.
                yield _WatchedRecognition(
                    session, lambda: self.choice.watched(stt), session.accepts or stt.accepts, stt
                )


@attrs.frozen(eq=False)
class _WatchedRecognition(SpeechToTextSession):
    _session: SpeechToTextSession
    _watched: Callable[[], Any]
    accepts: AudioFormat | None
    chosen: SpeechToText | None

    @property
    def progress(self) -> RecognitionProgress | None:
        return self._session.progress

    async def send(self, audio: bytes) -> None:
        with self._watched():
            await self._session.send(audio)

    async def voice(self, edge: VoiceEdge) -> None:
        with self._watched():
            await self._session.voice(edge)

    async def flush(self) -> None:
        with self._watched():
            await self._session.flush()

    def transcripts(self) -> AsyncIterator[Transcript]:
        # A failure in the middle is recorded, too: the call goes on with another STT provider.
        return _Watched(self._session.transcripts(), self._watched)


# LLMs -----------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackLLM(_FallbackProvider[LanguageModel], LanguageModel):
    """LLMs; the first healthy one answers. Made by :func:`Fallback`."""

    def __attrs_post_init__(self) -> None:
        takes_tools = all(llm.takes_tools for llm in self.choice.providers)  # any of them may have to answer
        _set_names(self, self.choice.providers[0], takes_tools=takes_tools)

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message], **options: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """Open the answer of the first LLM that begins one; ``options`` are passed on.

        Raises:
            ProviderError: no LLM began to answer, or the chosen one failed later.
        """

        @asynccontextmanager
        async def attempt(llm: LanguageModel) -> AsyncIterator[AsyncIterator[Any]]:
            # The answer counts as begun with its first word or tool call. Until then the next LLM can still take over
            # unheard.
            # The options are passed on only if there are any, so that a model without tools need not know the
            # parameter.
            stream = partial(llm.stream, messages, **options)
            async with open_answer(stream, provider_name(llm), self.choice.patience) as answer:
                yield _Watched(answer, lambda: self.choice.watched(llm))

        async with self.choice.first_of(attempt) as answer:
            yield answer

    async def connect(self) -> None:
        """Open in advance what the next answer would otherwise wait for, at the LLM that is likely to give it.

        Raises:
            ProviderError: the connection failed.
        """
        likely = self.choice.in_order()[0]
        connect: Callable[[], Awaitable[None]] | None = getattr(likely, "connect", None)
        if connect is not None:
            # Recorded, so that the answer does not wait for the same provider.
            with self.choice.watched(likely):
                await connect()


# Synthesis ------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackTTS(_SpokenFallback[TextToSpeech], TextToSpeech):
    """TTS providers; the first healthy one speaks. Made by :func:`Fallback`.

    A call keeps the session of the TTS provider that was healthy when the call began. If another is needed for a reply,
    the call opens it for that reply.
    """

    def __attrs_post_init__(self) -> None:
        first = self.choice.providers[0]
        _set_names(self, first, emits=first.emits)

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        """Open a session from the first healthy TTS provider.

        Raises:
            ProviderError: all TTS providers failed.
        """
        async with self.choice.first_session(lambda tts: tts.open(language=language)) as (tts, session):
            yield FallbackSynthesis(self.choice, tts, session, language)


@attrs.frozen(eq=False)
class FallbackSynthesis(TextToSpeechSession):
    """The session of a :class:`FallbackTTS` in one call."""

    _choice: _Choice[TextToSpeech]
    _kept: TextToSpeech
    _session: TextToSpeechSession
    _language: str

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        text = KeptText(aiter(sentences))

        @asynccontextmanager
        async def attempt(tts: TextToSpeech) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
            patience, name = self._choice.patience, provider_name(tts)
            with timed(patience, name) as scope:
                async with self._session_of(tts) as session:
                    scope.deadline = math.inf  # the session is open; the speech has a deadline of its own
                    async with open_speech(session, text, name, patience) as speech:
                        chunks: AsyncIterator[SpeechChunk] = speech
                        # Only if they differ: most providers share the telephone's format.
                        if tts.emits != self._choice.providers[0].emits:
                            chunks = _Named(chunks, tts.emits)
                        yield _Watched(chunks, lambda: self._choice.watched(tts))

        async with self._choice.first_of(attempt) as chunks:
            yield chunks

    @asynccontextmanager
    async def _session_of(self, tts: TextToSpeech) -> AsyncIterator[TextToSpeechSession]:
        # The call holds this session open; leaving it here would close it for the next reply.
        if tts is self._kept:
            yield self._session
            return
        async with tts.open(language=self._language) as session:
            yield session


# What has begun -------------------------------------------------------------------------------------------------------
class _Watched(AsyncIterator[T]):
    """Iterator over what a provider gives, which records a failure of the provider.

    It is a class, not a generator, because the reply may leave it at any point and does not close it. A channel would
    cost each token a switch of tasks.
    """

    def __init__(self, items: AsyncIterator[T], watched: Callable[[], Any]) -> None:
        self._items, self._watched = items, watched

    async def __anext__(self) -> T:
        with self._watched():
            return await anext(self._items)


class _Named(AsyncIterator[SpeechChunk]):
    """Speech that names its format.

    ``Fallback`` announces the format of its first provider, and another one may be speaking.
    """

    def __init__(self, chunks: AsyncIterator[SpeechChunk], emits: AudioFormat) -> None:
        self._chunks, self._emits = chunks, emits

    async def __anext__(self) -> SpeechChunk:
        chunk = await anext(self._chunks)
        return attrs.evolve(chunk, format=chunk.format or self._emits)


def _set_names(provider: Any, first: SpeechToText | LanguageModel | TextToSpeech, **abilities: object) -> None:
    """Take on the names of the first provider, which metrics and prices know, and what the calls may ask for."""
    for name, value in {"provider": first.provider, "model": first.model, **abilities}.items():
        # ``object.__setattr__``, because the class is frozen.
        object.__setattr__(provider, name, value)


def _check_formats(providers: Sequence[object]) -> None:
    for provider in providers:
        for does in ("accepts", "emits"):
            made = getattr(provider, does, None)
            # When it is made: a rate that cannot be converted would only show when the first provider fails.
            if made is not None and (problem := rate_problem(made)):
                raise ConfigurationError(f"Fallback: {type(provider).__name__} must {does[:-1]} audio {problem}")


@overload
def Fallback(*providers: SpeechToText, patience: float = ..., recover_after: float = ...) -> FallbackSTT: ...
@overload
def Fallback(*providers: LanguageModel, patience: float = ..., recover_after: float = ...) -> FallbackLLM: ...
@overload
def Fallback(*providers: TextToSpeech, patience: float = ..., recover_after: float = ...) -> FallbackTTS: ...
def Fallback(  # noqa: N802 (used like the provider classes that it stands for)
    *providers: Any, patience: float = DEFAULT_ATTEMPT_TIMEOUT_S, recover_after: float = DEFAULT_RECOVERY_S
) -> FallbackSTT | FallbackLLM | FallbackTTS:
    """Combine providers of one kind: when one fails before it has begun, the next one takes its place.

    Args:
        providers: in the order in which they are tried.
        patience: seconds that each provider has to open its session, to produce its first token, or to produce its
            first audio once it has a text.
        recover_after: seconds for which a failed provider is tried only if no other is left.

    Raises:
        ConfigurationError: no providers were given, they are of different kinds, one has a format that no call can
            convert, or a number is not positive.
    """
    for name, seconds in {"patience": patience, "recover_after": recover_after}.items():
        if not is_number_above_zero(seconds):
            raise ConfigurationError(f"Fallback: {name}= must be a number of seconds above 0, got {seconds!r}")
    for kind, provider in ((SpeechToText, FallbackSTT), (LanguageModel, FallbackLLM), (TextToSpeech, FallbackTTS)):
        # All of one kind, or the call could not use it in one place.
        if providers and all(isinstance(provider, kind) for provider in providers):
            _check_formats(providers)
            return provider(choice=_Choice(providers, patience, recover_after))
    given = ", ".join(type(provider).__name__ for provider in providers) or "nothing"
    raise ConfigurationError(f"Fallback: providers must be all STT, all LLM or all TTS, got {given}")
