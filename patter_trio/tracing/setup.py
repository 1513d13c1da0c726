"""The switch for tracing, and the setup of its export.

Unless ``PATTER_OTEL_ENABLED=1``, nothing of opentelemetry is imported, and no call has an observer for it. If tracing
is enabled, the application's tracer provider is used as it is; :func:`init_tracing` can set one up for an application
without one.
"""

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from patter_trio.errors import ConfigurationError
from patter_trio.net.urls import checked_url
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
    """A function that opens the trace of an announced call."""

    def __call__(
        self, info: "CallInfo", agent: "Agent", media: "MediaClock", *, at: float, epoch: float
    ) -> "CallTrace":
        """Return the trace, begun at ``at`` on the call's clock, whose zero is the Unix time ``epoch``.

        ``media`` is the clock of the caller's audio, which has not started.
        """


def is_enabled() -> bool:
    """Return True if the environment enables tracing; log a warning if the variable has an unknown value."""
    asked = os.environ.get(ENABLED_VARIABLE, "")
    # A warning, because somebody who writes "true" wants traces, and would look for them in vain.
    if asked not in ("", "0", "1"):
        _log.warning("%s=%s: only 1 switches tracing on", ENABLED_VARIABLE, asked)
    return asked == "1"


def opened_tracing() -> OpenTrace | None:
    """Return a function that opens the traces of calls; None if calls are not traced."""
    if not is_enabled():
        return None
    try:
        # Imported only here: opentelemetry is an extra, and costs start-up time and memory where it is not used.
        from opentelemetry import trace  # noqa: PLC0415 (only if tracing is enabled)

        from patter_trio.tracing.call_trace import CallTrace  # noqa: PLC0415 (only if tracing is enabled)
    except ImportError as error:
        # Calls matter more than their traces: a missing package costs a line in the log.
        _log.warning("%s=1, but calls are not traced: %s; %s", ENABLED_VARIABLE, error, _INSTALL_COMMAND)
        return None
    try:
        # The provider may be the application's own.
        with invoke.isolate("the tracer provider", SLOW_EXPORT_REMEDY):
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                _log.warning(
                    "%s=1, but no tracer provider is set yet: call init_tracing(), or set your own", ENABLED_VARIABLE
                )
            return partial(CallTrace, trace.get_tracer("patter_trio"))
    except invoke.ApplicationError as error:
        # As above: a provider that fails while calls are being set up leaves them untraced.
        _log.warning("%s=1, but calls are not traced: %s", ENABLED_VARIABLE, error, exc_info=error.__cause__)
        return None


def init_tracing(
    service_name: str = "",
    otlp_endpoint: str | None = None,
    resource_attributes: Mapping[str, str] | None = None,
    *,
    endpoint: str = "",
    exporter: "SpanExporter | None" = None,
) -> bool:
    """Set up a tracer provider that exports the spans of calls, if the application has none.

    Does nothing unless ``PATTER_OTEL_ENABLED=1``. A provider that the application has set is used as it is. Otherwise a
    provider is made from the ``OTEL_*`` variables and set for the whole program; it exports in batches from a thread of
    its own. A further call changes the destination of the spans from then on.

    Args:
        service_name: ``service.name`` of the resource. Empty: ``OTEL_SERVICE_NAME``, or else ``patter_trio``.
        otlp_endpoint: getpatter's name of ``endpoint``.
        resource_attributes: further attributes of the resource, such as ``{"deployment.environment": "test"}``.
        endpoint: URL of an OTLP collector that speaks HTTP, such as ``http://localhost:4318``; without a path it gets
            ``/v1/traces``. Empty: ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        exporter: an exporter to use instead of an endpoint. Without either, ``OTEL_TRACES_EXPORTER`` names it, by
            default ``otlp``.

    Returns:
        True if calls are traced. If they are not although the variable is set, a warning says what is missing.

    Raises:
        ConfigurationError: ``endpoint`` is not a URL, or both ``endpoint`` and ``exporter`` are given.
    """
    if endpoint and otlp_endpoint:
        raise ConfigurationError("init_tracing takes endpoint= or otlp_endpoint=, which mean the same, got both")
    endpoint = endpoint or otlp_endpoint or ""
    if endpoint and exporter is not None:
        raise ConfigurationError("init_tracing takes endpoint= or exporter=, got both")
    if endpoint:
        checked_url(endpoint, "endpoint", "a URL such as http://localhost:4318", ("http", "https"))
    if not is_enabled():
        return False
    try:
        from patter_trio.tracing import provider  # noqa: PLC0415 (only if tracing is enabled)

        return provider.set_up(service_name, endpoint, exporter, resource_attributes or {})
    except ImportError as error:
        # An exporter that the environment names and that is not installed.
        _log.warning("%s=1, but calls are not traced: %s; %s", ENABLED_VARIABLE, error, _INSTALL_COMMAND)
        return False


def shutdown_tracing(timeout: float = FLUSH_TIMEOUT_S) -> bool:
    """Export the remaining spans; later ones are dropped until :func:`init_tracing` is called again.

    This blocks for ``timeout`` seconds at most, so call it after ``trio.run``. Without it, the same happens when the
    program exits. A provider that the application has set is not shut down.

    Returns:
        True if all spans were exported in time; if not, a warning says so.
    """
    if not is_enabled():
        return True
    try:
        from patter_trio.tracing import provider  # noqa: PLC0415 (only if tracing is enabled)
    except ImportError:
        # Without the SDK there was nothing to set up, and nothing is left to export.
        return True
    return provider.shut_down(timeout)
