"""What a provider reports that it will bill."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Usage:
    """What a provider says that it will bill, for one request or for what has come since its last report.

    Each token and second is counted once: tokens that were read from a cache are not input tokens as well. ``cost``, where
    the provider tells the amount itself (USD), beats any table. ``model`` is the one that is billed, if it is another than
    the provider's.
    """

    stage: Literal["stt", "llm", "tts"]
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    audio_cache_read_tokens: int = 0
    seconds: float = 0.0
    """Of audio, where a recogniser bills by time."""
    characters: int = 0
    """Of text, where a synthesiser bills by length."""
    cost: float | None = None
    model: str = ""


usage_sink: ContextVar[Callable[[Usage], None] | None] = ContextVar("usage_sink", default=None)
"""Who takes note of what a provider reports: set by the call around all that it opens."""


def report_usage(usage: Usage) -> None:
    """Report what was used, from within a session: once for each request, or each time that the vendor says more.

    What is reported while a reply is made counts for this reply. What was reported takes the place of the estimate that
    the call makes otherwise. Outside any call it does nothing; it never waits and never raises.
    """
    sink = usage_sink.get()
    if sink is not None:
        sink(usage)
