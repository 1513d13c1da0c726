"""``patter-trio test``: a call by keyboard, from the command line, a pipe, and a terminal."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from patter_trio.abc import EventRecord
from patter_trio.cli import USAGE_EXIT_STATUS, main
from patter_trio.cli.chat_view import Beside, TerminalView
from patter_trio.cli.terminal import printable
from patter_trio.cli.terminal_text import Paint, paint_of, shortened
from patter_trio.text_chat._commands import MAX_LINE_CHARACTERS, Mistake, SayLine, command_of
from tests.kit.programs import environment

FRONT_DESK = Path(__file__).parents[2] / "examples" / "front_desk.py"

# Twilio and Deepgram without credentials: a call in text needs none.
AGENT = """
from patter_trio import DeepgramSTT, ElevenLabsTTS, Guardrail, Patter, Twilio, end_call, transfer_call
from patter_trio.testing import ScriptedLLM, tool_call

async def find(arguments):
    if arguments["day"] == "Sunday":
        raise ValueError("closed on Sunday")
    return {{"free": ["noon", "eight"]}}

phone = Patter(Twilio(), phone_number="+15550100002")
agent = phone.agent(
    "You are brief.",
    first_message="Hello.",
    stt=DeepgramSTT(),
    tts=ElevenLabsTTS(),
    llm=ScriptedLLM({replies}, first_token=0.01, duration=0.02),
    tools=[
        {{"name": "find", "description": "Find.", "handler": find, "parameters": {{"type": "object", "properties": {{
            "day": {{"type": "string"}}}}}}}},
        end_call,
        transfer_call({{"desk": "+15550100003"}}),
    ],
    guardrails=[Guardrail("prices", blocked_terms=["dollars"], replacement="I cannot say.")],
)
{more}
"""


def write(replies: str, more: str = "") -> str:
    Path("agent.py").write_text(AGENT.format(replies=replies, more=more), encoding="utf-8")
    return "agent.py"


def lines(text: str) -> list[str]:
    """Return the conversation, without the transcript behind it and without times."""
    shown = text.partition("\nTranscript of")[0]
    return [line for line in re.sub(r"\d+\.\d\d s", "# s", shown).splitlines() if line]


# Scripts --------------------------------------------------------------------------------------------------------------
def test_script_says_and_presses_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """The caller says and presses what the command line has, each after the answer; the transcript is at the end."""
    program = write(r"""[[tool_call("find", day="Saturday")], "Noon or eight.", [tool_call("find", day="Sunday")],
        "Closed.", "Ten dollars.", "One, then."]""")
    status = main(["test", program, "--say", "Saturday?", "--say", "Sunday?", "--say", "How much?", "--press", "1#"])
    out, _ = capsys.readouterr()
    assert status == 0
    assert lines(out) == [
        "agent   Hello.",
        "caller  Saturday?",
        "tool    find(day='Saturday')",
        "tool    find -> free=['noon', 'eight']  # s",
        "agent   Noon or eight.",
        "        # s to the first words, # s in all",
        "caller  Sunday?",
        "tool    find(day='Sunday')",
        "tool    find FAILED: ValueError: closed on Sunday",
        "agent   Closed.",
        "        # s to the first words, # s in all",
        "caller  How much?",
        "guard   prices blocked a sentence",
        "agent   I cannot say.",
        "        # s to the first words, # s in all",
        "caller  /press 1#",
        "caller  1",
        "agent   One, then.",
        "        # s to the first words, # s in all",
        "call    caller hung up",
    ]
    transcript = out.partition("Transcript of ")[2]
    assert re.match(r"text-[0-9a-f]{16}, 5 turns, \$0\.0000:\n", transcript)
    assert transcript.splitlines()[1:3] == ["  agent   Hello.", "  caller  Saturday?"]


PRINTING = """
import sys

import trio

from patter_trio import Patter

phone = Patter()
agent = phone.agent("x")

async def on_message(event):
    yield "One."
    await trio.sleep(0.5)  # longer than the pause after which a sentence is spoken
    print("printed")
    print("logged", file=sys.stderr)
    yield "Two."
"""


def test_what_others_write_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What the program writes in the middle of an answer stands in lines of its own, and a prompt comes back."""
    Path("agent.py").write_text(PRINTING, encoding="utf-8")
    assert main(["test", "agent.py", "--say", "Count"]) == 0
    out, err = capsys.readouterr()
    assert "agent   One.\nprinted\nagent   Two.\n" in out
    assert "logged" in err
    screen = io.StringIO()
    view = TerminalView(screen, prompts=True)
    beside = Beside(view, screen)
    view.prompt()
    print("of the program", file=beside)
    assert screen.getvalue() == "> \nof the program\n> "


def test_front_desk_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The first example holds its conversation in text."""
    assert main(["test", str(FRONT_DESK), "--say", "A table for four, please.", "--say", "My name is Ann."]) == 0
    out, _ = capsys.readouterr()
    assert "agent   A table for four, gladly. May I have your name, please?" in out
    assert "agent   Thank you, Ann. And a phone number, in case you are late?" in out


def test_transfer_is_shown_and_ends_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """A transfer is shown, not made; what the script cannot say any more is a failure."""
    program = write('[["Gladly.", tool_call("transfer_call", destination="desk")]]')
    assert main(["test", program, "--say", "A person", "--say", "Hello?"]) == 1
    out, err = capsys.readouterr()
    assert "carrier would connect the caller with +15550100003" in out
    assert "call    transferred" in out
    assert err.endswith("FAILED: the call was over before the caller could say 'Hello?'\n")


def test_agent_hangs_up_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """A call that the agent ends after the last line went well."""
    assert main(["test", write('[["Bye.", tool_call("end_call")]]'), "--say", "Bye"]) == 0
    assert "call    agent hung up" in capsys.readouterr().out


def test_failed_reply_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A reply that fails is shown with its reason, and the exit status is 1."""
    program = write("[]", more="import attrs\nagent = attrs.evolve(agent, llm=ScriptedLLM(['Yes.'], fail_after=0))")
    assert main(["test", program, "--say", "Hi", "--log-level", "error"]) == 1
    out, err = capsys.readouterr()
    assert "agent   REPLY FAILED: " in out
    assert "ScriptedLLM fails after 0 tokens" in err


def test_json_has_an_object_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each line is an event, and what the program prints goes elsewhere."""
    program = write('["Yes."]', more="print('loaded')\ndef on_transcript(event): print(event['text'])")
    assert main(["test", program, "--say", "Hi", "--json"]) == 0
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [set(event) for event in events] == [{"seq", "call_id", "type", "at_ms", "time", "data"}] * len(events)
    spoken = [(event["data"]["role"], event["data"]["text"]) for event in events if event["type"] == "transcript_final"]
    assert spoken == [("assistant", "Hello."), ("user", "Hi"), ("assistant", "Yes.")]
    assert events[-1]["type"] == "call_ended"
    assert events[-1]["data"]["metrics"]["telephony_provider"] == "text"
    assert err.splitlines() == ["loaded", "Hello.", "Hi", "Yes."]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--say", " "], "--say and --press must have a text and keys, got ' '"),
        (["--say", "a" * (MAX_LINE_CHARACTERS + 1)], "--say must have at most 10000 characters, got 10001"),
        (["--press", "1x"], "--press: keys must be those of a telephone (0-9, *, #, A-D), got 'x'"),
        (["--from", "Ann"], "--from must be a number in E.164 such as +15550100003, got 'Ann'"),
    ],
)
def test_mistake_is_one_line(options: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake on the command line is named in one line, with exit status 2, before the program is loaded."""
    assert main(["test", "missing.py", *options]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == f"patter-trio: {why}\n"


def test_program_with_main_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that serves by itself has no agent to test."""
    Path("own.py").write_text("async def main(): pass")
    assert main(["test", "own.py", "--say", "Hi"]) == USAGE_EXIT_STATUS
    assert "must have a `phone` and an `agent`" in capsys.readouterr().err


# Pipes ----------------------------------------------------------------------------------------------------------------
def piped(text: str, program: Path | str = FRONT_DESK) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "patter_trio", "test", str(program)],
        input=text,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_lines_of_a_pipe_wait_for_answers() -> None:
    """Lines of a pipe are said one after another, commands are obeyed, and its end hangs up."""
    done = piped("When do you open?\n\n/state\n/help\nbye")
    assert done.returncode == 0
    shown = lines(done.stdout)
    assert shown[3].startswith("agent   On weekdays we open at noon")
    assert "caller listening, agent idle, turn 1, $0.0000 so far" in shown
    assert "/press  press keys: /press 1#" in shown
    assert "agent   Thank you for calling. See you soon!" in shown
    assert "\x1b" not in done.stdout


def test_pipe_with_a_meaningless_line_has_failed() -> None:
    """A line that means nothing is shown, the rest is said, and the exit status is 1, as a script has no reader."""
    done = piped(f"/nope\n{'a' * (MAX_LINE_CHARACTERS + 1)}\nWhen do you open?\n")
    shown = lines(done.stdout)
    assert any(line.startswith("a command must be one of /press, /hang, /state, /help, got /nope") for line in shown)
    assert "a line must have at most 10000 characters, got 10001" in shown
    assert "caller  When do you open?" in shown
    assert done.stderr.startswith("FAILED: a command must be one of /press, /hang, /state, /help, got /nope")
    assert done.returncode == 1


def test_pipe_that_outlasts_the_call_has_failed() -> None:
    """A line that waits when the agent has hung up is a failure, as one of --say is."""
    done = piped("Bye\nOne more question\n", write('[["Bye.", tool_call("end_call")]]'))
    assert "call    agent hung up" in done.stdout
    assert done.stderr == "FAILED: the call was over before the caller could say 'One more question'\n"
    assert done.returncode == 1


def test_reader_that_goes_away_ends_the_call() -> None:
    """A broken pipe ends the call in order, without a traceback."""
    command = f"{sys.executable} -m patter_trio test {FRONT_DESK} --say Hello --say Hello | head -1"
    done = subprocess.run(  # noqa: S603 (our own program)
        ["/bin/bash", "-c", f"set -o pipefail; {command}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("A call from text.\n", "", 1)


# A terminal -----------------------------------------------------------------------------------------------------------
@attrs.define
class Terminal:
    """A program at a terminal, and what it has shown."""

    process: int
    descriptor: int
    shown: str = ""
    seen: int = 0

    def until(self, text: str, seconds: float = 60.0) -> str:
        """Read until the program has shown a text behind the one before, and return what stands up to it."""
        start = self.seen
        # Real time, on a machine that others use; far more than a program needs.
        while text not in self.shown[start:]:
            ready, _, _ = select.select([self.descriptor], [], [], seconds)
            assert ready, f"{text!r} was not shown: {self.shown[start:]!r}"
            try:
                self.shown += os.read(self.descriptor, 4096).decode()
            except OSError:  # Linux reports the end of a terminal so
                break
        place = self.shown.find(text, start)
        self.seen = len(self.shown) if place < 0 else place + len(text)
        return self.shown[start : self.seen]

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@contextmanager
def terminal(program: str, **variables: str) -> Iterator[Terminal]:
    process, descriptor = pty.fork()
    if not process:
        # The child: nothing of the test may run here.
        command = [sys.executable, "-m", "patter_trio", "test", program]
        os.execve(command[0], command, environment(TERM="xterm", **variables))  # noqa: S606 (our own program)
    try:
        yield Terminal(process, descriptor)
    finally:
        os.close(descriptor)


def test_conversation_at_a_terminal() -> None:
    """A person types, resizes the window, sees colours and the state, and hangs up by Ctrl-D: status 0."""
    with terminal(str(FRONT_DESK)) as screen:
        screen.until("How can I help you?")
        screen.until("> ")
        screen.type("When do you open?\n")
        assert "\x1b[33magent   On weekdays we open at noon" in screen.until("in all")
        screen.until("> ")
        fcntl.ioctl(screen.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
        screen.type("/state\n")
        screen.until("turn 1")
        screen.type("\x04")
        assert "caller hung up" in screen.until("close at eleven.\x1b[0m\r\n")
        assert screen.status() == 0


def test_ctrl_c_hangs_up_politely() -> None:
    """Ctrl-C hangs up as the caller: on_call_end runs, the transcript is shown, and the status is 0."""
    with terminal(str(FRONT_DESK), NO_COLOR="1") as screen:
        screen.until("How can I help you?")
        screen.until("> ")
        screen.type("\x03")
        ended = screen.until("never shown")
        assert "caller_hung_up after 1 utterances." in ended
        assert "Transcript of text-" in ended
        assert screen.status() == 0
        assert not re.search(r"\x1b\[\d+m", screen.shown)


def test_ctrl_c_stops_a_script() -> None:
    """A script that Ctrl-C stops ends its call in order, with exit status 130."""
    write("['Yes.']", more="import attrs\nagent = attrs.evolve(agent, llm=ScriptedLLM(['Yes.'], hang_after=0))")
    process = subprocess.Popen(
        [sys.executable, "-m", "patter_trio", "test", "agent.py", "--say", "Hi"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "caller  Hi" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "\npatter-trio: stopped\n")
    assert "call    caller hung up" in out


# Text of others -------------------------------------------------------------------------------------------------------
def test_nothing_said_controls_the_terminal() -> None:
    """Escape sequences, line breaks, and marks that reverse the direction do not reach the terminal."""
    out = io.StringIO()
    view = TerminalView(out, prompts=False)
    evil = "\x1b]0;title\x07a\r\nb\x9b31m\u202ec\u2066\ud800"
    transcript = [{"role": "assistant", "text": evil}]
    end = {"call_id": "c", "outcome": "completed", "error": evil, "metrics": None, "transcript": transcript}
    for kind, data in (
        ("agent_text", {"text": evil}),
        ("transcript_final", {"role": "user", "text": evil}),
        ("tool_call_started", {"name": evil, "arguments": {"a": evil}}),
        ("tool_call_completed", {"name": evil, "result": evil, "duration": 1.0}),
        ("tool_call_completed", {"name": evil, "error": evil, "duration": 1.0}),
        ("reply_failed", {"reason": evil}),
        ("guardrail", {"name": evil}),
        ("take_over", {"to": evil, "briefing": evil}),
        ("call_ended", end),
    ):
        view.event(EventRecord(seq=1, call_id="c", type=kind, at_ms=0.0, time="", data=data))
    view.caller(evil)
    assert set(out.getvalue()) - {"\n"} <= {chr(code) for code in range(32, 127)}


def test_scripts_of_the_world_stay() -> None:
    """Letters of any script and joined emoji are shown as they are."""
    text = "مرحبا שלום नमस्ते 你好 👩‍👩‍👧 می‌خواهم"
    assert printable(text) == text


def test_colours_only_where_they_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has no colours, nor has a terminal with NO_COLOR or a dumb one."""

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint_of(io.StringIO()) == Paint(is_on=False)
    assert paint_of(Tty()) == Paint(is_on=True)
    monkeypatch.setenv("TERM", "dumb")
    assert paint_of(Tty()) == Paint(is_on=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint_of(Tty()) == Paint(is_on=False)


def test_long_values_fit_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and results are cut at the width of the window, which is asked each time."""
    monkeypatch.setenv("COLUMNS", "60")
    assert len(shortened("word " * 50, 10)) <= 50
    monkeypatch.setenv("COLUMNS", "1")
    assert shortened({"day": "Saturday"}, 10) == "day='Saturday'"


def test_slash_can_be_said() -> None:
    """Two slashes say a text that begins with one; a line that is too long is refused."""
    assert command_of("//etc is a folder") == SayLine("/etc is a folder")
    assert command_of("  ") is None
    assert isinstance(command_of("a" * (MAX_LINE_CHARACTERS + 1)), Mistake)
    assert command_of("/press") == Mistake("/press must have keys, as in /press 1#")
