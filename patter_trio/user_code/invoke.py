"""Calls to the application's functions, sync or async, which may raise anything.

What they raise leaves as :class:`ApplicationError`, so that no code below the call's boundary needs another broad
handler. Cancellation passes through.
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

# Judged: the carrier holds 0.4 s of the agent's audio (conversation/playback.py), so one step of this length is not
# heard, but some of them in a row are.
MAX_BLOCKING_S: Final = 0.05
"""Longest step without a warning, in seconds: a longer one delays all calls by more than two frames of 20 ms."""

_log = logging.getLogger("patter_trio.events")


class ApplicationError(PatterError):
    """An exception of one of the application's functions; ``__cause__`` is the original."""


async def call(function: Callable[..., Any], *arguments: object) -> Any:
    """Call the application's function, and await its result if that is awaitable.

    Raises:
        ApplicationError: the function raised.
    """
    return await await_result(function, call_sync(function, *arguments))


def call_sync(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Call the application's function without awaiting; log a warning if it blocks the event loop.

    Raises:
        ApplicationError: the function raised.
    """
    remedy = f"make it async, or wrap it: in_thread({getattr(function, '__name__', '...')})"
    with isolate(name_of(function), remedy):
        return function(*arguments, **keywords)


@contextmanager
def isolate(name: str, remedy: str, call_id: str = "") -> Iterator[None]:
    """Run a block of the application's code that does not await; log a warning if it blocks the event loop.

    Args:
        name: what the log and the error call the code.
        remedy: what the log advises against blocking.
        call_id: the call to name in the log; default: the current one.

    Raises:
        ApplicationError: the block raised.
    """
    began = trio.current_time()
    try:
        yield
    except Exception as error:
        # One of the handlers for every Exception that CONTRIBUTING.md allows: the code of others may raise anything.
        # Not for BaseException: Cancelled and KeyboardInterrupt belong to the program.
        raise ApplicationError(f"{name} raised {type(error).__name__}: {error}") from error
    finally:
        # trio's clock: on a clock that jumps, work takes no time, and tests get no warnings from a slow machine.
        took = trio.current_time() - began
        if took > MAX_BLOCKING_S:
            whose = call_id or current_call.get()
            _log.warning("call %s: %s blocked every call for %.0f ms; %s", whose, name, took * 1000, remedy)


@types.coroutine
def _watched(function: Callable[..., Any], result: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await ``result``, and log a warning the first time that a step of it blocks the event loop.

    A function that is ``async`` can still block: between two of its awaits, no other task runs. To time each of these
    steps, this does by hand what ``await`` does: it resumes the coroutine, passes what the coroutine yields (trio's
    traps) on to the event loop, and passes back what the loop answers, be it a value or an exception such as Cancelled.
    """
    steps = result.__await__()
    if not hasattr(steps, "send"):
        # An awaitable may return a plain iterator, which cannot take an exception: ``yield from`` treats it as await does.
        return (yield from steps)
    step, value, reported = steps.send, None, False  # the first step: a coroutine that has not started takes only None
    while True:
        began = trio.current_time()
        try:
            wish = step(value)
        except StopIteration as over:
            return over.value  # the coroutine has returned
        finally:
            # Also after a step that raised or was the last one: these block as much as any other.
            took = trio.current_time() - began
            if took > MAX_BLOCKING_S and not reported:
                reported = True  # once: a loop that blocks at every step would fill the log
                _log.warning(
                    "call %s: %s blocked every call for %.0f ms between two awaits; "
                    "run the slow part in a thread, with trio.to_thread.run_sync or in_thread",
                    current_call.get(),
                    name_of(function),
                    took * 1000,
                )
        try:
            # Here the task sleeps, for as long as the coroutine waits; only what follows in the next round is timed.
            step, value = steps.send, (yield wish)
        except BaseException as error:  # noqa: BLE001 (it is thrown into the function, as awaiting does)
            # Cancelled, too, goes to the coroutine, which may clean up and take further steps.
            step, value = steps.throw, error


async def await_result(function: Callable[..., Any], result: Any) -> Any:
    """Await what the application's function returned, if that is awaitable.

    Raises:
        ApplicationError: the function raised.
    """
    try:
        return await _watched(function, result) if inspect.isawaitable(result) else result
    except Exception as error:
        # The other half of the same border: the call of a coroutine function raises nothing, its coroutine does.
        raise ApplicationError(f"{name_of(function)} raised {type(error).__name__}: {error}") from error


def in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Make an async callback of a slow plain function (a database, ``requests``), which then runs in a thread.

    ::

        phone.on_user_speech_eos = in_thread(write_to_the_crm)
    """

    @wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        # Not in the models' threads: a database that is slow must not keep the VAD of all calls waiting.
        return await run_in_own_thread(partial(function, *arguments))

    return wrapper


class UserIterator:
    """Iterator over the application's async generator, or another async iterator, that times each step of it.

    A class, since ``aclose`` must close the application's generator and must not raise what that raises.
    """

    def __init__(self, function: Callable[..., Any], generator: AsyncIterator[Any]) -> None:
        self.function = function
        self._generator = generator

    def __aiter__(self) -> "UserIterator":
        return self

    async def __anext__(self) -> Any:
        try:
            return await _watched(self.function, anext(self._generator))
        except StopAsyncIteration:
            # The regular end, which the clause below would take for a failure.
            raise
        except Exception as error:
            raise ApplicationError(f"{name_of(self.function)} raised {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close the generator. Log what it raises and go on: its reply is over."""
        close = getattr(self._generator, "aclose", None)
        # Only generators have to be closed.
        if close is None:
            return
        try:
            await close()
        except Exception as error:  # noqa: BLE001 (the application's)
            name = name_of(self.function)
            _log.warning("call %s: %s raised while closing: %s", current_call.get(), name, error, exc_info=error)
