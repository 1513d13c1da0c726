"""The description of the HTTP API, by OpenAPI 3.1, for everybody who builds on it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_type_hints

from patter_trio.abc import CallSummary, DayStats, Direction, EventRecord, LiveCall

_TYPES: Final[Mapping[Any, Mapping[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Mapping[str, int]: {"type": "object", "additionalProperties": {"type": "integer"}},
    float | None: {"type": ["number", "null"]},
    Direction: {"enum": ["inbound", "outbound"]},
    dict[str, Any]: {"type": "object"},
}
_CALL_ID: Final = {"name": "call_id", "in": "path", "required": True, "schema": {"type": "string"}}
_STREAM: Final = {
    "description": (
        "Server-sent events: `id` is `seq`, `event` is `type`, `data` is an EventRecord. A comment each 15 s. "
        "`event: dropped` says how many events a slow client has lost. The stream ends with the call, or when the "
        "server drains."
    ),
    "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/EventRecord"}}},
}
_POSITION: Final = [
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The `seq` behind which the stream begins, as far as it is remembered; or `after` in the query.",
        "schema": {"type": "integer"},
    },
    {"name": "after", "in": "query", "schema": {"type": "integer"}},
    {
        "name": "chunks",
        "in": "query",
        "description": "1: with each `llm_chunk`, up to fifty a second in each call.",
        "schema": {"enum": ["0", "1"]},
    },
]


def _schema(kind: type) -> dict[str, Any]:
    """Return the schema of a record from its annotations."""
    properties = {name: _TYPES[found] for name, found in get_type_hints(kind).items()}
    return {"type": "object", "required": list(properties), "properties": properties}


def _reply(description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    if schema is None:
        return {"description": description}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _order(summary: str, properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {
        "post": {
            "summary": summary,
            "parameters": [_CALL_ID],
            "requestBody": {"required": bool(required), "content": {"application/json": {"schema": schema}}},
            "responses": {
                "202": _reply("The call carries it out."),
                "400": _reply("The body is not valid."),
                "403": _reply("The request is not allowed, or Origin does not equal Host."),
                "404": _reply("No such call is live."),
                "409": _reply("The call cannot do it now."),
            },
        }
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def live_paths() -> dict[str, Any]:
    """Return the description of the routes of live calls."""
    calls = {
        "type": "object",
        "required": ["calls"],
        "properties": {"calls": {"type": "array", "items": {"$ref": "#/components/schemas/LiveCall"}}},
    }
    responses = {"200": _STREAM, "404": _reply("No such call is live."), "503": _reply("64 streams are open.")}
    return {
        "/api/live": {"get": {"summary": "List the live calls", "responses": {"200": _reply("The calls.", calls)}}},
        "/api/live/events": {
            "get": {"summary": "Stream the events of all calls", "parameters": _POSITION, "responses": responses}
        },
        "/api/live/{call_id}/events": {
            "get": {
                "summary": "Stream the events of a live call",
                "parameters": [_CALL_ID, *_POSITION],
                "responses": responses,
            }
        },
        "/api/live/{call_id}/say": _order(
            "Make the agent say a text",
            {"text": _text("The text."), "interrupt": {"type": "boolean", "description": "Cut the current reply."}},
            ("text",),
        ),
        "/api/live/{call_id}/hang_up": _order("End the call after the current speech", {}),
        "/api/live/{call_id}/transfer": _order(
            "Transfer the caller", {"to": _text("A number in E.164, or a SIP address.")}, ("to",)
        ),
        "/api/live/{call_id}/listen": {
            "post": {
                "summary": "Get a ticket to listen over the WebSocket /ws/listen/{call_id}: once, within 60 s",
                "parameters": [_CALL_ID],
                "responses": {
                    "200": _reply("The ticket.", {"type": "object", "properties": {"ticket": {"type": "string"}}}),
                    "404": _reply("No such call is live."),
                },
            }
        },
        "/api/live/{call_id}/text": _order(
            "Give the agent a message of the caller's", {"text": _text("The message.")}, ("text",)
        ),
    }


def archive_paths() -> dict[str, Any]:
    """Return the description of the routes of logged calls, which are there with ``persist=``."""
    texts = {"outcome": "The outcome."}
    times = {"since": "ISO 8601: calls that began from then on.", "until": "ISO 8601: calls that began before."}
    numbers = {"min_cost": "Least cost, in US dollars.", "min_duration": "Least duration, in seconds."}
    wanted = [_query(name, text, "string") for name, text in (texts | times).items()]
    wanted += [_query(name, text, "number") for name, text in numbers.items()]
    paging = [_query("cursor", "`next` of the page before.", "string"), _query("limit", "From 1 to 500.", "integer")]
    private = {"text": "Words that were said.", "number": "A part of either number."}
    filters = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: _text(text) for name, text in (private | texts | times).items()},
            **{name: {"type": "number", "description": text} for name, text in numbers.items()},
            **{one["name"]: {**one["schema"], "description": one["description"]} for one in paging},
        },
    }
    page = {
        "type": "object",
        "properties": {
            "calls": {"type": "array", "items": {"$ref": "#/components/schemas/CallSummary"}},
            "next": {"type": "string", "description": "The cursor of the next page; empty on the last one."},
        },
    }
    days = {
        "type": "object",
        "properties": {"days": {"type": "array", "items": {"$ref": "#/components/schemas/DayStats"}}},
    }
    whole = {"type": "object", "description": "A CallSummary with transcript, metrics, tool_calls, custom_params."}
    whole_list = {"type": "array", "items": whole}
    one = "/api/calls/{call_id}"
    return {
        "/api/calls": {"get": _read("List logged calls, newest first", page, [*wanted, *paging])},
        "/api/calls/search": {"post": _asked(_read("Search logged calls, by words and numbers, too", page), filters)},
        one: {
            "get": _read("Get a call but its events", whole, [_CALL_ID]),
            "delete": {
                "summary": "Delete a call with its recording",
                "parameters": [_CALL_ID],
                "responses": {"204": _reply("It is deleted."), "404": _reply("No such call is in the log.")},
            },
        },
        f"{one}/events": {"get": _read("Get the events of a call, oldest first", _ANY, [_CALL_ID])},
        f"{one}/timeline": {"get": _read("Get the timeline of a call", _ANY, [_CALL_ID])},
        f"{one}/timeline.svg": {"get": _file("Get the picture of a call", "image/svg+xml", [_CALL_ID])},
        f"{one}/peaks": {"get": _read("Get the waveform of a recording", _ANY, [_CALL_ID])},
        f"{one}/log": {"get": _read("Get the newest lines of the program's log about a call", _ANY, [_CALL_ID])},
        f"{one}/recording.wav": {"get": _file("Get a recording; Range is answered", "audio/wav", [_CALL_ID])},
        "/api/stats": {"get": _read("Get figures by day, in UTC", days, [q for q in wanted if q["name"] in times])},
        "/api/export.json": {
            "get": _read("Export calls as JSON", whole_list, wanted),
            "post": _asked(_read("Export the calls of a search as JSON", whole_list), filters),
        },
        "/api/export.csv": {
            "get": _file("Export calls as CSV", "text/csv", wanted),
            "post": _asked(_file("Export the calls of a search as CSV", "text/csv"), filters),
        },
    }


_ANY: Final[Mapping[str, Any]] = {"type": "object"}


def _query(name: str, description: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": kind}}


def _asked(operation: Mapping[str, Any], filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation whose body has the filters: words and numbers must not stand in a URL."""
    body = {"content": {"application/json": {"schema": filters}}}
    responses = {**operation["responses"], "403": _reply("The request is not allowed, or Origin does not equal Host.")}
    return {**operation, "requestBody": body, "responses": responses}


def _read(summary: str, schema: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    responses = {
        "200": _reply("Found.", schema),
        "400": _reply("A parameter is not valid."),
        "404": _reply("It is not in the log."),
        "503": _reply("The log cannot be read now."),
    }
    return {"summary": summary, "parameters": list(parameters), "responses": responses}


def _file(summary: str, media_type: str, parameters: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    found = {"description": "Found.", "content": {media_type: {"schema": {"type": "string"}}}}
    read = _read(summary, _ANY, parameters)
    return {**read, "responses": {**read["responses"], "200": found}}


def openapi_document() -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "patter_trio",
            "version": "1",
            "description": (
                "Calls of a phone. Without `dashboard_token=` the API answers this machine alone; with it, a request "
                "has the token as `Authorization: Bearer`, or the cookie of a login. A write needs an `Origin` that "
                "equals `Host`, unless it has the token."
            ),
        },
        "security": [{"token": []}, {"session": []}],
        "paths": {**live_paths(), **archive_paths()},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "patter_trio_session"},
            },
            "schemas": {kind.__name__: _schema(kind) for kind in (EventRecord, LiveCall, CallSummary, DayStats)},
        },
    }
