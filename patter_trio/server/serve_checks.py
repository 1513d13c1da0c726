"""Checks of what ``phone.serve`` is given, before the first await and the first socket."""

import logging
from collections.abc import Mapping
from typing import Any

import trio

from patter_trio.agent.agent import ERROR_MESSAGE, Agent
from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_value
from patter_trio.server.access import checked_token
from patter_trio.server.answerer import check_answerer
from patter_trio.server.placed import check_spoken

_log = logging.getLogger("patter_trio.server")


def check_scheduler() -> None:
    """Raise a ConfigurationError outside of trio; it says what to write instead."""
    # trio's own error, about a missing scheduler, comes from deep inside and names no remedy.
    if not trio.lowlevel.in_trio_run():
        raise ConfigurationError(
            "patter_trio runs on trio, not asyncio: for asyncio.run(main()) write trio.run(main), "
            "for asyncio.run(phone.serve(agent, port=8000)) write trio.run(partial(phone.serve, agent, port=8000))"
        )


def check_limits(max_calls: object, max_lag: object, drain_timeout: object) -> None:
    """Check the limits given to ``serve``; a bool, although an int to Python, is most often a misplaced argument."""
    if max_calls is not None and (isinstance(max_calls, bool) or not isinstance(max_calls, int) or max_calls < 0):
        raise ConfigurationError(f"max_calls must be a whole number from 0 on, or None for no limit, got {max_calls!r}")
    # NaN fails the comparisons. Any loop is later than 0 s, so that limit would refuse each call.
    if max_lag is not None and (isinstance(max_lag, bool) or not isinstance(max_lag, int | float) or not max_lag > 0):
        raise ConfigurationError(f"max_lag must be a number of seconds above 0, or None for no limit, got {max_lag!r}")
    if isinstance(drain_timeout, bool) or not isinstance(drain_timeout, int | float) or not drain_timeout >= 0:
        raise ConfigurationError(f"drain_timeout must be a number of seconds from 0 on, got {drain_timeout!r}")


def check_kinds(voicemail_message: object, recording: object) -> None:
    """Check the types of the options that a program easily mistakes for others.

    Raises:
        ConfigurationError: ``voicemail_message`` is not a string or is blank, or ``recording`` is not a bool.
    """
    check_spoken("voicemail_message", voicemail_message)
    if not isinstance(recording, bool):
        raise ConfigurationError(f"recording must be True or False, got {recording!r}; a folder is record_to=")


def checked_windows(dashboard: object, token: object, app: object) -> str:
    """Return ``dashboard_token``, after a check of the options for windows.

    Raises:
        ConfigurationError: one of them has a wrong type, or the token is unfit or without a dashboard.
    """
    if not isinstance(dashboard, bool):
        raise ConfigurationError(f"dashboard must be True or False, got {dashboard!r}")
    if app is not None and not callable(app):
        raise ConfigurationError(f"app must be an ASGI application, got {shown_value(app)}")
    checked = checked_token(token)
    if checked and not dashboard:
        raise ConfigurationError("dashboard_token= has no effect without dashboard=True")
    return checked


def check_agent(agent: Agent, callbacks: Mapping[str, Any]) -> None:
    """Check that something answers for the agent, and log the options of it that have no effect.

    Raises:
        ConfigurationError: the agent does not have exactly one of ``llm=`` and ``on_message=``.
    """
    check_answerer(agent, callbacks)
    if agent.tools and callbacks["on_message"] is not None and agent.engine is None:
        _log.warning("tools= is ignored: only an LLM calls tools, and on_message= replaces it")
    # Of the application's own text alone: a default that is not heard is nobody's mistake.
    if agent.engine is not None and agent.tts is None and agent.error_message != ERROR_MESSAGE:
        _log.warning(
            "error_message= has no voice of its own: an engine that is gone for good cannot speak it, so give tts="
        )
