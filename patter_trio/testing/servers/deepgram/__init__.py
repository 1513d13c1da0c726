"""A scripted server of Deepgram's speech-to-text protocols that hears what a simulated caller says.

::

    async with serve_deepgram(FakeDeepgram(final_delay=0.1)) as vendor:
        stt = DeepgramSTT(api_key="key", base_url=vendor.url)

It listens on loopback, which works on an autojump clock as well. Words come with the audio (see
:mod:`patter_trio.testing.scripted_providers.audible_text`), so that its answers are exact. It keeps to the vendor's
rules: it refuses the socket for a wrong key, an empty audio message ends the stream, a Nova socket without a message
for 10 s is closed, and so is a Flux socket that gets a message of an unknown type.
"""

from patter_trio.testing.servers.deepgram.script import DeepgramServerConnection, FakeDeepgram
from patter_trio.testing.servers.deepgram.server import DeepgramServer, serve_deepgram

__all__ = [
    "DeepgramServer",
    "DeepgramServerConnection",
    "FakeDeepgram",
    "serve_deepgram",
]
