"""A simulated caller: it speaks over a simulated carrier and reports what it heard."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio

from patter_trio.agent.agent import Agent
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.wav import read_wav
from patter_trio.errors import did_you_mean
from patter_trio.metrics.results import CallMetrics
from patter_trio.net.threads import run_in_thread
from patter_trio.testing.carriers.heard_digits import digits_in
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.scripted_providers import audible_text, band_limited
from patter_trio.testing.scripted_providers.audible_text import Kind
from patter_trio.testing.scripted_providers.engine import ScriptedEngine
from patter_trio.testing.scripted_providers.stt import ScriptedSTT
from patter_trio.testing.scripted_providers.vad import ScriptedVAD
from patter_trio.testing.simulation import timeline
from patter_trio.testing.simulation.record import (
    EVENT_NAMES,
    TOLERANCE_S,
    Event,
    EventLog,
    Heard,
    Said,
    State,
    heard_utterances,
)
from patter_trio.testing.simulation.scenario import Scenario

# Theory of operation. The caller's methods are awaited by the test, one after another; the caller has no task of its
# own. What it says is scheduled with the carrier as audio and takes its time there. What it hears is not listened to
# while the call runs: it is read from the carrier's playback when the test asks. So asking changes nothing, and a test
# may look at the call from any task at any time.
#
# Two clocks of the same call are involved. Events are stamped when the server reports them, sounds when the caller
# hears them; ``down_delay`` lies between the two.

# Longer than any sensible answer; on a mock clock, waiting in vain costs nothing.
HEAR_TIMEOUT_S: Final = 60.0
"""Seconds that a caller waits by default to hear an utterance."""
SECONDS_PER_CHARACTER: Final = 0.06
"""Seconds to speak a character if no length is given: about 1000 a minute, an average speaking rate."""
KEYS: Final = frozenset("0123456789*#ABCD")
_SCRIPTED: Final = (ScriptedEngine, ScriptedSTT, ScriptedVAD)
# A person's pace. Faster ones are a fault in the catalogue ("flood of digits").
KEY_INTERVAL_S: Final = 0.2
"""Seconds from one key to the next."""


class NotAsExpected(AssertionError):
    """An action or expectation of a simulated caller failed; the message gives the reason and shows the call."""


class SimulatedCaller:
    """One caller in one call. Every time is call time: seconds since the media began.

    The caller's actions happen one after another, as with a person: an utterance that starts during another follows
    after it.

    Args:
        carrier: the simulated carrier, with its media started.
        log: the log that collects the agent's events.
        state: returns the current public states of the call.
        strict: if False, :meth:`at` ignores instants that have passed, as may happen in real time.
        band_limited: speak in the voice that survives resampling, for STT providers and engines at other rates than 8
            kHz.
        real_listeners: the agent's providers that may not understand :meth:`speaks`, for failures to name.
        utterances: the number before that of the first utterance, which its sound carries.
    """

    def __init__(
        self,
        carrier: SimulatedCarrier,
        log: EventLog,
        state: Callable[[], State | None],
        *,
        strict: bool = True,
        band_limited: bool = False,
        real_listeners: Sequence[str] = (),
        utterances: int = 0,
    ) -> None:
        self._real_listeners = real_listeners
        self._band_limited = band_limited
        self._log = log
        self._state = state
        self._strict = strict
        # Counted per caller and written into the sound: an STT tells two utterances apart
        # even without silence between them.
        self._utterances = utterances
        self.carrier = carrier
        """The simulated carrier, to inject faults of the line: ``stall``, ``drop``."""
        self.said: list[Said] = []
        """The utterances of this caller so far, the current one included."""

    def __repr__(self) -> str:
        at = f" at {self.now:.2f} s" if trio.lowlevel.in_trio_run() else ""
        return f"<SimulatedCaller{at}, {self.carrier!r}>"

    # Actions ----------------------------------------------------------------------------------------------------------
    @property
    def now(self) -> float:
        """The current call time."""
        return self.carrier.now

    async def at(self, seconds: float) -> None:
        """Wait until an instant of the call.

        Raises:
            NotAsExpected: the instant has passed.
        """
        __tracebackhide__ = True
        # A script that comes too late would test something else, and pass or fail by chance.
        if self._strict and self.now > seconds + TOLERANCE_S:
            raise self._unexpected(f"the script says at({seconds:g}), but it is {self.now:.3f} already")
        await trio.sleep_until(self.carrier.media_start + seconds)

    async def waits(self, seconds: float) -> None:
        """Do nothing for ``seconds``."""
        await trio.sleep(seconds)

    async def speaks(self, text: str, seconds: float | None = None, *, wait: bool = True) -> Said:
        """Say ``text`` within ``seconds`` (in steps of 20 ms); return with its last word, or at once without ``wait``.

        The words travel in the sound: ScriptedSTT hears the words of the part of the sound that it gets.

        Raises:
            NotAsExpected: the call is over.
            ValueError: the text does not fit into the time.
        """
        __tracebackhide__ = True
        return await self._utter(
            text, len(text) * SECONDS_PER_CHARACTER if seconds is None else seconds, Kind.SPEECH, wait
        )

    async def coughs(self, seconds: float = 0.4, *, wait: bool = True) -> Said:
        """Make a noise that the VAD takes for voice and that has no words for the STT."""
        __tracebackhide__ = True
        return await self._utter("", seconds, Kind.COUGH, wait)

    async def hums(self, text: str = "mhm", seconds: float = 0.4, *, wait: bool = True) -> Said:
        """Say a backchannel, which only shows that the caller listens."""
        __tracebackhide__ = True
        return await self._utter(text, seconds, Kind.HUM, wait)

    async def plays(
        self, recording: "str | Path | Samples | Scenario", *, name: str = "", wait: bool = True
    ) -> Said | None:
        """Play a WAV file, or 16-bit samples at 8 kHz, into the call; or act out a :class:`Scenario`.

        ``name`` is what the record of the call shows; by default, the name of the file.

        Raises:
            NotAsExpected: the call is over.
            OSError: the file cannot be read.
            WavError: the format of the file is not supported.
        """
        __tracebackhide__ = True
        if isinstance(recording, Scenario):
            await recording.play(self)
            return None
        if isinstance(recording, np.ndarray):
            samples, file = recording, "recording"
        else:
            # In a thread, because a file may be large; the kit's own helper, because a thread must hold the mock clock.
            samples, file = await run_in_thread(_load, Path(recording)), Path(recording).name
        return await self._say(g711.encode(samples), f"<{name or file}>", Kind.SOUND, wait=wait)

    async def presses(self, digits: str) -> None:
        """Press keys, one every 200 ms.

        Raises:
            NotAsExpected: the call is over.
            TypeError: ``digits`` is not a string.
            ValueError: a key is not one of 0-9, ``*``, ``#`` and A-D.
        """
        __tracebackhide__ = True
        if not isinstance(digits, str):
            raise TypeError(f'digits must be a string such as "1", got {digits!r}')
        wrong = sorted(set(digits) - KEYS)
        if wrong:
            raise ValueError(f"a key must be one of 0-9, *, # and A-D, got {wrong[0]!r}")
        for number, digit in enumerate(digits):
            if number:
                await trio.sleep(KEY_INTERVAL_S)
            # Anew for each key: the agent may have hung up between two of them.
            self._must_be_up(f"press {digit}")
            self.carrier.press(digit)
        # Every method is a checkpoint, also where nothing has to be waited for: a test may rely on it in a loop.
        await trio.lowlevel.checkpoint()

    async def hangs_up(self) -> None:
        """End the call; do nothing if it is over."""
        self.carrier.hang_up()
        await trio.lowlevel.checkpoint()

    async def _utter(self, text: str, seconds: float, kind: Kind, wait: bool) -> Said:
        __tracebackhide__ = True
        self._utterances += 1
        frames, number = audible_text.frames_of(seconds), self._utterances
        if self._band_limited:
            audio = g711.encode(band_limited.encode(text, frames, kind=kind, utterance=number))
        else:
            audio = audible_text.encode(text, frames, kind=kind, utterance=number)
        return await self._say(audio, text, kind, wait=wait)

    async def _say(self, audio: bytes, text: str, kind: Kind, *, wait: bool) -> Said:
        __tracebackhide__ = True
        self._must_be_up(f"say {text!r}" if text else "make a sound")
        # Scheduled at once, in a plain function: begin and end are known, also if the utterance before is not over yet.
        said = Said(text, *self.carrier.say(audio), kind)
        self.said.append(said)
        if wait:
            # Until the last word was spoken, not until the server has it: the network takes its own time.
            await trio.sleep_until(self.carrier.media_start + said.ended)
        else:
            await trio.lowlevel.checkpoint()
        return said

    def _must_be_up(self, wish: str) -> None:
        __tracebackhide__ = True
        if self.carrier.ended is not None:
            raise self._unexpected(f"the caller cannot {wish}: the call ended at {self.carrier.ended_at:.3f}")

    # Observations -----------------------------------------------------------------------------------------------------
    @property
    def utterances(self) -> list[Heard]:
        """The finished utterances of the agent, as the caller heard them."""
        return heard_utterances(self.carrier.played(), self._log.events, self.carrier.down_delay)

    @property
    def digits(self) -> str:
        """The DTMF digits that the agent has sent, as far as this caller has heard their tones."""
        return "".join(digits_in(stretch.audio) for stretch in self.carrier.played())

    async def heard(self, number: int = 0, *, within: float = HEAR_TIMEOUT_S) -> Heard:
        """Return the agent's utterance with this number (the first is 0), waiting for its end.

        Raises:
            NotAsExpected: the call ended first, or ``within`` seconds passed.
        """
        __tracebackhide__ = True
        # No exception here: the message below says what was heard instead.
        with trio.move_on_after(within):
            # By the server's events, because only they tell a pause within an utterance from its end.
            while len(self.times("agent_speech_ended")) <= number:
                # The last event of a call: no utterance ends after it.
                if self.times("call_end"):
                    break
                # No await since the events were looked at: the pulse cannot be missed.
                await self._log.news()
            await trio.sleep(self.carrier.down_delay)  # audio that was sent before the end is still on its way
        # Looked at in any case: what was heard before the time was over still counts.
        heard = self.utterances
        if number < len(heard):
            return heard[number]
        known = (
            ", ".join(f"{index}: {one.text!r} until {one.ended:.2f}" for index, one in enumerate(heard)) or "nothing"
        )
        why = "the call is over" if self.times("call_end") else f"waited until {self.now:.2f}"
        raise self._unexpected(f"utterance {number} of the agent was not heard ({why}); the caller heard {known}")

    async def hears(self, *, within: float = HEAR_TIMEOUT_S) -> Heard:
        """Return the agent's next utterance, waiting for its end; an utterance under way counts as the next.

        Raises:
            NotAsExpected: the call ended first, or ``within`` seconds passed.
        """
        __tracebackhide__ = True
        return await self.heard(len(self.times("agent_speech_ended")), within=within)

    @property
    def heard_words(self) -> str:
        """The words in everything that was heard so far: of the agent, and of a person after a warm transfer."""
        sounds = (sound for stretch in self.carrier.played() for sound in band_limited.sounds_in(stretch.audio))
        return "".join(sound.words for sound in sounds)

    # The record of the call -------------------------------------------------------------------------------------------
    @property
    def events(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Every event of the call so far, bus events included: call time, name without ``on_``, payload."""
        return [(event.at, event.name, dict(event.payload)) for event in self._log.everything]

    def times(self, name: str) -> list[float]:
        """Return the call times of the events with this name.

        Raises:
            ValueError: no event has this name.
        """
        return [event.at for event in self._named(name)]

    def payloads(self, name: str) -> list[dict[str, Any]]:
        """Return the payloads of the events with this name.

        Raises:
            ValueError: no event has this name.
        """
        return [dict(event.payload) for event in self._named(name)]

    def _named(self, name: str) -> list[Event]:
        # An empty list for a misspelt name would let a test pass that asserts nothing.
        if name not in EVENT_NAMES:
            hint = did_you_mean(name.removeprefix("on_"), sorted(EVENT_NAMES))
            raise ValueError(f"name must be one of {', '.join(sorted(EVENT_NAMES))}, got {name!r}{hint}")
        return [event for event in self._log.everything if event.name == name]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation as the agent has it: role, text (for the agent: the words that were heard) and timestamp."""
        for event in reversed(self._log.events):
            # From the newest event that carries the whole conversation.
            if event.name == "call_end":
                return [dict(entry) for entry in event.payload["transcript"]]
            if event.name == "transcript":
                return [dict(entry) for entry in event.payload["history"]]
        return []

    @property
    def transcript(self) -> list[dict[str, Any]]:
        """The conversation as ``on_call_end`` reports it: role, text and timestamp of each entry.

        See :attr:`history`.
        """
        return self.history

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """The conversation as pairs of role and text, short enough to compare with what a test expects."""
        return [(entry["role"], entry["text"]) for entry in self.history]

    @property
    def state(self) -> dict[str, str]:
        """The public states, ``{"user": ..., "agent": ...}``; after the call, the last ones."""
        state = self._state()
        if state is None:
            # After the call its object is gone; the events have kept the states.
            state = next((event.state for event in reversed(self._log.events) if event.state is not None), {})
        return dict(state)

    @property
    def metrics(self) -> CallMetrics | None:
        """The call's metrics as reported at its end; None before."""
        ends = self.payloads("call_end")
        return ends[-1]["metrics"] if ends else None

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty before its end."""
        ends = self.payloads("call_end")
        return str(ends[-1]["outcome"]) if ends else ""

    @property
    def transferred_to(self) -> str:
        """The number or SIP address to which this caller was transferred; empty without a transfer."""
        return self.carrier.transferred_to

    def timeline(self) -> str:
        """Return a text picture of the call so far: the caller's row above the agent's, and the events below."""
        until = min(self.now, self.carrier.ended_at)
        # NaN until the media begins.
        if not math.isfinite(until):
            return "(the call has not begun)"
        return timeline.timeline(self.said, [*self.utterances, *self._unfinished()], self._log.events, until)

    def _unfinished(self) -> Sequence[Heard]:
        """Return the utterance that the agent has begun and not ended, if there is one."""
        starts = self.times("agent_speech_started")
        if len(starts) <= len(self.times("agent_speech_ended")):
            return ()
        return (Heard("...", starts[-1], min(self.now, self.carrier.ended_at), interrupted=False),)

    def _unexpected(self, what: str) -> NotAsExpected:
        hint = ""
        # Only where the caller spoke: a recording of a person is understood by all.
        if self._real_listeners and any(one.kind is not Kind.SOUND for one in self.said):
            hint = (
                f"\nThe agent listens with {' and '.join(self._real_listeners)}, to which the sound of speaks() may be "
                "no voice: use ScriptedVAD and ScriptedSTT, as scripted(agent) does, or plays() with a recording."
            )
        return NotAsExpected(f"{what}{hint}\n\n{self.timeline()}")


def is_resampled_for(agent: Agent) -> bool:
    """Return True if the STT provider or engine of this agent hears at another rate than the telephone's."""
    return any(listener is not None and listener.accepts.rate != RATE_HZ for listener in (agent.stt, agent.engine))


def real_listeners(agent: Agent) -> list[str]:
    """Return the types of the agent's VAD, STT provider and engine that are not scripted."""
    listeners = (agent.vad, agent.stt, agent.engine)
    return [type(one).__name__ for one in listeners if one is not None and not isinstance(one, _SCRIPTED)]


def _load(path: Path) -> Samples:
    return read_wav(path.read_bytes())
