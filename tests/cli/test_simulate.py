"""``patter-trio simulate``, from the command line to what it leaves, at real pace."""

import json
import re
import runpy
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import patter_trio
from patter_trio.cli import INTERRUPT_EXIT_STATUS, USAGE_EXIT_STATUS, main
from patter_trio.cli.simulate import _recording
from tests.kit.cli import write_agent, write_format, write_sound

CALL = re.compile(r"CA[0-9a-f]{32}")


def timelines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("calls/*/timeline.json"))]


# Calls ----------------------------------------------------------------------------------------------------------------
def test_successful_simulation_is_reported_and_saved(capsys: pytest.CaptureFixture[str]) -> None:
    """A simulated call that succeeds is reported and saved, and the exit status is 0."""
    program = write_agent(
        Path(),
        phone="Twilio(account_sid='AC-mine', auth_token='mine'), webhook_url='agent.example.com'",
        greeting="Hello.",
        more=f"callers = [{write_sound(Path('one.wav'))!r}, "
        f"{write_sound(Path('two.wav'), channels=2, rate=48000)!r}]\n"
        "ends = []\ndef on_call_end(event): ends.append(event['outcome'])",
    )
    assert main(["simulate", program, "--out", "kept/here"]) == 0
    out, err = capsys.readouterr()
    assert err == "Loading ...\n"
    (call_id,) = set(CALL.findall(out))
    shown = [re.sub(r"[\d.]+", "#", line) for line in out.splitlines()]
    assert shown[:5] == [
        "   #  call    from +#***# to +#***#",
        "   #  agent   first audio by scripted",
        "   #  agent   speaking #",
        "   #  agent   “Hello#”",
        "   #  caller  > one#wav",
    ]
    assert f"Call {call_id}: ended as expected" in out
    for line in ("last voice to end of utterance        2", "last voice to answer audible          2"):
        assert line in out
    place = Path("kept/here/calls") / call_id
    assert f"{place}/{{" in out
    assert (place / "call.wav").read_bytes()[:4] == b"RIFF"
    (timeline,) = timelines(Path("kept/here"))
    assert (timeline["outcome"], timeline["failure"]) == ("caller_hung_up", "")
    assert sys.modules["agent"].ends == ["caller_hung_up"]


def test_interrupt_at_barges_in_on_reply(capsys: pytest.CaptureFixture[str]) -> None:
    """The --interrupt-at option makes a barge-in, and the timeline shows it."""
    program = write_agent(
        Path(),
        greeting="Hi.",
        tts="first_audio=0.02, per_character=0.06",
        more="import attrs\nreplies = ['We are open from nine to five, every day.', 'Yes.']\n"
        "agent = attrs.evolve(agent, llm=ScriptedLLM(replies))",
    )
    files = [write_sound(Path(f"{name}.wav"), 0.4) for name in ("one", "two")]
    assert main(["simulate", program, "--interrupt-at", "0.3", "--caller", *files]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"agent   INTERRUPTED after 0\.\d\d s", out)) == 1
    assert re.search(r"onset of voice to agent silent +1 ", out)
    (timeline,) = timelines(Path())
    assert [line["interrupted"] for line in timeline["agent"]] == [False, True, False]
    audible = next(
        event["at_ms"] / 1000
        for event in timeline["events"]
        if event["type"] == "agent_speech_started" and event["data"]["turn_idx"]
    )
    assert timeline["caller"][1]["started"] >= audible + 0.3 - 0.02  # not before; how soon after is the machine's pace


@pytest.mark.parametrize(
    ("phone", "options"),
    [
        ("", []),
        ("Twilio(account_sid='AC-mine', auth_token='mine')", []),
        ("", ["--carrier", "telnyx"]),
        ("", ["--carrier", "plivo"]),
    ],
    ids=["none", "Twilio", "telnyx", "plivo"],
)
def test_simulated_transfer_reaches_no_carrier(
    capsys: pytest.CaptureFixture[str], phone: str, options: list[str]
) -> None:
    """A simulated transfer succeeds over each carrier without a request to the one that the program names."""
    program = write_agent(
        Path(),
        phone=phone,
        greeting="Hi.",
        more="async def on_transcript(event, call_control):\n"
        "    if event['role'] == 'user': await call_control.transfer('+15550100003')",
    )
    assert main(["simulate", program, *options, "--caller", write_sound(Path("one.wav"))]) == 0
    assert "ended as expected" in capsys.readouterr().out
    assert timelines(Path())[0]["outcome"] == "transferred"


def test_simulation_reaches_no_account(capsys: pytest.CaptureFixture[str]) -> None:
    """What a program asks of its own account meanwhile fails at once, and the error names the command that calls."""
    program = write_agent(
        Path(),
        phone="Twilio(account_sid='AC-mine', auth_token='mine', api_url='https://api.dublin.ie1.twilio.com')",
        greeting="Hi.",
        more="async def on_call_start(event):\n"
        "    try: await phone.carrier.number_setup('+15550100003')\n"
        "    except Exception as error: print(error)",
    )
    assert main(["simulate", program, "--caller", write_sound(Path("one.wav"))]) == 0
    said = "dublin.ie1.twilio.com could not be reached: no request leaves patter-trio simulate"
    assert said in capsys.readouterr().out


def test_many_calls_show_their_progress_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """Three simulated calls show a count of progress, a summary and one timeline each."""
    Path(".env").write_text("TWILIO_ACCOUNT_SID=AC-from-env\n")
    program = write_agent(Path(), phone="Twilio()", greeting="Hi.")
    assert main(["simulate", program, "--calls", "3", "--caller", write_sound(Path("one.wav"))]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "Loading ..."
    assert re.fullmatch(r"1 of 3 calls over, \d live, 0 failed", err.splitlines()[1])
    assert err.splitlines()[-1] == "3 of 3 calls over, 0 live, 0 failed"
    assert "3 of 3 calls ended as expected." in out
    assert re.search(r"last voice to answer audible +3 ", out)
    assert "calls/<call_id>/{call.wav," in out
    assert len(timelines(Path())) == 3
    carrier = sys.modules["agent"].phone.carrier
    assert carrier.account_sid == "AC-from-env"
    assert re.fullmatch("[0-9a-f]{32}", carrier.auth_token)  # made up


def test_failed_simulation_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A simulated call that fails says why, and the exit status is 1."""
    program = write_agent(
        Path(),
        greeting="Hi.",
        more="import attrs\nagent = attrs.evolve(agent, llm=ScriptedLLM(['x'], fail_after=0), error_message='Sorry.')",
    )
    assert main(["simulate", program, "--caller", write_sound(Path("one.wav"))]) == 1
    assert re.search(
        r"^Call CA\w+: FAILED: a reply failed \(ScriptedLLM fails after 0 tokens, as scripted\): the caller heard "
        r"“Sorry\.”$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert (
        timelines(Path())[0]["failure"]
        == "a reply failed (ScriptedLLM fails after 0 tokens, as scripted): the caller heard “Sorry.”"
    )


def test_ctrl_c_ends_and_writes_a_simulation() -> None:
    """Ctrl-C hangs up: what was held is written, and the command ends with one line and exit status 130."""
    program = write_agent(Path(), greeting="Hello.", tts="first_audio=0.02, duration=20")
    arguments = [sys.executable, "-m", "patter_trio", "simulate", program, "--caller", write_sound(Path("one.wav"))]
    arguments += ["--log-level", "error"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 (ours)
        assert process.stdout is not None
        try:
            assert "call    from" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (INTERRUPT_EXIT_STATUS, "Loading ...\n\npatter-trio: stopped\n")
    (timeline,) = timelines(Path())
    assert (timeline["failure"], timeline["outcome"]) == ("stopped by Ctrl-C", "caller_hung_up")
    assert timeline["events"][-1]["type"] == "call_ended"


# Mistakes -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def program() -> str:
    return write_agent(Path(), greeting="Hi.")


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo_recordings_are_accepted(rate: int, channels: int) -> None:
    """Mono and stereo recordings from 8 to 48 kHz are accepted."""
    samples = _recording(Path(write_sound(Path("a.wav"), 0.5, channels=channels, rate=rate)))
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(4000, abs=1)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_every_width_of_pcm_is_taken(bits: int) -> None:
    """Recordings of 8, 16, 24 and 32 bits are accepted."""
    assert len(_recording(Path(write_format(Path("a.wav"), bits=bits)))) == 800


TAKEN = (
    "the format must be PCM (format 1) of 8, 16, 24 or 32 bits, float (3) of 32 or 64 bits, mu-law (7) or A-law (6), "
    "mono or stereo, 8000 to 48000 Hz; got"
)
CONVERT = "; `ffmpeg -i in.wav -ac 1 -ar 8000 -c:a pcm_s16le out.wav` converts it"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 96000}, f"a.wav: {TAKEN} format 1, 16 bits, 1 channels, 96000 Hz"),
        ({"kind": 2, "bits": 4}, f"a.wav: {TAKEN} format 2, 4 bits, 1 channels, 8000 Hz"),
        ({"channels": 6}, f"a.wav: {TAKEN} format 1, 16 bits, 6 channels, 8000 Hz"),
    ],
    ids=["96 kHz", "ADPCM", "surround"],
)
def test_unsupported_wav_format_is_one_line(
    options: dict[str, int], message: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A WAV file of an unsupported format is reported in one line, and the exit status is 2."""
    file = write_format(Path("a.wav"), **options)
    assert main(["simulate", program, "--caller", file]) == USAGE_EXIT_STATUS
    assert capsys.readouterr() == ("", f"patter-trio: {message}{CONVERT}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "a.wav: not a WAV file: it must begin with RIFF....WAVE"),
        (b"RIFF\0\0\0\0WAVE", "a.wav: incomplete WAV file: it must have a format chunk and a data chunk"),
        (None, "a.wav: No such file or directory"),
    ],
)
def test_invalid_recording_is_one_line(
    content: bytes | None, message: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing or not a whole WAV file is reported in one line, and the exit status is 2."""
    if content is not None:
        Path("a.wav").write_bytes(content)
    assert main(["simulate", program, "--caller", "a.wav"]) == USAGE_EXIT_STATUS
    assert capsys.readouterr() == ("", f"patter-trio: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calls", "0"], "--calls must be at least 1, got 0"),
        (["--interrupt-at", "-1"], "--interrupt-at must be at least 0, got -1"),
        (["--interrupt-at", "nan"], "--interrupt-at must be at least 0, got nan"),
        (["--interrupt-at", "inf"], "--interrupt-at must be at least 0, got inf"),
        (
            ["--interrupt-at", "1", "--caller", "one.wav"],
            "--interrupt-at needs a second turn of the caller to interrupt with, got only one",
        ),
        (["--caller", "one.wav", "empty.wav"], "empty.wav must contain audio, got an empty recording"),
        (["--caller", "."], ".: Is a directory"),
        (["--out", "one.wav"], "one.wav/calls cannot be written: Not a directory"),
        (["--out", "/proc/nothing"], "/proc/nothing cannot be written: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_option_fails_before_loading(
    arguments: list[str], message: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid option is reported in one line with exit status 2 before anything is loaded."""
    write_sound(Path("one.wav"))
    write_sound(Path("empty.wav"), 0.0)
    assert main(["simulate", program, *arguments]) == USAGE_EXIT_STATUS
    assert capsys.readouterr() == ("", f"patter-trio: {message}\n")


def test_unwritable_folder_fails_before_the_call(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not be written is reported before the call begins."""
    monkeypatch.setattr("os.access", lambda *_: False)  # as it is for a user who is not root
    assert main(["simulate", program, "--out", "kept"]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == "patter-trio: kept/calls must be writable\n"


def test_simulate_needs_phone_and_agent(capsys: pytest.CaptureFixture[str]) -> None:
    """The simulate command refuses a program without phone and agent."""
    Path("agent.py").write_text("async def main(): ...")
    assert main(["simulate", "agent.py"]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == (
        "patter-trio: agent.py must have a `phone` and an `agent` at its top level to be called\n"
    )


def test_unsupported_carrier_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that cannot be simulated is reported in one line."""
    write_agent(Path(), phone="Other()", greeting="Hi.")
    source = Path("agent.py").read_text()
    Path("agent.py").write_text(
        "from patter_trio.abc import Carrier\n"
        "Other = type('Other', (Carrier,), dict.fromkeys(Carrier.__abstractmethods__))\n" + source
    )
    assert main(["simulate", "agent.py"]) == USAGE_EXIT_STATUS
    assert capsys.readouterr() == (
        "",
        "patter-trio: the carrier of a simulation must be Twilio, Telnyx or Plivo, got Other\n",
    )


# The command line -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["run"], ["simulate", "a.py", "--carrier", "x"]])
def test_invalid_command_line_prints_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid command line prints the usage, and the exit status is 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == USAGE_EXIT_STATUS
    assert capsys.readouterr().err.startswith("usage: patter-trio")


def test_help_shows_newcomers_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows a newcomer what to write and what to run."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for needed in (
        "`phone = Patter(...)`",
        "`agent = phone.agent(...)`",
        "on_message",
        ".env",
        "simulate examples/",
        "Exit status: 0",
    ):
        assert needed in out


def test_python_m_patter_trio_is_the_launcher(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m patter_trio --version`` prints the installed version and exits with status 0."""
    monkeypatch.setattr(sys, "argv", ["patter-trio", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(Path(patter_trio.__file__).with_name("__main__.py")), run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"patter-trio {version('patter-trio')}\n"
