"""The questions that clients ask about past calls, as a query of a URL or as a body of JSON, and what they mean.

Words and numbers stand in bodies alone: a URL is kept by proxies, histories and logs.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from patter_trio.abc import CallQuery
from patter_trio.errors import did_you_mean
from patter_trio.events.payloads import OUTCOMES
from patter_trio.server.json_body import json_body

_DEFAULT_LIMIT: Final = 50
# Judged: more than anybody types; a database looks at a few words of it (``call_log/words.py``).
MAX_TEXT_CHARACTERS: Final = 1000
"""Longest text in a field of a search, in characters."""
_URL_TEXT_FIELDS: Final = ("outcome", "since", "until", "cursor")
TEXT_FIELDS: Final = ("text", "number", *_URL_TEXT_FIELDS)
"""The fields of a search that are strings."""
NUMBER_FIELDS: Final = ("min_cost", "min_duration")
"""The fields of a search that are numbers."""
_LIMIT: Final = "limit"
_OF_BODIES: Final = ("q", "text", "number")
"""Names of words and numbers, which a URL may not have."""
_OF_URLS: Final = (*_URL_TEXT_FIELDS, *NUMBER_FIELDS, _LIMIT)


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
    refuse_unknown(given, _OF_URLS)
    return _query(given)


def refuse_unknown(given: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse a query with a parameter that a route does not have: to ignore a misspelt filter would give all calls.

    Raises:
        HTTPException: 400, it has one.
    """
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise HTTPException(400, f"a parameter must be one of {', '.join(known)}, got {name[:40]!r}{hint}")


async def search_in(request: Request) -> CallQuery:
    """Return the calls that the body of a search names.

    Raises:
        HTTPException: 400, its URL has a query, which would be ignored and give all calls; or as for :func:`query_in`.
    """
    if request.query_params:
        raise HTTPException(400, "the fields of a search must stand in its body, not in its URL")
    return query_in(await json_body(request))


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
    limit, outcome = number_in(given, _LIMIT), given.get("outcome", "")
    if outcome and outcome not in OUTCOMES:
        hint = did_you_mean(outcome, OUTCOMES)
        raise HTTPException(400, f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome[:40]!r}{hint}")
    return CallQuery(
        text=given.get("text", ""),
        number=given.get("number", ""),
        outcome=outcome,
        since=time_in(given, "since"),
        until=time_in(given, "until"),
        min_cost_usd=_at_least_0(given, "min_cost"),
        min_duration_s=_at_least_0(given, "min_duration"),
        cursor=given.get("cursor", ""),
        limit=_DEFAULT_LIMIT if limit is None else int(limit),
    )


def _at_least_0(given: Mapping[str, str], name: str) -> float | None:
    number = number_in(given, name)
    if number is not None and number < 0:
        raise HTTPException(400, f"{name} must be at least 0, got {number:g}")
    return number


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
