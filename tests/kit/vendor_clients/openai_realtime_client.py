"""OpenAI's own client, as a program: it has one turn with a server, and prints what it sent and received.

``python openai_realtime_client.py URL KEY SESSION`` with SESSION as JSON; the caller's mu-law is on standard input.
"""

import base64
import json
import sys
from typing import Any

from openai import OpenAI


def main(url: str, key: str, session: Any, audio: bytes) -> list[dict[str, Any]]:
    reported: list[dict[str, Any]] = []
    client = OpenAI(api_key=key, websocket_base_url=url)
    with client.realtime.connect(model="gpt-realtime-2.1") as connection:

        def until(*kinds: str) -> None:
            for event in connection:
                reported.append(event.model_dump(mode="json", exclude_unset=True))
                if event.type in kinds:
                    return

        # Each step waits for the vendor's answer, or for an error, which ends a test instead of hanging in it.
        until("session.created", "error")
        connection.session.update(session=session)
        until("session.updated", "error")
        for begin in range(0, len(audio), 160):
            connection.input_audio_buffer.append(audio=base64.b64encode(audio[begin : begin + 160]).decode())
        connection.input_audio_buffer.commit()
        connection.response.create(response={"metadata": {"request": "q"}}, event_id="q")
        until("response.done", "error")
        item_id = next(event["item_id"] for event in reported if event["type"] == "response.output_audio.delta")
        connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=100)
        until("conversation.item.truncated", "error")
        # The response is over: the vendor reports that there is nothing to cancel.
        connection.response.cancel()
        until("error")
    return reported


sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.stdin.buffer.read())))
