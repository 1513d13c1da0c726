"""Hints for ``await`` and ``async with`` in the wrong place.

Python's own errors ("object NoneType can't be used in 'await' expression") name neither the method nor the remedy. The
types stay those of the functions, so that a type checker finds each misuse before the program runs.
"""

from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, Final, Never, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _CarriedOut:
    """The result of a command that is carried out at once: nothing, and awaiting it waits for nothing."""

    def __repr__(self) -> str:
        return "None"

    def __bool__(self) -> bool:
        return False

    # Not an error: a callback may be `lambda event, call: call.hang_up()`, and what a callback returns is awaited if it
    # can be.
    def __await__(self) -> Generator[None, None, None]:
        return
        yield


CARRIED_OUT: Final = cast("None", _CarriedOut())
"""The result of a method that needs no ``await``; to a type checker, None."""


class _ForAwait(Coroutine[Any, Any, Any]):
    """A coroutine that says what to do if it is used as a block."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], hint: str) -> None:
        self._coroutine = coroutine
        self._hint = hint

    def __repr__(self) -> str:
        return repr(self._coroutine)

    # trio reads the frames and the name of a coroutine that it runs.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        return self._coroutine.send(value)

    def throw(self, *raised: Any) -> Any:
        """Raise an exception in the coroutine."""
        return self._coroutine.throw(*raised)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()

    async def __aenter__(self) -> Never:
        # Closed, or Python would warn that it was never awaited.
        self._coroutine.close()
        raise TypeError(self._hint)

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: no block was entered."""


class _ForBlock(AbstractAsyncContextManager[Any]):
    """A block that says what to do if it is awaited."""

    def __init__(self, block: AbstractAsyncContextManager[Any], hint: str) -> None:
        self._block = block
        self._hint = hint

    def __repr__(self) -> str:
        return repr(self._block)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError(self._hint)

    async def __aenter__(self) -> Any:
        __tracebackhide__ = True
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        __tracebackhide__ = True
        return await self._block.__aexit__(kind, error, traceback)


def for_await(hint: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let the coroutines of an async function say ``hint`` if they are used by ``async with``."""
    return _wrapped(_ForAwait, hint)


def for_block(hint: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let the context managers that a function returns say ``hint`` if they are awaited."""
    return _wrapped(_ForBlock, hint)


def _wrapped(kind: Callable[[Any, str], Any], hint: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def made(*arguments: _P.args, **options: _P.kwargs) -> _R:
            return cast("_R", kind(function(*arguments, **options), hint))

        return made

    return decorate
