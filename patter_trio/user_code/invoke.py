"""The border to the application's own functions: sync or async, and free to raise anything.

Whatever they raise comes out as :class:`ApplicationError`, so that no broad handler is needed anywhere else below the
call's boundary. Cancellation passes through.
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
"""A plain function that holds up all calls for longer is reported: at 50 frames a second, more is heard."""

_log = logging.getLogger("patter_trio.events")


class ApplicationError(PatterError):
    """A function of the application's raised; the cause is what it raised."""


async def call(function: Callable[..., Any], *arguments: object) -> Any:
    """Call the application's function and await what it returns, if that can be awaited.

    Raises:
        ApplicationError: it raised.
    """
    return await await_result(function, call_sync(function, *arguments))


def call_sync(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Call the application's function without awaiting; report it when it held up the loop.

    Raises:
        ApplicationError: it raised.
    """
    remedy = f"make it async, or wrap it: in_thread({getattr(function, '__name__', '...')})"
    with isolate(name_of(function), remedy):
        return function(*arguments, **keywords)


@contextmanager
def isolate(name: str, remedy: str, call_id: str = "") -> Iterator[None]:
    """Run what is not ours inline, without awaiting; report it, with the ``remedy``, when it held up the loop.

    ``call_id`` is whose it is, where that is not the current call's.

    Raises:
        ApplicationError: it raised.
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
    """Await, and report a step that held up the loop: ``async`` makes no function let go of it."""
    steps = result.__await__()
    if not hasattr(steps, "send"):  # a plain iterator, which nothing can be thrown into
        return (yield from steps)
    step, value, reported = steps.send, None, False
    while True:
        began = trio.current_time()
        try:
            wish = step(value)
        except StopIteration as over:
            return over.value
        finally:
            took = trio.current_time() - began
            if took > MAX_BLOCKING_S and not reported:
                reported = True
                _log.warning(
                    "call %s: %s blocked every call for %.0f ms between two awaits; "
                    "run what takes so long in a thread, by trio.to_thread.run_sync or in_thread",
                    current_call.get(),
                    name_of(function),
                    took * 1000,
                )
        try:
            step, value = steps.send, (yield wish)
        except BaseException as error:  # noqa: BLE001 (it is thrown into the function, as awaiting does)
            step, value = steps.throw, error


async def await_result(function: Callable[..., Any], result: Any) -> Any:
    """Await what the application's function returned, if that can be awaited.

    Raises:
        ApplicationError: it raised.
    """
    try:
        return await _watched(function, result) if inspect.isawaitable(result) else result
    except Exception as error:
        raise ApplicationError(f"{name_of(function)} raised {type(error).__name__}: {error}") from error


def in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Make a callback of a plain function that takes its time (a database, ``requests``): it runs in a thread.

    ::

        phone.on_user_speech_eos = in_thread(write_to_the_crm)
    """

    @wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await run_in_own_thread(partial(function, *arguments))

    return wrapper


class UserIterator:
    """The iteration over an async generator of the application's, or over another iterator that need not be closed."""

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
        """Close the generator; what it raises then is reported, and hurts nobody: its reply is over."""
        close = getattr(self._generator, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:  # noqa: BLE001 (the application's)
            name = name_of(self.function)
            _log.warning("call %s: %s raised while it was closed: %s", current_call.get(), name, error, exc_info=error)
