"""The white space between the sentences of a reply, as the reply was written.

Text is cut into sentences for the TTS, which loses the white space between them. In English it is always a space; in
Chinese or Japanese usually nothing; in Thai either. :class:`Gaps` notes it where the text is cut, and
:class:`WrittenSentences` restores it where the TTS tells which text it speaks, so that history and transcripts have the
text as it was generated.
"""

from collections import deque

import attrs

from patter_trio.scripts import solid, solid_prefix


class Gaps:
    """The white space before each sentence that is cut from a text."""

    def __init__(self) -> None:
        self._text = ""  # what was added and is in no sentence yet; bounded by what the chunker holds back
        self._begun = False

    def __repr__(self) -> str:
        return f"<Gaps {len(self._text)} characters to be cut>"

    def add(self, text: str) -> None:
        """Add a piece of the text, before it is cut."""
        self._text += text

    def restart(self) -> None:
        """Begin another text. What lies between it and the last one is unknown."""
        self._text, self._begun = "", False

    def before(self, sentence: str) -> str | None:
        """Return what separates the next sentence from the one before, or None if that is unknown."""
        rest = self._text.lstrip()
        size = solid_prefix(rest, len(solid(sentence)))
        if solid(rest[:size]) != solid(sentence):
            return None  # a text from elsewhere
        spaced, begun = len(rest) < len(self._text), self._begun
        self._text, self._begun = rest[size:], True
        if not begun:
            return None
        return " " if spaced else ""


@attrs.define
class _Written:
    text: str
    gap: str | None


class WrittenSentences:
    """The sentences of a reply that the TTS was given, with the white space between them."""

    def __init__(self) -> None:
        # Bounded by how far the responder may be ahead of the TTS.
        self._waiting: deque[_Written] = deque()

    def __repr__(self) -> str:
        return f"<WrittenSentences, {len(self._waiting)} waiting>"

    def add(self, sentence: str, gap: str | None) -> None:
        """Add the next sentence; ``gap`` separates it from the one before, None if that is unknown."""
        self._waiting.append(_Written(sentence, gap))

    def take(self, spoken: str) -> tuple[str | None, str]:
        """Return a spoken text as it was written, and before it what separates it from the one before.

        A TTS may join sentences, split them, or leave some out. Of a text that was not written, only the text itself is
        known.
        """
        left = solid(spoken)
        gap: str | None = None
        taken = ""
        while left:
            skipped = 0
            while skipped < len(self._waiting) and not _matches(self._waiting[skipped].text, left):
                skipped += 1
            if skipped == len(self._waiting):
                return None, spoken
            for _ in range(skipped):
                self._waiting.popleft()
            sentence = self._waiting[0]
            size = min(len(left), len(solid(sentence.text)))
            end = solid_prefix(sentence.text, size)
            if not taken:
                gap = sentence.gap
            else:
                taken += " " if sentence.gap is None else sentence.gap
            taken += sentence.text[:end]
            left = left[size:]
            rest = sentence.text[end:]
            if rest.strip():
                self._waiting[0] = _Written(rest.lstrip(), " " if rest[0].isspace() else "")
            else:
                self._waiting.popleft()
        return gap, taken or spoken


def _matches(written: str, spoken: str) -> bool:
    bare = solid(written)
    return bool(bare) and (spoken.startswith(bare) or bare.startswith(spoken))
