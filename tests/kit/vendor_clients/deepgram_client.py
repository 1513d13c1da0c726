"""Deepgram's own client, as a program: it sends the audio of standard input, and prints the messages that it receives.

``python deepgram_client.py URL KEY VERSION OPTIONS`` with VERSION ``v1`` or ``v2``, OPTIONS as JSON for its
``connect``.
"""

import asyncio
import json
import sys
from typing import Any

from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment


def report(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


async def main(url: str, key: str, version: str, options: dict[str, Any], audio: bytes) -> None:
    where = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
    client = AsyncDeepgramClient(api_key=key, environment=where)
    try:
        async with getattr(client.listen, version).connect(**options) as connection:
            # 80 ms, the size that the vendor advises for Flux.
            for begin in range(0, len(audio), 640):
                await connection.send_media(audio[begin : begin + 640])
            if version == "v1":
                await connection.send_keep_alive()
                await connection.send_finalize()
            else:
                await connection.send_force_end_turn()
            await connection.send_close_stream()
            async for message in connection:
                # The SDK's models let unknown keys pass; the test wants none.
                unknown = sorted(message.model_extra or {})
                report({"message": message.model_dump(mode="json", by_alias=True), "unknown": unknown})
    except ApiError as error:
        report({"refused": error.status_code})


asyncio.run(main(*sys.argv[1:4], json.loads(sys.argv[4]), sys.stdin.buffer.read()))
