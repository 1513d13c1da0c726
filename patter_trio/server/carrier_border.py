"""The border around the methods of carriers that run in the server's nursery: what one raises ends no other call.

A carrier may be the application's own, and may raise anything. In the server's nursery that would end the server and
all its calls; so it becomes an error of the package here, which counts as a refusal of the carrier.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from patter_trio.abc import Carrier
from patter_trio.errors import CallEnded, ConfigurationError, PatterError
from patter_trio.user_code.context import NO_CALL
from patter_trio.user_code.invoke import ApplicationError, contained

carrier_failures: Final[ContextVar[Callable[[str, str], None]]] = ContextVar(
    "carrier_failures", default=lambda _, __: None
)
"""Counts a failure, by the names of the carrier and of the error; a server sets it for its tasks."""

_log = logging.getLogger("patter_trio.call")


@contextmanager
def carrier_border(
    carrier: Carrier, call_id: str = NO_CALL, failed: Callable[[str, str], None] | None = None
) -> Iterator[None]:
    """Run a method of a carrier: translate what is not an error of the package, and log it with its traceback.

    ``failed`` counts a failure in the place of :data:`carrier_failures`, for tasks that are not the server's.

    Raises:
        PatterError: the carrier refused, or raised something else, which is then the ``__cause__``.
    """
    failed = failed or carrier_failures.get()
    refusal: PatterError | None = None
    try:
        with contained(f"the carrier {type(carrier).__name__}"):
            try:
                yield
            except PatterError as error:
                # Not for the border of the application's code, which would translate it: callers tell them apart.
                refusal = error
    except ApplicationError as error:
        failed(carrier.name, type(error.__cause__).__name__)
        _log.error("call %s: %s", call_id, error, exc_info=error.__cause__)
        raise
    if refusal is not None:
        # That a call is over, or that a carrier has no such request, is a fact, and not a failure.
        if not isinstance(refusal, CallEnded | ConfigurationError):
            failed(carrier.name, type(refusal).__name__)
        raise refusal
