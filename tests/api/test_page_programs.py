"""Programs for ``getpatter`` run with imports and loop changed, and say in one line what is missing.

They are run as their users run them: in a process of their own, on the real clock, called over real sockets.
"""

import re
from pathlib import Path

import pytest

from patter_trio.testing.scripted_providers.audible_text import encode, frames_of
from tests.kit.depth import few
from tests.kit.programs import calling, environment, free_port, last_line, running

# What it reads or starts is measured by other tests.
pytestmark = pytest.mark.no_coverage

PROVIDERS = """
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

HEARD = dict(vad=ScriptedVAD(end_delay=0.2), stt=ScriptedSTT(final_delay=0.05), endpointing_ms=200)
SPOKEN = dict(tts=ScriptedTTS(first_audio=0.02, per_character=0.02))
"""
"""In place of an engine: a pipeline that needs no account."""

COMPLETE = (
    """
import os
import trio
from dotenv import load_dotenv
from patter_trio import Patter, Twilio
"""
    + PROVIDERS
    + """
load_dotenv()

phone = Patter(
    carrier=Twilio(),
    phone_number=os.environ["PHONE_NUMBER"],
    webhook_url=os.environ["WEBHOOK_URL"],
)

agent = phone.agent(**HEARD, **SPOKEN, system_prompt="You are helpful.", first_message="Hi there!")


async def on_call_start(event):
    print(f"[START] {event['call_id']} from {event['caller']} ({event['direction']}) {event.get('custom_params', {})}")


async def on_message(event) -> str:
    return f"You said {event['text']} after {len(event.get('history', []))}."


async def on_transcript(event):
    print(f"[{event['role']}]: {event['text']}")


async def on_call_end(event):
    print(f"[END] {event['call_id']} {len(event['transcript'])}")
    for entry in event["transcript"]:
        print(f"  [{entry['role']}]: {entry['text']}")


async def main():
    await phone.serve(
        agent,
        port=PORT,
        on_call_start=on_call_start,
        on_message=on_message,
        on_transcript=on_transcript,
        on_call_end=on_call_end,
    )


trio.run(main)
"""
)

SEVEN = (
    """
import trio
from functools import partial
from patter_trio import Patter, Twilio
"""
    + PROVIDERS
    + """
phone = Patter(carrier=Twilio(), phone_number="+15555550100")
agent = phone.agent(**HEARD, **SPOKEN, llm=ScriptedLLM(["Of course."]), system_prompt="You are helpful.")


async def on_user_speech_started(ev):
    print(f"[vad+] state={phone.conversation_state}")


async def on_user_speech_ended(ev):
    print(f"[vad-] dur={ev['speech_duration_ms']}ms")


async def on_user_speech_eos(ev):
    print(f"[eos] trigger={ev['trigger']} silence={ev.get('trailing_silence_ms')}ms")
    on_user_speech_eos.last_eos_ms = ev["timestamp_ms"]

on_user_speech_eos.last_eos_ms = 0


async def on_llm_token(ev):
    print(f"[ttft] {ev['timestamp_ms'] - on_user_speech_eos.last_eos_ms >= 0} {ev['model']} {ev['llm_provider']}")


async def on_audio_out(ev):
    print(f"[tts] turn={ev['turn_idx']} provider={ev['tts_provider']}")


async def on_agent_speech_started(ev):
    print(f"[wire] turn={ev['turn_idx']} engine={ev.get('engine')}")


async def on_agent_speech_ended(ev):
    print("[barge]" if ev["interrupted"] else f"[done] turn={ev['turn_idx']}")


phone.on_user_speech_started = on_user_speech_started
phone.on_user_speech_ended = on_user_speech_ended
phone.on_user_speech_eos = on_user_speech_eos
phone.on_llm_token = on_llm_token
phone.on_audio_out = on_audio_out
phone.on_agent_speech_started = on_agent_speech_started
phone.on_agent_speech_ended = on_agent_speech_ended

trio.run(partial(phone.serve, agent, port=PORT))
"""
)


@pytest.mark.deep
async def test_complete_example_runs_under_trio_after_documented_edits(tmp_path: Path) -> None:
    """The complete example runs after only its imports and its event loop change."""
    port = free_port()
    env = environment(
        TWILIO_ACCOUNT_SID="AC1",
        TWILIO_AUTH_TOKEN="hush",
        PHONE_NUMBER="+15550100002",
        WEBHOOK_URL=f"http://127.0.0.1:{port}",
    )
    async with running(tmp_path, COMPLETE, env, port) as program:
        async with calling(port) as call:
            await program.prints("[assistant]: Hi there!")
            call.say(encode("Are you open?", frames_of(0.5), utterance=1))
            await program.prints("after 1.\n")
        await program.prints("[END]")
        await program.prints("  [assistant]: You said")
    assert program.lines() == [
        f"[START] {call.call_sid} from +15550100001 (inbound) {{}}",
        "[assistant]: Hi there!",
        "[user]: Are you open?",
        "[assistant]: You said Are you open? after 1.",
        f"[END] {call.call_sid} 3",
        "  [assistant]: Hi there!",
        "  [user]: Are you open?",
        "  [assistant]: You said Are you open? after 1.",
    ]


@pytest.mark.deep
async def test_the_example_of_all_seven_callbacks_runs(tmp_path: Path) -> None:
    """The example with all seven speech callbacks runs, and each callback prints its line once and in order."""
    port = free_port()
    env = environment(TWILIO_ACCOUNT_SID="AC1", TWILIO_AUTH_TOKEN="hush")
    async with running(tmp_path, SEVEN, env, port) as program, calling(port) as call:
        call.say(encode("Are you open?", frames_of(0.5), utterance=1))
        await program.prints("[done]")
    assert [re.sub(r"\d+ms", "some ms", line) for line in program.lines()] == [
        "[vad+] state={'user': 'speaking', 'agent': 'idle'}",
        "[vad-] dur=some ms",
        "[eos] trigger=vad_silence silence=some ms",
        "[ttft] True scripted scripted",
        "[tts] turn=1 provider=scripted",
        "[wire] turn=1 engine=None",
        "[done] turn=1",
    ]


@pytest.mark.parametrize(
    ("variables", "missing"),
    few(
        [
            ({}, "Twilio: account_sid= must be given, or the environment variable TWILIO_ACCOUNT_SID set"),
            (
                {"TWILIO_ACCOUNT_SID": "AC1"},
                "Twilio: auth_token= must be given, or the environment variable TWILIO_AUTH_TOKEN set",
            ),
            ({"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "hush"}, "KeyError: 'PHONE_NUMBER'"),
        ],
        1,
    ),
)
def test_missing_credentials_error_names_environment_variable(
    tmp_path: Path, variables: dict[str, str], missing: str
) -> None:
    """Without credentials, the example fails with the name of the missing environment variable."""
    assert last_line(tmp_path, COMPLETE, **variables).endswith(missing)


@pytest.mark.parametrize(
    ("program", "ours", "theirs"),
    few(
        [
            (COMPLETE, "trio.run(main)", "asyncio.run(main())"),
            (SEVEN, "trio.run(partial(phone.serve, agent, port=PORT))", "asyncio.run(phone.serve(agent, port=PORT))"),
        ],
        1,
    ),
)
def test_example_under_asyncio_fails_with_migration_line(tmp_path: Path, program: str, ours: str, theirs: str) -> None:
    """Under asyncio, the example fails with one line that states what to write instead."""
    line = last_line(
        tmp_path,
        "import asyncio\n" + program.replace(ours, theirs),
        TWILIO_ACCOUNT_SID="AC1",
        TWILIO_AUTH_TOKEN="hush",
        PHONE_NUMBER="+15550100002",
        WEBHOOK_URL="agent.example.com",
    )
    assert ours.replace("PORT", "8000") in line
    assert "patter_trio runs on trio, not asyncio" in line


@pytest.mark.parametrize("keyword", ["first_mesage", "model", "recording"])
def test_unknown_keyword_raises_type_error_naming_it(keyword: str) -> None:
    """``phone.agent`` ignores no keyword: one that it does not know raises a TypeError with its name."""
    from patter_trio import Patter  # noqa: PLC0415 (as the page imports them)
    from patter_trio.testing import ScriptedSTT, ScriptedTTS, ScriptedVAD  # noqa: PLC0415 (as the page imports them)

    providers = {"vad": ScriptedVAD(), "stt": ScriptedSTT(), "tts": ScriptedTTS()}
    with pytest.raises(TypeError, match=f"'{keyword}'"):
        Patter().agent("x", **providers, **{keyword: "x"})  # type: ignore[arg-type]
