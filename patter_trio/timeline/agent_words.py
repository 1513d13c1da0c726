"""The agent's words: what the caller heard, where it was cut, and what was made and not heard. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from patter_trio.scripts import gap_between
from patter_trio.timeline.call_timeline import Interruption, Words
from patter_trio.timeline.stored_events import count_in, text_in, time_in

# Judged: more than an agent says in a turn; what a broken LLM repeats without end need not be kept.
MAX_MADE_CHARACTERS: Final = 10_000
"""Most characters of a reply's text that are kept."""


@attrs.define
class _Made:
    """The text of one reply."""

    turn: int | None
    sentences: str = ""
    """What the TTS got."""
    chunks: str = ""
    """What the LLM wrote: hooks and guardrails may have changed it afterwards."""

    @property
    def text(self) -> str:
        return self.sentences or self.chunks


class AgentWords:
    """The agent's lane: replies while they are made, heard and cut."""

    def __init__(self) -> None:
        self._words: list[Words] = []
        self._interruptions: list[Interruption] = []
        self._speaking: Words | None = None
        # Usually one: the words come with the end of the speech, and later if those of the caller are late.
        self._untold: list[int] = []
        """The places in ``_words`` of utterances whose words have not been reported."""
        # A reply leaves with the end of its turn, so this holds a few.
        self._made: dict[int, _Made] = {}

    def take(self, kind: str, at: float, data: Mapping[str, Any]) -> None:
        """Apply an event."""
        match kind:
            case "sentence" | "llm_chunk":
                self._make(kind, data)
            case "agent_speech_started":
                self._close(at, cut=False)
                self._speaking = Words("agent", at, at, "", open=True, turn=count_in(data, "turn_idx"))
            case "agent_speech_ended":
                self._end(at, data)
            case "interruption":
                self._interrupted(at, data)
            case "transcript" if data.get("role") == "assistant":
                self._told(at, text_in(data, "text"))
            case "turn_ended":
                self._forget(count_in(data, "turn_idx"))
            case "call_end":
                self._close(at, cut=False)
            case _:
                pass

    def _make(self, kind: str, data: Mapping[str, Any]) -> None:
        made = self._made.setdefault(count_in(data, "reply") or 0, _Made(count_in(data, "turn_idx")))
        text = text_in(data, "text")
        if kind == "sentence" and len(made.sentences) < MAX_MADE_CHARACTERS:
            made.sentences += gap_between(made.sentences, text) + text if made.sentences else text
        elif len(made.chunks) < MAX_MADE_CHARACTERS:
            made.chunks += text

    def _end(self, at: float, data: Mapping[str, Any]) -> None:
        cut, played = data.get("interrupted") is True, time_in(data, "speech_duration_ms") or 0.0
        turn = count_in(data, "turn_idx")
        if self._speaking is None:
            # Its beginning is missing from the events.
            self._speaking = Words("agent", round(max(0.0, at - played), 1), at, "", open=True, turn=turn)
        self._close(at, cut=cut)
        if cut:
            self._interruptions.append(Interruption(at, "", played, turn=self._words[-1].turn))

    def _close(self, at: float, *, cut: bool) -> None:
        """End the utterance that goes on, if there is one."""
        if self._speaking is None:
            return
        ended = attrs.evolve(self._speaking, end_ms=max(at, self._speaking.start_ms), cut=cut, open=False)
        # Until its words come, everything that was made may have been unheard.
        self._words.append(attrs.evolve(ended, unheard=self._rest("", ended.turn) if cut else ""))
        self._untold.append(len(self._words) - 1)
        self._speaking = None

    def _interrupted(self, at: float, data: Mapping[str, Any]) -> None:
        heard, turn = text_in(data, "text"), count_in(data, "turn_idx")
        found = Interruption(at, heard, time_in(data, "speech_duration_ms") or 0.0, text_in(data, "reason"), turn)
        last = self._interruptions[-1] if self._interruptions else None
        if last is not None and last.turn == turn and not last.reason:
            # The same one: the speech edge has said less about it.
            self._interruptions[-1] = attrs.evolve(found, at_ms=last.at_ms)
        else:
            self._interruptions.append(found)
        if self._words and self._words[-1].turn == turn and heard and not self._words[-1].text:
            self._words[-1] = self._with_text(self._words[-1], heard)

    def _told(self, at: float, text: str) -> None:
        """Enter the words that the caller heard of the oldest utterance without any."""
        if self._untold:
            place = self._untold.pop(0)
            self._words[place] = self._with_text(self._words[place], text)
        elif self._speaking is not None:
            self._speaking = attrs.evolve(self._speaking, text=text)
        else:
            # A conversation in text has no speech edges.
            self._words.append(Words("agent", at, at, text))

    def _with_text(self, words: Words, text: str) -> Words:
        for number, one in enumerate(self._interruptions):
            if one.at_ms == words.end_ms and words.cut and not one.heard:
                self._interruptions[number] = attrs.evolve(one, heard=text)
        return attrs.evolve(words, text=text, unheard=self._rest(text, words.turn) if words.cut else "")

    def _rest(self, heard: str, turn: int | None) -> str:
        """Return what was made of the reply that begins with the words that were heard."""
        for made in self._made.values():
            if made.turn == turn and made.text and (place := _behind(heard, made.text)) is not None:
                return made.text[place:].strip()
        # Hooks or guardrails have changed what was said: the rest cannot be found.
        return ""

    def _forget(self, turn: int | None) -> None:
        if turn is None:
            return
        self._made = {reply: made for reply, made in self._made.items() if made.turn is not None and made.turn > turn}
        # If nothing of an utterance was heard, no words come.
        self._untold = [
            place for place in self._untold if (known := self._words[place].turn) is not None and known > turn
        ]

    def interruptions(self) -> tuple[Interruption, ...]:
        """Return the replies that were cut."""
        return tuple(self._interruptions)

    def words(self, now: float) -> Iterator[Words]:
        """Yield the utterances; of one that goes on, what was made is unheard so far."""
        yield from self._words
        if (speaking := self._speaking) is not None:
            end = max(now, speaking.start_ms)
            yield attrs.evolve(speaking, end_ms=end, unheard=self._rest(speaking.text, speaking.turn))


def _behind(heard: str, made: str) -> int | None:
    """Return the position behind the words in a text that begins with them, whatever spaces are between; else None."""
    position = 0
    for character in heard:
        if character.isspace():
            continue
        while position < len(made) and made[position].isspace():
            position += 1
        if position >= len(made) or made[position] != character:
            return None
        position += 1
    return position
