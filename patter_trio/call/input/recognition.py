"""The recognition of one call, over as many STT sessions as it takes.

* **A silent session** (:mod:`patter_trio.providers.silence`) is replaced by another one, which gets the audio again
  whose words are not final. If the replacements are silent, too, for as long as an :class:`Outage` may last, the STT
  has failed.
* **A session that fails** is replaced in the same way if the STT is a fallback: by a session of its next provider.
* **Words** are neither lost nor there twice: those of the repeated audio go into the segment that is still open.

A session that ``recovers`` does all this by itself, unless another provider can take its place.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio.convert import Quality, converter
from patter_trio.audio.formats import MULAW_8K, RATE_HZ, AudioFormat
from patter_trio.call.input.tape import FinalWordsRequest, Tape, Taped
from patter_trio.call.opening import SESSION_OPEN_TIMEOUT_S, open_with_timeout
from patter_trio.errors import AuthenticationError, PatterConnectionError, ProviderError, ProviderTimeout
from patter_trio.providers.fallback import FallbackSTT, provider_name
from patter_trio.providers.outage import STEADY_AFTER_S, Outage
from patter_trio.providers.silence import RESULT_TIMEOUT_S, SilenceWatch
from patter_trio.user_code.context import current_call

# Judged: nearly every STT has the final words of a voice by then. Asked sooner, it would end its segment in a pause.
UNANSWERED_VOICE_S: Final = 1.0
"""Seconds of audio after a voice that brought no result; then the STT is asked for its final words, and owes an
answer."""
# Judged: final words in the middle of a voice come within a second of it. Less could lose words, more would double
# some.
UNSETTLED_S: Final = 1.0
"""Seconds of audio before final words in the middle of a voice that these words may not cover."""

# Judged: as for a result. A session that works takes a piece of audio at once.
SEND_TIMEOUT_S: Final = RESULT_TIMEOUT_S
"""Seconds in which a session must take a piece of audio."""

_log = logging.getLogger("patter_trio.stt")
_FAILURES: Final = (ProviderError, PatterConnectionError)


class SilentSTT(ProviderTimeout):
    """An STT whose session is open and gives no results."""


@attrs.define(eq=False)
class _Use:
    """The use of one session."""

    session: SpeechToTextSession
    accepts: AudioFormat
    watch: SilenceWatch
    guards: bool  # the session does not notice by itself that it is silent
    next: int  # number of the next piece of the tape
    begin: int  # the call's sample with which the session's audio begins
    shift: int | None  # what is added to the session's segments; None until its first one is known
    outgoing: "_Outgoing | None" = None
    sent: int = 0  # the call's samples up to which the session has the audio
    opened_at: float = attrs.field(factory=trio.current_time)
    results: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    sending: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    loss: Exception | None = None

    def give_up(self, reason: Exception) -> None:
        """Count the session as lost; the first reason counts."""
        self.loss = self.loss or reason
        self.scope.cancel(reason="the session is lost")
        # The task that sends belongs to the call, and must go on without this session.
        self.sending.cancel(reason="the session is lost")


class Recognition:
    """The STT of one call. ``run`` works beside the task that puts audio into it.

    Args:
        stt: the provider.
        language: the language, a BCP 47 tag.
        heard: takes each transcript, with the segment's number within the call.
        failed: called with a provider's name for each session of it that could not be opened, or was lost.
    """

    def __init__(
        self,
        stt: SpeechToText,
        language: str,
        heard: Callable[[Transcript], Awaitable[None]],
        failed: Callable[[str, BaseException], None] = lambda _, __: None,
    ) -> None:
        self._stt, self._language, self._heard, self._failed = stt, language, heard, failed
        self._using = stt.provider
        self._name = provider_name(stt)
        self._tape = Tape()
        self._use: _Use | None = None
        self._watch = SilenceWatch(gives_interims=stt.gives_interims)
        self._replaceable = isinstance(stt, FallbackSTT)
        # A fallback has a warning for each provider that fails.
        self._outage = Outage(self._name, current_call.get(), _log, warns=not self._replaceable)
        self._given = MULAW_8K
        self._opened = trio.Event()
        self._first_accepts = MULAW_8K
        self._counted = 0  # number of the first piece whose voice was not counted
        self._speaking = False
        self._quiet = 0  # samples since the last voice
        self._final_at = 0  # the call's sample that had been sent when the newest final transcript came
        self._requests = 0  # the call's requests for final words that no transcript has answered
        self._asked = 0  # our own
        self._last = 0  # the highest segment so far
        self._open: int | None = None  # the segment whose words may still change

    def __repr__(self) -> str:
        return f"<Recognition by {self._name}, {self._tape!r}>"

    # Called by the task of the audio ----------------------------------------------------------------------------------
    async def accepts(self) -> AudioFormat:
        """Wait for the first session; return the format that it accepts."""
        await self._opened.wait()
        return self._first_accepts

    def begin(self, given: AudioFormat) -> None:
        """Set the format of the audio that will be put, which is at 8 kHz."""
        self._given = given

    def put(self, item: bytes | VoiceEdge | FinalWordsRequest) -> None:
        """Add audio, an edge of the voice in it, or a request for the final words of all audio before it."""
        self._tape.add(item, self._given.samples(item) if isinstance(item, bytes) else 0)

    async def push(self) -> None:
        """Send what was put to the session; while there is none, the next one will get it."""
        use = self._use
        if use is None:
            return
        if not use.guards:
            # It fails by itself; a scope would cost more than the send.
            await self._send(use)
            return
        # A scope, because a session that is given up may never return from a send.
        with trio.CancelScope(deadline=trio.current_time() + SEND_TIMEOUT_S) as use.sending:
            await self._send(use)
        if use.sending.cancelled_caught:
            use.give_up(self._takes_nothing())

    async def _send(self, use: _Use) -> None:
        """Send what the session has not got."""
        if use.outgoing is None:
            use.outgoing = _Outgoing(use.session, self._given, use.accepts)
        try:
            # Pieces that are no longer kept cannot be sent; the words in them are lost.
            while use.loss is None and (piece := self._tape.get(max(use.next, self._tape.first))) is not None:
                use.next = max(use.next, self._tape.first) + 1
                await self._send_piece(use, use.outgoing, piece)
        except _FAILURES as error:
            use.give_up(error)

    async def _send_piece(self, use: _Use, outgoing: "_Outgoing", piece: Taped) -> None:
        # Counted before the send: what is cut off goes to the next session with the tape.
        use.sent = piece.end
        new = use.next > self._counted
        self._counted = max(self._counted, use.next)
        match piece.item:
            case bytes() as audio:
                await outgoing.send(audio)
                if new:
                    await self._count(use, outgoing, piece.end - piece.begin)
            case VoiceEdge() as edge:
                if new:
                    self._turn(use, edge)
                await use.session.voice(attrs.evolve(edge, offset=max(0, edge.offset - use.begin)))
            case FinalWordsRequest():
                self._requests += new
                await self._ask(use, outgoing)

    def _turn(self, use: _Use, edge: VoiceEdge) -> None:
        """Record an edge of the voice."""
        self._speaking, self._quiet = edge.speaking, 0
        if edge.speaking:
            use.watch.voice_began()
        # A VAD reports the end of a voice late. Final words that came in between cover all of it.
        elif self._final_at >= edge.offset:
            self._tape.forget(self._final_at, use.next - 1)

    async def _count(self, use: _Use, outgoing: "_Outgoing", samples: int) -> None:
        """Count audio that was sent, and ask for the words of a voice that has brought none."""
        if not use.guards:
            return
        if self._speaking:
            use.watch.heard(samples / RATE_HZ)
            self._look(use)
            if use.watch.is_silent:
                use.give_up(self._silence())
            return
        self._quiet += samples
        if use.watch.owes_words and not use.watch.requested and self._quiet >= UNANSWERED_VOICE_S * RATE_HZ:
            self._look(use)
            if use.watch.owes_words:
                self._asked += 1
                await self._ask(use, outgoing)

    async def _ask(self, use: _Use, outgoing: "_Outgoing") -> None:
        await outgoing.push()  # first, because the last word may be in what the resampler holds back
        use.watch.request()
        await use.session.flush()
        # After the send: how long that takes is not the STT's delay.
        use.watch.expect()

    # The session's tasks ----------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Transcribe until cancelled.

        Raises:
            ProviderError: the STT cannot be opened, or failed.
            PatterConnectionError: its connection failed.
        """
        timeout = SESSION_OPEN_TIMEOUT_S
        while True:
            # Until it is open, it is not known which provider of a fallback it is.
            self._using = self._stt.provider
            try:
                opening = self._stt.open(language=self._language)
                async with open_with_timeout(opening, self._stt.provider, timeout) as session:
                    await self._used(session)
            except _FAILURES as error:
                self._failed(self._using, error)
                if not self._can_be_replaced(error):
                    raise
                # Counted by the clock of the outage, also while the next session is being opened.
                pause = self._outage.lost(error)
            else:
                return
            await trio.sleep(pause)
            # The first session may take its time; a further one has what is left of the outage.
            timeout = self._outage.left()

    def _can_be_replaced(self, error: Exception) -> bool:
        """Return True if another session may do what the one that failed did not."""
        # Before the call has begun nothing is lost yet, and a fallback has tried all its providers by itself.
        if not self._opened.is_set():
            return False
        # Another session of the same provider only after silence: one that reports its failure has tried itself.
        again = isinstance(error, SilentSTT) or (self._outage.lasts and not isinstance(error, AuthenticationError))
        return self._replaceable or again

    async def _used(self, session: SpeechToTextSession) -> None:
        """Use a session until its transcripts end.

        Raises:
            ProviderError: the session has failed, or is silent.
        """
        source = session.chosen or self._stt
        self._using = source.provider
        self._watch.resumed(gives_interims=source.gives_interims, final_timeout=source.final_timeout)
        use = _Use(
            session,
            session.accepts or source.accepts,
            self._watch,
            guards=self._replaceable or not session.recovers,
            # From the oldest audio without final words: a session that takes the place of another hears it again.
            next=self._tape.first,
            begin=self._tape.begin,
            # The segments of the first session are the call's.
            shift=None if self._opened.is_set() else 0,
        )
        try:
            with use.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, use)
                    if use.guards:
                        nursery.start_soon(self._give_up_when_silent, use)
                    await self._repeat(use)
        finally:
            # Before anything is closed: the task of the audio must not send to a session that ends.
            self._use = None
        if use.loss is not None:
            if trio.current_time() - use.opened_at >= STEADY_AFTER_S:
                self._outage.worked()
            raise use.loss

    async def _repeat(self, use: _Use) -> None:
        """Send the audio that has no final words yet, and what came meanwhile; then the task of the audio sends."""
        if not self._opened.is_set():
            self._first_accepts = use.accepts
            self._use = use
            self._opened.set()
            return
        # A session that never takes the audio would otherwise keep the call waiting for ever.
        with trio.move_on_after(self._outage.left()) as scope:
            # The lost session got the begin of this voice, and the new one has not.
            if self._tape.speaking:
                await self._sent(use, use.session.voice(VoiceEdge(speaking=True, offset=0)))
            await self._send(use)
            # The lost session took our request for the final words with it; those of the call are on the tape.
            if use.watch.requested and not self._requests and use.outgoing is not None:
                await self._sent(use, self._ask(use, use.outgoing))
            await self._send(use)
            # Published only now, and with no await since the last piece was sent: two senders would mix the order.
            self._use = use
        if scope.cancelled_caught:
            use.give_up(self._takes_nothing())

    async def _sent(self, use: _Use, sending: Awaitable[None]) -> None:
        try:
            await sending
        except _FAILURES as error:
            use.give_up(error)

    async def _listen(self, use: _Use) -> None:
        try:
            async for transcript in use.session.transcripts():
                await self._take(use, transcript)
        except _FAILURES as error:
            use.give_up(error)

    async def _take(self, use: _Use, transcript: Transcript) -> None:
        progress = use.session.progress
        if progress is None:
            use.watch.came()
        news = progress is None or self._look(use)
        if transcript.final:
            use.watch.final_came()
            if news:
                self._outage.worked()
            if not self._settle(transcript.text):
                return
        await self._heard(attrs.evolve(transcript, segment=self._segment(use, transcript)))
        # After the words have been passed on: if that is cancelled, the audio can still be sent again.
        if transcript.final:
            self._forget(use)

    def _look(self, use: _Use) -> bool:
        """Return True if results came, with or without words, that the session alone knows of."""
        progress = use.session.progress
        if progress is None or progress.results == use.results:
            return False
        use.results = progress.results
        use.watch.came()
        return True

    def _settle(self, text: str) -> bool:
        """Record final words; return False if they only answer our own request, without words, while the call waits."""
        if self._asked:
            self._asked -= 1
            if self._requests and not text:
                return False
        self._requests = max(0, self._requests - 1)
        return True

    def _forget(self, use: _Use) -> None:
        """Forget the audio whose words are final."""
        progress = use.session.progress
        if progress is not None:
            until = use.begin + round(progress.settled * RATE_HZ)
        elif self._speaking:
            self._final_at = use.sent
            until = use.sent - round(UNSETTLED_S * RATE_HZ)
        else:
            until = use.sent
        self._tape.forget(until, use.next)

    def _segment(self, use: _Use, transcript: Transcript) -> int:
        """Return the segment's number within the call; 0 stays 0, which numbers nothing."""
        if not transcript.segment:
            return 0
        if use.shift is None:
            use.shift = (self._last + 1 if self._open is None else self._open) - transcript.segment
        segment = transcript.segment + use.shift
        self._last = max(self._last, segment)
        if not transcript.final:
            self._open = segment
        elif self._open == segment:
            self._open = None
        return segment

    async def _give_up_when_silent(self, use: _Use) -> None:
        while True:
            await use.watch.overdue()
            if not self._look(use):
                use.give_up(self._silence())

    def _takes_nothing(self) -> SilentSTT:
        return SilentSTT(f"{self._name} took no audio in time")

    def _silence(self) -> SilentSTT:
        return SilentSTT(f"{self._name} sent no result for {RESULT_TIMEOUT_S:g} s of voice")


class _Outgoing:
    """The way of the caller's audio into an STT session, in the format that it accepts."""

    def __init__(self, session: SpeechToTextSession, given: AudioFormat, accepts: AudioFormat) -> None:
        self._session = session
        self._converter = converter(given, accepts, Quality.LOW_DELAY)

    async def send(self, audio: bytes) -> None:
        if self._converter is None:
            await self._session.send(audio)
        elif converted := self._converter.convert(audio):  # empty while the resampler holds back all of it
            await self._session.send(converted)

    async def push(self) -> None:
        """Send the audio that the resampler holds back."""
        if self._converter is not None and (rest := self._converter.flush()):
            await self._session.send(rest)
