"""The two protocols of the fake Deepgram server, Nova and Flux; a part of :mod:`.deepgram`."""

import json
import math
from typing import Any, Final

import attrs
import trio

from patter_trio.audio.formats import RATE_HZ
from patter_trio.net.websocket import SocketClosed, WebSocket
from patter_trio.testing.scripted_providers.audible_text import Decoder, Kind, Sound
from patter_trio.testing.servers.deepgram.script import DeepgramServerConnection, FakeDeepgram

# The messages have the shape that deepgram-sdk 7.17 declares (``listen.v1.types``, ``listen.v2.types``), with the
# fields that our codec ignores, because tests let the SDK parse them, too.

# The vendor closes with NET-0001 after 10 s without audio or ``KeepAlive``; it recommends one every 3 to 5 s.
IDLE_TIMEOUT_S: Final = 10.0
"""Seconds without a message after which Nova closes the socket."""
# Judged: the vendor reports silence, too, about once a second.
EMPTY_RESULT_EVERY_S: Final = 1.0
"""Seconds of audio between two interim results without words."""
# The types of the client's messages. The two protocols differ: Flux has neither ``KeepAlive`` nor ``Finalize``.
_NOVA_SAYS: Final = {"KeepAlive", "Finalize", "CloseStream", "Configure"}
_FLUX_SAYS: Final = {"ForceEndTurn", "CloseStream", "Configure"}


@attrs.frozen
class _Word:
    text: str
    start: float
    end: float

    def shown(self, name: str) -> dict[str, Any]:
        return {name: self.text, "word": self.text, "start": self.start, "end": self.end, "confidence": 0.99}


class _Listener:
    """A listener that hears the words of one connection; its seconds are seconds of audio."""

    # No limit for Flux, whose clients have no message to keep a connection alive with.
    idle: float = math.inf

    def __init__(self, connection: DeepgramServerConnection, script: FakeDeepgram) -> None:
        self.connection: DeepgramServerConnection = connection
        self.script: FakeDeepgram = script
        self.words: list[_Word] = []
        # Positions in the audio, as the vendor counts: the same audio gives the same
        # results, at whatever pace it comes.
        self.heard: float = 0.0
        self.quiet_since: float = 0.0
        self._decoder = Decoder()
        self._interim_at = 0.0
        self._lose_at = self._own(script.lose_after)
        self._mute_at = self._own(script.mute_after)
        self._interims = connection.query.get("interim_results") != ["false"]
        for message in script.garbage:
            connection.say(message)
        self.greet()

    def _own(self, instants: tuple[float, ...]) -> float:
        """Return this connection's part of a script; infinity if the script has none for it."""
        return dict(enumerate(instants)).get(self.connection.number, math.inf)

    def greet(self) -> None:
        """Send the first message of a connection."""

    async def listen(self, socket: WebSocket) -> None:
        """Listen until the client or this server ends the connection."""
        try:
            while True:
                # Anew for each message, audio or text. Pings do not count, because ``receive`` returns only messages.
                with trio.fail_after(self.idle):
                    message = await socket.receive()
                # An empty message ends the stream, as at the vendor, so a client that
                # sends one by accident fails its test.
                if not message or not await self._take(message):
                    break
        # From the idle limit: nothing else in the block has a deadline.
        except trio.TooSlowError:
            self.connection.record_code(1011)
            await socket.aclose(1011, "NET-0001")
        # Raised on, because the writer has to end, too; the code is what a test asks for.
        except SocketClosed as closed:
            self.connection.record_code(closed.code)
            raise

    async def _take(self, message: str | bytes) -> bool:
        """Handle a message; return True if the connection continues."""
        if isinstance(message, bytes):
            self._hear(message)
            if self.heard >= self._lose_at:
                # False ends the listener, too: reading on would only raise for the stream that was closed here.
                await self.connection.lose()
                return False
            return True
        request = json.loads(message)
        self.connection.said.append((trio.current_time(), request))
        if request.get("type") == "CloseStream":
            self.finish()
            self.connection.close(1000)
        else:
            self.command(str(request.get("type")))
        return True

    def _hear(self, audio: bytes) -> None:
        self.connection.audio.extend(audio)
        self.connection.sizes.append(len(audio))
        for sound in self._decoder.feed(audio):
            self._note(sound)
        self.heard += len(audio) / RATE_HZ
        # The tolerance is for the sum of many frames of 0.02 s, which binary fractions do not represent exactly.
        if self.heard > self._mute_at + 1e-9:
            self.connection.fall_silent()
        every = self.script.interim_every if self.words else EMPTY_RESULT_EVERY_S
        if self._interims and self.heard - self._interim_at >= every - 1e-9:
            self._interim_at = self.heard
            if self.words:
                self.send_interim()
            else:
                self.send_empty()
        self.progress()

    def _note(self, sound: Sound) -> None:
        start, end = sound.start / RATE_HZ, sound.end / RATE_HZ
        if sound.kind in (Kind.SPEECH, Kind.HUM):
            self.quiet_since = end
        if not sound.words:
            return
        for place, text in enumerate(sound.words.split(" ")):
            # The encoder splits long words over several frames. A piece without a space
            # before it, and no silence, continues one.
            goes_on = place == 0 and self.words and self.words[-1].end >= start - 1e-9
            if goes_on and text:
                last = self.words.pop()
                self.words.append(_Word(last.text + text, last.start, end))
            elif text:
                self.words.append(_Word(text, start, end))

    def send_interim(self) -> None:
        """Send the words so far as an interim result."""

    def send_empty(self) -> None:
        """Send an interim result without words."""

    def progress(self) -> None:
        """Send what is due after this amount of audio."""

    def command(self, kind: str) -> None:
        """Handle a command of the client."""

    def finish(self) -> None:
        """Send the remaining results at the end."""


class NovaListener(_Listener):
    """A listener that answers in the protocol of the Nova models, ``/v1/listen``."""

    words: list[_Word]  # declared as in the base class, for checkers that infer what is assigned here

    idle = IDLE_TIMEOUT_S

    def greet(self) -> None:
        self._begin = 0.0
        self._settled_at = 0.0

    def command(self, kind: str) -> None:
        if kind == "Finalize" and self.script.answers_finalize:
            self._results(self.words, self.heard, final=True, finalized=True)
            self.words = []
        elif kind not in _NOVA_SAYS:
            self.connection.say({"type": "Error", "variant": "SchemaError", "description": "unknown", "message": kind})

    def send_interim(self) -> None:
        # At the end of the audio so far and in no final result: words that a client must not have acted upon.
        made_up = [_Word(self.script.hallucinates, self.heard - 0.01, self.heard)] if self.script.hallucinates else []
        self._results([*self.words, *made_up], self.heard, final=False)

    def send_empty(self) -> None:
        self._results([], self.heard, final=False)

    def progress(self) -> None:
        every = self.script.settles_every
        if every is None or self.heard - self._settled_at < every - 1e-9:
            return
        self._settled_at = self.heard
        # Not the newest second: so a final result is shorter than the interim one before it, as the vendor's may be.
        until = max(self._begin, self.heard - 1.0)
        final = [word for word in self.words if word.end <= until]
        if final:
            self._results(final, final[-1].end, final=True)
            self.words = self.words[len(final) :]

    def finish(self) -> None:
        if self.words:
            self._results(self.words, self.heard, final=True)
        self.connection.say(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": f"request-{self.connection.number}",
                "sha256": "0" * 64,
                "created": "2026-11-25T10:00:00Z",
                "duration": round(self.heard, 3),
                "channels": 1,
            }
        )

    def _results(self, words: list[_Word], until: float, *, final: bool, finalized: bool = False) -> None:
        transcript = " ".join(word.text for word in words)
        message = {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(until - self._begin, 3),
            # In milliseconds: the vendor rounds its times, too, and a client must not compare them exactly.
            "start": round(self._begin, 3),
            "is_final": final,
            # Never true: it reports the vendor's own endpointing, which the package does not use.
            "speech_final": False,
            "channel": {
                "alternatives": [
                    {
                        "transcript": transcript,
                        "confidence": 0.99 if words else 0.0,
                        "words": [word.shown("punctuated_word") for word in words],
                    }
                ]
            },
            "metadata": {
                "request_id": f"request-{self.connection.number}",
                "model_info": {"name": "general-nova-3", "version": "2026-01-01.0", "arch": "nova-3"},
                "model_uuid": "00000000-0000-4000-8000-000000000000",
            },
            "from_finalize": finalized,
        }
        self.connection.say(message, self.script.final_delay if finalized else 0.0)
        if final:
            self._begin = until


class FluxListener(_Listener):
    """A listener that answers in the protocol of the Flux models, ``/v2/listen``."""

    words: list[_Word]  # declared as in the base class, for checkers that infer what is assigned here

    def greet(self) -> None:
        self._sequence = 0
        self._turn = 0
        self._begin = 0.0
        self._started = False
        self._eager_words = 0
        self._say({"type": "Connected"})

    def command(self, kind: str) -> None:
        if kind == "ForceEndTurn":
            self.finish("manual")
        elif kind not in _FLUX_SAYS:
            # Fatal in this protocol; Nova reports an error and continues.
            self._say(
                {
                    "type": "Error",
                    "code": "UNPARSABLE_CLIENT_MESSAGE",
                    "description": f"the type must be one of {', '.join(sorted(_FLUX_SAYS))}, got {kind}",
                }
            )
            self.connection.close(1008)

    def send_interim(self) -> None:
        # Nothing is sent between an eager end and what takes it back: EndOfTurn has the
        # same text as the last EagerEndOfTurn.
        if self._eager_words and len(self.words) > self._eager_words:
            self._eager_words = 0
            self._info("TurnResumed")
        elif not self._eager_words:
            self._info("Update" if self._started else "StartOfTurn")
            self._started = True

    def send_empty(self) -> None:
        self._info("Update")

    def progress(self) -> None:
        silence = self.heard - self.quiet_since
        if not self.words:
            return
        if silence >= self.script.end_of_turn - 1e-9:
            self.finish("model")
        elif (
            not self._eager_words
            and "eager_eot_threshold" in self.connection.query
            and silence >= self.script.eager_end_of_turn - 1e-9
        ):
            # Silence may come before an interim result was due; StartOfTurn has to be first all the same.
            if not self._started:
                self.send_interim()
            self._eager_words = len(self.words)
            self._info("EagerEndOfTurn")

    def finish(self, trigger: str = "model") -> None:
        if not self.words:
            return
        if not self._started:
            self.send_interim()
        self._info("EndOfTurn", trigger=trigger)
        self._turn += 1
        self._begin, self._started, self._eager_words, self.words = self.heard, False, 0, []

    def _info(self, event: str, **more: Any) -> None:
        # 0.6 is between an eager threshold of 0.5 and the default of the end's, 0.7.
        over = {"EagerEndOfTurn": 0.6, "EndOfTurn": 0.9}
        self._say(
            {
                "type": "TurnInfo",
                "event": event,
                "turn_index": self._turn,
                "audio_window_start": round(self._begin, 3),
                "audio_window_end": round(self.heard, 3),
                "transcript": " ".join(word.text for word in self.words),
                "words": [
                    {"word": word.text, "confidence": 0.99, "start": word.start, "end": word.end} for word in self.words
                ],
                "end_of_turn_confidence": over.get(event, 0.1),
                **more,
            }
        )

    def _say(self, message: dict[str, Any]) -> None:
        # From 0 in each connection, over messages of all types, as the SDK's models say.
        number, self._sequence = self._sequence, self._sequence + 1
        about = {"request_id": f"request-{self.connection.number}", "sequence_id": number}
        self.connection.say({**about, **message})
