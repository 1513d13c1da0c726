"""Attempts to get something from a provider: an answer with words, speech with sound, in time.

An LLM may answer with nothing and a TTS provider may speak without sound, although neither reports an error. To a
caller that is a dead line. Here it is a failure, :class:`NothingCame`, and so is a provider that hangs. Both are tried
once more; a :func:`~patter_trio.providers.fallback.Fallback` then asks its next provider.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs
import trio

from patter_trio.abc import SpeechChunk, TextToSpeechSession
from patter_trio.errors import PatterError, ProviderError, ProviderTimeout, leaves

T = TypeVar("T")


class NothingCame(ProviderError):
    """An answer without a word or a tool call, or speech without a sample of audio."""


class ProviderBug(ProviderError):
    """An exception that a provider must not raise; ``__cause__`` is the original."""


def says_something(text: str) -> bool:
    """Return True if a text has a letter or a digit: nothing else has a sound of its own."""
    return any(map(str.isalnum, text))


# The border to providers of the application's own ---------------------------------------------------------------------
def _translated(error: Exception, name: str, passing: BaseException | None = None) -> Exception:
    """Return a :class:`ProviderBug` for an exception of another package, unless it is only ``passing``."""
    if all(isinstance(leaf, PatterError) or leaf is passing for leaf in leaves(error)):
        return error
    bug = ProviderBug(f"{name} raised {type(error).__name__}: {error}")
    bug.__cause__ = error
    return bug


@contextmanager
def guarded(name: str, passing: BaseException | None = None) -> Iterator[None]:
    """Run a block of a provider's, which raises nothing but errors of the package, and what passes through it."""
    try:
        yield
    # The broad handler of this border: a provider may be the application's own, and raise anything.
    except Exception as error:
        translated = _translated(error, name, passing)
        if translated is error:
            raise
        raise translated from error


class Guarded(Generic[T]):
    """A provider's stream, opened and iterated over, that raises nothing but errors of the package.

    Args:
        stream: the stream.
        name: what errors call the provider.
    """

    def __init__(self, stream: AbstractAsyncContextManager[AsyncIterator[T]], name: str) -> None:
        self._stream = stream
        self._name = name

    async def __aenter__(self) -> "Guarded[T]":
        with guarded(self._name):
            # Both inside: an application's own stream may fail in either.
            self._items = aiter(await self._stream.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        with guarded(self._name, error):
            return await self._stream.__aexit__(kind, error, traceback)

    def __aiter__(self) -> "Guarded[T]":
        return self

    async def __anext__(self) -> T:
        try:
            return await anext(self._items)
        # Its end, and errors of the package, which need no translation.
        except StopAsyncIteration:
            raise
        except PatterError:
            raise
        # Not with guarded(), which each token would pay for.
        except Exception as error:
            raise _translated(error, self._name) from error


# What has begun -------------------------------------------------------------------------------------------------------
class Begun(AsyncIterator[T]):
    """Iterator over the items that came before a stream counted as begun, then over the rest as they come.

    It is a class, not a generator, because the reply may leave it at any point and does not close it. A channel would
    cost each token a switch of tasks.
    """

    def __init__(self, first: list[T], rest: AsyncIterator[T]) -> None:
        self._first, self._rest = first, rest

    async def __anext__(self) -> T:
        if len(self._first) > 1:
            # An item that is there needs no wait, but many of them must not hold up the other calls.
            await trio.lowlevel.checkpoint()
            return self._first.pop(0)
        if self._first:
            # The last of them has just been waited for. A turn of the event loop more, for the first word and for the
            # first sound, would delay each answer by two turns: milliseconds on a busy core.
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._first.pop(0)
        return await anext(self._rest)


@contextmanager
def timed(patience: float, name: str, *, begins: bool = True) -> Iterator[trio.CancelScope]:
    """Limit the block to ``patience`` seconds, until it moves the scope's deadline.

    Without ``begins`` it has to set it.
    """
    # The scope surrounds the whole use: whatever a provider opens inside the scope must be closed before the scope
    # exits.
    with trio.CancelScope(deadline=trio.current_time() + patience if begins else math.inf) as scope:
        yield scope
    # Only our own deadline: a barge-in passes through.
    if scope.cancelled_caught:
        raise ProviderTimeout(f"{name} gave no result within {patience:g} s")


@asynccontextmanager
async def begun(
    stream: AbstractAsyncContextManager[AsyncIterator[T]],
    is_something: Callable[[T], bool],
    nothing: str,
    *,
    owes: Callable[[], bool] = lambda: True,
) -> AsyncIterator[AsyncIterator[T]]:
    """Open a stream, and wait for its first item that is something.

    Args:
        stream: the stream.
        is_something: tells if an item is.
        nothing: the error's text.
        owes: tells, at the end of a stream with nothing, if there should have been something.

    Raises:
        NothingCame: the stream ended before.
    """
    async with stream as items:
        rest = aiter(items)
        first: list[T] = []
        found = False
        async for item in rest:
            # Kept although it may say nothing: white space before the first word belongs to the answer.
            first.append(item)
            if is_something(item):
                found = True
                break
        # Nothing is owed for a text of punctuation alone, which has no sound.
        if found or not owes():
            yield Begun(first, rest)
            return
    # Behind the block: a stream that ended well is closed as such, which may keep its connection.
    raise NothingCame(nothing)


@asynccontextmanager
async def open_twice(
    attempt: Callable[[float], AbstractAsyncContextManager[T]], patience: float, note: Callable[[ProviderError], None]
) -> AsyncIterator[T]:
    """Open what ``attempt`` opens; once more if nothing came, or not within ``patience`` seconds.

    Args:
        attempt: opens it; gets the seconds that it may take until something has come.
        patience: seconds of the first attempt; the second one has no limit of its own.
        note: told why the first attempt failed.

    Raises:
        ProviderError: the first attempt failed otherwise, or the second one did.
    """
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(attempt(patience))
        except (NothingCame, ProviderTimeout) as error:
            note(error)
            opened = await stack.enter_async_context(attempt(math.inf))
        # Outside the try, so that an error of the caller's block never starts a second attempt.
        yield opened


# Answers --------------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def open_answer(
    stream: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]],
    name: str,
    patience: float,
    *,
    tools: bool = True,
) -> AsyncIterator[AsyncIterator[T]]:
    """Open a streamed answer, and wait for its first word, sound or tool call; without ``tools`` a call is nothing.

    Raises:
        NothingCame: the answer has none.
        ProviderTimeout: none came within ``patience`` seconds.
        ProviderBug: the provider raised what it must not.
        ProviderError: the provider failed.
    """
    nothing = f"{name} gave an answer without a word{' or a tool call' if tools else ''}"
    with guarded(name):
        opened = stream()
    with timed(patience, name) as scope:
        async with begun(Guarded(opened, name), partial(_is_part_of_answer, tools=tools), nothing) as answer:
            # Lifted before the yield: what follows has the provider's own deadlines.
            scope.deadline = math.inf
            yield answer


def _is_part_of_answer(item: Any, *, tools: bool) -> bool:
    if isinstance(item, str):
        return says_something(item)
    return bool(item.audio) if isinstance(item, SpeechChunk) else tools


# Speech ---------------------------------------------------------------------------------------------------------------
@attrs.define(eq=False)
class KeptText:
    """A reply's text.

    It keeps the sentences until their speech has begun, so that they can be spoken again from the beginning.
    """

    source: AsyncIterator[str]
    kept: list[str] = attrs.field(factory=list)
    begun: bool = False
    """True once the caller is about to hear the speech: the sentences need not be kept any more."""

    @property
    def is_owed(self) -> bool:
        """True if the text so far has something that can be spoken."""
        return any(map(says_something, self.kept))


class KeptSentences(AsyncIterator[str]):
    """Iterator over a reply's text from its beginning; the first sentence starts the deadline of its TTS provider.

    It is a class, not a generator, because a TTS provider that fails may leave it at any point and does not close it.
    """

    def __init__(self, text: KeptText, scope: trio.CancelScope, patience: float) -> None:
        self._text, self._scope, self._patience, self._next = text, scope, patience, 0

    async def __anext__(self) -> str:
        text = self._text
        # All kept sentences have been read again: go on with the LLM's.
        if self._next == len(text.kept):
            sentence = await anext(text.source)
            # From here on nothing is kept: the text is not spoken again.
            if text.begun:
                return sentence
            text.kept.append(sentence)
        else:
            # A kept sentence needs no wait, but every step of an async iterator must be a checkpoint.
            await trio.lowlevel.checkpoint()
        if self._next == 0 and not text.begun:
            self._scope.deadline = trio.current_time() + self._patience
        self._next += 1
        return text.kept[self._next - 1]


@asynccontextmanager
async def open_speech(
    session: TextToSpeechSession, text: KeptText, name: str, patience: float
) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
    """Open the speech of a reply, and wait for its first audio.

    Raises:
        NothingCame: the TTS provider gave no audio for a text that can be spoken.
        ProviderTimeout: none came within ``patience`` seconds of the first sentence.
        ProviderBug: the TTS provider raised what it must not.
        ProviderError: it failed.
    """
    nothing = f"{name} gave no audio for a text that can be spoken"
    # The first sentence sets the deadline: waiting for the LLM does not count.
    with timed(patience, name, begins=False) as scope:
        with guarded(name):
            opened = session.speak(KeptSentences(text, scope, patience))
        stream = Guarded(opened, name)
        async with begun(stream, lambda chunk: bool(chunk.audio), nothing, owes=lambda: text.is_owed) as chunks:
            # Before the yield: what the caller is about to hear must not be spoken from its beginning again.
            text.begun = True
            # Lifted: what follows has the provider's own deadlines.
            scope.deadline = math.inf
            yield chunks
