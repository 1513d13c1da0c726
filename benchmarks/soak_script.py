"""The behaviour in the soak's calls: random providers, application and callers, drawn from one seed.

Every draw is named by the call and by its purpose, so that a call does the same in every run, in whatever order the
tasks of other calls ran.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs
import trio

from patter_trio import Agent, Patter, PatterEventType
from patter_trio.abc import (
    LanguageModel,
    Message,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    VoiceActivity,
    VoiceActivitySession,
)
from patter_trio.audio.formats import MULAW_8K, AudioFormat
from patter_trio.testing import NotAsExpected, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller
from patter_trio.user_code.context import current_call

# From one word to many sentences: replies that are shorter and longer than a caller's patience.
REPLIES: Final = (
    "Yes.",
    "A longer answer, in two parts. Here is the second! And more.",
    "One two three four five six. Seven.",
    "Let me think about that for a moment, because there is a lot to say about it. " * 3,
)
SAYINGS: Final = ("Hello", "Stop", "What are your hours please", "And on Sundays, when nobody else is open, what then?")


@attrs.frozen
class Dice:
    """Random generators from one seed, each with its name."""

    seed: int

    def of(self, *names: object) -> random.Random:
        # A string, which seeds alike in every process; the hash of a tuple of strings does not.
        return random.Random("/".join(map(str, (self.seed, *names))))

    def here(self, *names: object) -> random.Random:
        """Return the generator of that name for the call of the current task."""
        # A provider does not know its call; the context of its task does.
        return self.of(current_call.get(), *names)


@attrs.frozen
class SoakVAD(VoiceActivity):
    dice: Dice

    def open(self) -> AbstractAsyncContextManager[VoiceActivitySession]:
        chance = self.dice.here("vad")
        script = ScriptedVAD(
            # Also faster than any real one: races show where nothing takes time.
            chance.choice([0, 0.05, 0.1]),
            chance.choice([0.2, 0.5, 0.8]),
            # Once in twenty: often enough for thousands of calls, seldom enough for most of them to get far.
            fail_at=chance.choice([None] * 19 + [3.0]),
        )
        return script.open()


@attrs.frozen
class SoakSTT(SpeechToText):
    dice: Dice
    accepts: AudioFormat = MULAW_8K
    provider: str = "scripted"
    model: str = "scripted"

    def open(self, *, language: str) -> AbstractAsyncContextManager[SpeechToTextSession]:
        chance = self.dice.here("stt")
        script = ScriptedSTT(
            chance.choice([0, 0.2, 0.7, 1.5]),
            chance.choice([None, 0.3]),
            noise=chance.choice(["", None, "uh"]),
            duplicates=chance.choice([0, 0, 1]),
            silent=chance.random() < 0.05,
            fail_at=chance.choice([None] * 14 + [2.0, 6.0]),
            fail_to_open=chance.random() < 0.03,
            hang_on_open=chance.random() < 0.02,
        )
        return script.open(language=language)


@attrs.frozen
class SoakLLM(LanguageModel):
    dice: Dice
    provider: str = "scripted"
    model: str = "scripted"
    takes_tools: bool = False

    def stream(self, messages: Sequence[Message]) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        # By the length of the conversation: each request of a call draws anew, in whatever order calls run.
        chance = self.dice.here("llm", len(messages))
        script = ScriptedLLM(
            [chance.choice(REPLIES)],
            chance.choice([0, 0.1, 0.5]),
            chance.choice([0, 0.3, 1]),
            fail_after=chance.choice([None] * 12 + [0, 2]),
            hang_after=chance.choice([None] * 15 + [1]),
        )
        return script.stream(messages)


@attrs.frozen
class SoakTTS(TextToSpeech):
    dice: Dice
    emits: AudioFormat = MULAW_8K
    provider: str = "scripted"
    model: str = "scripted"

    def open(self, *, language: str) -> AbstractAsyncContextManager[TextToSpeechSession]:
        chance = self.dice.here("tts")
        script = ScriptedTTS(
            chance.choice([0, 0.2, 0.5]),
            chance.choice([None, 3.0, 10.0]),
            timings=chance.random() < 0.5,
            # Barely faster than real time, as the vendors, and all at once.
            speed=chance.choice([1.5, 20, 1000]),
            mute=chance.random() < 0.05,
            fail_after=chance.choice([None] * 12 + [0, 1.0]),
            hang_after=chance.choice([None] * 15 + [0.5]),
            fail_to_open=chance.random() < 0.03,
        )
        return script.open(language=language)


class Application:
    """Realistic callbacks: most are quick, some are slow, and some raise."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self.ends: Counter[str] = Counter()
        """Number of calls of ``on_call_end``, by call."""
        self.phone: Patter | None = None

    def callbacks(self) -> dict[str, Any]:
        names = ("on_call_start", "on_call_end", "on_transcript", "on_dtmf")
        return {name: getattr(self, name) for name in names}

    async def on_call_start(self, about: dict[str, Any]) -> dict[str, Any] | None:
        if self.phone is not None:
            self.phone.events.on(PatterEventType.TTS_CHUNK, self.on_edge)
            self.phone.events.on(PatterEventType.TURN_ENDED, self.on_edge)
        # Most calls start undisturbed: each case is one in twenty.
        match self._dice.of(about["call_id"], "start").randrange(20):
            case 0:
                raise LookupError("no such customer")
            case 1:
                await trio.sleep(3.0)  # longer than the call waits for the result
            case 2 | 3:
                return {"first_message": "Good evening, {name}, how may I help?", "variables": {"name": "Ms Miller"}}
            case 4:
                return {"no_such_option": 1}
        return None

    async def on_call_end(self, event: dict[str, Any]) -> None:
        self.ends[event["call_id"]] += 1
        await self._dawdle(event, "end")

    async def on_transcript(self, event: dict[str, Any]) -> None:
        await self._dawdle(event, "transcript", len(event["history"]))

    def on_dtmf(self, event: dict[str, Any]) -> None:
        del event

    async def on_edge(self, event: dict[str, Any]) -> None:
        await self._dawdle(event, "edge", event["timestamp_ms"])

    async def _dawdle(self, event: dict[str, Any], *names: object) -> None:
        match self._dice.of(event["call_id"], *names).randrange(40):
            case 0:
                raise RuntimeError("a bug of the application's")
            case 1:
                await trio.sleep(1.5)
            case 2:
                await trio.sleep(50.0)  # longer than any callback is waited for after a call

    async def on_message(self, event: dict[str, Any]) -> AsyncIterator[str]:
        chance = self._dice.of(event["call_id"], "message", len(event["history"]))
        for number in range(chance.randrange(4)):
            await trio.sleep(chance.choice([0.05, 0.4, 1.0]))
            # After the first piece: the caller has begun to hear an answer that does not end.
            if number and chance.random() < 0.1:
                raise RuntimeError("a bug of the application's")
            # The call has to give up on it, or the caller on the call.
            if chance.random() < 0.02:
                await trio.sleep_forever()
            yield chance.choice(REPLIES) + " "


def phone_and_agent(dice: Dice, application: Application, *, model: bool) -> tuple[Patter, Agent]:
    """Return a phone with its edge callbacks, and the agent that answers all its calls."""
    phone = Patter()
    application.phone = phone
    phone.on_user_speech_started = phone.on_agent_speech_ended = application.on_edge
    agent = phone.agent(
        "You are the desk of a hotel.",
        vad=SoakVAD(dice),
        stt=SoakSTT(dice),
        llm=SoakLLM(dice) if model else None,
        tts=SoakTTS(dice),
        first_message="Hotel Miller, good evening.",
        # Both limits are low, so that calls end by them, too.
        silence_timeout=20.0,
        max_call_duration=60.0,
    )
    return phone, agent


async def act(caller: SimulatedCaller, chance: random.Random) -> None:
    """Perform random actions; the line decides how the call ends."""
    try:
        for _ in range(chance.randint(0, 8)):
            await _do_something(caller, chance)
    except NotAsExpected:
        pass  # the call ended while the caller was about to speak


async def _do_something(caller: SimulatedCaller, chance: random.Random) -> None:
    # Speaking three times as often as anything else: most of a call is conversation.
    match chance.choice(["speaks", "speaks", "speaks", "listens", "waits", "coughs", "hums", "presses", "stalls"]):
        case "speaks":
            text = chance.choice(SAYINGS)
            await caller.speaks(text, max(0.4, len(text) * chance.choice([0.05, 0.1])), wait=chance.random() < 0.8)
        case "listens":
            await caller.hears(within=10.0)
        case "waits":
            await caller.waits(chance.choice([0.1, 0.5, 1.3, 4]))
        case "coughs":
            await caller.coughs(chance.choice([0.1, 0.4]))
        case "hums":
            await caller.hums("mhm", 0.4)
        case "presses":
            await caller.presses(chance.choice(["1", "42#"]))
        case _:
            caller.carrier.stall(chance.choice([0.1, 0.3, 2.0]))
