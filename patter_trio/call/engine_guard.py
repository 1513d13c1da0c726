"""Guardrails for an engine's answers: speech waits until its words are checked.

An engine delivers text and audio together, faster than real time, the words of a sentence before most of its audio. So
what arrives while a sentence is incomplete is held back until the whole sentence has passed. Audio that comes before
any of its words cannot be held for them: if such a sentence is blocked, the reply has to be cut.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from patter_trio.abc import SpeechChunk
from patter_trio.agent.guardrails import Guardrail
from patter_trio.call.hooks import HookRunner
from patter_trio.conversation.marks import CLOSERS_OF_LINES, SENTENCE_ENDS
from patter_trio.conversation.sentences import SentenceChunker

TakeSpeech = Callable[[str | SpeechChunk], Awaitable[None]]
"""Takes the next piece of an answer."""

ENDS_SENTENCE: Final = re.compile(rf"[{SENTENCE_ENDS}][{re.escape(CLOSERS_OF_LINES)}\s]*$")
"""What the last word of a sentence ends with, in the scripts that mark it."""


class SpeechBlocked(Exception):
    """A sentence that must not be spoken. ``leaked`` is True if some of its audio may have passed already."""

    def __init__(self, guardrail: Guardrail, *, leaked: bool) -> None:
        super().__init__(guardrail.name)
        self.guardrail = guardrail
        self.leaked = leaked


class SpeechGuard:
    """The check of one reply.

    Args:
        hook_runner: runs the agent's guardrails.
        language: of the agent, for the ends of sentences.
    """

    def __init__(self, hook_runner: HookRunner, *, language: str) -> None:
        self._hook_runner = hook_runner
        self._chunker = SentenceChunker(language=language)
        self._open = ""  # the text of the sentence that is incomplete
        self._passed = ""  # the text that was checked last
        # Bounded by the answer: an engine's own queue holds some minutes of speech at most.
        self._held: list[str | SpeechChunk] = []
        self._waits = False  # text came that was not checked
        self._leaked = False  # audio has passed since the last check

    def __repr__(self) -> str:
        return f"<SpeechGuard, {len(self._held)} pieces held back>"

    async def take(self, piece: str | SpeechChunk, then: TakeSpeech) -> None:
        """Take a piece of the answer, and pass on what has been checked.

        Raises:
            SpeechBlocked: a guardrail blocks a sentence.
        """
        if isinstance(piece, SpeechChunk) and not self._waits:
            # All words so far have passed; those of this audio may still be to come.
            self._leaked = True
            await then(piece)
            return
        self._held.append(piece)
        if isinstance(piece, SpeechChunk):
            return
        self._open += piece
        self._waits = True
        for sentence in self._chunker.push(piece):
            await self._check(sentence)
            # If the text has it in another form, more than is needed is checked again.
            self._open = self._open.partition(sentence)[2] if sentence in self._open else self._open
        # Without waiting for what follows: behind the last sentence nothing does, and its audio would be held to the
        # end of the answer. If it goes on, as behind an abbreviation, the whole of it is checked again.
        if not self._open.strip() or ENDS_SENTENCE.search(self._open):
            await self._check(self._open)
            self._waits = False
        await self._release(0 if not self._waits else len(self._open), then)

    async def settle(self, then: TakeSpeech) -> None:
        """Check the rest, and pass it on.

        Raises:
            SpeechBlocked: a guardrail blocks a sentence.
        """
        for sentence in self._chunker.flush():
            await self._check(sentence)
        self._open, self._waits = "", False
        await self._release(0, then)

    async def _check(self, text: str) -> None:
        text = text.strip()
        # The second time: the last sentence was checked before it was known to be complete.
        if not text or text == self._passed:
            return
        guardrail = await self._hook_runner.blocking(text)
        if guardrail is not None:
            raise SpeechBlocked(guardrail, leaked=self._leaked)
        self._passed = text

    async def _release(self, unchecked: int, then: TakeSpeech) -> None:
        """Pass on what came before the last ``unchecked`` characters: the audio of a text comes behind it."""
        end = len(self._held)
        while unchecked > 0 and end > 0:
            end -= 1
            piece = self._held[end]
            unchecked -= len(piece) if isinstance(piece, str) else 0
        ready, self._held = self._held[:end], self._held[end:]
        if ready:
            self._leaked = False
        for piece in ready:
            await then(piece)
