"""The output while calls are held: one call line by line, or the progress of many."""

import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

from patter_trio.cli.terminal import ALERT, FAINT, STYLES, printable
from patter_trio.phone_numbers import mask_number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

# Room for 9999.99 s, nearly three hours.
_NAME_WIDTH_CHARACTERS: Final = 7
# Judged: the line fits into a terminal of 100 columns.
MAX_VALUE_CHARACTERS: Final = 60
"""Longest arguments, or result, of a tool that are shown, in characters."""


class Live:
    """One call, one event per line: time, speaker, event.

    Args:
        console: the terminal; None: plain lines on standard output.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        self._console = console
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
                self._line(at, "caller", f"~ {payload['text']}", FAINT)
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
                    self._line(at, "agent", f"INTERRUPTED after {self._interrupted:.2f} s", ALERT)
            case "transcript":
                self._transcript(at, payload)
            case "tool_call_started":
                self._line(at, "agent", f"calls {payload['name']}({_shortened(payload['arguments'])})")
            case "tool_call_completed":
                result = f"FAILED: {payload['error']}" if "error" in payload else _shortened(payload["result"])
                style = ALERT if "error" in payload else ""
                self._line(at, "agent", f"{payload['name']} took {payload['duration']:.2f} s: {result}", style)
            case "metrics" if payload["turn"].failed:
                # In capitals, as an interruption.
                self._line(at, "agent", "REPLY FAILED", ALERT)
            case "dtmf":
                # A key is a turn of the caller's, too: what the agent says next comes this long after it.
                self._voice_end = at
                self._line(at, "caller", f"pressed {payload['digit']}")
            case "call_end":
                end = payload["outcome"].replace("_", " ") + _error(payload)
                self._line(at, "call", end, ALERT if "error" in payload else "bold")
            case _:
                pass

    def _transcript(self, at: float, payload: dict[str, Any]) -> None:
        if payload["role"] == "user":
            revised = "corrected: " if payload.get("revises") else ""
            self._line(at, "caller", f"{revised}“{payload['text']}”", STYLES["caller"])
            return
        # A dash shows that the words were cut.
        cut = " -" if self._interrupted is not None else ""
        self._line(at, "agent", f"“{payload['text']}{cut}”", STYLES["agent"])

    def caller(self, at: float, line: str) -> None:
        """Show that the caller begins to speak a line."""
        self._line(at, "caller", f"> {line}")

    def ended(self, call_id: str, failure: str) -> None:
        """Show whether the call went well."""
        line = printable(f"Call {call_id}: {'FAILED: ' + failure if failure else 'ended as expected'}")
        if self._console is None:
            print(line, flush=True)
        else:
            self._console.print(line, style=ALERT if failure else "bold", soft_wrap=True)

    def close(self) -> None:
        """Do nothing: each line is complete."""

    def _line(self, at: float, who: str, what: str, style: str = "") -> None:
        time, what = f"{at:{_NAME_WIDTH_CHARACTERS}.2f}", printable(what)
        if self._console is None:
            # Flushed: the lines are read while the call goes on.
            print(f"{time}  {who:<6}  {what}", flush=True)
            return
        from rich.text import Text  # noqa: PLC0415 (loaded with the console, on a terminal alone)

        line = Text.assemble((f"{time}  ", FAINT), (f"{who:<6}  ", STYLES[who]), (what, style))
        self._console.print(line, soft_wrap=True)


class Progress:
    """Many calls: how many are live, over, and failed.

    Args:
        calls: the number of calls.
        console: the terminal, which shows a bar; None: a line on standard error for each call that is over.
    """

    def __init__(self, calls: int, console: "Console | None" = None) -> None:
        self._calls = calls
        self._started = self._ended = self._failed = 0
        self._console = console
        self._bar = None if console is None else _bar(console, calls)

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
            line = printable(f"Call {call_id}: FAILED: {failure}")
            if self._console is None:
                print(line, file=sys.stderr)
            else:
                self._console.print(line, style=ALERT, soft_wrap=True)
        self._show(new=True)

    def close(self) -> None:
        """Leave the bar as it is, and give the cursor back."""
        if self._bar is not None:
            self._bar.stop()

    def _show(self, *, new: bool) -> None:
        # Never below 0: a call that is refused ends without having started.
        live = max(0, self._started - self._ended)
        if self._bar is not None:
            # Here and not before: the lines of the loading are complete by now.
            self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=self._ended, live=live, failed=self._failed)
            self._bar.refresh()
        elif new:
            text = f"{self._ended} of {self._calls} calls over, {live} live, {self._failed} failed"
            print(text, file=sys.stderr, flush=True)


def _bar(console: "Console", calls: int) -> "Bar":
    """Return a bar of calls that only this program draws: without a thread of its own."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # noqa: PLC0415 (only on a terminal)
    from rich.progress import Progress as Bar  # noqa: PLC0415 (as above)

    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("calls over, {task.fields[live]} live, {task.fields[failed]} failed", markup=False),
        console=console,
        auto_refresh=False,
    )
    bar.add_task("", total=calls, live=0, failed=0)
    return bar


def _shortened(value: object) -> str:
    """Return arguments or a result of a tool as they fit into a line."""
    text = ", ".join(f"{name}={part!r}" for name, part in value.items()) if isinstance(value, dict) else str(value)
    # One line, whatever line breaks it has.
    return textwrap.shorten(text, MAX_VALUE_CHARACTERS, placeholder=" ...")


def _error(payload: dict[str, Any]) -> str:
    return f": {payload['error']}" if "error" in payload else ""
