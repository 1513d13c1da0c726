"""The levels of a tool's result, counted beside the audio of all calls, however long it is."""

from typing import Any, Final

import trio

from patter_trio.call.tools.values import MAX_NESTING_LEVELS, deep_items

# Judged: some hundred microseconds each; a frame of 20 ms is not late.
ITEMS_AT_ONCE: Final = 5_000
"""Items of a result that are looked at between two checkpoints."""


async def is_too_deep(result: Any) -> bool:
    """Return True if a result has more than :data:`~.values.MAX_NESTING_LEVELS` levels of lists and dicts.

    It looks at all of a result, :data:`ITEMS_AT_ONCE` at a time: in between, other tasks run.
    """
    for looked_at, is_deep in enumerate(deep_items(result, MAX_NESTING_LEVELS), 1):
        if is_deep:
            return True
        if looked_at % ITEMS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return False
