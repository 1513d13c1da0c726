"""A JSON response, whatever characters its texts have."""

import json
from typing import Any

from starlette.responses import JSONResponse


class TolerantJSONResponse(JSONResponse):
    """A JSON response with texts of callers, vendors and tools.

    ``json.loads`` makes a lone surrogate of an emoji that was cut in two, and UTF-8 has no form for it. Starlette would
    answer 500 for the whole list or call; here a question mark stands in its place.
    """

    def render(self, content: Any) -> bytes:
        """Return a value as JSON in UTF-8."""
        written = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return written.encode(errors="replace")
