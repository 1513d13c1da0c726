"""The questions that clients ask about past calls, as a query of a URL or as a body of JSON, and what they mean.

Words and numbers stand in bodies alone: a URL is kept by proxies, histories and logs.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException

from patter_trio.abc import CallQuery

_DEFAULT_LIMIT: Final = 50
# Judged: more than anybody types; a database looks at a few words of it (``call_log/words.py``).
MAX_TEXT_CHARACTERS: Final = 1000
"""Longest text in a field of a search, in characters."""
TEXT_FIELDS: Final = ("text", "number", "outcome", "since", "until", "cursor")
"""The fields of a search that are strings."""
NUMBER_FIELDS: Final = ("min_cost", "min_duration")
"""The fields of a search that are numbers."""
_LIMIT: Final = "limit"
_OF_BODIES: Final = ("q", "text", "number")
"""Names of words and numbers, which are refused in a URL instead of ignored: the answer would be all calls."""


def refuse_private(given: Mapping[str, str]) -> None:
    """Refuse a URL whose query has words or a number.

    Raises:
        HTTPException: 400, it has.
    """
    if any(name in given for name in _OF_BODIES):
        raise HTTPException(
            400, "words and numbers must stand in a body, as text and number of POST /api/calls/search, not in a URL"
        )


def query_of(given: Mapping[str, str]) -> CallQuery:
    """Return the calls that the query of a URL names.

    Raises:
        HTTPException: 400, a value is not valid, or it has words or a number.
    """
    refuse_private(given)
    return _query(given)


def query_in(body: Mapping[str, Any]) -> CallQuery:
    """Return the calls that the body of a search names; a field that is null counts as absent.

    Raises:
        HTTPException: 400, a field is unknown, or has a wrong type or value.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name in TEXT_FIELDS:
            if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS:
                raise HTTPException(400, f"{name} must be a string of at most {MAX_TEXT_CHARACTERS} characters")
        elif name in NUMBER_FIELDS:
            # By type: True would count as 1.
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise HTTPException(400, f"{name} must be a number")
        elif name == _LIMIT:
            if isinstance(value, bool) or not isinstance(value, int):
                raise HTTPException(400, f"{name} must be a whole number")
        else:
            known = ", ".join((*TEXT_FIELDS, *NUMBER_FIELDS, _LIMIT))
            raise HTTPException(400, f"a field must be one of {known}, got {name[:40]!r}")
    return _query({name: str(value) for name, value in given.items()})


def _query(given: Mapping[str, str]) -> CallQuery:
    limit = number_in(given, _LIMIT)
    return CallQuery(
        text=given.get("text", ""),
        number=given.get("number", ""),
        outcome=given.get("outcome", ""),
        since=time_in(given, "since"),
        until=time_in(given, "until"),
        min_cost_usd=number_in(given, "min_cost"),
        min_duration_s=number_in(given, "min_duration"),
        cursor=given.get("cursor", ""),
        limit=_DEFAULT_LIMIT if limit is None else int(limit),
    )


def number_in(given: Mapping[str, str], name: str) -> float | None:
    """Return a number of a query; None without one.

    Raises:
        HTTPException: 400, it is not a number of 64 bits.
    """
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # 64 bits: a database refuses more.
    if not abs(number) < 2**63:
        raise HTTPException(400, f"{name} must be a number, got {text[:40]!r}")
    return number


def time_in(given: Mapping[str, str], name: str) -> float | None:
    """Return a Unix time of a query, in seconds; None without one.

    Raises:
        HTTPException: 400, it is not ISO 8601.
    """
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        # A plus in a query is a space, if it was not escaped: the one before an offset from UTC.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name} must be ISO 8601, such as 2026-01-31T09:30Z, got {text[:40]!r}") from None
