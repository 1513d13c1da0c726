"""The HTTP API of past calls: lists and search, one call whole, its recording, figures by day, export and deletion."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from patter_trio.abc import CallArchive, CallQuery
from patter_trio.call_log.export import CONTENT_TYPES, ExportFormat, export_as
from patter_trio.errors import ConfigurationError, PatterError
from patter_trio.server.call_questions import number_in, query_of, refuse_private, refuse_unknown, search_in, time_in
from patter_trio.server.file_response import FilePartResponse, FileReads
from patter_trio.server.json_response import TolerantJSONResponse

Endpoint = Callable[[Request], Awaitable[Response]]
# Judged: one for a person and one for a script. Each reads the whole log while calls go on.
MAX_EXPORTS: Final = 2
"""Most exports at once; a further one gets 503."""
_UNKNOWN: Final = "no such call is in the log"
_UNRECORDED: Final = "the call has no recording"


def archive_routes(archive: CallArchive, deleted: Callable[[str], None] = lambda _: None) -> Sequence[BaseRoute]:
    """Return the routes of ``/api/calls``, ``/api/stats`` and ``/api/export``.

    Args:
        archive: the past calls.
        deleted: called with the id of a call that was deleted, so that others forget it, too.
    """
    places, reads = trio.Semaphore(MAX_EXPORTS), FileReads()

    async def found(query: CallQuery) -> Response:
        page = await archive.find(query)
        return TolerantJSONResponse({"calls": [call.to_dict() for call in page.calls], "next": page.next})

    async def calls(request: Request) -> Response:
        return await found(query_of(request.query_params))

    async def search(request: Request) -> Response:
        return await found(await search_in(request))

    async def call(request: Request) -> Response:
        return _json(await archive.get(_id(request)))

    async def delete(request: Request) -> Response:
        if not await archive.delete(_id(request)):
            raise HTTPException(404, _UNKNOWN)
        deleted(_id(request))
        return Response(status_code=204)

    async def events(request: Request) -> Response:
        after = number_in(request.query_params, "after")
        found = await archive.events(_id(request), after=0 if after is None else int(after))
        # A call without further events differs from one that is unknown.
        if not found and await archive.get(_id(request)) is None:
            raise HTTPException(404, _UNKNOWN)
        return TolerantJSONResponse({"events": list(found)})

    async def timeline(request: Request) -> Response:
        return _json(await archive.timeline(_id(request)))

    async def timeline_svg(request: Request) -> Response:
        svg = await archive.timeline_svg(_id(request))
        if svg is None:
            raise HTTPException(404, _UNKNOWN)
        # An image may hold scripts: one that is opened by itself must not run any.
        return Response(
            svg.encode(errors="replace"), headers={"content-security-policy": "sandbox"}, media_type="image/svg+xml"
        )

    async def peaks(request: Request) -> Response:
        found = await archive.timeline(_id(request))
        if found is None or not found.get("peaks"):
            raise HTTPException(404, _UNKNOWN if found is None else _UNRECORDED)
        return TolerantJSONResponse(found["peaks"])

    async def recording(request: Request) -> Response:
        path = await archive.recording(_id(request))
        if path is None:
            raise HTTPException(404, _UNRECORDED if await archive.get(_id(request)) else _UNKNOWN)
        return FilePartResponse(reads, path, "audio/wav", missing=_UNRECORDED)

    async def stats(request: Request) -> Response:
        if request.query_params.get("by", "day") != "day":
            raise HTTPException(400, f"by must be day, got {request.query_params['by']!r}")
        given = request.query_params
        refuse_private(given)
        refuse_unknown(given, ("by", "since", "until"))
        days = await archive.stats(since=time_in(given, "since"), until=time_in(given, "until"))
        return TolerantJSONResponse({"days": [day.to_dict() for day in days]})

    def export(kind: ExportFormat) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            # A search with words or a number has them in its body.
            query = await search_in(request) if request.method == "POST" else query_of(request.query_params)
            return _ExportResponse(archive, query, kind, places)

        return endpoint

    one = "/api/calls/{call_id}"
    return [
        Route("/api/calls", _answered(calls)),
        Route("/api/calls/search", _answered(search), methods=["POST"]),
        Route(one, _answered(call)),
        Route(one, _answered(delete), methods=["DELETE"]),
        Route(f"{one}/events", _answered(events)),
        Route(f"{one}/timeline", _answered(timeline)),
        Route(f"{one}/timeline.svg", _answered(timeline_svg)),
        Route(f"{one}/peaks", _answered(peaks)),
        Route(f"{one}/recording.wav", _answered(recording)),
        Route("/api/stats", _answered(stats)),
        Route("/api/export.json", _answered(export("json")), methods=["GET", "POST"]),
        Route("/api/export.csv", _answered(export("csv")), methods=["GET", "POST"]),
    ]


def _answered(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers our errors: a wrong question by 400, a log that cannot be read by 503."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ConfigurationError as wrong:
            raise HTTPException(400, str(wrong)) from wrong
        except PatterError as away:
            raise HTTPException(503, str(away), {"retry-after": "5"}) from away

    return answer


def _id(request: Request) -> str:
    return str(request.path_params["call_id"])


def _json(found: Mapping[str, Any] | None) -> Response:
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    return TolerantJSONResponse(dict(found))


class _ExportResponse(Response):
    """An export as a response, sent while it is read."""

    def __init__(self, archive: CallArchive, query: CallQuery, kind: ExportFormat, places: trio.Semaphore) -> None:
        super().__init__(
            headers={"content-disposition": f'attachment; filename="calls.{kind}"'}, media_type=CONTENT_TYPES[kind]
        )
        # That of an empty body: how long the export is, is known at its end.
        del self.headers["content-length"]
        self._archive = archive
        self._query = query
        self._kind: ExportFormat = kind
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the calls, until all are sent or the peer has left."""
        if scope["method"] == "HEAD":
            # The head alone: nobody would see what is read for it.
            await super().__call__(scope, receive, send)
            return
        try:
            # Refused, not queued: a client that waits would hold a connection for nothing.
            self._places.acquire_nowait()
        except trio.WouldBlock:
            raise HTTPException(503, f"{MAX_EXPORTS} exports are going on", {"retry-after": "5"}) from None
        try:
            await self._export_while_wanted(receive, send)
        finally:
            self._places.release()

    async def _export_while_wanted(self, receive: Receive, send: Send) -> None:
        failure: PatterError | HTTPException | None = None

        async def until_gone() -> None:
            # The rest of the request may come before.
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel(reason="the peer has left")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_gone)
            try:
                await self._export(send)
            # Raised outside of the nursery, which would put it into a group.
            except (PatterError, HTTPException) as error:
                failure = error
            nursery.cancel_scope.cancel(reason="the export is over")
        if failure is not None:
            raise failure

    async def _export(self, send: Send) -> None:
        export = export_as(self._kind)

        async def write(text: str, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(errors="replace"), "more_body": more})

        async with self._archive.export(self._query) as found:
            try:
                first = await anext(found, None)
            # Before the status is sent: afterwards, an export that breaks off has no end, and the client sees it.
            except PatterError as away:
                raise HTTPException(503, str(away), {"retry-after": "5"}) from away
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await write(export.head)
            if first is not None:
                await write(export.piece(first))
                async for call in found:
                    await write(export.piece(call))
        await write(export.tail, more=False)
