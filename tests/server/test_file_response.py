"""A file as a response: its parts by ``Range``, in pieces that a thread reads, also while the file changes."""

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message

from patter_trio.server.file_response import PIECE_BYTES, FilePartResponse, FileReads, part_of, read_piece


class Answer:
    """What a response sends."""

    def __init__(self) -> None:
        self.status: int = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.is_over: bool = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.pieces.append(message["body"])
            self.is_over = not message["more_body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def nothing() -> Message:
    raise AssertionError("the response must not read the request")


async def asked(
    path: Path, answer: Answer | None = None, reads: FileReads | None = None, method: str = "GET", **headers: str
) -> Answer:
    answer = answer or Answer()
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    response = FilePartResponse(reads or FileReads(), path, "audio/wav", missing="no recording")
    await response({"type": "http", "method": method, "headers": raw}, nothing, answer.send)
    return answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of ten bytes."""
    path = tmp_path / "CA1.wav"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize(
    ("header", "body", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("Bytes= 2-4 ", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-99", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        # What is not one valid range is answered with the whole.
        ("", b"0123456789", ""),
        ("bytes=-", b"0123456789", ""),
        ("bytes=4-2", b"0123456789", ""),
        ("bytes=0-1,3-4", b"0123456789", ""),
        ("items=0-1", b"0123456789", ""),
        ("bytes=0-" + "9" * 5000, b"0123456789", ""),
    ],
)
async def test_parts_of_a_file(file: Path, header: str, body: bytes, content_range: str) -> None:
    """One range is answered with 206 and its part, all else with 200 and the whole file."""
    answer = await asked(file, range=header)
    assert (answer.status, answer.body, answer.is_over) == (206 if content_range else 200, body, True)
    assert answer.headers.get("content-range", "") == content_range
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=999999999999999999-"])
async def test_parts_behind_the_end_get_416(file: Path, header: str) -> None:
    """A range behind the end gets 416 with the size of the file."""
    with pytest.raises(HTTPException) as refused:
        await asked(file, range=header)
    assert refused.value.status_code == 416
    assert refused.value.headers == {"content-range": "bytes */10"}


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_part_lies_within_the_file(first: int, last: int, size: int) -> None:
    """For each range and size: the bytes that exist from the first to the last one, or 416."""
    wanted = list(range(size))[first : last + 1]
    if last < first:
        assert part_of(f"bytes={first}-{last}", size) is None
    elif not wanted:
        with pytest.raises(HTTPException, match=f"the file has {size} bytes"):
            part_of(f"bytes={first}-{last}", size)
    else:
        assert part_of(f"bytes={first}-{last}", size) == (wanted[0], wanted[-1] + 1)


async def test_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    """Of a file of 4 GB, only what is asked for is read, in pieces of 256 KiB, and never on the event loop's thread."""
    path, read = tmp_path / "long.wav", list[tuple[int, int, bool]]()
    with path.open("wb") as file:
        file.truncate(4_000_000_000)

    def noting(path: Path, begin: int, size: int) -> bytes:
        read.append((begin, size, threading.current_thread() is threading.main_thread()))
        return read_piece(path, begin, size)

    answer = await asked(path, reads=FileReads(noting), range=f"bytes=3000000000-{3_000_000_000 + 2 * PIECE_BYTES}")
    assert read == [
        (3_000_000_000, PIECE_BYTES, False),
        (3_000_000_000 + PIECE_BYTES, PIECE_BYTES, False),
        (3_000_000_000 + 2 * PIECE_BYTES, 1, False),
    ]
    assert answer.body == bytes(2 * PIECE_BYTES + 1)


async def test_head_reads_nothing(file: Path) -> None:
    """HEAD has the length of the file, and no part of it is read."""

    def refusing(*_: Any) -> bytes:
        raise AssertionError("nothing must be read")

    answer = await asked(file, reads=FileReads(refusing), method="HEAD")
    assert (answer.headers["content-length"], answer.body, answer.is_over) == ("10", b"", True)


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


async def test_parts_of_another_state_are_not_joined(file: Path) -> None:
    """With the tag of the file as it is, a part is sent; with that of another state, the whole."""
    tag = (await asked(file)).headers["etag"]
    assert (await asked(file, range="bytes=2-4", if_range=tag)).status == 206
    assert (await asked(file, range="bytes=2-4", if_range='"of-another"')).body == b"0123456789"
    _write(file, b"0123456789ab")
    assert (await asked(file, range="bytes=2-4", if_range=tag)).body == b"0123456789ab"


async def test_growing_file_keeps_its_announced_length(file: Path) -> None:
    """A file that grows while it is sent is sent as long as it was; one that becomes shorter breaks the answer off."""

    def growing(path: Path, begin: int, size: int) -> bytes:
        with path.open("ab") as more:
            more.write(b"abc")
        return read_piece(path, begin, size)

    assert (await asked(file, reads=FileReads(growing))).body == b"0123456789"

    def shrinking(path: Path, begin: int, size: int) -> bytes:
        path.write_bytes(b"012")
        return read_piece(path, begin, size)

    answer = Answer()
    with pytest.raises(OSError, match="has become shorter"):
        await asked(file, answer, FileReads(shrinking))
    assert (answer.status, answer.is_over) == (200, False)


async def test_missing_file_is_404(tmp_path: Path) -> None:
    """A file that does not exist, a folder, and a path that no system takes get 404."""
    for path in (tmp_path / "none.wav", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(HTTPException, match="no recording") as refused:
            await asked(path)
        assert refused.value.status_code == 404
