"""The turns of a call with the parts of the caller's wait, folded from events. Pure."""

from collections.abc import Mapping
from typing import Any

import attrs

from patter_trio.timeline.call_timeline import Turn
from patter_trio.timeline.stored_events import count_in, mapping, number_in, text_in, time_in, voice_end_of


class TurnsOfCall:
    """The turns by their numbers.

    The speech edges give the latencies of a turn as it goes; its metrics, which come at its end, are exact and replace
    them.
    """

    def __init__(self) -> None:
        self._turns: dict[int, Turn] = {}
        self._eos: tuple[float, float | None] | None = None
        """The newest end of an utterance whose turn is not known yet: its instant, and that of the last voice."""
        self._voiced = False
        """True if the caller's voice was heard since the last end of an utterance."""

    def take(self, kind: str, at: float, data: Mapping[str, Any]) -> None:
        """Apply an event."""
        index = count_in(data, "turn_idx")
        match kind:
            case "user_speech_eos":
                self._eos = (at, voice_end_of(at, data, voiced=self._voiced))
                self._voiced = False
            case "user_speech_started" | "user_speech_ended":
                self._voiced = True
            case "metrics":
                self._measured(at, data)
            case "turn_started" if index is not None:
                self._of(index, at)
            case "llm_token" if index is not None:
                turn = self._of(index, at)
                if turn.llm_ms is None:
                    self._turns[index] = attrs.evolve(turn, llm_ms=_since(turn.start_ms, at))
            case "agent_speech_started" if index is not None:
                self._spoke(self._of(index, at), at)
            case "agent_speech_ended" if index is not None and data.get("interrupted") is True:
                self._turns[index] = attrs.evolve(self._of(index, at), interrupted=True)
            case "reply_failed" if index is not None:
                self._turns[index] = attrs.evolve(self._of(index, at), failed=True)
            case "turn_ended" if index is not None:
                self._turns[index] = attrs.evolve(self._of(index, at), end_ms=at, reason=text_in(data, "reason"))
            case _:
                pass

    def _of(self, index: int, at: float) -> Turn:
        """Return a turn; the first event that names it begins it."""
        turn = self._turns.get(index)
        if turn is None:
            start, voice_end = self._eos or (at, None)
            self._eos = None
            endpoint = None if voice_end is None else _since(voice_end, start)
            turn = Turn(index, start, voice_end_ms=voice_end, endpoint_ms=endpoint)
            self._turns[index] = turn
        return turn

    def _spoke(self, turn: Turn, at: float) -> None:
        if turn.total_ms is not None or turn.voice_end_ms is None:
            return
        total = _since(turn.voice_end_ms, at)
        self._turns[turn.index] = attrs.evolve(turn, total_ms=total, tts_ms=_rest(total, turn.endpoint_ms, turn.llm_ms))

    def _measured(self, at: float, data: Mapping[str, Any]) -> None:
        measured = mapping(data.get("turn"))
        index = count_in(measured, "turn_index")
        if index is None:
            return
        turn, latency = self._of(index, at), mapping(measured.get("latency"))
        endpoint = _known(time_in(latency, "endpoint_ms"), turn.endpoint_ms)
        llm = _known(time_in(latency, "llm_ttft_ms"), turn.llm_ms)
        total = _known(time_in(latency, "total_ms"), turn.total_ms)
        cost = number_in(mapping(data.get("cost_so_far")), "total")
        self._turns[index] = attrs.evolve(
            turn,
            endpoint_ms=endpoint,
            llm_ms=llm,
            total_ms=total,
            # Without a whole wait, as of a greeting, the TTS alone was measured.
            tts_ms=_rest(total, endpoint, llm) if total is not None else time_in(latency, "tts_ms"),
            stt_ms=time_in(latency, "stt_ms"),
            bargein_ms=time_in(latency, "bargein_ms"),
            interrupted=turn.interrupted or measured.get("interrupted") is True,
            failed=turn.failed or measured.get("failed") is True,
            cost_usd=cost,
        )

    def turns(self) -> tuple[Turn, ...]:
        """Return the turns by their number."""
        return tuple(self._turns[index] for index in sorted(self._turns))


def _known(measured: float | None, observed: float | None) -> float | None:
    return observed if measured is None else measured


def _since(start: float, at: float) -> float:
    return round(max(0.0, at - start), 1)


def _rest(total: float, endpoint: float | None, llm: float | None) -> float:
    """Return the part of the wait that is not the endpoint's and not the LLM's."""
    return round(max(0.0, total - (endpoint or 0.0) - (llm or 0.0)), 1)
