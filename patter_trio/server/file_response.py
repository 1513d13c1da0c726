"""A file as a response, sent in pieces that a thread reads, whole or the part that ``Range`` names.

Starlette's own sends more than it has announced while a file grows, as a recording of a live call does. Here, what is
sent is the file as long as it was when the answer began. One range is answered; several are answered with the whole, as
RFC 9110, section 14.2, allows.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from patter_trio.net.threads import run_in_own_thread

# Judged: 8 s of a recording; the thread costs little beside it, and some downloads at once take some megabytes.
PIECE_BYTES: Final = 256 * 1024
"""Largest piece that is read and sent at once."""
# Judged: one disk; further downloads wait for their next piece.
MAX_READS_AT_ONCE: Final = 4
"""Pieces of all downloads that are read at once."""
# RFC 9110, section 14.1.2: the first and the last byte, or the number of last bytes. No file needs more digits.
_RANGE: Final = re.compile(r"bytes=\s*(\d{1,18})?-(\d{1,18})?\s*", re.IGNORECASE)


def read_piece(path: Path, begin: int, size: int) -> bytes:
    """Return a part of a file.

    Raises:
        OSError: it cannot be read.
    """
    # Opened for each piece: a download that is cut off leaves no file open in an abandoned thread.
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(size)


@attrs.frozen
class _Found:
    size: int
    tag: str


def _found(path: Path) -> _Found | None:
    try:
        if not path.is_file():
            return None
        found = path.stat()
    except OSError:
        return None
    # It changes with each piece that is written, so that a player does not join parts of two states.
    return _Found(found.st_size, f'"{found.st_size:x}-{found.st_mtime_ns:x}"')


class FileReads:
    """The reading of files in threads, by all downloads of some routes.

    Args:
        read: returns a part of a file, in a thread; it raises OSError.
    """

    def __init__(self, read: Callable[[Path, int, int], bytes] = read_piece) -> None:
        self._read = read
        self._threads = trio.CapacityLimiter(MAX_READS_AT_ONCE)

    def __repr__(self) -> str:
        return f"<FileReads {self._threads.borrowed_tokens}>"

    async def found(self, path: Path) -> _Found | None:
        """Return the size and the tag of a file; None if the file does not exist."""
        return await run_in_own_thread(partial(_found, path), self._threads)

    async def piece(self, path: Path, begin: int, size: int) -> bytes:
        """Return a part of a file.

        Raises:
            OSError: it cannot be read, or ends before.
        """
        data = await run_in_own_thread(partial(self._read, path, begin, size), self._threads)
        if len(data) != size:
            raise OSError(f"{path} has become shorter while it was sent")
        return data


class FilePartResponse(Response):
    """A file as a response.

    Args:
        reads: reads it.
        path: the file.
        media_type: its type.
        missing: the answer's text if there is no such file, with status 404.
    """

    def __init__(self, reads: FileReads, path: Path, media_type: str, *, missing: str) -> None:
        super().__init__(media_type=media_type, headers={"cache-control": "no-store", "accept-ranges": "bytes"})
        del self.headers["content-length"]
        self._reads = reads
        self._path = path
        self._missing = missing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or the part of it that the request names.

        Raises:
            HTTPException: 404, there is no such file; 416, the part lies behind its end.
        """
        del receive
        found = await self._reads.found(self._path)
        if found is None:
            raise HTTPException(404, self._missing)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        wanted = None
        # RFC 9110, section 13.1.5: a part of what the client has the begin of, or the whole of what it has not.
        if headers.get("if-range", found.tag) == found.tag:
            wanted = part_of(headers.get("range", ""), found.size)
        begin, end = (0, found.size) if wanted is None else wanted
        self.headers["etag"] = found.tag
        self.headers["content-length"] = str(end - begin)
        if wanted is not None:
            self.status_code = 206
            self.headers["content-range"] = f"bytes {begin}-{end - 1}/{found.size}"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            end = begin
        while begin < end:
            size = min(PIECE_BYTES, end - begin)
            # A failure behind the head breaks the answer off, and its peer sees that something is missing.
            body = await self._reads.piece(self._path, begin, size)
            begin += size
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def part_of(range_header: str, size: int) -> tuple[int, int] | None:
    """Return the begin and the end of the part that ``Range`` names; None: it names none, or several.

    Raises:
        HTTPException: 416, the part lies behind the end.
    """
    match = _RANGE.fullmatch(range_header)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1] is None:
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        # RFC 9110, section 14.1.1: a last byte before the first one makes the whole header invalid.
        if match[2] and int(match[2]) < begin:
            return None
    if begin >= end:
        raise HTTPException(416, f"the file has {size} bytes", {"content-range": f"bytes */{size}"})
    return begin, end
