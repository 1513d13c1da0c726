"""The application's callbacks by name, each as it is at this moment."""

from collections.abc import Callable, Mapping
from typing import Any, overload

from patter_trio.events.payloads import SpeechEventCallback

Callback = Callable[..., Any]


class CallbackRegistry:
    """Callbacks by their names, such as ``on_transcript``; one can be replaced at any time.

    Args:
        own: those that it begins with.
        beneath: where a callback is looked up that is not set here.
    """

    def __init__(self, own: Mapping[str, Any] | None = None, beneath: "CallbackRegistry | None" = None) -> None:
        self._own: dict[str, Any] = dict(own or {})
        self._beneath = beneath

    def __repr__(self) -> str:
        return f"<CallbackRegistry {', '.join(name for name, callback in self._own.items() if callback) or 'empty'}>"

    @property
    def own(self) -> dict[str, Any]:
        """Those that are set here, beneath left out; a copy."""
        return dict(self._own)

    def find(self, name: str) -> Callback | None:
        """Return the callback of that name, as it is now; None if none is set."""
        callback: Callback | None = self._own.get(name)
        return callback or (None if self._beneath is None else self._beneath.find(name))

    def put(self, name: str, callback: Callback | None) -> None:
        """Set the callback of that name, or remove it with None."""
        self._own[name] = callback

    def without(self, name: str) -> "CallbackRegistry":
        """Return a registry that leaves one of its own callbacks out."""
        return CallbackRegistry({key: callback for key, callback in self._own.items() if key != name}, self._beneath)


class RegisteredCallback:
    """An attribute of :class:`SpeechCallbacks` that is kept in its registry, under the attribute's name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, holder: None, owner: type) -> "RegisteredCallback": ...
    @overload
    def __get__(self, holder: "SpeechCallbacks", owner: type) -> SpeechEventCallback | None: ...
    def __get__(
        self, holder: "SpeechCallbacks | None", owner: type
    ) -> "RegisteredCallback | SpeechEventCallback | None":
        return self if holder is None else holder._callbacks.find(self._name)  # noqa: SLF001 (its own part)

    def __set__(self, holder: "SpeechCallbacks", callback: SpeechEventCallback | None) -> None:
        holder._callbacks.put(self._name, callback)  # noqa: SLF001 (its own part)


class SpeechCallbacks:
    """The seven callbacks for speech edges as attributes. Objects that share a registry share the callbacks.

    Args:
        callbacks: the registry that keeps them.
    """

    # A misspelled callback is an error instead of one that is never called.
    __slots__ = ("_callbacks",)

    on_user_speech_started: RegisteredCallback = RegisteredCallback()
    on_user_speech_ended: RegisteredCallback = RegisteredCallback()
    on_user_speech_eos: RegisteredCallback = RegisteredCallback()
    on_agent_speech_started: RegisteredCallback = RegisteredCallback()
    on_agent_speech_ended: RegisteredCallback = RegisteredCallback()
    on_llm_token: RegisteredCallback = RegisteredCallback()
    on_audio_out: RegisteredCallback = RegisteredCallback()

    def __init__(self, callbacks: CallbackRegistry) -> None:
        self._callbacks = callbacks
