"""pipecat-ai's Twilio bot as its guides build it, with services that cost nothing; runs in an environment of its own.

It uses FastAPI and uvicorn (with uvloop), ``FastAPIWebsocketTransport`` and ``TwilioFrameSerializer`` at 8 kHz
throughout, its own Silero for each call, and turns by VAD and speech timeout: 0.2 s of minimum speech, 0.2 s + 0.3 s of
silence. Its STT returns the words at once when the voice ends, marked as finalized; LLM and TTS answer at once.
"""

import argparse
import json
import os
import socket
import sys
from pathlib import Path

# Beside this file lie modules of other servers under the same names as the packages they need.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601

RATE_HZ = 8000
# 200 ms of 16-bit samples, as the others' 1600 bytes of mu-law.
CHUNK = 3200
TEXT = "We are open from seven in the morning to nine in the evening, every day of the week."

# Logging is not what is measured.
logger.remove()
logger.add(sys.stderr, level="ERROR")


class CannedSTT(STTService):
    def __init__(self):
        super().__init__(ttfs_p99_latency=0.0, settings=STTSettings(model=None, language=None))

    async def run_stt(self, audio):
        yield None

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            words = TranscriptionFrame("What are your opening hours?", "caller", time_now_iso8601())
            # Marked, so that its turn strategy waits for no later result.
            words.finalized = True
            await self.push_frame(words)


class CannedLLM(LLMService):
    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self.push_frame(LLMFullResponseStartFrame())
            await self.push_frame(LLMTextFrame(TEXT))
            await self.push_frame(LLMFullResponseEndFrame())
        else:
            await self.push_frame(frame, direction)


class CannedTTS(TTSService):
    def __init__(self, answer):
        super().__init__(
            sample_rate=RATE_HZ,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self._answer = answer

    async def run_tts(self, text, context_id):
        for at in range(0, len(self._answer), CHUNK):
            yield TTSAudioRawFrame(self._answer[at : at + CHUNK], RATE_HZ, 1, context_id=context_id)


def application(answer):
    app = FastAPI()

    @app.websocket("/ws")
    async def bot(websocket: WebSocket):
        await websocket.accept()
        start = json.loads(await websocket.receive_text())
        # As its guides do it: the serializer needs the stream's id, which comes in the second message.
        while start.get("event") != "start":
            start = json.loads(await websocket.receive_text())
        serializer = TwilioFrameSerializer(
            start["streamSid"],
            call_sid=start["start"]["callSid"],
            # Hanging up is a request to Twilio, which is not there.
            params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
        )
        transport = FastAPIWebsocketTransport(
            websocket,
            FastAPIWebsocketParams(
                audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
            ),
        )
        vad = SileroVADAnalyzer(params=VADParams(confidence=0.5, start_secs=0.2, stop_secs=0.2, min_volume=0.0))
        aggregators = LLMContextAggregatorPair(
            LLMContext([{"role": "system", "content": "You answer the phone of a shop."}]),
            user_params=LLMUserAggregatorParams(
                vad_analyzer=vad,
                user_turn_strategies=UserTurnStrategies(
                    stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.3)]
                ),
            ),
        )
        task = PipelineTask(
            Pipeline(
                [
                    transport.input(),
                    CannedSTT(),
                    aggregators.user(),
                    CannedLLM(settings=LLMSettings(model="canned")),
                    CannedTTS(answer),
                    transport.output(),
                    aggregators.assistant(),
                ]
            ),
            params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        )

        @transport.event_handler("on_client_disconnected")
        async def gone(transport, client):
            # Without it, tasks of a call run on for minutes after its end.
            await task.cancel()

        await PipelineRunner(handle_sigint=False).run(task)

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sounds", type=Path)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(
        uvicorn.Config(application((parser.parse_args().sounds / "answer.pcm").read_bytes()), log_level="error")
    )
    print(json.dumps({"port": listener.getsockname()[1], "pid": os.getpid(), "path": "/ws"}), flush=True)
    server.run(sockets=[listener])
