"""The caller's words with the stretch of voice that they belong to, folded from events. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from patter_trio.timeline.call_timeline import Span, Words
from patter_trio.timeline.stored_events import count_in, text_in, time_in, voice_end_of

# Judged: longer than endpointing waits by default; a cough that long before words does not belong to them.
MAX_PAUSE_MS: Final = 4000.0
"""Longest silence within one utterance, in ms."""


@attrs.frozen
class _Utterance:
    """A finished utterance whose words have not been reported."""

    start_ms: float
    end_ms: float
    text: str
    turn: int | None


class CallerWords:
    """The caller's lane: voices, utterances that go on, and words."""

    def __init__(self) -> None:
        self._words: list[Words] = []
        self._voices: list[Span] = []
        self._voice_since: float | None = None
        """When the voice that goes on began; None in silence."""
        self._began: float | None = None
        """When the utterance that is not finished began, in ms; None in between."""
        self._ended = 0.0
        """When its last voice ended."""
        self._partial = ""
        # Usually one: an engine may report words behind the next utterance.
        self._wordless: list[_Utterance] = []

    def take(self, kind: str, at: float, data: Mapping[str, Any]) -> None:
        """Apply an event."""
        match kind:
            case "user_speech_started":
                self._start(_offset(data, at))
            case "user_speech_ended":
                self._end(_offset(data, at), time_in(data, "speech_duration_ms"))
            case "transcript_partial":
                self._partial = text_in(data, "text")
                if self._began is None and self._partial:
                    self._began, self._ended = at, at
            case "user_speech_eos":
                self._over(at, data)
            case "turn_started":
                self._number(count_in(data, "turn_idx"))
            case "transcript" if data.get("role") == "user":
                self._commit(at, text_in(data, "text"), revises=data.get("revises") is True)
            case "metrics" | "turn_vetoed" | "turn_ended":
                # Its words have come by now, or never will.
                turn = count_in(data, "turn_idx")
                self._wordless = [one for one in self._wordless if turn is None or one.turn is None or one.turn > turn]
            case _:
                pass

    def _start(self, onset: float) -> None:
        self._voice_since = onset
        if self._began is None or onset - self._ended > MAX_PAUSE_MS:
            self._began = onset
        self._ended = max(self._ended, onset)

    def _end(self, end: float, duration: float | None) -> None:
        since = self._voice_since
        if since is None:
            # Its beginning is missing from the events.
            since = max(0.0, end - (duration or 0.0))
        self._voices.append(Span(min(since, end), end))
        self._voice_since = None
        self._began = since if self._began is None else min(self._began, end)
        self._ended = end

    def _over(self, at: float, data: Mapping[str, Any]) -> None:
        voice_end = voice_end_of(at, data, voiced=self._began is not None)
        end = self._ended if voice_end is None else voice_end
        start = min(self._began, end) if self._began is not None else end
        self._wordless.append(_Utterance(start, end, text_in(data, "transcript_so_far"), None))
        self._began, self._partial = None, ""

    def _number(self, turn: int | None) -> None:
        # The turn begins with the utterance's end, which does not know its number.
        if self._wordless and self._wordless[-1].turn is None:
            self._wordless[-1] = attrs.evolve(self._wordless[-1], turn=turn)

    def _commit(self, at: float, text: str, *, revises: bool) -> None:
        if self._wordless:
            found = self._wordless.pop(0)
        elif self._began is not None and self._voice_since is None:
            found = _Utterance(self._began, max(self._began, self._ended), "", None)
            self._began, self._partial = None, ""
        else:
            found = _Utterance(at, at, "", None)
        start, turn = found.start_ms, found.turn
        if revises and self._words:
            # The same utterance, with more words or other ones.
            replaced = self._words.pop()
            start = min(start, replaced.start_ms)
            turn = replaced.turn if turn is None else turn
        self._words.append(Words("caller", start, max(start, found.end_ms), text, turn=turn))

    def voices(self, now: float) -> tuple[Span, ...]:
        """Return when the caller's voice was heard; one that goes on lasts until now."""
        since = self._voice_since
        open_voice = () if since is None else (Span(since, max(now, since)),)
        return (*self._voices, *open_voice)

    def words(self, now: float) -> Iterator[Words]:
        """Yield the utterances; one that goes on, or whose words may still come, is open."""
        yield from self._words
        for one in self._wordless:
            if one.text:
                yield Words("caller", one.start_ms, one.end_ms, one.text, open=True, turn=one.turn)
        if self._began is not None and (self._partial or self._voice_since is not None):
            end = now if self._voice_since is not None else self._ended
            yield Words("caller", self._began, max(self._began, end), self._partial, open=True)


def _offset(data: Mapping[str, Any], at: float) -> float:
    """Return where a voice begins or ends; the event itself comes later."""
    offset = time_in(data, "audio_offset_ms")
    return at if offset is None else offset
