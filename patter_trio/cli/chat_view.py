"""The output of ``patter-trio test``: a conversation for people, or one JSON object for each event."""

import json
from typing import Any, Final, Protocol, TextIO

from patter_trio.abc import EventRecord
from patter_trio.cli.terminal import printable
from patter_trio.cli.terminal_text import paint_of, shortened

_LABEL_WIDTH: Final = 8
PROMPT: Final = "> "
_CLEAR_LINE: Final = "\r\x1b[K"


def _turns(count: int) -> str:
    return f"{count} turn{'' if count == 1 else 's'}"


class ChatView(Protocol):
    """A display of a call in text."""

    def event(self, event: EventRecord) -> None:
        """Show an event."""

    def caller(self, line: str) -> None:
        """Show what the caller says or presses next, unless it was typed here."""

    def typed(self, line: str) -> None:
        """Note a line that was typed in this terminal, where it is shown already."""

    def note(self, text: str) -> None:
        """Show a line for the person at the keyboard."""


class JsonView:
    """One JSON object in a line for each event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, event: EventRecord) -> None:
        """Write an event."""
        # ASCII: a reader of any encoding gets the same, and nothing in it controls a terminal.
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()

    def caller(self, line: str) -> None:
        """Do nothing: the event of the caller's words follows."""

    def typed(self, line: str) -> None:
        """Do nothing, as :meth:`caller`."""

    def note(self, text: str) -> None:
        """Do nothing: machines know the commands."""


class Beside:
    """A stream that others write to while a view uses the same terminal: what they write stands in lines of its own.

    Args:
        view: the view.
        stream: the stream, such as standard error, where the log goes.
    """

    def __init__(self, view: "TerminalView", stream: TextIO) -> None:
        self._view = view
        self._stream = stream
        self._takes_prompt = False

    def __getattr__(self, name: str) -> Any:
        # All else that a stream can is that of the stream.
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, after the view's line is ended."""
        self._takes_prompt = self._view.make_room() or self._takes_prompt
        count = self._stream.write(text)
        # ``print`` writes the end of a line apart.
        if self._takes_prompt and text.endswith("\n"):
            self._takes_prompt = False
            self._stream.flush()
            self._view.prompt()
        return count


class TerminalView:
    """The conversation as it happens: who says what, tools in dim lines, and how long each answer took.

    Args:
        out: the stream.
        prompts: True if somebody types in the same terminal.
    """

    def __init__(self, out: TextIO, *, prompts: bool) -> None:
        self._out = out
        self._prompts = prompts
        self._paint = paint_of(out)
        self._is_prompted = False
        self._speaks = False
        """True while a line with words of the agent has no end."""
        self._typed = ""
        self._asked_at: float | None = None
        self._first_at: float | None = None

    # What is shown ----------------------------------------------------------------------------------------------------
    def event(self, event: EventRecord) -> None:
        """Show an event."""
        data, at_ms = event["data"], event["at_ms"]
        match event["type"]:
            case "turn_started":
                self._asked_at = at_ms if data["turn_idx"] else None
                self._first_at = None
            case "agent_text":
                self._say(data["text"], at_ms)
            case "transcript_final" if data["role"] == "user" and data["text"] != self._typed:
                # Keys that are complete, or words that a hook has changed.
                self._line(self._paint.caller(f"{'caller':<{_LABEL_WIDTH}}{printable(data['text'])}"))
            case "tool_call_started":
                self._aside("tool", f"{printable(data['name'])}({self._short(data['arguments'], data['name'])})")
            case "tool_call_completed":
                self._tool_completed(data)
            case "reply_ended":
                self._reply_ended(data, at_ms)
            case "reply_failed":
                self._line(self._paint.bad(f"{'agent':<{_LABEL_WIDTH}}REPLY FAILED: {printable(data['reason'])}"))
            case "guardrail":
                self._aside("guard", f"{printable(data['name'])} blocked a sentence")
            case "turn_vetoed":
                self._aside("hook", "after_transcribe dropped this message: it gets no answer")
            case "transfer":
                self._aside("carrier", f"would connect the caller with {printable(data['to'])}")
            case "take_over":
                briefing = f", and say: {printable(data['briefing'])}" if data["briefing"] else ""
                self._aside("carrier", f"would call {printable(data['to'])}{briefing}; here the person accepts at once")
            case "digits":
                self._aside("carrier", f"would send the keys {printable(data['digits'])}")
            case "dial":
                self._aside("carrier", f"would call {printable(data['to'])}; a call in text calls nobody")
            case "call_ended":
                self._end(data)
            case _:
                pass

    def caller(self, line: str) -> None:
        """Show what the caller says or presses next."""
        self._line(self._paint.caller(f"{'caller':<{_LABEL_WIDTH}}{printable(line)}"))
        self._typed = line

    def typed(self, line: str) -> None:
        """Note a line that was typed."""
        # With single spaces, as the words come back in their event.
        self._typed, self._is_prompted = " ".join(line.split()), False

    def note(self, text: str) -> None:
        """Show lines for the person at the keyboard."""
        for line in text.splitlines():
            self._line(self._paint.dim(line))
        self.prompt()

    def prompt(self) -> None:
        """Ask for the next line, where somebody types."""
        if self._prompts and not self._is_prompted and not self._speaks:
            self._is_prompted = True
            self._out.write(PROMPT)
            self._out.flush()

    def make_room(self) -> bool:
        """End the line for somebody else, who writes below it; return True if a prompt was taken away."""
        was_prompted = self._is_prompted
        if was_prompted or self._speaks:
            self._finish_line()
            self._clear()
            self._out.flush()
        return was_prompted

    def _say(self, text: str, at_ms: float) -> None:
        if self._first_at is None:
            self._first_at = at_ms
        if not self._speaks:
            self._clear()
            # A gap that belongs between two sentences of one line.
            text = f"{'agent':<{_LABEL_WIDTH}}{text.lstrip()}"
            self._speaks = True
        self._out.write(self._paint.agent(printable(text)))
        self._out.flush()

    def _reply_ended(self, data: Any, at_ms: float) -> None:
        # The caller's own hang-up cuts a reply as well, and is shown by itself.
        if self._speaks and data["reason"] not in {"played", "leg down"}:
            self._out.write(self._paint.agent(" -"))
            self._aside("", f"interrupted ({printable(data['reason'])})")
        if data["turn_idx"] and self._asked_at is not None and self._first_at is not None:
            first, whole = self._first_at - self._asked_at, at_ms - self._asked_at
            self._aside("", f"{first / 1000:.2f} s to the first words, {whole / 1000:.2f} s in all")
        self._first_at = None
        self._finish_line()
        self.prompt()

    def _tool_completed(self, data: Any) -> None:
        if "error" in data:
            failed = f"{printable(data['name'])} FAILED: {self._short(data['error'], data['name'])}"
            self._line(self._paint.bad(f"{'tool':<{_LABEL_WIDTH}}{failed}"))
        else:
            result = self._short(data["result"], data["name"])
            self._aside("tool", f"{printable(data['name'])} -> {result}  {data['duration']:.2f} s")

    def _short(self, value: object, name: str) -> str:
        # Behind label, name, arrow or brackets, and the duration.
        return shortened(value, _LABEL_WIDTH + len(name) + 16)

    def _end(self, data: Any) -> None:
        why = f": {printable(data['error'])}" if "error" in data else ""
        self._aside("call", printable(data["outcome"]).replace("_", " ") + why)
        metrics, transcript = data["metrics"], data["transcript"]
        facts = [] if metrics is None else [_turns(len(metrics["turns"])), f"${metrics['cost']['total']:.4f}"]
        self._line("")
        self._line(f"Transcript of {data['call_id']}{''.join(f', {fact}' for fact in facts)}:")
        for entry in transcript or [{"role": "", "text": "(nobody said anything)"}]:
            is_caller = entry["role"] == "user"
            paint = self._paint.caller if is_caller else self._paint.agent
            who = "caller" if is_caller else "agent" if entry["role"] else ""
            self._line(paint(f"  {who:<{_LABEL_WIDTH}}{printable(entry['text'])}"))
        # Nothing more is asked for.
        self._prompts = False

    # Lines ------------------------------------------------------------------------------------------------------------
    def _aside(self, label: str, text: str) -> None:
        self._line(self._paint.dim(f"{label:<{_LABEL_WIDTH}}{text}"))

    def _line(self, text: str) -> None:
        self._finish_line()
        self._clear()
        self._out.write(text + "\n")
        self._out.flush()

    def _finish_line(self) -> None:
        if self._speaks:
            self._speaks = False
            self._out.write("\n")

    def _clear(self) -> None:
        """Take the prompt away, before something else stands in its line."""
        if self._is_prompted:
            self._is_prompted = False
            # What somebody has typed there, and not sent, is kept by the terminal and sent with the line.
            self._out.write(_CLEAR_LINE if self._paint.is_on else "\n")
