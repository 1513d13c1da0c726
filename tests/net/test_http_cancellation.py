"""The cancellation of an HTTP request at each of its steps."""

import gc

import pytest

from patter_trio.net.http import shared_client
from patter_trio.testing.conformance.bench import cancelled_at
from tests.kit.web import Request, fetch, serving


async def answer(request: Request) -> None:
    await request.answer(request.body)


async def test_cancelled_request_leaves_no_generator(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """A request that is cancelled at any step leaves no suspended generator, warning or unraisable error behind."""
    left: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", left.append)
    async with serving(answer) as web:

        async def ask() -> bytes:
            async with shared_client() as client:
                return await fetch(client, "POST", web.url, content=b"words", head_timeout=5.0, max_bytes=100)

        whole = await cancelled_at(ask, 0)
        assert whole.result == b"words"
        for step in range(1, whole.steps + 1, stride):
            end = await cancelled_at(ask, step)
            assert not end.errors
            gc.collect()
            assert not left, f"cancelled at step {step} of {whole.steps}"
    assert not [str(warning.message) for warning in recwarn.list]
