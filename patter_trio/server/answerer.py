"""The checks of the answerer, the side that answers callers: an engine, an LLM, or the application's ``on_message``."""

import logging
from collections.abc import Mapping
from typing import Any

import attrs

from patter_trio.agent.agent import Agent
from patter_trio.agent.dtmf import DEFAULT_KEYPAD
from patter_trio.agent.menu import Menu
from patter_trio.call.responder.on_message import FunctionHandler, MessageHandler
from patter_trio.call.responder.on_message_urls import checked_message_url, remote
from patter_trio.errors import ConfigurationError
from patter_trio.events.callback_registry import CallbackRegistry, check_callback
from patter_trio.net.http import origin_of
from patter_trio.user_code.signatures import takes_call_control
from patter_trio.user_code.urls import is_exposed, secret_of

_log = logging.getLogger("patter_trio.call")


@attrs.frozen
class Answering:
    """The agent of a call, resolved, and the ``on_message`` that answers in the place of an LLM, or None."""

    agent: Agent
    messages: MessageHandler | None
    callbacks: CallbackRegistry
    is_briefing: bool = False
    """True if the agent briefs a person who is to take a call over."""

    def instead(self, agent: Agent | None, first_message: str) -> "Answering":
        """Return what talks in a call that we place: this agent, or another one, which may bring its own LLM.

        Raises:
            ConfigurationError: the other agent has no LLM and no engine, and there is no ``on_message``.
        """
        found = self if agent is None else self._of(agent)
        if not first_message:
            return found
        return attrs.evolve(found, agent=attrs.evolve(found.agent, first_message=first_message))

    def briefing(self, agent: Agent) -> "Answering":
        """Return what briefs a person: this agent, with its own menu instead of one that is served."""
        answers = agent.engine is not None or agent.llm is not None
        return attrs.evolve(self, agent=agent, messages=None if answers else self.messages, is_briefing=True)

    def _of(self, agent: Agent) -> "Answering":
        answers = agent.engine is not None or agent.llm is not None
        callbacks = self.callbacks.without("on_message") if answers else self.callbacks
        check_one_answers(agent, callbacks.own)
        return Answering(with_keys(agent.resolved, callbacks.own), None if answers else self.messages, callbacks)


def check_answerer(agent: Agent, callbacks: Mapping[str, Any]) -> None:
    """Check that exactly one of LLM and ``on_message`` answers the caller, and that the callbacks are functions.

    Raises:
        ConfigurationError: ``agent`` is not an :class:`Agent`, a callback cannot be called with its event, or an agent
            without an engine has not exactly one of ``llm=`` and ``on_message=``.
    """
    if not isinstance(agent, Agent):
        raise ConfigurationError(
            f"agent must be an Agent such as phone.agent(...) returns, got {type(agent).__name__}: {agent!r}"
        )
    for name, callback in callbacks.items():
        if name == "on_message" and isinstance(callback, str):
            checked_message_url(callback)
        elif callback is not None:
            check_callback(name, callback)
    check_one_answers(agent, callbacks)


def answerer_of(agent: Agent, callbacks: CallbackRegistry) -> tuple[Agent, CallbackRegistry]:
    """Return the agent as calls use it, and the callbacks without one that nothing calls.

    Raises:
        ConfigurationError: as for :func:`check_answerer`.
    """
    check_answerer(agent, callbacks.own)
    agent = agent.resolved
    if agent.engine is not None:
        if callbacks.own.get("on_message") is not None:
            _log.warning("on_message= is ignored: the agent has engine=, which answers by itself")
        # Taken out here rather than checked at each message: an engine would otherwise be asked, and the function as
        # well.
        callbacks = callbacks.without("on_message")
    _report_unfilled(agent, may_come=callbacks.own.get("on_call_start") is not None)
    return agent, callbacks


def _report_unfilled(agent: Agent, *, may_come: bool) -> None:
    """Log each ``{name}`` without a value while the program starts, and not only in its first call."""
    for complaint in agent.unfilled():
        if may_come:
            _log.info("%s: on_call_start must return it in variables", complaint)
        else:
            _log.warning("%s, and there is no on_call_start= that could return it in variables", complaint)


def with_keys(agent: Agent, callbacks: Mapping[str, Any]) -> Agent:
    """Return the agent with what the callbacks decide about keys.

    If ``on_message`` is a menu, that menu acts on them. With ``on_dtmf``, which acts on keys itself, they are no
    message unless the agent says so: its caller would be answered twice.
    """
    menu = callbacks.get("on_message")
    if isinstance(menu, Menu):
        return attrs.evolve(agent, dtmf=menu)
    # By identity: a keypad that somebody chose may equal the default.
    if agent.dtmf is DEFAULT_KEYPAD and callbacks.get("on_dtmf") is not None:
        return attrs.evolve(agent, dtmf=False)
    return agent


def check_one_answers(agent: Agent, callbacks: Mapping[str, Any]) -> None:
    """Check that an agent without an engine has exactly one of LLM and ``on_message``.

    Raises:
        ConfigurationError: it has neither, or both.
    """
    # An engine brings its own model.
    if agent.engine is not None:
        return
    if (agent.llm is None) == (callbacks.get("on_message") is None):
        found = "neither" if agent.llm is None else "both"
        raise ConfigurationError(
            f"an agent must have exactly one of llm= (phone.agent's) and on_message= (serve's); this one has {found}"
        )


def message_handler_of(on_message: Any, secret: str) -> MessageHandler | None:
    """Return the handler of the messages of all calls, or None if the agent's LLM or engine answers.

    Args:
        on_message: a function, or a URL that :func:`check_answerer` has checked.
        secret: the key that signs requests to a URL; empty: ``PATTER_WEBHOOK_SECRET``.
    """
    if not isinstance(on_message, str):
        return None if on_message is None else FunctionHandler(on_message, takes_call_control(on_message))
    # A warning only: unencrypted is right for a server on the same machine or in a private network.
    if is_exposed(on_message):
        _log.warning("on_message: what callers say goes to %s unencrypted; use https or wss", origin_of(on_message))
    return remote(on_message, secret_of(secret))
