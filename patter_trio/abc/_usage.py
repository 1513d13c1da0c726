"""Reports of providers about what they will bill."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Usage:
    """Quantities that a provider will bill for one request, or for the time since its last report.

    Each token and second is counted once: tokens read from a cache are not input tokens as well. ``cost`` is the amount
    (USD) if the provider reports it, and takes precedence over any price table. ``model`` is the billed model if it
    differs from the provider's.
    """

    # Of the stage, not of the provider: an engine reports for several.
    stage: Literal["stt", "llm", "tts"]
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    audio_cache_read_tokens: int = 0
    seconds: float = 0.0
    """Seconds of audio, if an STT provider bills by time."""
    characters: int = 0
    """Characters of text, if a TTS provider bills by length."""
    # None, not 0: a provider may report that something was free.
    cost: float | None = None
    model: str = ""


# A context variable, because providers know no calls, and one provider serves many at once.
usage_sink: ContextVar[Callable[[Usage], None] | None] = ContextVar("usage_sink", default=None)
"""Receiver of the providers' reports; the call sets it around everything that it opens.

It is the call's side of :func:`report_usage`, and so not exported: a provider only reports."""


def report_usage(usage: Usage) -> None:
    """Report usage from within a session: once for each request, or each time the vendor reports more.

    A report made while a reply is being generated counts for that reply. It replaces the estimate that the call would
    otherwise make. Outside a call, this does nothing. It never waits and never raises.

    The reply, or the call, is that of the calling task. A session that learns of the usage in another task keeps the
    context in which the answer was opened, and reports there: ``context.run(report_usage, usage)``.
    """
    # None outside of a call: a provider may be used alone.
    sink = usage_sink.get()
    if sink is not None:
        sink(usage)
