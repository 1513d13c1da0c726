"""What a tool itself says of arguments, before it starts: its ``check``."""

from typing import Any

from patter_trio.call import usercode
from patter_trio.tools import Tool


def unwanted(tool: Tool | None, arguments: Any) -> str:
    """Return what the tool itself says is wrong with arguments that are formally right."""
    if tool is None or tool.check is None:
        return ""
    try:
        with usercode.foreign(f"the check of {tool.name}", "check less"):
            return tool.check(arguments)
    except usercode.ApplicationError as failed:
        return str(failed)
