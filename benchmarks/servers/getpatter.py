"""getpatter's Twilio server in pipeline mode, with providers that cost nothing; runs in an environment of its own.

It makes a Silero for each call itself, here with 0.2 s of minimum speech and 0.5 s of silence instead of its presets
(0.25 s and 0.1 s); a VAD given to the agent would be shared by all calls. Its STT returns its words when it is asked to
finalize; ``on_message`` answers; the speech is available at once, as mu-law, which the server passes through.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path

# Beside this file lie modules of other servers under the same names as the packages they need.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

from functools import partial

from getpatter import Patter, Twilio
from getpatter.providers.base import STTProvider, Transcript, TTSProvider
from getpatter.providers.silero_vad import SileroVAD

# Nothing that is measured shall reach the network.
os.environ["PATTER_TELEMETRY_DISABLED"] = os.environ["DO_NOT_TRACK"] = "1"
ACCOUNT, TOKEN = "AC" + "0" * 32, "benchmark"
CHUNK = 1600
TEXT = "We are open from seven in the morning to nine in the evening, every day of the week."


class CannedSTT(STTProvider):
    def __init__(self):
        self._words = asyncio.Queue()

    async def connect(self):
        pass

    async def send_audio(self, audio_chunk):
        pass

    async def finalize(self):
        # At once, and final: the STT is not what is measured.
        self._words.put_nowait(
            Transcript("What are your opening hours?", is_final=True, speech_final=True, confidence=1.0)
        )

    async def receive_transcripts(self):
        while True:
            yield await self._words.get()

    async def close(self):
        pass


class CannedTTS(TTSProvider):
    output_format = "ulaw_8000"

    def __init__(self, answer):
        self._answer = answer

    async def synthesize(self, text):
        for at in range(0, len(self._answer), CHUNK):
            yield self._answer[at : at + CHUNK]

    async def close(self):
        pass


async def on_message(event):
    return TEXT


async def main(answer):
    logging.disable(logging.WARNING)
    # The durations that the other servers are set to, in place of its presets.
    SileroVAD.for_phone_call = partial(SileroVAD.load, min_speech_duration=0.2, min_silence_duration=0.5)
    # ``serve`` takes the number of a port; another process could take the port meanwhile, but none does here.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    phone = Patter(
        carrier=Twilio(account_sid=ACCOUNT, auth_token=TOKEN),
        phone_number="+15550100002",
        webhook_url="benchmark.example",
        telemetry=False,
    )
    agent = phone.agent(
        system_prompt="You answer the phone of a shop.",
        stt=CannedSTT(),
        tts=CannedTTS(answer),
        barge_in_threshold_ms=200,
    )

    async def announce():
        while True:
            # getpatter does not say when it is ready; a connection that succeeds does.
            await asyncio.sleep(0.1)
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            about = {"port": port, "pid": os.getpid(), "path": "/ws/stream/{call}", "addresses": True}
            print(json.dumps(about), flush=True, file=real)
            return

    # getpatter prints a banner, which would be read as its address.
    real, sys.stdout = sys.stdout, sys.stderr
    announcing = asyncio.create_task(announce())
    await phone.serve(agent, port=port, on_message=on_message, dashboard=False)
    await announcing


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sounds", type=Path)
    asyncio.run(main((parser.parse_args().sounds / "answer.ulaw").read_bytes()))
