"""OpenTelemetry: whether calls are traced, and where their spans go.

Nothing happens unless ``PATTER_OTEL_ENABLED=1``: nothing of opentelemetry is imported, and no call has a watcher for it.
Then the application's tracer provider is used as it is; :func:`init_tracing` sets one up where there is none.
"""

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from patter_trio.errors import ConfigurationError
from patter_trio.tracing.attributes import FLUSH_TIMEOUT_S, SLOW_EXPORT_REMEDY
from patter_trio.user_code import invoke

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from patter_trio.abc import CallInfo
    from patter_trio.agent.agent import Agent
    from patter_trio.audio.media_clock import MediaClock
    from patter_trio.tracing.call_trace import CallTrace

ENABLED_VARIABLE: Final = "PATTER_OTEL_ENABLED"
_INSTALL_COMMAND: Final = "pip install 'patter-trio[otel]'"

_log = logging.getLogger("patter_trio.telemetry")


class OpenTrace(Protocol):
    """Opens the trace of a call that was announced."""

    def __call__(
        self, info: "CallInfo", agent: "Agent", media: "MediaClock", *, at: float, epoch: float
    ) -> "CallTrace":
        """Return it, begun at ``at`` on the call's clock, whose zero is the Unix time ``epoch``.

        ``media`` is the clock of the caller's audio, which has not started.
        """


def is_enabled() -> bool:
    """Return whether the environment asks for tracing; say so when it seems to, but does not."""
    asked = os.environ.get(ENABLED_VARIABLE, "")
    if asked not in ("", "0", "1"):
        _log.warning("%s=%s: only 1 switches tracing on", ENABLED_VARIABLE, asked)
    return asked == "1"


def opened_tracing() -> OpenTrace | None:
    """Return what opens the traces of calls; None when there are to be none."""
    if not is_enabled():
        return None
    try:
        from opentelemetry import trace  # noqa: PLC0415 (only when it is on)

        from patter_trio.tracing.call_trace import CallTrace  # noqa: PLC0415
    except ImportError as error:
        _log.warning("%s=1, but calls are not traced: %s; %s", ENABLED_VARIABLE, error, _INSTALL_COMMAND)
        return None
    try:
        with invoke.isolate("the tracer provider", SLOW_EXPORT_REMEDY):
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                _log.warning(
                    "%s=1, but there is no tracer provider yet: call init_tracing(), or set your own", ENABLED_VARIABLE
                )
            return partial(CallTrace, trace.get_tracer("patter_trio"))
    except invoke.ApplicationError as error:
        _log.warning("%s=1, but calls are not traced: %s", ENABLED_VARIABLE, error, exc_info=error.__cause__)
        return None


def init_tracing(service_name: str = "", *, endpoint: str = "", exporter: "SpanExporter | None" = None) -> bool:
    """Have the spans of calls go somewhere: set up a tracer provider, if the application has none.

    Does nothing unless ``PATTER_OTEL_ENABLED=1``. A provider that the application has set is used as it is. Else one is
    made and set for the whole program, as the ``OTEL_*`` variables say, which exports in batches from a thread of its own.
    Called again, it sends the spans elsewhere from then on.

    Args:
        service_name: ``service.name`` of the resource; empty: ``OTEL_SERVICE_NAME``, else ``patter_trio``.
        endpoint: URL of an OTLP collector that speaks HTTP, such as ``http://localhost:4318``; without a path it gets
            ``/v1/traces``. Empty: ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        exporter: instead of an endpoint. Neither: what ``OTEL_TRACES_EXPORTER`` names, by default ``otlp``.

    Returns:
        Whether calls are traced. If not, though the flag is set, a warning says what is missing.

    Raises:
        ConfigurationError: ``endpoint`` is no URL, or both ``endpoint`` and ``exporter`` are given.
    """
    if endpoint and exporter is not None:
        raise ConfigurationError("init_tracing takes endpoint= or exporter=, not both")
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc):
        raise ConfigurationError(f"endpoint must be a URL such as http://localhost:4318, not {endpoint!r}")
    if not is_enabled():
        return False
    try:
        from patter_trio.tracing import provider  # noqa: PLC0415 (only when it is on)

        return provider.set_up(service_name, endpoint, exporter)
    except ImportError as error:
        _log.warning("%s=1, but there is nothing to trace with: %s; %s", ENABLED_VARIABLE, error, _INSTALL_COMMAND)
        return False


def shutdown_tracing(timeout: float = FLUSH_TIMEOUT_S) -> bool:
    """Send off the spans that are still here; those that end later go nowhere, until :func:`init_tracing` is called again.

    Blocks for ``timeout`` seconds at most, so it belongs behind ``trio.run``. Without it, the same happens when the
    program exits. An application's own provider is the application's to shut down.

    Returns:
        Whether all of them left in time; if not, a warning says so.
    """
    if not is_enabled():
        return True
    try:
        from patter_trio.tracing import provider  # noqa: PLC0415 (only when it is on)
    except ImportError:
        return True
    return provider.shut_down(timeout)
