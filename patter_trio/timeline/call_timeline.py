"""The contents of a call's picture, as frozen records that can be written as JSON and read again.

Times are milliseconds of call time: since the media began. A time that is None is not known, or not yet.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs
import msgspec

from patter_trio.errors import ConfigurationError

Lane = Literal["caller", "agent"]
MarkKind = Literal["key", "guardrail", "hook", "vetoed", "reply_failed", "machine", "transfer", "hang_up", "failed"]
FORMAT_VERSION: Final = 1
"""Version of the JSON form; a reader refuses a greater one."""


@attrs.frozen
class Span:
    """A stretch of call time."""

    start_ms: float
    end_ms: float


@attrs.frozen
class Words:
    """An utterance of one side."""

    lane: Lane
    start_ms: float
    """When its sound begins."""
    end_ms: float
    """When its sound ends; of one that goes on, the newest instant that is known."""
    text: str
    """What the STT understood of the caller, or what the caller heard of the agent."""
    unheard: str = ""
    """The rest of the agent's words: made, and not heard."""
    cut: bool = False
    """True if the agent's utterance was cut at ``end_ms``."""
    open: bool = False
    """True if the utterance goes on: ``text`` may still change."""
    turn: int | None = None
    """The number of the turn, as ``turn_idx`` of the events."""


@attrs.frozen
class Interruption:
    """A reply that was cut while the caller was hearing it."""

    at_ms: float
    heard: str
    """The words of it that the caller heard."""
    heard_ms: float
    """How much of it was played."""
    reason: str = ""
    """Why it was cut: ``barge-in``, ``say``, ``leg down``, ``goodbye`` or ``failed``; empty if that is not known."""
    turn: int | None = None


@attrs.frozen
class Turn:
    """An utterance of the caller and the answer to it, with the parts of the caller's wait; turn 0 is the greeting.

    The wait has three parts, one after another: ``endpoint_ms``, ``llm_ms`` and ``tts_ms``.
    """

    index: int
    start_ms: float
    """When the utterance was found to be over; of a greeting, when it begins."""
    end_ms: float | None = None
    """When the reply was over."""
    reason: str = ""
    """Why the turn ended: ``completed``, ``interrupted``, ``continued``, ``failed`` or ``call_ended``."""
    voice_end_ms: float | None = None
    """When the caller's voice ended, from which the wait counts."""
    endpoint_ms: float | None = None
    """The wait for the decision that the caller has finished."""
    llm_ms: float | None = None
    """The wait for the answer's first token, words of the STT that were still missing included."""
    tts_ms: float | None = None
    """The wait from the first token to the first audio on the wire."""
    total_ms: float | None = None
    """The whole wait, from the caller's last voice to the first audio on the wire."""
    stt_ms: float | None = None
    """From the caller's last voice to the STT's final words."""
    bargein_ms: float | None = None
    """From the onset of the voice that cut the reply to the agent's silence."""
    interrupted: bool = False
    failed: bool = False
    """True if the reply failed."""
    cost_usd: float | None = None
    """What the call had cost by the end of the turn."""


@attrs.frozen
class ToolCall:
    """A call of a tool."""

    name: str
    call_id: str
    """The id that the LLM gave it."""
    start_ms: float
    end_ms: float | None = None
    """When it answered; None while it runs."""
    arguments: Any = None
    """As JSON holds them."""
    result: Any = None
    """As JSON holds it; None if it failed."""
    error: str = ""
    """What went wrong; empty if nothing did."""


@attrs.frozen
class Mark:
    """Something that has an instant and no duration."""

    kind: MarkKind
    at_ms: float
    text: str
    """What is written beside it: the key, the name of the guardrail, the outcome, the reason."""
    lane: Lane


@attrs.frozen
class Peaks:
    """The loudness of both sides: for each step the greatest sample, 0 to 255 of full scale."""

    step_ms: float
    caller: tuple[int, ...]
    agent: tuple[int, ...]


@attrs.frozen
class CallTimeline:
    """All that a picture of a call shows. Two folds of the same events are equal."""

    call_id: str
    title: str = ""
    """The heading's first words, such as the program's file; empty: the parties' numbers."""
    caller: str = ""
    """The caller's number, as the carrier gives it; a picture masks it."""
    callee: str = ""
    direction: str = ""
    began: str = ""
    """When the media began: ISO 8601 with its zone; empty if that is not known."""
    duration_ms: float = 0.0
    over: bool = False
    """True once the call has ended."""
    outcome: str = ""
    error: str = ""
    words: tuple[Words, ...] = ()
    """The utterances of both sides, by their beginning."""
    voices: tuple[Span, ...] = ()
    """When the caller's voice was heard, words or not."""
    interruptions: tuple[Interruption, ...] = ()
    turns: tuple[Turn, ...] = ()
    """By their number."""
    tools: tuple[ToolCall, ...] = ()
    marks: tuple[Mark, ...] = ()
    peaks: Peaks | None = None
    """None without audio."""
    version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the timeline as ``json.dumps`` takes it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "CallTimeline":
        """Return the timeline that :meth:`to_dict` has written.

        Raises:
            ConfigurationError: ``plain`` is not a timeline, or one of a later version.
        """
        version = plain.get("version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ConfigurationError(f"the version of a timeline must be {FORMAT_VERSION}, got {version!r}")
        try:
            return msgspec.convert(dict(plain), cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"a timeline must have the form of to_dict(): {error}") from error
