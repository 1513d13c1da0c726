"""What the handler of a tool gets of its call."""

from typing import Any, Final

from patter_trio.call.control import CallControl


class ToolContext(CallControl):
    """What a tool's handler gets as ``call_context``: the call, to be read and steered.

    What ``on_call_start`` was told can be read as from a dict, too: ``call_context["caller"]``.
    """

    __slots__ = ()

    _KEYS: Final = ("call_id", "caller", "callee", "direction", "custom_params", "telephony_provider", "history")

    def __getitem__(self, key: str) -> Any:
        if key not in self._KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is under that key, or ``default``."""
        return getattr(self, key) if key in self._KEYS else default
