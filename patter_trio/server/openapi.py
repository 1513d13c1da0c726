"""The description of the HTTP API, by OpenAPI 3.1, for everybody who builds on it."""

from collections.abc import Mapping
from typing import Any, Final, get_type_hints

from patter_trio.abc import Direction, EventRecord, LiveCall

_TYPES: Final[Mapping[Any, Mapping[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
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
        "/api/live/{call_id}/text": _order(
            "Give the agent a message of the caller's", {"text": _text("The message.")}, ("text",)
        ),
    }


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
        "paths": live_paths(),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "patter_trio_session"},
            },
            "schemas": {"EventRecord": _schema(EventRecord), "LiveCall": _schema(LiveCall)},
        },
    }
