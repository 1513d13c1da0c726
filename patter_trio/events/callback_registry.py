"""The application's callbacks by name; each can be replaced at any time."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from patter_trio.errors import ConfigurationError, did_you_mean
from patter_trio.events.payloads import SpeechEventCallback
from patter_trio.user_code.signatures import is_of_kind, name_of, parameters_of, positional, takes_call_control

Callback = Callable[..., Any]
SERVE_CALLBACKS: Final = ("on_call_start", "on_call_end", "on_transcript", "on_message", "on_metrics", "on_dtmf")
"""The callbacks that ``serve`` takes; those of speech edges are attributes of the phone."""


def check_callback(name: str, callback: object) -> None:
    """Check that a callback can be called with its event, and that calling it runs it.

    Raises:
        ConfigurationError: it is not a function of ``(event)`` or ``(event, call_control)``, or a generator function
            that nothing would run.
    """
    if not callable(callback):
        raise ConfigurationError(f"{name} must be a function, got {type(callback).__name__}: {callback!r}")
    _check_is_run(name, callback)
    parameters = parameters_of(callback)
    # A built-in without a signature: nobody can know.
    if parameters is None:
        return
    event = [None] * (2 if takes_call_control(callback) else 1)
    try:
        inspect.Signature(parameters).bind(*event)
    except TypeError as error:
        required = ", ".join(parameter.name for parameter in positional(parameters))
        raise ConfigurationError(
            f"{name} must be callable with (event) or (event, call_control), got {name_of(callback)}({required}): "
            f"{error}"
        ) from None


def _check_is_run(name: str, callback: Callable[..., Any]) -> None:
    """Check that a call runs the function: a generator's body begins to run when somebody iterates over it."""
    if is_of_kind(callback, inspect.isgeneratorfunction):
        advice = "`async def` to yield the pieces of an answer" if name == "on_message" else "a function without yield"
        raise ConfigurationError(f"{name} must be {advice}, got the generator function {name_of(callback)}")
    if name != "on_message" and is_of_kind(callback, inspect.isasyncgenfunction):
        raise ConfigurationError(
            f"{name} must be a function without yield, got the async generator function {name_of(callback)}"
        )


class CallbackRegistry:
    """Callbacks by their names, such as ``on_transcript``; one can be replaced at any time.

    Args:
        own: the callbacks that the registry has at first.
        beneath: the registry in which a callback is looked up that is not set here.
    """

    def __init__(self, own: Mapping[str, Any] | None = None, beneath: "CallbackRegistry | None" = None) -> None:
        self._own: dict[str, Any] = dict(own or {})
        # By reference: a callback that is set on the phone later holds for a running server, too.
        self._beneath = beneath

    def __repr__(self) -> str:
        return f"<CallbackRegistry {', '.join(name for name, callback in self._own.items() if callback) or 'empty'}>"

    @property
    def own(self) -> dict[str, Any]:
        """The callbacks that are set here, without those beneath; a copy."""
        return dict(self._own)

    def find(self, name: str) -> Callback | None:
        """Return the callback of that name, as it is now; None if none is set."""
        callback: Callback | None = self._own.get(name)
        # None here does not hide the one beneath: removing a callback of serve() brings back that of the phone.
        return callback or (None if self._beneath is None else self._beneath.find(name))

    def put(self, name: str, callback: Callback | None) -> None:
        """Set the callback of that name, or remove it with None."""
        # At once, not at the first event: the mistake is in the line that sets it.
        if callback is not None:
            check_callback(name, callback)
        # None is stored like a callback, so that a program may set and remove it without asking whether it is there.
        self._own[name] = callback

    def without(self, name: str) -> "CallbackRegistry":
        """Return a copy of the registry without one of its own callbacks."""
        # The registry beneath stays shared; only the copy lacks the callback.
        return CallbackRegistry({key: callback for key, callback in self._own.items() if key != name}, self._beneath)


class SpeechCallbacks:
    """The seven callbacks for speech edges as attributes. Objects that share a registry share the callbacks.

    Each is None until it is set; an unknown name cannot be set.

    Args:
        callbacks: the registry that keeps them.
    """

    # A misspelled callback is an error instead of one that is never called.
    __slots__ = ("_callbacks",)

    def __init__(self, callbacks: CallbackRegistry) -> None:
        self._callbacks = callbacks

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; of a misspelt or misplaced callback, say where it belongs."""
        if name.startswith("on_") and not hasattr(type(self), name):
            if name in SERVE_CALLBACKS:
                raise AttributeError(f"{name} is an option of serve: phone.serve(agent, {name}=...)")
            known = [known for known in dir(type(self)) if known.startswith("on_")]
            raise AttributeError(f"a callback must be one of {', '.join(known)}, got {name}{did_you_mean(name, known)}")
        super().__setattr__(name, value)

    @property
    def on_user_speech_started(self) -> SpeechEventCallback | None:
        """Called with a ``UserSpeechStartedEvent`` when the caller's voice began."""
        return self._callbacks.find("on_user_speech_started")

    @on_user_speech_started.setter
    def on_user_speech_started(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_user_speech_started", callback)

    @property
    def on_user_speech_ended(self) -> SpeechEventCallback | None:
        """Called with a ``UserSpeechEndedEvent`` when the caller's voice ended."""
        return self._callbacks.find("on_user_speech_ended")

    @on_user_speech_ended.setter
    def on_user_speech_ended(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_user_speech_ended", callback)

    @property
    def on_user_speech_eos(self) -> SpeechEventCallback | None:
        """Called with a ``UserSpeechEosEvent`` when the utterance is over."""
        return self._callbacks.find("on_user_speech_eos")

    @on_user_speech_eos.setter
    def on_user_speech_eos(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_user_speech_eos", callback)

    @property
    def on_agent_speech_started(self) -> SpeechEventCallback | None:
        """Called with a ``AgentSpeechStartedEvent`` when the reply is on the wire."""
        return self._callbacks.find("on_agent_speech_started")

    @on_agent_speech_started.setter
    def on_agent_speech_started(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_agent_speech_started", callback)

    @property
    def on_agent_speech_ended(self) -> SpeechEventCallback | None:
        """Called with a ``AgentSpeechEndedEvent`` when the caller hears nothing more of the reply."""
        return self._callbacks.find("on_agent_speech_ended")

    @on_agent_speech_ended.setter
    def on_agent_speech_ended(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_agent_speech_ended", callback)

    @property
    def on_llm_token(self) -> SpeechEventCallback | None:
        """Called with a ``LlmTokenEvent`` when the first text of the reply arrived."""
        return self._callbacks.find("on_llm_token")

    @on_llm_token.setter
    def on_llm_token(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_llm_token", callback)

    @property
    def on_audio_out(self) -> SpeechEventCallback | None:
        """Called with a ``AudioOutEvent`` when the first audio of the reply was made."""
        return self._callbacks.find("on_audio_out")

    @on_audio_out.setter
    def on_audio_out(self, callback: SpeechEventCallback | None) -> None:
        self._callbacks.put("on_audio_out", callback)
