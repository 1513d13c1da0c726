"""Calls to the application's functions, sync or async, which may raise anything.

What they raise leaves as :class:`ApplicationError`, so that no code below the call's boundary needs another broad
handler. That includes what is no ``Exception``: ``sys.exit()``, asyncio's ``CancelledError``, a class of the
application's own. Two pass through: the cancellation of a scope around the function, and KeyboardInterrupt. A function
that leaves a cancel scope or a nursery open has failed, too; the scope is closed here, before it can harm the task.

``SystemExit`` ends the call that the function was called for (:data:`patter_trio.user_code.context.exit_call`).
"""

import inspect
import logging
import time
import traceback
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

import trio

from patter_trio.errors import PatterError, leaves
from patter_trio.net.cpu_time import on_core_and_waiting
from patter_trio.net.tasks import split_failure
from patter_trio.net.threads import run_in_own_thread
from patter_trio.user_code.context import current_call, exit_call, threads_of_user_code
from patter_trio.user_code.signatures import name_of

# Judged: the carrier holds 0.4 s of the agent's audio (conversation/playback.py), so one step of this length is not
# heard, but some of them in a row are.
MAX_BLOCKING_S: Final = 0.05
"""Longest step without a warning, in seconds: a longer one delays all calls by more than two frames of 20 ms."""

_ASYNCIO_HINT: Final = (
    "; this runs on trio, not asyncio: use trio.sleep, a trio nursery, httpx, and "
    "trio.to_thread.run_sync for what blocks"
)
_THIS_THREAD: Final = Path("/proc/thread-self")

_log = logging.getLogger("patter_trio.events")


class ApplicationError(PatterError):
    """An exception of one of the application's functions; ``__cause__`` is the original."""

    reason: str = ""
    """The type and the text of the original, in one line; empty without one."""


def _clock() -> float:
    """Return the seconds by which blocking is measured: trio's, or real ones if trio's clock is virtual."""
    # On a virtual clock work takes no time, and a test is where a function that blocks should be found.
    if not hasattr(trio.lowlevel.current_clock(), "autojump_threshold"):
        return trio.current_time()
    figures = on_core_and_waiting(_THIS_THREAD)
    # Without the waits for a core, so that a busy machine causes no warnings.
    return time.perf_counter() - (0.0 if figures is None else figures[1] / 1e9)


@contextmanager
def _border(name: str) -> Iterator[None]:
    """Translate what a block of the application's code raises.

    Raises:
        ApplicationError: the block raised.
    """
    try:
        yield
    except BaseException as error:
        # The border that CONTRIBUTING.md allows: the code of others may raise anything.
        passing, failure = split_failure(error)
        # Translated already by a border within, such as that of a generator's step.
        if failure is None or isinstance(failure, ApplicationError):
            raise
        translated = _translated(name, failure)
        if passing is None:
            raise translated from failure
        # Both, as of a nursery that was cancelled while a task of it failed: the cancellation must reach its scope.
        _log.warning("call %s: %s", current_call.get(), translated, exc_info=failure)
        raise passing from None


def _translated(name: str, failure: BaseException) -> ApplicationError:
    """Return the error that stands for a failure of the application; end the call if it was a SystemExit."""
    leaf = next(leaves(failure))
    try:
        # One line; the traceback in the log has the others.
        described = f"{type(leaf).__name__}: {leaf}".partition("\n")[0]
    except BaseException:  # noqa: BLE001 (the application's own __str__, which may raise anything as well)
        described = type(leaf).__name__
    if any(isinstance(error, SystemExit) for error in leaves(failure)):
        exit_call.get()(f"{name} raised SystemExit")
    translated = ApplicationError(f"{name} raised {described}{_ASYNCIO_HINT if _wants_asyncio(leaf) else ''}")
    translated.reason = described
    return translated


def _wants_asyncio(error: BaseException) -> bool:
    """Return True if a function of asyncio raised this because no loop of asyncio runs."""
    # By the place as well as the words, which differ between functions and versions.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    no_loop = isinstance(error, RuntimeError) and "event loop" in str(error)
    return no_loop and (raised_in.partition(".")[0] == "asyncio" or "no running event loop" in str(error))


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
    began = _clock()
    try:
        with contained(name):
            yield
    finally:
        took = _clock() - began
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
        # An awaitable may return a plain iterator, which cannot take an exception: ``yield from`` treats it as await
        # does.
        return (yield from steps)
    step, value, reported = steps.send, None, False  # the first step: a coroutine that has not started takes only None
    while True:
        began = _clock()
        try:
            wish = step(value)
        except StopIteration as over:
            return over.value  # the coroutine has returned
        finally:
            # Also after a step that raised or was the last one: these block as much as any other.
            took = _clock() - began
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
    if not inspect.isawaitable(result):
        return result
    # The other half of the same border: the call of a coroutine function raises nothing, its coroutine does.
    with contained(name_of(function)):
        return await _watched(function, result)


@contextmanager
def contained(name: str) -> Iterator[None]:
    """Run a block of the application's code that may await, and close the cancel scopes that it has left open.

    Raises:
        ApplicationError: the block raised, or left a scope or a nursery open.
    """
    # The scope is never cancelled: closing it finds those that are still open within it.
    with _border(name), trio.CancelScope():
        yield


def in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Make an async callback of a slow plain function (a database, ``requests``), which then runs in a thread.

    ::

        phone.on_user_speech_eos = in_thread(write_to_the_crm)
    """

    @wraps(function)
    async def wrapper(*arguments: Any, **keywords: Any) -> Any:
        # Not in the models' threads: a database that is slow must not keep the VAD of all calls waiting.
        return await run_in_own_thread(partial(function, *arguments, **keywords), threads_of_user_code())

    return wrapper


async def call_in_thread(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Call the application's plain function in a thread; its context variables are a copy of the task's.

    A cancellation takes effect at once: the thread is abandoned, and its result is dropped.

    Raises:
        ApplicationError: the function raised.
    """

    def called() -> list[Any]:
        # In a list: trio refuses a thread's awaitable, which a plain function may return for the event loop to await.
        return [function(*arguments, **keywords)]

    with contained(name_of(function)):
        [result] = await run_in_own_thread(called, threads_of_user_code())
    return result


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
        # No scope around the step: one that the generator holds open at its yield would not be closed within it.
        with _border(name_of(self.function)):
            try:
                return await _watched(self.function, anext(self._generator))
            except StopAsyncIteration:
                # The regular end, which the border would take for a failure.
                pass
        raise StopAsyncIteration

    async def athrow(self, error: BaseException, /) -> Any:
        """Raise an error where the generator waits, and return its next piece; an iterator that is not one ends."""
        throw = getattr(self._generator, "athrow", None)
        if throw is None:
            raise error
        with _border(name_of(self.function)):
            try:
                return await _watched(self.function, throw(error))
            except StopAsyncIteration:
                pass  # as for the next step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the generator. Log what it raises and go on: its reply is over."""
        close = getattr(self._generator, "aclose", None)
        # Only generators have to be closed.
        if close is None:
            return
        try:
            with _border(name_of(self.function)):
                await close()
        except ApplicationError as error:
            _log.warning("call %s: while closing: %s", current_call.get(), error, exc_info=error.__cause__)
