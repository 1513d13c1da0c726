"""The ``call_context`` of a tool's handler."""

from typing import Any, Final

from patter_trio.call.control import CallControl


class ToolContext(CallControl):
    """The control of the call that a tool's handler gets as ``call_context``.

    The facts that ``on_call_start`` gets can also be read as from a dict: ``call_context["caller"]``.
    """

    __slots__ = ()

    # The facts of on_call_start and the history; not every attribute, for a dict's reader does not expect methods.
    _KEYS: Final = ("call_id", "caller", "callee", "direction", "custom_params", "telephony_provider", "history")

    def __getitem__(self, key: str) -> Any:
        if key not in self._KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default`` if there is no such key."""
        return getattr(self, key) if key in self._KEYS else default
