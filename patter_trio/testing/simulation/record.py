"""The observations of a simulated call: the agent's events as they came, and what the caller said and heard.

Times are call time: seconds since the media began.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from patter_trio.audio.formats import RATE_HZ
from patter_trio.events.kinds import PatterEventType
from patter_trio.events.payloads import EDGES
from patter_trio.net.pulse import Pulse
from patter_trio.scripts import gap_between
from patter_trio.testing.carriers.playback import Stretch
from patter_trio.testing.scripted_providers.audible_text import Kind
from patter_trio.testing.scripted_providers.band_limited import sounds_in

State = Mapping[str, str]
EVENT_NAMES: Final = frozenset(
    {"call_start", "call_end", "transcript", "metrics", "dtmf", *EDGES, *(kind.value for kind in PatterEventType)}
)
"""The names that events may have: those of callbacks without ``on_``, and those of the event bus."""
TOLERANCE_S: Final = 1e-6
"""Seconds by which equal times may differ because of floating-point arithmetic."""
# Judged: on a busy machine, a real loop may be late by this much and still count as healthy (``max_lag``).
_MAX_EVENT_DELAY_S: Final = 0.1
"""Seconds by which an event may come after the sound that it reports, on a real clock."""


@attrs.frozen
class Event:
    """An event that the agent reported, and the public states (user and agent) at that time, if they are known."""

    at: float
    name: str
    payload: Mapping[str, Any]
    state: State | None = None


class EventLog:
    """A log that collects events through a tap; tasks can wait for the next event."""

    def __init__(self, now: Callable[[], float], state: Callable[[], State | None]) -> None:
        self._now = now
        self._state = state
        self._news = Pulse()
        self.events: list[Event] = []
        """The events that callbacks get, and the interim transcripts."""
        self.everything: list[Event] = []
        """These and the events of the bus, in the order in which they came."""

    def tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Record an event at the caller's time, as everything else in the record."""
        # The server stamps events with its own time of the call, which begins a network delay later than the caller's.
        del at
        event = Event(self._now(), name, payload, self._state())
        self.events.append(event)
        self.everything.append(event)
        self._news.fire()

    def bus_tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Record an event of the bus, unless the tap for callbacks has recorded it."""
        del at
        # It comes through both taps; the first has recorded it.
        if name != PatterEventType.TRANSCRIPT_PARTIAL:
            self.everything.append(Event(self._now(), name, payload, self._state()))

    async def news(self) -> None:
        """Wait for the next event that callbacks get."""
        await self._news.wait()


@attrs.frozen
class Said:
    """An utterance of the caller; for audio without words (a recording), ``text`` describes it."""

    text: str
    started: float
    ended: float
    kind: Kind = Kind.SPEECH


@attrs.frozen
class Heard:
    """An utterance of the agent as the caller heard it.

    ``text`` has the words whose sound was played to their end; ``interrupted`` is True if the utterance was cut. For a
    voice without words in its sound (any but ScriptedTTS), the text is what the agent believes was heard.
    """

    text: str
    started: float
    ended: float
    interrupted: bool

    @property
    def seconds(self) -> float:
        """The duration of the part that was heard."""
        return self.ended - self.started


@attrs.frozen
class _Sounding:
    started: float
    ended: float
    words: str
    sentence: tuple[int, int] | None
    """The numbers of reply and part, if the sound can be read."""


def heard_utterances(played: Sequence[Stretch], events: Sequence[Event], delay: float = 0.0) -> list[Heard]:
    """Return what the caller heard, one entry for each utterance that the agent has finished or that was cut.

    The agent's events show where one utterance ends and the next begins, and whether it was interrupted. What was
    heard, and when, is taken from the sound, which is ``delay`` seconds behind the events.
    """
    sounds = list(_sounds(played))
    starts = [event.at for event in events if event.name == "agent_speech_started"]
    ends = [event for event in events if event.name == "agent_speech_ended"]
    # A reply begins to sound before the event that reports it, but not before the end of the one before it.
    borders = [max(start - _MAX_EVENT_DELAY_S, end.at) + delay for start, end in zip(starts[1:], ends, strict=False)]
    heard: list[Heard] = []
    # Shortest: an utterance that has begun and not ended is not reported yet.
    for start, end, since, until in zip(starts, ends, [-math.inf, *borders], [*borders, math.inf], strict=False):
        mine = [sound for sound in sounds if since - TOLERANCE_S <= sound.started < until - TOLERANCE_S]
        mine = _without_tones(mine, end.at + delay - TOLERANCE_S)
        interrupted = bool(end.payload.get("interrupted"))
        # One frame is enough: this voice carries words, and a reply that was not heard at all has none.
        readable = not mine or any(sound.sentence for sound in mine)
        text = _words(mine) if readable else _believed(events, end)
        # What was heard, if anything was; otherwise the agent's own instants are the only ones.
        began, ended = (mine[0].started, mine[-1].ended) if mine else (start, end.at)
        heard.append(Heard(text, began, ended, interrupted))
    return heard


def _without_tones(sounds: list[_Sounding], ended: float) -> list[_Sounding]:
    """Return the sounds of an utterance without the DTMF tones before and after it.

    Words count whenever they sound: also behind the reported end, which may be wrong. Of the sounds without words, as a
    real TTS makes them, those count that begin before the reported end.
    """
    voiced = [place for place, sound in enumerate(sounds) if sound.sentence]
    first, last = (voiced[0], voiced[-1]) if voiced else (0, -1)
    return [
        sound
        for place, sound in enumerate(sounds)
        if first <= place <= last or (place > last and sound.started < ended)
    ]


def _sounds(played: Iterable[Stretch]) -> Iterable[_Sounding]:
    for stretch in played:
        for sound in sounds_in(stretch.audio):
            begun, ended = stretch.at + sound.start / RATE_HZ, stretch.at + sound.end / RATE_HZ
            sentence = None if sound.kind is Kind.SOUND else (sound.utterance, sound.part)
            yield _Sounding(begun, ended, sound.words, sentence)


def _words(sounds: Sequence[_Sounding]) -> str:
    """Return the words as a text: each sentence without the space before it."""
    sentences: dict[tuple[int, int] | None, str] = {}
    for sound in sounds:
        # In the order of the first frame; each word brings its space, except where a sentence begins.
        sentences[sound.sentence] = sentences.get(sound.sentence, "") + sound.words
    text = ""
    for sentence in filter(None, (said.strip() for said in sentences.values())):
        text += gap_between(text, sentence) + sentence
    return text


def _believed(events: Sequence[Event], end: Event) -> str:
    """Return the text that the agent entered in its history for the utterance that ended with ``end``."""
    for event in events[events.index(end) :]:
        if event.name == "transcript" and event.payload.get("role") == "assistant":
            return str(event.payload.get("text", ""))
        # The transcript of this utterance comes before the next one begins; after that it would be another's.
        if event.name == "agent_speech_started":
            break
    return ""
