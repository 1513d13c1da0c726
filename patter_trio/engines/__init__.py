"""Engines: speech-to-speech models, one vendor per module."""

from typing import TYPE_CHECKING

from patter_trio._lazy import lazy_exports

if TYPE_CHECKING:
    from patter_trio.engines import openai_realtime
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "patter_trio.engines": ("openai_realtime",),
        },
    )

__all__ = ["openai_realtime"]
