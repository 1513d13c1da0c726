"""Deepgram's streaming STT protocols, without I/O: Nova (``/v1/listen``) and Flux (``/v2/listen``).

Protocols: https://developers.deepgram.com/reference/speech-to-text/listen-streaming and .../listen-flux

Both take audio as binary messages and control messages as JSON text. An audio message must not be empty: an empty one
ends the stream. Incoming messages are JSON, too. The codec skips fields that it does not use and ignores unknown
message types.

How the codec forms segments from the vendor's results:

* **Nova** repeats the same stretch of audio until the result ``is_final``. A final result may be shorter than the
  interim one before it: the rest of its words comes again in the next stretch. Code that acted upon the interim words
  would then get them twice. So the codec closes a segment only when final results have reached the end of the last word
  reported in it, by the words' times (or after a request to finalize, since the vendor then holds nothing back).
* **Flux** repeats the whole turn each time. A segment is a turn. If the vendor takes an end back (``TurnResumed``), the
  words up to there form one segment, and the words with later times the next one.
* A new connection counts from zero again: :meth:`~ListenCodec.connected` takes the position in the audio at which it
  begins.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import urlencode

import msgspec

from patter_trio.abc import Transcript
from patter_trio.errors import ProviderError, WireError, reported
from patter_trio.scripts import join

Value = str | int | float | bool | Sequence[str]
"""Value of a URL parameter; a sequence repeats the parameter."""

MIN_NEWS_S: Final = 0.02
"""Seconds that a result must add to count as news: the vendor rounds its times, and a frame has this length."""
# Judged: some minutes of speech without a pause. A segment that never closes would grow with the call; at the bound the
# words are passed on as final, at worst some of them twice.
MAX_SEGMENT_PARTS: Final = 64
"""Most final results that form one segment."""
# Judged. The bound is for memory and for the LLM's prompt, not for speakers.
MAX_RESULT_CHARACTERS: Final = 20_000
"""Most characters of one result: half an hour of speech."""


def listen_url(base: str, path: str, parameters: Mapping[str, Value | None]) -> str:
    """Return the address of a socket, without the parameters that are None."""
    # None leaves a parameter out: the vendor's default then applies, whatever it becomes.
    pairs: list[tuple[str, str]] = []
    for name, value in parameters.items():
        # Lists repeat the name, as the vendor wants it for key terms; a bool is an int for ``isinstance``, so the next
        # line separates it.
        several = [] if value is None else [value] if isinstance(value, str | int | float) else value
        # "true", as the vendor spells it, not Python's "True".
        pairs += [(name, str(one).lower() if isinstance(one, bool) else str(one)) for one in several]
    return f"{base.rstrip('/')}{path}?{urlencode(pairs)}"


# By their beginnings, in upper case. They complain about the audio, the request or the account.
_RECURRING: Final = ("DATA-", "UNPARSABLE", "INVALID", "BAD_REQUEST", "INSUFFICIENT", "ASR_PAYMENT", "UNSUPPORTED")
"""Codes of failures that a new connection would meet again."""


# Decoded by type in one pass, as in ``wire/twilio.py``: results come several times a second in each call.
class _Message(msgspec.Struct, frozen=True, tag_field="type"):
    """A message; the name of its class without the underscore is its ``type``."""


# None as well as absent in all of them: a null says no more than a key that is left out.
class _NovaWord(msgspec.Struct, frozen=True):
    start: float | None = None
    end: float | None = None

    @property
    def middle(self) -> float | None:
        if self.start is None or self.end is None:
            return None
        # The middle, because the ends of a word move by some hundredths from one result to the next.
        return (_seconds(self.start) + _seconds(self.end)) / 2


class _Alternative(msgspec.Struct, frozen=True):
    transcript: str | None = None
    words: list[_NovaWord] | None = None


class _Channel(msgspec.Struct, frozen=True):
    alternatives: list[_Alternative] | None = None


class _Results(_Message, frozen=True, tag="Results"):
    start: float
    duration: float
    channel: _Channel
    is_final: bool | None = None
    from_finalize: bool | None = None


# Sent once, at the end of a connection; its duration is what the vendor bills.
class _Metadata(_Message, frozen=True, tag="Metadata"):
    duration: float
    request_id: str = ""


class _Error(_Message, frozen=True, tag="Error"):
    variant: str = ""
    code: str | None = None
    description: str = ""


class _FluxWord(_NovaWord, frozen=True, kw_only=True):
    word: str


class _TurnInfo(_Message, frozen=True, tag="TurnInfo"):
    event: str
    turn_index: int
    transcript: str | None = None
    audio_window_end: float | None = None
    words: list[_FluxWord] | None = None


class _Connected(_Message, frozen=True, tag="Connected"):
    request_id: str = ""


class _Type(msgspec.Struct, frozen=True):
    type: str = ""


class ReportedError(ProviderError):
    """A failure that the vendor reports in a message; ``recurs`` is True if a new connection would meet it again."""

    def __init__(self, error: _Error) -> None:
        what = " ".join(part for part in (error.code or error.variant, error.description) if part)
        super().__init__(f"Deepgram reports an error: {reported(what) or 'without a reason'}")
        # A failure of unknown kind is tried again: at worst the caller waits as long as an outage may last.
        self.recurs: bool = (error.code or error.variant or "").upper().startswith(_RECURRING)


class ListenCodec(ABC):
    """The protocol state of one STT session, kept across reconnections.

    Attributes:
        results: the number of results that came, over all connections, those without words included.
        gives_interims: True if the vendor reports words before they are final.
        settled: seconds of the session's audio whose words are final.
        billed: seconds of this connection's audio that the vendor says it has processed; None until it says so.
        request_id: the vendor's id of this connection, empty until it is known.
        silence: seconds without audio after which ``keep_alive`` has to be sent; infinite if the protocol has no such
            message.
    """

    path: ClassVar[str]
    keep_alive: ClassVar[str] = ""
    finalize: ClassVar[str]
    """Message that requests the final words of all audio sent."""
    close: ClassVar[str] = '{"type":"CloseStream"}'
    """Message that announces the end, so that the vendor does not wait for more audio."""
    silence: ClassVar[float] = math.inf
    finalizes_at_voice_end: ClassVar[bool]
    """True if the client must send ``finalize`` when the voice ends, because the vendor does not detect that itself."""

    def __init__(self, *, gives_interims: bool = True) -> None:
        self.results: int = 0
        self.gives_interims: bool = gives_interims
        self.settled: float = 0.0
        self.billed: float | None = None
        self.request_id: str = ""
        self._base = 0.0
        self._segment = 1
        self._interim_text = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} segment {self._segment}, settled {self.settled:.2f} s>"

    def connected(self, start: float) -> None:
        """Start a connection whose first audio lies ``start`` seconds into the session's audio."""
        self._base = start
        # What the vendor said about the last connection does not hold for this one.
        self._about(None, "")

    def _count(self) -> None:
        self.results += 1

    def _about(self, billed: float | None, request_id: str) -> None:
        self.billed, self.request_id = billed, request_id

    def _settle(self, until: float) -> None:
        # Never backwards: after a reconnection the audio from here on is sent again, and results about it come again.
        self.settled = max(self.settled, until)

    @abstractmethod
    def receive(self, message: str | bytes) -> Sequence[Transcript]:
        """Return the words in a message; an empty sequence for a valid message without words.

        Raises:
            WireError: the protocol does not allow the message.
            ProviderError: the vendor reports a failure.
        """

    def _final(self, text: str, *, finished: bool | None = None) -> Transcript:
        # The number changes with the final words, so that late interim ones cannot be taken for a part of them.
        segment, self._segment, self._interim_text = self._segment, self._segment + 1, ""
        return Transcript(text, final=True, segment=segment, finished=finished)

    def _interim(self, text: str, *, finished: bool | None = None) -> list[Transcript]:
        # The vendor repeats a result while nothing changes, several times a second; each would pass through the whole
        # call.
        if text == self._interim_text and finished is None:
            return []
        self._interim_text = text
        return [Transcript(text, final=False, segment=self._segment, finished=finished)]


class NovaCodec(ListenCodec):
    """The codec of ``/v1/listen``: the vendor transcribes, and the client's requests to finalize end the utterances."""

    path: ClassVar[str] = "/v1/listen"
    keep_alive: ClassVar[str] = '{"type":"KeepAlive"}'
    finalize: ClassVar[str] = '{"type":"Finalize"}'
    silence: ClassVar[float] = 4.0  # the vendor closes after 10 s, and advises 3 to 5
    finalizes_at_voice_end: ClassVar[bool] = True

    def __init__(self, *, gives_interims: bool = True) -> None:
        super().__init__(gives_interims=gives_interims)
        self._parts: list[str] = []  # final results of the segment that is still open
        self._reached = -math.inf  # middle of the last reported word; its ends move from result to result

    def receive(self, message: str | bytes) -> Sequence[Transcript]:
        """Return the words in a message; see :meth:`ListenCodec.receive`."""
        # Three types; the others, such as SpeechStarted, are valid and say nothing that is used here.
        match _decoded(message, _NOVA, _NOVA_TYPES):
            case _Results() as results:
                self._count()
                return self._results(results)
            case _Metadata() as metadata:
                self._about(_seconds(metadata.duration), metadata.request_id)
            case _Error(variant="SchemaError", description=why):  # concerns one message of ours; the stream goes on
                raise WireError(f"Deepgram rejected a message: {reported(why)}")
            case _Error() as error:
                raise ReportedError(error)
            case _:
                pass
        return ()

    def _results(self, results: _Results) -> Sequence[Transcript]:
        # The first one: alternatives are sorted by confidence, and we ask for one.
        best = next(iter(results.channel.alternatives or ()), _Alternative())
        text = _text(best.transcript)
        end = self._base + _seconds(results.start) + _seconds(results.duration)
        # Words about audio whose words are final already are not news. The answer to a request to finalize is never
        # left out, because the caller's turn waits for it.
        if text and end <= self.settled + MIN_NEWS_S and not results.from_finalize:
            return ()  # reported as final before
        if not results.is_final:
            if text:
                # Only words move the mark: the end of a result without words is silence.
                self._reached = max(self._reached, self._last_word(best.words or (), end))
            words = join([*self._parts, text])
            # An empty interim after words takes them back, and the turn machine must learn of that.
            return self._interim(words) if words or self._interim_text else ()
        # Even if the words wait in ``_parts``: those outlive the connection, so their audio need not be sent again.
        self._settle(end)
        if text:
            self._parts.append(text)
        # The last word has been confirmed, the vendor holds nothing back, or the segment has reached its bound.
        if results.from_finalize or end >= self._reached or len(self._parts) >= MAX_SEGMENT_PARTS:
            whole, self._parts, self._reached = join(self._parts), [], -math.inf
            # An empty final is news if it takes interim words back, or answers a request to finalize.
            if whole or self._interim_text or results.from_finalize:
                return [self._final(whole)]
        return ()

    def _last_word(self, words: Sequence[_NovaWord], end: float) -> float:
        middles = (middle for word in words if (middle := word.middle) is not None)
        # Without word times the end of the result is the best there is: min(end, infinity).
        return min(end, self._base + max(middles, default=math.inf))


class FluxCodec(ListenCodec):
    """The codec of ``/v2/listen``: the vendor transcribes and detects the end of the caller's turn."""

    path: ClassVar[str] = "/v2/listen"
    finalize: ClassVar[str] = '{"type":"ForceEndTurn"}'
    finalizes_at_voice_end: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._turn = -1
        # Both -1: the vendor counts turns from 0.
        self._over = -1  # index of the last turn that ended
        # By letters and by time: words need not have times, and then only their text can tell where a segment ends.
        self._before = ""  # letters of the turn that earlier segments contain
        self._boundary = -math.inf  # where they end in the audio
        self._likely: _TurnInfo | None = None

    def connected(self, start: float) -> None:
        """Start a connection: its turns are numbered anew, and it hears the rest of the open turn again."""
        super().connected(start)
        # Numbers start at 0 on each connection; without this the first turns would count as answered.
        self._turn = self._over = -1
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._before, self._boundary, self._likely = "", -math.inf, None

    def receive(self, message: str | bytes) -> Sequence[Transcript]:
        """Return the words in a message; see :meth:`ListenCodec.receive`."""
        match _decoded(message, _FLUX, _FLUX_TYPES):
            case _TurnInfo() as turn:
                self._count()
                return self._turn_info(turn)
            case _Connected(request_id=request_id):
                self._about(None, request_id)
            case _Error() as error:
                raise ReportedError(error)
            case _:
                pass
        return ()

    def _turn_info(self, turn: _TurnInfo) -> Sequence[Transcript]:
        end = self._base + _seconds(turn.audio_window_end or 0.0)
        # A late update of a turn that has ended would begin it anew.
        if turn.turn_index <= self._over:
            return ()  # the turn has been answered
        out: list[Transcript] = []
        if turn.turn_index != self._turn:
            if self._turn >= 0 and self._interim_text:  # the previous turn never ended: keep its words
                out.append(self._final(self._interim_text))
            self._turn = turn.turn_index
            # Its words are counted from zero, and an end that was taken back belonged to the turn before.
            self._begin_turn()
        match turn.event:
            case "EagerEndOfTurn":
                self._likely = turn
                # Interim and ``finished``: the reply may be prepared, but the vendor can still take the end back.
                out += self._interim(self._rest(turn), finished=True)
            case "TurnResumed":
                out += self._resume(turn)
            case "EndOfTurn":
                self._over = turn.turn_index
                # At the end of a turn only: everything before it has been transcribed for good.
                self._settle(end)
                out.append(self._final(self._rest(turn), finished=True))
            case _:  # StartOfTurn, Update, and future events
                text = self._rest(turn)
                # Nothing to say and nothing said: no words yet.
                out += self._interim(text) if text or self._interim_text else []
        return out

    def _resume(self, turn: _TurnInfo) -> list[Transcript]:
        """Close the segment at the end that the vendor took back; the next segment has what follows."""
        likely, self._likely = self._likely, None
        # An end that was never reported cannot be taken back.
        if likely is None or not self._interim_text:
            return self._interim(self._rest(turn), finished=False)
        out = [self._final(self._interim_text, finished=False)]
        ends = [word.end for word in likely.words or () if word.end is not None]
        self._before = _letters(_text(likely.transcript))
        if ends:
            self._boundary = self._base + _seconds(max(ends))
            # The words up to here are final, so their audio need not be sent again.
            self._settle(self._boundary)
        text = self._rest(turn)
        return out + (self._interim(text) if text else [])

    def _rest(self, turn: _TurnInfo) -> str:
        """Return the turn's words that no earlier segment contains."""
        # The transcript as the vendor wrote it, as long as all of it is new; only words can be divided.
        if not self._before:
            return _text(turn.transcript)
        words = turn.words or ()
        middles = [middle for word in words if (middle := word.middle) is not None]
        # By time, because the vendor may spell the words before the boundary in another way by now.
        if words and len(middles) == len(words) and self._boundary > -math.inf:
            pairs = zip(words, middles, strict=True)
            return _text(join(word.word for word, middle in pairs if self._base + middle > self._boundary))
        return _text(join(_behind(self._before, [word.word for word in words] or _text(turn.transcript).split())))


_NOVA: Final = msgspec.json.Decoder(_Results | _Metadata | _Error)
_NOVA_TYPES: Final = frozenset({"Results", "Metadata", "Error"})
_FLUX: Final = msgspec.json.Decoder(_TurnInfo | _Connected | _Error)
_FLUX_TYPES: Final = frozenset({"TurnInfo", "Connected", "Error"})
_TYPE: Final = msgspec.json.Decoder(_Type)


def _decoded(message: str | bytes, decoder: msgspec.json.Decoder[_Message], known: frozenset[str]) -> _Message | None:
    try:
        return decoder.decode(message)
    # A generic failure first: the types that matter decode in one pass, and only the rest is looked at twice.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problem = error
    # Outside of the clause above, so that its exception is not the context of this one.
    try:
        if _TYPE.decode(message).type not in known:
            return None
    # Not even a type: then it is malformed, not unknown.
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    raise WireError(f"the message must be one of Deepgram's protocol: {problem}") from problem


def _seconds(value: float) -> float:
    # Also refuses NaN, which fails every comparison. A time that is not plausible would move the audio that is sent
    # again.
    if not 0 <= value < 1e6:  # noqa: PLR2004 (1e6 s are eleven days)
        raise WireError("a time must be from 0 to 1e6 s")
    return value


def _text(text: str | None) -> str:
    # White space is evened out, so that a repeated result compares equal.
    return " ".join((text or "")[:MAX_RESULT_CHARACTERS].split())


def _letters(text: str) -> str:
    """Return what two spellings of the same words share: their letters and digits, in lower case."""
    return "".join(character for character in text.casefold() if character.isalnum())


def _behind(before: str, words: Sequence[str]) -> Sequence[str]:
    """Return the words behind those whose letters are ``before``, however they are divided.

    If the vendor has spelled them in another way, only the words that still agree are left out: words that come twice
    are better than words that are lost.
    """
    agreed, letters = 0, ""
    for place, word in enumerate(words):
        letters += _letters(word)
        if not before.startswith(letters):
            break
        agreed = place + 1
    return words[agreed:]
