"""Calls to the application's own functions, which may be sync or async and may raise anything.

Whatever they raise becomes :class:`ApplicationError`, so no broad handler is needed anywhere else below the call's
boundary. Cancellation passes through.
"""

import inspect
import logging
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Final

import trio

from patter_trio.errors import PatterError
from patter_trio.net.threads import run_in_own_thread
from patter_trio.user_code.context import current_call
from patter_trio.user_code.signatures import name_of

MAX_BLOCKING_S: Final = 0.05
"""Longest time, in seconds, that a plain function may block all calls without a warning: at 50 frames a second, callers
hear more."""

_log = logging.getLogger("patter_trio.events")


class ApplicationError(PatterError):
    """An exception raised by one of the application's functions; the cause is the original."""


async def call(function: Callable[..., Any], *arguments: object) -> Any:
    """Call the application's function and await its result if it is awaitable.

    Raises:
        ApplicationError: the function raised.
    """
    return await await_result(function, call_sync(function, *arguments))


def call_sync(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Call the application's function without awaiting; log a warning if it blocked the event loop.

    Raises:
        ApplicationError: the function raised.
    """
    remedy = f"make it async, or wrap it: in_thread({getattr(function, '__name__', '...')})"
    with isolate(name_of(function), remedy):
        return function(*arguments, **keywords)


@contextmanager
def isolate(name: str, remedy: str, call_id: str = "") -> Iterator[None]:
    """Translate errors of application code that runs inline, without awaiting.

    If the code blocked the event loop, log a warning with the ``remedy``. ``call_id`` is the call that the code works
    for, if it is not the current one.

    Raises:
        ApplicationError: the code raised.
    """
    began = trio.current_time()
    try:
        yield
    except Exception as error:
        raise ApplicationError(f"{name} raised {type(error).__name__}: {error}") from error
    finally:
        took = trio.current_time() - began
        if took > MAX_BLOCKING_S:
            whose = call_id or current_call.get()
            _log.warning("call %s: %s blocked every call for %.0f ms; %s", whose, name, took * 1000, remedy)


@types.coroutine
def _watched(function: Callable[..., Any], result: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await ``result``, and log a warning if a single step blocks the event loop.

    An ``async def`` can still block.
    """
    steps = result.__await__()
    if not hasattr(steps, "send"):  # a plain iterator: nothing can be thrown into it
        return (yield from steps)
    # Each step runs from one await to the next. Driving the coroutine by hand is the only way to time one.
    step, value, reported = steps.send, None, False
    while True:
        began = trio.current_time()
        try:
            awaited = step(value)
        except StopIteration as over:
            return over.value
        finally:
            took = trio.current_time() - began
            if took > MAX_BLOCKING_S and not reported:
                reported = True
                _log.warning(
                    "call %s: %s blocked every call for %.0f ms between two awaits; "
                    "run the slow part in a thread, with trio.to_thread.run_sync or in_thread",
                    current_call.get(),
                    name_of(function),
                    took * 1000,
                )
        try:
            step, value = steps.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001 (thrown into the function, as await does)
            step, value = steps.throw, error


async def await_result(function: Callable[..., Any], result: Any) -> Any:
    """Await what the application's function returned if it is awaitable.

    Raises:
        ApplicationError: the function raised.
    """
    try:
        return await _watched(function, result) if inspect.isawaitable(result) else result
    except Exception as error:
        raise ApplicationError(f"{name_of(function)} raised {type(error).__name__}: {error}") from error


def in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Make an async callback of a slow plain function (a database, ``requests``), which then runs in a thread.

    ::

        phone.on_user_speech_eos = in_thread(write_to_the_crm)
    """

    @wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await run_in_own_thread(partial(function, *arguments))

    return wrapper


class UserIterator:
    """Iteration over the application's async generator, or over another async iterator that needs no closing."""

    def __init__(self, function: Callable[..., Any], generator: AsyncIterator[Any]) -> None:
        self.function = function
        self._generator = generator

    def __aiter__(self) -> "UserIterator":
        return self

    async def __anext__(self) -> Any:
        try:
            return await _watched(self.function, anext(self._generator))
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise ApplicationError(f"{name_of(self.function)} raised {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close the generator. Log what it raises and go on: its reply is over."""
        close = getattr(self._generator, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:  # noqa: BLE001 (application code may raise anything)
            name = name_of(self.function)
            _log.warning("call %s: %s raised while closing: %s", current_call.get(), name, error, exc_info=error)
