"""A simulated caller's manners, in virtual time: when it speaks, and what it complains of."""

import json
import re
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio import ConfigurationError, Keypad, Patter
from patter_trio.abc import EventRecord
from patter_trio.call.recording import path_name_of
from patter_trio.cli.busy import LoadMonitor
from patter_trio.cli.caller import DEFAULT_LINES, Keys, Line, SimulatedCall, synthesised
from patter_trio.cli.report import latency_table, write_call
from patter_trio.cli.simulate import _report
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.timeline.call_timeline import CallTimeline
from tests.kit.cli import Seen, ready_call, sound


class Seemingly(LoadMonitor):
    """Has a verdict of its own, whatever the machine does."""

    def __init__(self, verdict: str) -> None:
        super().__init__()
        self._verdict = verdict

    def verdict(self) -> str:
        return self._verdict


APOLOGY = "I am sorry, something went wrong. Could you say that again?"
HELLO = "Hello."


async def held(
    lines: int = 2,
    interrupt_at: float | None = None,
    on_message: Any = None,
    timeouts: dict[str, float] | None = None,
    **options: Any,
) -> tuple[SimulatedCall, Seen]:
    """Hold a call with recordings of a second each; replies last 2 s, the end of an utterance is known after 0.5 s."""
    phone = Patter()
    chosen: dict[str, Any] = {
        "first_message": HELLO,
        "vad": ScriptedVAD(),
        "stt": ScriptedSTT(noise="hours"),
        "llm": None if on_message else ScriptedLLM(["Yes."]),
        "tts": ScriptedTTS(duration=2.0),
    }
    agent = phone.agent("x", **chosen | options)
    recordings = [(f"{number}.wav", sound(1.0)) for number in range(lines)]
    async with ready_call(
        agent, *recordings, phone=phone, interrupt_at=interrupt_at, timeouts=timeouts, on_message=on_message
    ) as (
        call,
        seen,
    ):
        with trio.fail_after(300):
            await call.run()
    assert seen.ends == [(call.call_id, call.failure)]
    return call, seen


async def test_recordings_play_after_the_agent_finishes(autojump_clock: MockClock) -> None:
    """The simulated caller plays each recording when the agent has finished speaking."""
    call, seen = await held()
    assert call.failure == ""
    assert call.caller.outcome == "caller_hung_up"
    # The greeting is heard from 0.2 to 2.2; a reply begins 0.9 s after the voice and lasts 2 s; then 0.4 s of manners,
    # once to be sure that the agent has finished, once before the next line.
    assert seen.lines == [(pytest.approx(2.6), "0.wav"), (pytest.approx(7.5), "1.wav")]
    assert [heard.interrupted for heard in call.caller.utterances] == [False, False, False]
    assert call.carrier.ended_at == pytest.approx(12.0)
    assert seen.names[0] == "call_start"
    assert seen.names[-1] == "call_end"


async def test_interrupt_at_counts_from_first_reply(autojump_clock: MockClock) -> None:
    """The interrupt_at time counts from when the first reply is audible."""
    call, seen = await held(3, interrupt_at=0.5)
    audible = call.caller.utterances[1].started  # 0 is the greeting
    assert seen.lines[1] == (pytest.approx(audible + 0.5), "1.wav")
    assert [heard.interrupted for heard in call.caller.utterances] == [False, True, False, False]
    assert call.caller.utterances[1].ended == pytest.approx(audible + 0.5 + 0.25, abs=0.02)
    assert call.failure == ""


async def test_caller_speaks_first_without_greeting(
    autojump_clock: MockClock,
) -> None:
    """Without a greeting, the simulated caller speaks as soon as the agent clearly waits."""
    call, seen = await held(first_message="")
    assert seen.lines[0] == (pytest.approx(1.05, abs=0.05), "0.wav")
    assert call.failure == ""


async def test_keys_are_pressed_in_their_turn(autojump_clock: MockClock) -> None:
    """The simulated caller presses keys when the agent has finished, and waits for what the agent says about them."""
    phone, pressed = Patter(), []

    async def on_dtmf(event: dict[str, Any], call_control: Any) -> None:
        pressed.append(event["digit"])
        if event["digit"] == "#":
            # A look-up that takes longer than the pause in which a caller concludes that nothing comes.
            call_control.say("Thank you.")

    agent = phone.agent(
        "x",
        first_message="Your number?",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(noise="hours"),
        llm=ScriptedLLM(["Yes."]),
        tts=ScriptedTTS(first_audio=0.8, duration=2.0),
        dtmf=False,
    )
    lines: list[Line] = [Keys("12#"), ("0.wav", sound(1.0))]
    async with ready_call(agent, *lines, phone=phone, on_dtmf=on_dtmf, number="") as (call, seen):
        with trio.fail_after(300):
            await call.run()
    assert (call.failure, pressed) == ("", ["1", "2", "#"])
    assert [heard.text for heard in call.caller.utterances] == ["Your number?", "Thank you.", "Yes."]
    assert not any(heard.interrupted for heard in call.caller.utterances)
    # The recording has its name in the record, and the caller withheld its number.
    assert [said.text for said in call.caller.said] == ["<0.wav>"]
    assert call.caller.payloads("call_start")[0]["caller"] == ""
    assert call.caller.times("agent_speech_started")[1] < seen.lines[0][0]


async def test_keys_need_no_answer(autojump_clock: MockClock) -> None:
    """A simulated caller whose keys are not answered goes on after a second, and the call has not failed."""
    phone = Patter()
    agent = phone.agent("x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM([]), tts=ScriptedTTS(), dtmf=False)
    async with ready_call(agent, Keys("1"), Keys("2"), phone=phone) as (call, _):
        with trio.fail_after(300):
            await call.run()
    assert (call.failure, call.caller.outcome) == ("", "caller_hung_up")
    assert [event["digit"] for event in call.caller.payloads("dtmf")] == ["1", "2"]


async def test_keys_after_the_call_are_a_failure(autojump_clock: MockClock) -> None:
    """A call that the agent ends before the caller could press its keys has failed."""
    phone = Patter()
    agent = phone.agent(
        "x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM([]), tts=ScriptedTTS(), silence_timeout=0.2
    )
    async with ready_call(agent, Keys("1"), phone=phone) as (call, _):
        with trio.fail_after(300):
            await call.run()
    assert call.failure == "the call was over before the caller could press 1"


async def test_slow_greeting_is_waited_for(autojump_clock: MockClock) -> None:
    """The simulated caller waits for a greeting that comes late."""
    _, seen = await held(tts=ScriptedTTS(first_audio=3.0, duration=1.0))
    assert seen.lines[0] == (pytest.approx(4.4, abs=0.05), "0.wav")


async def no_answer(event: dict[str, Any]) -> None:
    del event


async def bug(event: dict[str, Any]) -> None:
    raise KeyError(event["text"])


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        (
            {"lines": 1, "on_message": no_answer},
            "the agent did not answer: the caller heard nothing after speaking",
        ),
        (
            {"lines": 1, "tts": ScriptedTTS(fail_after=0), "first_message": ""},
            "the agent did not answer: the caller heard nothing after speaking",
        ),
        (
            {"tts": ScriptedTTS(mute=True), "interrupt_at": 0.5, "first_message": ""},
            "the agent did not answer the first recording",
        ),
        (
            {"lines": 1, "on_message": bug},
            f"a reply failed (bug raised KeyError: 'hours'): the caller heard “{APOLOGY}”",
        ),
        (
            {"lines": 1, "llm": ScriptedLLM(["x"], fail_after=0)},
            f"a reply failed (ScriptedLLM fails after 0 tokens, as scripted): the caller heard “{APOLOGY}”",
        ),
        (
            {"lines": 1, "llm": ScriptedLLM(["x"], hang_after=0)},
            f"a reply failed (no audio came in time from the LLM or on_message): the caller heard “{APOLOGY}”",
        ),
        ({"stt": ScriptedSTT(silent=True)}, "no words were recognised in 0.wav"),
        ({"stt": ScriptedSTT(noise=None)}, "no words were recognised in 0.wav"),
        ({"stt": ScriptedSTT(fail_to_open=True)}, "ScriptedSTT opens no session, as scripted"),
        ({"stt": ScriptedSTT(noise="x", fail_at=7.0)}, "ScriptedSTT has failed after 7 s, as scripted"),
        ({"stt": ScriptedSTT(hang_on_open=True)}, "scripted was not ready within 10 s"),
        ({"tts": ScriptedTTS(fail_to_open=True)}, "ScriptedTTS opens no session, as scripted"),
        ({"vad": ScriptedVAD(fail_at=2.0)}, "ScriptedVAD fails after 2 s, as scripted"),
        ({"max_call_duration": 4.0}, "the call was over before the caller could say 1.wav"),
        ({"max_call_duration": 4.0, "interrupt_at": 30}, "the call was over before the caller could say 1.wav"),
        ({"silence_timeout": 0.3}, "the call was over before the caller could say 0.wav"),
    ],
    ids=[
        "no answer",
        "no voice",
        "no answer to interrupt",
        "bug",
        "llm fails",
        "llm hangs",
        "hears nothing",
        "recognises nothing",
        "no stt",
        "stt fails",
        "stt hangs",
        "no tts",
        "detector fails",
        "hangs up",
        "hangs up before the interruption",
        "hangs up at once",
    ],
)
async def test_failed_call_says_why_and_ends(
    options: dict[str, Any],
    failure: str,
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    """A call that fails says why, ends as usual, and saves its timeline."""
    # Longer than the agent's own bounds, and cheaper than a minute.
    call, _ = await held(timeouts={"answer_timeout_s": 20.0, "greeting_timeout_s": 12.0}, **options)
    assert call.failure.endswith(failure)
    assert call.carrier.ended in ("caller_hung_up", "agent_hung_up")
    place = await write_call(call, tmp_path)
    text = (place / "timeline.json").read_text(encoding="utf-8")
    assert "Infinity" not in text
    assert json.loads(text)["failure"] == call.failure


async def test_overlong_answer_is_a_failure(autojump_clock: MockClock) -> None:
    """An answer that does not end in time fails the call."""
    call, _ = await held(timeouts={"answer_timeout_s": 5.0}, first_message="", tts=ScriptedTTS(duration=30.0))
    assert call.failure == "the agent did not finish its answer to 0.wav within 5 s"


async def test_refused_call_fails_and_saves_nothing(
    autojump_clock: MockClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused call counts as a failure and saves nothing."""

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise CallRefused("busy", "the server refused the call: busy")

    phone = Patter()
    agent = phone.agent("x", stt=ScriptedSTT(), tts=ScriptedTTS(), llm=ScriptedLLM(["x"]))
    async with ready_call(agent, ("a.wav", sound()), phone=phone) as (served, _):
        call, seen = served, Seen()
        call.carrier._connect = connect
        call._view = seen
        await call.run()
    assert call.failure == "the server refused the call: busy"
    assert seen.ends == [(call.call_id, call.failure)]
    assert await _report([call], tmp_path, Seemingly("")) == 1
    assert capsys.readouterr().out == f"\n{latency_table([])}\n"
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 (after the call)


async def test_missing_call_end_is_a_failure(autojump_clock: MockClock) -> None:
    """A call whose server never reports its end counts as a failure."""
    phone = Patter()
    agent = phone.agent(
        "x", vad=ScriptedVAD(), stt=ScriptedSTT(noise="x"), tts=ScriptedTTS(), llm=ScriptedLLM(["Yes."])
    )
    async with ready_call(agent, ("a.wav", sound(1.0)), phone=phone) as (call, _):
        tap = call.tap
        call.tap = lambda at, name, payload: None if name == "call_end" else tap(at, name, payload)  # type: ignore[method-assign]
        await call.run()
    assert call.failure == "the agent's side did not end the call"


async def test_report_says_when_machine_was_busy(
    autojump_clock: MockClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report says when the machine was too busy, and still names the saved files."""
    call, _ = await held(1)
    assert await _report([call], tmp_path, Seemingly("Too busy.")) == 0
    *_, verdict, _, place = capsys.readouterr().out.splitlines()
    assert verdict == "Too busy."
    assert str(tmp_path / "calls" / call.call_id) in place


async def test_folder_that_became_unwritable_is_one_line(autojump_clock: MockClock, tmp_path: Path) -> None:
    """A folder that can no longer be written raises a one-line error."""
    call, _ = await held(1)
    (tmp_path / "calls").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"calls/CA\w+ cannot be written: Not a directory$"):
        await _report([call], tmp_path, LoadMonitor())


# What is left of it ---------------------------------------------------------------------------------------------------
async def test_folder_is_safe_on_every_system(autojump_clock: MockClock, tmp_path: Path) -> None:
    """The folder of a call whose id has a colon, as Telnyx's have, has another name."""
    call, _ = await held(1)
    call.call_id = "v3:one"
    place = await write_call(call, tmp_path)
    assert place.name == path_name_of("v3:one")
    assert re.fullmatch("v3_one-[0-9a-f]{16}", place.name)


async def test_recording_is_stereo_caller_left_agent_right(autojump_clock: MockClock, tmp_path: Path) -> None:
    """The recording is 16-bit stereo, with the caller on the left and the agent on the right."""
    call, _ = await held(1)
    place = await write_call(call, tmp_path)
    assert place == tmp_path / "calls" / call.call_id
    with wave.open(str(place / "call.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    loud = np.abs(frames.astype(int)) > 1000
    spans = [np.flatnonzero(loud[:, side])[[0, -1]] / 8000 for side in (0, 1)]
    assert spans[0] == pytest.approx([2.6, 3.6], abs=0.03)  # the caller's recording
    assert spans[1] == pytest.approx([0.2, 6.7], abs=0.03)  # from the greeting to the end of the answer
    assert not loud[int(2.65 * 8000) : int(3.55 * 8000), 1].any()


async def test_timeline_has_events_texts_and_latencies(autojump_clock: MockClock, tmp_path: Path) -> None:
    """The timeline has every event, the texts of both sides, the latencies and the metrics."""
    call, _ = await held(2, interrupt_at=0.5)
    timeline = json.loads((await write_call(call, tmp_path) / "timeline.json").read_text(encoding="utf-8"))
    assert timeline["call_id"] == call.call_id
    assert (timeline["outcome"], timeline["failure"]) == ("caller_hung_up", "")
    assert timeline["seconds"] == pytest.approx(call.carrier.ended_at, abs=0.001)
    assert [(entry["role"], entry["text"]) for entry in timeline["transcript"]][:2] == [
        ("assistant", HELLO),
        ("user", "hours"),
    ]
    assert [line["started"] for line in timeline["caller"]] == pytest.approx([2.6, 5.2], abs=0.01)
    assert [line["interrupted"] for line in timeline["agent"]] == [False, True, False]
    events = timeline["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    for event in events:
        assert list(event) == list(EventRecord.__annotations__)
        assert event["call_id"] == call.call_id
    # Each once, by its name on the bus.
    types = Counter(event["type"] for event in events)
    assert (types["call_started"], types["call_ended"], types["transcript_final"]) == (1, 1, 5)
    assert not types.keys() & {"call_start", "call_end", "transcript", "metrics", "llm_chunk", "tts_chunk"}
    cut = next(e for e in events if e["type"] == "agent_speech_ended" and e["data"]["interrupted"])
    assert cut["at_ms"] == pytest.approx(5200 + 250, abs=20)
    assert timeline["latencies_ms"][0] == {
        "endpoint": 500.0,
        "llm": 100.0,
        "tts": 500.0,
        "answer": 1100.0,
        "barge-in": 250.0,
    }
    metrics = timeline["metrics"]
    assert [turn["turn_index"] for turn in metrics["turns"]] == [0, 1, 2]
    assert metrics["turns"][1]["latency"]["total_ms"] == timeline["latencies_ms"][0]["answer"]
    assert metrics["latency_p50"]["bargein_ms"] == 250.0


async def test_timeline_has_turns_but_no_chunks(autojump_clock: MockClock, tmp_path: Path) -> None:
    """The timeline has turn and tool events, and no LLM or TTS chunks."""
    call, _ = await held(1)
    timeline = json.loads((await write_call(call, tmp_path, "agent.py") / "timeline.json").read_text(encoding="utf-8"))
    assert timeline["program"] == "agent.py"
    assert timeline["began"] == call.began.isoformat(timespec="seconds")
    picture = await trio.Path(tmp_path / "calls" / call.call_id / "call.svg").read_text(encoding="utf-8")
    assert f">agent.py · {call.began:%Y-%m-%d %H:%M} · 7.1 s · caller hung up<" in picture
    assert f">Call {call.call_id} · " in picture
    drawn = CallTimeline.from_dict(timeline["timeline"])
    assert (drawn.title, drawn.outcome, [one.text for one in drawn.words][:2]) == (
        "agent.py",
        "caller_hung_up",
        [HELLO, "hours"],
    )
    names = [event["type"] for event in timeline["events"]]
    assert {"turn_started", "turn_ended", "sentence", "transcript_final"} <= set(names)
    assert not set(names) & {"llm_chunk", "tts_chunk"}


@pytest.mark.deep
async def test_the_default_caller_asks_in_the_local_voice() -> None:
    """The default caller says three questions in the embedded voice, each 0.7 to 3 s long."""
    lines = await synthesised(DEFAULT_LINES)
    assert [name for name, _ in lines] == [
        "“Hello, who am I speaking to?” (synthesised)",
        "“What can you do for me?” (synthesised)",
        "“Thank you very much. Goodbye.” (synthesised)",
    ]
    assert all(0.7 * 8000 < len(samples) < 3 * 8000 for _, samples in lines)
    assert all(np.abs(samples.astype(int)).max() > 3000 for _, samples in lines)


@pytest.mark.parametrize("dtmf", [None, Keypad(pause=5.0), Keypad(max_digits=1)])
async def test_keys_without_terminator_are_answered(autojump_clock: MockClock, dtmf: Keypad | None) -> None:
    """A caller who presses keys without the terminator waits for the keypad's pause, and then hears the answer."""
    phone = Patter()
    options = {} if dtmf is None else {"dtmf": dtmf}
    agent = phone.agent(
        "x",
        first_message="Your number?",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(),
        llm=ScriptedLLM(["Found."]),
        tts=ScriptedTTS(first_audio=0.8, duration=2.0),
        **options,
    )
    async with ready_call(agent, Keys("1"), phone=phone) as (call, _):
        with trio.fail_after(300):
            await call.run()
    assert call.failure == ""
    assert [heard.text for heard in call.caller.utterances] == ["Your number?", "Found."]
