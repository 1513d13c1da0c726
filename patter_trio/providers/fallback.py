"""A provider behind another: when the first one fails, or is silent, the next one takes its place.

::

    phone.agent(..., llm=Fallback(OpenAILLM(...), OpenAILLM(base_url=..., ...)))

* **Order**: the providers are tried as they are given. One that failed is passed over for ``recover_after`` seconds, then
  tried again. When all have failed lately, all are tried: better a doubtful provider than none.
* **Health** is known to all calls of a run of trio: what one has found out, the next need not wait for.
* **Never after the first token or sample**: what the caller has begun to hear is not begun again in another voice or with
  other words. A later failure is the reply's failure; it only makes the next one begin elsewhere.
* A recogniser is chosen when its session is opened; a synthesiser and a mind for each reply.
"""

import logging
import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, Generic, TypeVar, overload

import attrs
import trio

from patter_trio.abc import (
    LanguageModel,
    Message,
    Prewarmable,
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
from patter_trio.errors import ConfigurationError, PatterConnectionError, ProviderError, ProviderTimeout

DEFAULT_PATIENCE_S: Final = 4.0
"""Seconds: well above what a provider that is well takes for its first token or sample, and half of what callers bear."""
DEFAULT_RECOVERY_S: Final = 60.0
"""Seconds: an outage that is over sooner costs nobody more than this."""
_MAX_REMEMBERED_PROVIDERS: Final = 256
"""Providers whose failures are remembered."""
_FAILURES: Final = (ProviderError, PatterConnectionError)

_log = logging.getLogger("patter_trio.fallback")
_failures: Final = trio.lowlevel.RunVar[list[tuple[object, float]]]("patter_trio_fallback")
"""The providers that are not well, and when each has failed last, on trio's clock; few, and not all can be hashed."""

P = TypeVar("P", bound=SpeechToText | LanguageModel | TextToSpeech)
T = TypeVar("T")


def _failed_at(provider: object) -> float:
    """Return when a provider has failed last; minus infinity if it is well."""
    return next((at for other, at in _failures.get([]) if other == provider), -math.inf)


def _note(provider: object, at: float | None) -> None:
    """Note that a provider has failed then, or, by None, that it is well."""
    others = [(other, then) for other, then in _failures.get([]) if other != provider]
    # Bounded, since providers may be made for one call and never be seen again.
    _failures.set(others if at is None else [*others[1 - _MAX_REMEMBERED_PROVIDERS :], (provider, at)])


@attrs.frozen
class _Choice(Generic[P]):
    """Providers of one kind in their order, and when one of them may be tried."""

    providers: tuple[P, ...]
    patience: float
    recover_after: float

    def in_order(self) -> list[P]:
        """Return the providers that are well, then those that are not."""
        now = trio.current_time()
        return sorted(self.providers, key=lambda provider: now < _failed_at(provider) + self.recover_after)

    def failed(self, provider: P, error: BaseException) -> None:
        """Pass this provider over for a while."""
        now = trio.current_time()
        if _failed_at(provider) != now:  # a session that is lost says so to each task that uses it
            _log.warning("%s failed: %s", provider_name(provider), error)
        _note(provider, now)

    def _another_failed(self, provider: P, error: BaseException, said: list[str]) -> None:
        """Take note of a failure beside others that are in ``said``.

        Raises:
            ProviderError: it was the last one's.
        """
        self.failed(provider, error)
        said.append(f"{provider_name(provider)}: {error}")
        if len(said) == len(self.providers):
            raise ProviderError(f"none of {len(said)} providers is well; {'; '.join(said)}") from error

    def is_well(self, provider: P) -> None:
        """Forget that it ever failed."""
        _note(provider, None)

    @contextmanager
    def watched(self, provider: P) -> Iterator[None]:
        """Take note of a failure of this provider's."""
        try:
            yield
        except _FAILURES as error:
            self.failed(provider, error)
            raise

    @asynccontextmanager
    async def first_of(self, attempt: Callable[[P], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
        """Give the block what the first provider that is well gives; what fails in the block is none of our business.

        Raises:
            ProviderError: none is; the message has what each one said.
        """
        said: list[str] = []
        async with AsyncExitStack() as stack:
            for provider in self.in_order():
                try:
                    got = await stack.enter_async_context(attempt(provider))
                except _FAILURES as error:
                    self._another_failed(provider, error, said)
                else:
                    self.is_well(provider)
                    break
            yield got

    async def prewarm(self) -> None:
        said: list[str] = []
        for provider in self.providers:
            try:
                await provider.prewarm()
            except _FAILURES as error:
                self._another_failed(provider, error, said)


def provider_name(provider: SpeechToText | LanguageModel | TextToSpeech) -> str:
    """Return the name by which a log can tell a provider from its neighbour."""
    return f"{provider.provider} {provider.model}".strip()


@contextmanager
def _timed(patience: float, provider: Any) -> Iterator[trio.CancelScope]:
    """Allow so many seconds until the scope's deadline is lifted."""
    # Around the whole use: what a provider opens within the scope has to be left before the scope is.
    with trio.CancelScope(deadline=trio.current_time() + patience) as scope:
        yield scope
    if scope.cancelled_caught:
        raise ProviderTimeout(f"{provider_name(provider)} gave nothing for {patience:g} s")


@attrs.frozen(kw_only=True)
class _FallbackProvider(Prewarmable, Generic[P]):
    """What the three kinds have in common."""

    choice: _Choice[P]

    async def prewarm(self) -> None:
        """Load all of them, so that none has to be waited for when it is needed.

        Raises:
            ProviderError: none can be used.
            ConfigurationError: one is missing, or not what it should be.
        """
        await self.choice.prewarm()


# Recognition ----------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackSTT(_FallbackProvider[SpeechToText], SpeechToText):
    """Recognisers, of which a session is opened from the first that is well; made by :func:`Fallback`."""

    def __attrs_post_init__(self) -> None:
        first = self.choice.providers[0]
        _set_names(self, first, accepts=first.accepts)

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        """Open a session from the first recogniser that is well.

        Raises:
            ProviderError: none is.
        """

        @asynccontextmanager
        async def attempt(stt: SpeechToText) -> AsyncIterator[SpeechToTextSession]:
            with _timed(self.choice.patience, stt) as scope:
                async with stt.open(language=language) as session:
                    scope.deadline = math.inf
                    yield _WatchedRecognition(session, lambda: self.choice.watched(stt), session.accepts or stt.accepts)

        async with self.choice.first_of(attempt) as session:
            yield session


@attrs.frozen(eq=False)
class _WatchedRecognition(SpeechToTextSession):
    _session: SpeechToTextSession
    _watched: Callable[[], Any]
    accepts: AudioFormat | None

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
        return _Begun([], self._session.transcripts(), self._watched)


# Minds ----------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackLLM(_FallbackProvider[LanguageModel], LanguageModel):
    """Minds, of which the first that is well answers; made by :func:`Fallback`."""

    def __attrs_post_init__(self) -> None:
        _set_names(self, self.choice.providers[0])

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message], **options: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """Open the answer of the first mind that begins one; ``options`` are passed on.

        Raises:
            ProviderError: none does, or that one failed later.
        """

        @asynccontextmanager
        async def attempt(llm: LanguageModel) -> AsyncIterator[AsyncIterator[Any]]:
            with _timed(self.choice.patience, llm) as scope:
                async with llm.stream(messages, **options) as answer:
                    pieces = aiter(answer)
                    begun = [piece async for piece in _until(pieces, lambda _: True)]
                    scope.deadline = math.inf
                    yield _Begun(begun, pieces, lambda: self.choice.watched(llm))

        async with self.choice.first_of(attempt) as answer:
            yield answer

    async def connect(self) -> None:
        """Open what the next answer would otherwise wait for, at the mind that is likely to give it.

        Raises:
            ProviderError: it could not be had.
        """
        likely = self.choice.in_order()[0]
        connect: Callable[[], Awaitable[None]] | None = getattr(likely, "connect", None)
        if connect is not None:
            with self.choice.watched(likely):
                await connect()


# Synthesis ------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class FallbackTTS(_FallbackProvider[TextToSpeech], TextToSpeech):
    """Synthesisers, of which the first that is well speaks; made by :func:`Fallback`.

    A call keeps the session of the one that was well when it began; another is opened for the reply that needs it.
    """

    def __attrs_post_init__(self) -> None:
        first = self.choice.providers[0]
        _set_names(self, first, emits=first.emits)

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        """Open a session from the first synthesiser that is well.

        Raises:
            ProviderError: none is.
        """

        @asynccontextmanager
        async def attempt(tts: TextToSpeech) -> AsyncIterator[TextToSpeechSession]:
            with _timed(self.choice.patience, tts) as scope:
                async with tts.open(language=language) as session:
                    scope.deadline = math.inf
                    yield _FallbackSynthesis(self.choice, tts, session, language)

        async with self.choice.first_of(attempt) as session:
            yield session


@attrs.frozen(eq=False)
class _FallbackSynthesis(TextToSpeechSession):
    _choice: _Choice[TextToSpeech]
    _kept: TextToSpeech
    _session: TextToSpeechSession
    _language: str

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        text = _Text(aiter(sentences))

        @asynccontextmanager
        async def attempt(tts: TextToSpeech) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
            patience = self._choice.patience
            with _timed(patience, tts) as scope:
                async with self._session_of(tts) as session:
                    scope.deadline = math.inf  # the text may take its time
                    async with session.speak(_Sentences(text, scope, patience)) as speech:
                        chunks = aiter(speech)
                        if tts.emits != self._choice.providers[0].emits:
                            chunks = _Named(chunks, tts.emits)
                        begun = [chunk async for chunk in _until(chunks, lambda chunk: bool(chunk.audio))]
                        text.begun = True
                        scope.deadline = math.inf
                        yield _Begun(begun, chunks, lambda: self._choice.watched(tts))

        async with self._choice.first_of(attempt) as chunks:
            yield chunks

    @asynccontextmanager
    async def _session_of(self, tts: TextToSpeech) -> AsyncIterator[TextToSpeechSession]:
        if tts is self._kept:
            yield self._session
            return
        async with tts.open(language=self._language) as session:
            yield session


@attrs.define(eq=False)
class _Text:
    """A reply's text; what has come is kept until its speech has begun, so that another voice can begin it again."""

    source: AsyncIterator[str]
    kept: list[str] = attrs.field(factory=list)
    begun: bool = False


class _Sentences(AsyncIterator[str]):
    """Iterates over a reply's text from its beginning; the first sentence starts the deadline of its synthesiser.

    A class, not a generator, since a synthesiser that fails may leave it anywhere and does not close it.
    """

    def __init__(self, text: _Text, scope: trio.CancelScope, patience: float) -> None:
        self._text, self._scope, self._patience, self._next = text, scope, patience, 0

    async def __anext__(self) -> str:
        text = self._text
        if self._next == len(text.kept):
            sentence = await anext(text.source)
            if text.begun:
                return sentence
            text.kept.append(sentence)
        else:
            await trio.lowlevel.checkpoint()
        if self._next == 0 and not text.begun:
            self._scope.deadline = trio.current_time() + self._patience
        self._next += 1
        return text.kept[self._next - 1]


# What has begun -------------------------------------------------------------------------------------------------------
class _Begun(AsyncIterator[T]):
    """Iterates over the pieces that came before a provider counted as begun, then over the rest as they come.

    A class, not a generator, since the reply may leave it anywhere and does not close it; no channel, since each token
    of a model passes here.
    """

    def __init__(self, begun: list[T], rest: AsyncIterator[T], watched: Callable[[], Any]) -> None:
        self._begun, self._rest, self._watched = begun, rest, watched

    async def __anext__(self) -> T:
        if self._begun:
            await trio.lowlevel.checkpoint()
            return self._begun.pop(0)
        with self._watched():
            return await anext(self._rest)


class _Named(AsyncIterator[SpeechChunk]):
    """Speech that names its format: the recipe announces that of its first synthesiser, and another may be speaking."""

    def __init__(self, chunks: AsyncIterator[SpeechChunk], emits: AudioFormat) -> None:
        self._chunks, self._emits = chunks, emits

    async def __anext__(self) -> SpeechChunk:
        chunk = await anext(self._chunks)
        return attrs.evolve(chunk, format=chunk.format or self._emits)


async def _until(items: AsyncIterator[T], is_enough: Callable[[T], bool]) -> AsyncIterator[T]:
    """Iterate up to the first one that is enough, and no further."""
    async for item in items:
        yield item
        if is_enough(item):
            return


def _set_names(provider: Any, first: SpeechToText | LanguageModel | TextToSpeech, **formats: object) -> None:
    """Go by the names of the first provider: metrics and prices know those."""
    for name, value in {"provider": first.provider, "model": first.model, **formats}.items():
        object.__setattr__(provider, name, value)


def _check_formats(providers: Sequence[object]) -> None:
    for provider in providers:
        for does in ("accepts", "emits"):
            made = getattr(provider, does, None)
            if made is not None and (problem := rate_problem(made)):
                raise ConfigurationError(f"Fallback: {type(provider).__name__} must {does[:-1]} audio {problem}")


@overload
def Fallback(*providers: SpeechToText, patience: float = ..., recover_after: float = ...) -> FallbackSTT: ...
@overload
def Fallback(*providers: LanguageModel, patience: float = ..., recover_after: float = ...) -> FallbackLLM: ...
@overload
def Fallback(*providers: TextToSpeech, patience: float = ..., recover_after: float = ...) -> FallbackTTS: ...
def Fallback(  # noqa: N802 (it is used like the providers that it stands for)
    *providers: Any, patience: float = DEFAULT_PATIENCE_S, recover_after: float = DEFAULT_RECOVERY_S
) -> FallbackSTT | FallbackLLM | FallbackTTS:
    """Put providers of one kind behind each other: when one fails before it has begun, the next one takes its place.

    Args:
        providers: in the order in which they are tried.
        patience: seconds that each has to open its session, or to give its first token, or its first audio once it has
            a text.
        recover_after: seconds for which one that failed is tried only when there is no other.

    Raises:
        ConfigurationError: there are none, they are of different kinds, one has a format that no call can convert, or a
            number is not positive.
    """
    if not (patience > 0 and recover_after > 0):
        raise ConfigurationError("Fallback: patience and recover_after are seconds, more than 0")
    for kind, provider in ((SpeechToText, FallbackSTT), (LanguageModel, FallbackLLM), (TextToSpeech, FallbackTTS)):
        if providers and all(isinstance(provider, kind) for provider in providers):
            _check_formats(providers)
            return provider(choice=_Choice(providers, patience, recover_after))
    given = ", ".join(type(provider).__name__ for provider in providers) or "nothing"
    raise ConfigurationError(f"Fallback: give recognisers, or minds, or synthesisers, all of one kind, not {given}")
