"""The ``call_context`` of a tool's handler."""

from typing import Any, Final, Literal, overload

from patter_trio.call.control import CallControl

TextKey = Literal["call_id", "caller", "callee", "direction", "telephony_provider"]
"""The keys whose values are strings."""


class ToolContext(CallControl):
    """The control of the call that a tool's handler gets as ``call_context``; annotate the parameter with it.

    The facts that ``on_call_start`` gets can also be read as from a dict: ``call_context["caller"]``. The keys are
    ``call_id``, ``caller``, ``callee``, ``direction``, ``custom_params``, ``telephony_provider`` and ``history``.
    """

    __slots__ = ()

    # The facts of on_call_start and the history; not every attribute, for a dict's reader does not expect methods.
    _KEYS: Final = ("call_id", "caller", "callee", "direction", "custom_params", "telephony_provider", "history")

    @overload
    def __getitem__(self, key: TextKey) -> str: ...
    @overload
    def __getitem__(self, key: Literal["custom_params"]) -> dict[str, str]: ...
    @overload
    def __getitem__(self, key: Literal["history"]) -> list[dict[str, Any]]: ...
    def __getitem__(self, key: str) -> Any:
        if key not in self._KEYS:
            raise KeyError(key)
        return getattr(self, key)

    @overload
    def get(self, key: TextKey, default: Any = None) -> str: ...
    @overload
    def get(self, key: Literal["custom_params"], default: Any = None) -> dict[str, str]: ...
    @overload
    def get(self, key: Literal["history"], default: Any = None) -> list[dict[str, Any]]: ...
    @overload
    def get(self, key: str, default: Any = None) -> Any: ...
    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default`` if there is no such key."""
        return getattr(self, key) if key in self._KEYS else default
