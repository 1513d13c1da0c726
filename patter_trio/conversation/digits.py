"""DTMF digits that the agent sends: which ones there are, and what stands between them. Pure."""

import re
from typing import Any, Final

from patter_trio.errors import ConfigurationError

PAUSES_S: Final = {"w": 0.5, "W": 1.0}
"""Seconds that a pause between digits lasts; the letters are those of the carriers."""
# Judged: an account number, a PIN and the pauses between them. Twilio takes 32 when it dials; a text of any length
# would keep the line busy for minutes.
MAX_DIGITS: Final = 64
"""Largest number of digits and pauses that are sent at once."""

_PARTS: Final = re.compile(r"[wW]|[0-9*#A-D]+")


def checked_digits(digits: Any) -> str:
    """Return the digits.

    Raises:
        ConfigurationError: (a ``ValueError``) they are not 1 to 64 of 0-9, ``*``, ``#``, A-D, ``w`` and ``W``, or have
            no digit among them.
    """
    if (
        not isinstance(digits, str)
        or len(digits) > MAX_DIGITS
        or not digits.strip("wW")
        or not re.fullmatch(r"[0-9*#A-DwW]+", digits)
    ):
        # Without what was given: it may be a PIN, and errors are logged.
        kind = f"{len(digits)} characters" if isinstance(digits, str) else type(digits).__name__
        raise ConfigurationError(
            f"digits must be a string of 1 to {MAX_DIGITS} of 0-9, *, #, A-D, w (a pause of 0.5 s) and W (1 s), with a "
            f"digit among them, got {kind}"
        )
    return digits


def parted(digits: str) -> list[str | float]:
    """Return the digits without pauses between them as strings, and the pauses in seconds."""
    return [PAUSES_S.get(part, part) for part in _PARTS.findall(digits)]
