"""Conversion of character times to words and sentences: the text of each chunk of speech, and its times.

A TTS provider that gets a text piece by piece returns audio in chunks that ignore the boundaries of the text. The
playback ledger needs to know with which chunk each sentence begins, and when each of its words ends.

Words are counted: the n-th spoken word is the n-th word of the text, even if its spelling has changed. A word ends when
it is complete, or at the next white space. In scripts without spaces each character counts as a word, and ends when as
many characters have come as it has. If a sentence begins in a chunk after the end of another one, the chunk is cut in
two there.

A chunk may begin with the characters of the one before, given again (the vendor does that with pronunciation
dictionaries). They are not counted twice: where the characters do not go on with the text, but do so after a
repetition, the repetition is left out.

Invalid times must cost neither audio nor order: a character whose start is before that of the previous one, outside its
chunk or not a number starts with the previous one; a length that is not a positive number counts as zero.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from patter_trio.abc import SpeechChunk, Word
from patter_trio.audio.formats import RATE_HZ
from patter_trio.scripts import is_unspaced, solid, units
from patter_trio.wire.elevenlabs import Character

MAX_REPEATED_CHARACTERS: Final = 256
"""Characters that a chunk may repeat: more than a chunk has."""
MIN_REPEATED_CHARACTERS: Final = 2
"""Fewest characters that count as repeated: a single one may well be a respelling."""


class SpokenText:
    """The text of one reply while a TTS provider that emits mu-law at 8 kHz speaks it."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._waiting: deque[tuple[int, str]] = deque()  # the index of its first word, and the sentence
        self._over = 0  # words spoken completely
        self._begun = ""  # the word that is being spoken
        self._since = 0.0
        self._until = 0.0
        self._aligned = False
        self._letters = 0  # letters and digits that were spoken, according to the times
        self._newest = ""  # the last characters that were spoken, without white space

    def __repr__(self) -> str:
        return f"<SpokenText {self._over} of {len(self._words)} words said>"

    @property
    def complete(self) -> bool:
        """True if all words were spoken, according to the times."""
        return self._over >= len(self._words)

    def add(self, sentence: str) -> None:
        """Add the next sentence to be spoken; a sentence without words is ignored."""
        if words := units(sentence):
            self._waiting.append((len(self._words), sentence))
            self._words += words

    def chunks(self, audio: bytes, characters: Sequence[Character] | None) -> list[SpeechChunk]:
        """Return the next audio with its text; ``characters`` is None if the vendor sent no times."""
        if not characters:
            return [SpeechChunk(audio, self._unaligned())]
        # From now on texts come with the times of their words, never all at once.
        self._aligned = True
        seconds = len(audio) / RATE_HZ
        parts: list[tuple[float, list[str], list[Word]]] = [(0.0, [], [])]
        # Whether anything was said in this chunk before the sentence that begins: only then it is cut.
        said = bool(self._begun)
        start = 0.0
        for character in self._without_repetition(characters):
            # White space ends a word that was written differently from how it is spoken.
            if not character.text.strip():
                self._finish(parts[-1][2])
                continue
            # Within the chunk, even if the character ends in the next one, and never backwards: two parts would then
            # have the same audio. With NaN, max() keeps its first argument.
            start = max(start, min(character.start, seconds))
            if not self._begun:
                self._since = start
                sentences = self._beginning()
                if sentences and said:
                    parts.append((start, sentences, []))
                else:
                    parts[-1][1].extend(sentences)
            said = True
            self._begun += character.text
            self._letters += _letters(character.text)
            length = character.end - character.start
            # A length of NaN fails both comparisons.
            self._until = start + (length if 0.0 < length < math.inf else 0.0)
            if self._word_is_complete():
                self._finish(parts[-1][2])
        # Relative to the next chunk: a word may go on there.
        self._since -= seconds
        self._until -= seconds
        return _cut(audio, parts)

    def missing(self) -> str:
        """Return the sentences that were not spoken, according to the times; empty if there are no times.

        By letters, not by words: a vendor that leaves out a dash counts fewer words, and has spoken all the same.
        """
        waiting = [sentence for _, sentence in self._waiting]
        left = sum(map(_letters, waiting))
        before = sum(map(_letters, self._words)) - left
        return " ".join(waiting) if self._aligned and left and self._letters < before + left / 2 else ""

    def rest(self) -> str:
        """Return the sentences whose beginning was never reported."""
        # At the end of the reply: without times, or with fewer words than the text.
        waiting = [sentence for _, sentence in self._waiting]
        self._waiting.clear()
        return " ".join(waiting)

    def _word_is_complete(self) -> bool:
        if self._over >= len(self._words):
            return False
        word = self._words[self._over]
        return self._begun == word or (is_unspaced(word[0]) and len(self._begun) >= len(word))

    def _without_repetition(self, characters: Sequence[Character]) -> Sequence[Character]:
        """Return the characters of a chunk without those before them that the chunk before has given already."""
        given = solid("".join(character.text for character in characters))[:MAX_REPEATED_CHARACTERS]
        repeated = 0
        if not self._goes_on(given):
            longest = min(len(given), len(self._newest))
            sizes = range(longest, MIN_REPEATED_CHARACTERS - 1, -1)
            repeated = next((n for n in sizes if self._newest.endswith(given[:n]) and self._goes_on(given[n:])), 0)
        place = 0
        while repeated > 0:
            repeated -= len(solid(characters[place].text))
            place += 1
        left = characters[place:]
        self._newest = (self._newest + solid("".join(character.text for character in left)))[-MAX_REPEATED_CHARACTERS:]
        return left

    def _goes_on(self, given: str) -> bool:
        """Return True if the characters are those that come next in the text."""
        following = "".join(self._words[self._over : self._over + len(given) + 1])[len(self._begun) :]
        size = min(len(given), len(following))
        return given[:size] == following[:size]

    def _unaligned(self) -> str:
        """Return the sentences that begin with a chunk without times: all that wait, if no chunk has ever had times."""
        return "" if self._aligned else self.rest()

    def _beginning(self) -> list[str]:
        sentences: list[str] = []
        # All that begin up to this word: a sentence that was skipped must not be lost.
        while self._waiting and self._waiting[0][0] <= self._over:
            sentences.append(self._waiting.popleft()[1])
        return sentences

    def _finish(self, words: list[Word]) -> None:
        if not self._begun:
            return
        # The text's own spelling, if there is one: the vendor may have written numbers out.
        text = self._words[self._over] if self._over < len(self._words) else self._begun
        words.append(Word(text, self._since, self._until))
        self._over += 1
        self._begun = ""


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _cut(audio: bytes, parts: Sequence[tuple[float, list[str], list[Word]]]) -> list[SpeechChunk]:
    chunks: list[SpeechChunk] = []
    # Rounded once per boundary, so that the parts have each sample exactly once.
    places = [round(begin * RATE_HZ) for begin, _, _ in parts] + [len(audio)]
    for (_, sentences, words), begin, end in zip(parts, places, places[1:], strict=False):
        at = begin / RATE_HZ
        moved = tuple(Word(word.text, word.start - at, word.end - at) for word in words)
        chunks.append(SpeechChunk(audio[begin:end], " ".join(sentences), moved))
    return chunks
