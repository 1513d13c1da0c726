"""One reply's speech in another format: the audio is converted, texts and words stay at their samples.

A resampler holds back the newest part of what it took. If a sentence's text went ahead of its audio, a barge-in would
believe words to be heard that were not; so each text and each word waits until the sample that it begins with comes
out.
"""

from collections import deque

import attrs

from patter_trio.abc import SpeechChunk
from patter_trio.audio.convert import Converter, Quality
from patter_trio.audio.formats import AudioFormat


class SpeechConverter:
    """The conversion of one reply's speech; a new one for each reply, so that nothing leaks from one into another."""

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        # HQ, although it holds back more than LQ: a TTS is ahead of real time, so the caller does not
        # wait for it (docs/providers.md).
        self._converter = Converter(source, target, Quality.HIGH)
        self._waiting: deque[tuple[int, SpeechChunk]] = deque()
        """Texts and words without their audio, with the sample that they begin at; bounded by what is held back."""

    def __repr__(self) -> str:
        return f"<SpeechConverter {self._converter!r}, {len(self._waiting)} texts waiting>"

    @property
    def source(self) -> AudioFormat:
        """The format that it takes."""
        return self._converter.source

    def take(self, chunk: SpeechChunk) -> list[SpeechChunk]:
        """Take the next chunk, and return what has come out with it: a chunk for each text that begins."""
        if chunk.text or chunk.words:
            # Where the text's audio will begin in the output; how much of it the resampler
            # holds back does not matter then.
            self._waiting.append((self._converter.due, attrs.evolve(chunk, audio=b"", format=None)))
        return self._chunks(self._converter.convert(chunk.audio), last=False)

    def rest(self) -> list[SpeechChunk]:
        """Return what is held back; speech that is taken next follows it without a gap."""
        return self._chunks(self._converter.flush(), last=True)

    def _chunks(self, audio: bytes, *, last: bool) -> list[SpeechChunk]:
        width = self._converter.target.width
        end = self._converter.given
        start = at = end - len(audio) // width
        made: list[SpeechChunk] = []
        head = SpeechChunk(b"")
        while True:
            # "last": what still waits belongs to audio that has just come out, or to none at all.
            begins = bool(self._waiting) and (last or self._waiting[0][0] < end)
            # Rounding may put a text a sample before the stretch: never cut backwards.
            until = max(at, min(end, self._waiting[0][0])) if begins else end
            piece = audio[(at - start) * width : (until - start) * width]
            if piece or head.text or head.words:
                made.append(attrs.evolve(head, audio=piece))
            if not begins:
                return made
            at, head = until, self._waiting.popleft()[1]
