"""The output while calls are held: one call line by line, or the progress of many."""

import sys
import textwrap
from typing import Any, Final

from patter_trio.phone_numbers import mask_number

# Room for 9999.99 s, nearly three hours.
_NAME_WIDTH_CHARACTERS: Final = 7
# Judged: the line fits into a terminal of 100 columns.
MAX_VALUE_CHARACTERS: Final = 60
"""Longest arguments, or result, of a tool that are shown, in characters."""


class Live:
    """One call, one event per line: time, speaker, event."""

    def __init__(self) -> None:
        self._voice_end = 0.0
        # Kept, because the words of a reply come behind its end.
        self._interrupted: float | None = None

    def event(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Show an event."""
        match name:
            case "call_start":
                caller = mask_number(payload["caller"]) or "a withheld number"
                self._line(at, "call", f"from {caller} to {mask_number(payload['callee'])}")
            case "user_speech_started":
                self._line(at, "caller", "speaking ...")
            case "transcript_partial":
                self._line(at, "caller", f"~ {payload['text']}")
            case "user_speech_ended":
                self._voice_end = payload["audio_offset_ms"] / 1000
                self._line(at, "caller", f"silent since {self._voice_end:.2f}")
            case "user_speech_eos":
                self._line(at, "caller", f"has finished ({payload['trailing_silence_ms'] / 1000:.2f} s of silence)")
            case "llm_token":
                self._line(at, "agent", f"first token by {payload['model'] or payload['llm_provider']}")
            case "audio_out":
                self._line(at, "agent", f"first audio by {payload['tts_provider']}")
            case "agent_speech_started":
                # Not for the greeting, which answers nobody.
                waited = f" ({at - self._voice_end:.2f} s after the caller)" if payload["turn_idx"] else ""
                self._line(at, "agent", f"speaking ...{waited}")
            case "agent_speech_ended":
                self._interrupted = payload["speech_duration_ms"] / 1000 if payload["interrupted"] else None
                if self._interrupted is not None:
                    # In capitals: it is what one looks for in a log of a call.
                    self._line(at, "agent", f"INTERRUPTED after {self._interrupted:.2f} s")
            case "transcript":
                self._transcript(at, payload)
            case "tool_call_started":
                self._line(at, "agent", f"calls {payload['name']}({_shortened(payload['arguments'])})")
            case "tool_call_completed":
                result = f"FAILED: {payload['error']}" if "error" in payload else _shortened(payload["result"])
                self._line(at, "agent", f"{payload['name']} took {payload['duration']:.2f} s: {result}")
            case "metrics" if payload["turn"].failed:
                # In capitals, as an interruption.
                self._line(at, "agent", "REPLY FAILED")
            case "dtmf":
                # A key is a turn of the caller's, too: what the agent says next comes this long after it.
                self._voice_end = at
                self._line(at, "caller", f"pressed {payload['digit']}")
            case "call_end":
                self._line(at, "call", payload["outcome"].replace("_", " ") + _error(payload))
            case _:
                pass

    def _transcript(self, at: float, payload: dict[str, Any]) -> None:
        if payload["role"] == "user":
            revised = "corrected: " if payload.get("revises") else ""
            self._line(at, "caller", f"{revised}“{payload['text']}”")
            return
        # A dash shows that the words were cut.
        cut = " -" if self._interrupted is not None else ""
        self._line(at, "agent", f"“{payload['text']}{cut}”")

    def caller(self, at: float, line: str) -> None:
        """Show that the caller begins to speak a line."""
        self._line(at, "caller", f"> {line}")

    def ended(self, call_id: str, failure: str) -> None:
        """Show whether the call went well."""
        print(f"Call {call_id}: {'FAILED: ' + failure if failure else 'ended as expected'}", flush=True)

    def _line(self, at: float, who: str, what: str) -> None:
        # Flushed: the lines are read while the call goes on.
        print(f"{at:{_NAME_WIDTH_CHARACTERS}.2f}  {who:<6}  {what}", flush=True)


class Progress:
    """Many calls: how many are live, over, and failed."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._started = self._ended = self._failed = 0
        # Only a terminal can rewrite a line; a log would have one for each change.
        self._rewrites = sys.stderr.isatty()

    def event(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Count the calls that start."""
        del at, payload
        if name == "call_start":
            self._started += 1
            self._show(new=False)

    def caller(self, at: float, line: str) -> None:
        """Do nothing: too many callers speak at once."""

    def ended(self, call_id: str, failure: str) -> None:
        """Count a call that is over, and print the reason at once if it failed."""
        self._ended += 1
        if failure:
            self._failed += 1
            # Ends the line that is being rewritten.
            lead = "\n" if self._rewrites else ""
            print(f"{lead}Call {call_id}: FAILED: {failure}", file=sys.stderr)
        self._show(new=True)

    def _show(self, *, new: bool) -> None:
        # Never below 0: a call that is refused ends without having started.
        text = (
            f"{self._ended} of {self._calls} calls over, {max(0, self._started - self._ended)} live, "
            f"{self._failed} failed"
        )
        if self._rewrites:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
        elif new:
            print(text, file=sys.stderr, flush=True)


def _shortened(value: object) -> str:
    """Return arguments or a result of a tool as they fit into a line."""
    text = ", ".join(f"{name}={part!r}" for name, part in value.items()) if isinstance(value, dict) else str(value)
    # One line, whatever line breaks it has.
    return textwrap.shorten(text, MAX_VALUE_CHARACTERS, placeholder=" ...")


def _error(payload: dict[str, Any]) -> str:
    return f": {payload['error']}" if "error" in payload else ""
