"""The border around the methods of carriers that run in the server's nursery: what one raises ends no other call.

A carrier may be the application's own, and may raise anything. In the server's nursery that would end the server and
all its calls; so it becomes an error of the package here, which counts as a refusal of the carrier.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from patter_trio.abc import Carrier
from patter_trio.errors import PatterError
from patter_trio.user_code.context import NO_CALL
from patter_trio.user_code.invoke import ApplicationError, contained

_log = logging.getLogger("patter_trio.call")


@contextmanager
def carrier_border(carrier: Carrier, call_id: str = NO_CALL) -> Iterator[None]:
    """Run a method of a carrier: translate what is not an error of the package, and log it with its traceback.

    Raises:
        PatterError: the carrier refused, or raised something else, which is then the ``__cause__``.
    """
    refusal: PatterError | None = None
    try:
        with contained(f"the carrier {type(carrier).__name__}"):
            try:
                yield
            except PatterError as error:
                # Not for the border of the application's code, which would translate it: callers tell them apart.
                refusal = error
    except ApplicationError as error:
        _log.error("call %s: %s", call_id, error, exc_info=error.__cause__)
        raise
    if refusal is not None:
        raise refusal
