"""What pipecat's three serializers of carriers' streams make and read, written down for tests without the package.

pipecat-ai brings half a gigabyte of other packages, so it is in no extra that every developer installs. With it,
``python -m tests.kit.pipecat_frames`` writes the file anew, and a test compares the two.
"""

import asyncio
import base64
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from patter_trio.audio import g711
from patter_trio.testing.carriers.protocol import CarrierProtocol
from patter_trio.testing.simulation.carriers import CARRIERS
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from tests.kit.carriers import line_of

FILE = Path(__file__).parents[1] / "carriers" / "pipecat_frames.json"
# Every code of mu-law but that of the negative zero, which no encoder makes.
CODES = bytes(code for code in range(256) if code != 0x7F)
KEYS = "0123456789*#"
"""The keys that pipecat knows."""


def protocol_at_rest(name: str) -> CarrierProtocol:
    """Return a carrier's protocol whose clock stands still, so that its messages are the same in each run."""
    return line_of(name, unix_time=lambda: EPOCH_UNIX_S).protocol


def messages_of(protocol: CarrierProtocol) -> list[str]:
    """Return messages of a carrier that any agent's server must read: audio, and each key."""
    return [protocol.media(1, CODES), *(protocol.key(key) for key in KEYS)]


def _serializer(name: str, stream_id: str) -> Any:
    # Here, because only some developers have the package.
    from pipecat.serializers.plivo import PlivoFrameSerializer  # noqa: PLC0415 (see above)
    from pipecat.serializers.telnyx import TelnyxFrameSerializer  # noqa: PLC0415 (see above)
    from pipecat.serializers.twilio import TwilioFrameSerializer  # noqa: PLC0415 (see above)

    if name == "twilio":
        return TwilioFrameSerializer(stream_id, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
    if name == "plivo":
        return PlivoFrameSerializer(stream_id, params=PlivoFrameSerializer.InputParams(auto_hang_up=False))
    params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
    return TelnyxFrameSerializer(stream_id, outbound_encoding="PCMU", inbound_encoding="PCMU", params=params)


async def frames_of(name: str) -> dict[str, Any]:
    """Return what pipecat makes of audio and of an interruption, and what it reads in a carrier's messages."""
    from pipecat.frames.frames import (  # noqa: PLC0415 (only some developers have the package)
        InterruptionFrame,
        OutputAudioRawFrame,
    )

    protocol = protocol_at_rest(name)
    serializer = _serializer(name, protocol.stream_id)
    rate = 8000
    # All that a serializer looks at in the setup of a pipeline.
    await serializer.setup(SimpleNamespace(audio_in_sample_rate=rate))
    made = {
        "audio": json.loads(await serializer.serialize(OutputAudioRawFrame(g711.to_pcm(CODES), rate, 1))),
        "clear": json.loads(await serializer.serialize(InterruptionFrame())),
    }
    frames = [await serializer.deserialize(message) for message in messages_of(protocol)]
    heard = base64.b64encode(frames[0].audio).decode()
    return {**made, "heard_pcm": heard, "keys": [str(frame.button.value) for frame in frames[1:]]}


def all_frames() -> dict[str, Any]:
    """Return the file's contents, by the package that is installed."""
    frames: dict[str, Any] = {name: asyncio.run(frames_of(name)) for name in CARRIERS}
    return {"package": f"pipecat-ai {version('pipecat-ai')}", **frames}


def written() -> dict[str, Any]:
    """Return the file's contents."""
    frames: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return frames


if __name__ == "__main__":
    FILE.write_text(json.dumps(all_frames(), indent=1) + "\n", encoding="utf-8")
