"""A caller, played: says its lines over a simulated carrier, and reports what it heard."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio

from patter_trio.agent.agent import Agent
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE
from patter_trio.audio.g711 import Samples
from patter_trio.audio.wav import read_wav
from patter_trio.metrics.results import CallMetrics
from patter_trio.net.threads import run_in_thread
from patter_trio.testing.scripted import audible_text, band_limited
from patter_trio.testing.scripted.audible_text import Kind
from patter_trio.testing.simulation import timeline
from patter_trio.testing.simulation.record import TOLERANCE_S, EventLog, Heard, Said, State, heard_utterances
from patter_trio.testing.simulation.scenario import Scenario
from patter_trio.testing.twilio.carrier import SimulatedTwilio

HEAR_TIMEOUT_S: Final = 60.0
"""Seconds that a caller waits to hear something."""
SECONDS_PER_CHARACTER: Final = 0.06
"""Seconds that a character takes to say when no length is given: about 1000 a minute, an average speaking rate."""
KEYS: Final = frozenset("0123456789*#ABCD")
KEY_INTERVAL_S: Final = 0.2
"""From one key to the next."""


class NotAsExpected(AssertionError):
    """What a simulated caller was to do or hear cannot be; the message says why, and shows the call."""


class SimulatedCaller:
    """One caller in one call. Every time is call time: seconds since the media began.

    What it does comes one after another, as from a person: what is said while it still speaks follows after that.

    Args:
        carrier: the line, with its media started.
        log: where the agent's events are collected.
        state: returns the call's public states as they are.
        strict: False = instants of :meth:`at` that are over already are ignored, as at real pace they may be.
        band_limited: speak the voice that survives resampling, for recognisers and engines at other rates than 8 kHz.
    """

    def __init__(
        self,
        carrier: SimulatedTwilio,
        log: EventLog,
        state: Callable[[], State | None],
        *,
        strict: bool = True,
        band_limited: bool = False,
    ) -> None:
        self._band_limited = band_limited
        self._log = log
        self._state = state
        self._strict = strict
        self._utterances = 0
        self.carrier = carrier
        """The simulated carrier, for what goes wrong on a line: ``stall``, ``drop``."""
        self.said: list[Said] = []
        """What this caller said so far, and is saying."""

    def __repr__(self) -> str:
        at = f" at {self.now:.2f} s" if trio.lowlevel.in_trio_run() else ""
        return f"<SimulatedCaller{at}, {self.carrier!r}>"

    # Doing ------------------------------------------------------------------------------------------------------------
    @property
    def now(self) -> float:
        """The call time."""
        return self.carrier.now

    async def at(self, seconds: float) -> None:
        """Wait until that instant.

        Raises:
            NotAsExpected: it is over already.
        """
        if self._strict and self.now > seconds + TOLERANCE_S:
            raise self._unexpected(f"the script says at({seconds:g}), but it is {self.now:.3f} already")
        await trio.sleep_until(self.carrier.media_start + seconds)

    async def waits(self, seconds: float) -> None:
        """Do nothing for so long."""
        await trio.sleep(seconds)

    async def speaks(self, text: str, seconds: float | None = None, *, wait: bool = True) -> Said:
        """Say ``text`` within ``seconds`` (in steps of 20 ms); return with its last word, or at once without ``wait``.

        The words travel in the sound: ScriptedSTT hears them as far as it hears the sound.

        Raises:
            NotAsExpected: the call is over.
            ValueError: so many words cannot be said in so short a time.
        """
        return await self._utter(
            text, len(text) * SECONDS_PER_CHARACTER if seconds is None else seconds, Kind.SPEECH, wait
        )

    async def coughs(self, seconds: float = 0.4, *, wait: bool = True) -> Said:
        """Make a noise that is voice to a detector, and no words to a recogniser."""
        return await self._utter("", seconds, Kind.COUGH, wait)

    async def hums(self, text: str = "mhm", seconds: float = 0.4, *, wait: bool = True) -> Said:
        """Say something that only shows that one listens."""
        return await self._utter(text, seconds, Kind.HUM, wait)

    async def plays(self, recording: "str | Path | Samples | Scenario", *, wait: bool = True) -> Said | None:
        """Play a WAV file, or 16-bit samples at 8 kHz, into the call; or act out a :class:`Scenario`.

        Raises:
            NotAsExpected: the call is over.
            OSError: the file cannot be read.
            WavError: its format cannot be taken.
        """
        if isinstance(recording, Scenario):
            await recording.play(self)
            return None
        if isinstance(recording, np.ndarray):
            samples, name = recording, "recording"
        else:
            samples, name = await run_in_thread(_load, Path(recording)), Path(recording).name
        return await self._say(g711.encode(samples), f"<{name}>", Kind.SOUND, wait=wait)

    async def presses(self, digits: str) -> None:
        """Press keys, one every 200 ms.

        Raises:
            NotAsExpected: the call is over.
            ValueError: a telephone has no such key; it has 0-9, ``*``, ``#`` and A-D.
        """
        wrong = sorted(set(digits) - KEYS)
        if wrong:
            raise ValueError(f"a telephone has no key {wrong[0]!r}: there are 0-9, *, # and A-D")
        for number, digit in enumerate(digits):
            if number:
                await trio.sleep(KEY_INTERVAL_S)
            self._must_be_up(f"press {digit}")
            self.carrier.press(digit)
        await trio.lowlevel.checkpoint()

    async def hangs_up(self) -> None:
        """End the call; does nothing when it is over."""
        self.carrier.hang_up()
        await trio.lowlevel.checkpoint()

    async def _utter(self, text: str, seconds: float, kind: Kind, wait: bool) -> Said:
        self._utterances += 1
        frames, number = audible_text.frames_of(seconds), self._utterances
        if self._band_limited:
            audio = g711.encode(band_limited.encode(text, frames, kind=kind, utterance=number))
        else:
            audio = audible_text.encode(text, frames, kind=kind, utterance=number)
        return await self._say(audio, text, kind, wait=wait)

    async def _say(self, audio: bytes, text: str, kind: Kind, *, wait: bool) -> Said:
        self._must_be_up(f"say {text!r}" if text else "make a sound")
        said = Said(text, *self.carrier.say(audio), kind)
        self.said.append(said)
        if wait:
            await trio.sleep_until(self.carrier.media_start + said.ended)
        else:
            await trio.lowlevel.checkpoint()
        return said

    def _must_be_up(self, wish: str) -> None:
        if self.carrier.ended is not None:
            raise self._unexpected(f"the caller cannot {wish}: the call ended at {self.carrier.ended_at:.3f}")

    # Hearing ----------------------------------------------------------------------------------------------------------
    @property
    def utterances(self) -> list[Heard]:
        """What was heard of each utterance of the agent that is over."""
        return heard_utterances(self.carrier.played(), self._log.events, self.carrier.down_delay)

    async def heard(self, number: int = 0, *, within: float = HEAR_TIMEOUT_S) -> Heard:
        """Return the agent's utterance of that number (the first is 0), waiting for its end.

        Raises:
            NotAsExpected: the call ended before, or ``within`` seconds went by.
        """
        with trio.move_on_after(within):
            while len(self.times("agent_speech_ended")) <= number:
                if self.times("call_end"):
                    break
                await self._log.news()
            await trio.sleep(self.carrier.down_delay)  # what was sent before the end is still on its way
        heard = self.utterances
        if number < len(heard):
            return heard[number]
        known = (
            ", ".join(f"{index}: {one.text!r} until {one.ended:.2f}" for index, one in enumerate(heard)) or "nothing"
        )
        why = "the call is over" if self.times("call_end") else f"waited until {self.now:.2f}"
        raise self._unexpected(f"utterance {number} of the agent was not heard ({why}); heard was {known}")

    async def hears(self, *, within: float = HEAR_TIMEOUT_S) -> Heard:
        """Return the agent's next utterance, waiting for its end; one that is being said counts as the next.

        Raises:
            NotAsExpected: the call ended before, or ``within`` seconds went by.
        """
        return await self.heard(len(self.times("agent_speech_ended")), within=within)

    # What was observed ------------------------------------------------------------------------------------------------
    @property
    def events(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Every event of the call so far, those of the bus included: call time, name without ``on_``, payload."""
        return [(event.at, event.name, dict(event.payload)) for event in self._log.everything]

    def times(self, name: str) -> list[float]:
        """Return when events of that name came."""
        return [event.at for event in self._log.everything if event.name == name]

    def payloads(self, name: str) -> list[dict[str, Any]]:
        """Return the payloads of the events of that name."""
        return [dict(event.payload) for event in self._log.everything if event.name == name]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation as the agent has it: role, text (of the agent's what was heard) and timestamp."""
        for event in reversed(self._log.events):
            if event.name == "call_end":
                return [dict(entry) for entry in event.payload["transcript"]]
            if event.name == "transcript":
                return [dict(entry) for entry in event.payload["history"]]
        return []

    @property
    def transcript(self) -> list[tuple[str, str]]:
        """The conversation as pairs of role and text."""
        return [(entry["role"], entry["text"]) for entry in self.history]

    @property
    def state(self) -> dict[str, str]:
        """The public states: ``{"user": ..., "agent": ...}``; after the call the last ones."""
        state = self._state()
        if state is None:
            state = next((event.state for event in reversed(self._log.events) if event.state is not None), {})
        return dict(state)

    @property
    def metrics(self) -> CallMetrics | None:
        """The call's metrics as told at its end; None before it."""
        ends = self.payloads("call_end")
        return ends[-1]["metrics"] if ends else None

    @property
    def outcome(self) -> str:
        """How the call ended; empty before its end."""
        ends = self.payloads("call_end")
        return str(ends[-1]["outcome"]) if ends else ""

    @property
    def transferred_to(self) -> str:
        """The number or SIP address with which the agent had this caller connected; empty: with nobody."""
        return self.carrier.transferred_to

    def timeline(self) -> str:
        """Return the call so far as a picture: the caller's lane above the agent's, and the events below."""
        until = min(self.now, self.carrier.ended_at)
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
        return NotAsExpected(f"{what}\n\n{self.timeline()}")


def is_resampled_for(agent: Agent) -> bool:
    """Return True if what hears the caller of this agent does so at another rate than the telephone's."""
    return any(ear is not None and ear.accepts.rate != RATE for ear in (agent.stt, agent.engine))


def _load(path: Path) -> Samples:
    return read_wav(path.read_bytes())
