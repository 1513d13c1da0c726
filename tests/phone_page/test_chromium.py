"""The browser phone in real Chromium: its sound, whole calls, its states in words, and how it looks.

Pictures go to the folder in ``PATTER_SCREENSHOTS`` if that is set; those in docs/browser-phone.md come from there.
"""

import base64
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from patter_trio.audio import g711
from tests.kit.chromium import Browser, chromium, require_chromium
from tests.kit.cli import write_agent

pytestmark = [pytest.mark.deep, pytest.mark.no_coverage]

ROOT = Path(__file__).parents[2]
FRONT_DESK = ROOT / "examples/front_desk.py"
QUESTION = ROOT / "examples/audio/hours.wav"


@contextmanager
def dev(program: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run ``patter-trio dev``; yield the page's URL and the process."""
    require_chromium()
    command = [sys.executable, "-m", "patter_trio", "dev", os.fspath(program), "--port", "0", *options]
    with subprocess.Popen(  # noqa: S603 (our own command)
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if found := re.search(r"http://\S+/phone/", line):
                    yield found[0], process
                    return
            raise AssertionError("the command ended before its page was served")
        finally:
            process.terminate()
            # What it still prints must not fill the pipe.
            process.communicate(timeout=30)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("PATTER_SCREENSHOTS") or tmp_path)


def test_sound_and_marks_of_the_worklets(tmp_path: Path) -> None:
    """Mu-law is G.711's, the low-pass keeps 1 kHz and stops 5 kHz, marks return when played, and clear cuts at once."""
    with dev(Path(write_agent(tmp_path))) as (url, _), chromium() as page:
        page.open(url)
        _check_codec(page)
        _check_base64(page)
        _check_filter(page)
        _check_marks(page)


def _check_codec(page: Browser) -> None:
    """Compare each byte, and samples of each step, with the package's own codec."""
    decoded = page.run("const dsp = await import('./dsp.js'); return Array.from(dsp.DECODED);")
    assert [round(value * 32768) for value in decoded] == g711.decode(bytes(range(256))).tolist()
    encode = "const dsp = await import('./dsp.js'); return given.map((value) => dsp.encode(value / 32768));"
    # 0x7F is a second zero, which no encoder makes.
    there_and_back = bytes(page.run(encode, *[round(value * 32768) for value in decoded]))
    assert there_and_back == bytes(range(127)) + b"\xff" + bytes(range(128, 256))
    samples = np.arange(-32768, 32768, 7, dtype=np.int16)
    values = np.frombuffer(bytes(page.run(encode, *samples.tolist())), np.uint8)
    ours = np.frombuffer(g711.encode(samples), np.uint8)
    # Halfway between two steps either is right.
    assert np.abs(values.astype(int) - ours.astype(int)).max() <= 1


def _check_base64(page: Browser) -> None:
    """Send each byte to the form of a message's payload and back."""
    text = base64.b64encode(bytes(range(256))).decode()
    script = "const line = await import('./line.js'); return line.base64Of(line.bytesOf(given[0]));"
    assert page.run(script, text) == text


def _check_filter(page: Browser) -> None:
    """Send tones through the way down and up again, and measure what arrives."""
    script = """
        const { Resampler } = await import('./dsp.js');
        const [rate, tone] = given;
        const down = new Resampler(rate, 8000);
        const line = [];
        for (let n = 0; n < rate / 2; n += 1) down.push(Math.sin((2 * Math.PI * tone * n) / rate), (x) => line.push(x));
        const up = new Resampler(8000, rate);
        let place = 0;
        const out = Array.from({ length: rate / 2 - 1000 }, () => up.pull(() => line[place++] ?? 0));
        const power = (values) => Math.sqrt(2 * values.reduce((sum, x) => sum + x * x, 0) / values.length);
        return [power(line.slice(200, -200)), power(out.slice(2000, -2000)), line.length];
    """
    for rate in (48000, 44100):
        heard, played, length = page.run(script, rate, 1000)
        assert abs(heard - 1) < 0.01
        assert abs(played - 1) < 0.02
        assert abs(length - 4000) <= 1
        # 5 kHz would come back as 3 kHz: 50 dB below.
        assert page.run(script, rate, 5000)[0] < 0.003


def _check_marks(page: Browser) -> None:
    """Play 100 ms and a mark, then 1 s, a mark and a clear, and see when each mark returns and what sounds."""
    script = """
        const context = new OfflineAudioContext(1, 48000, 48000);
        await context.audioWorklet.addModule('./worklet.js');
        const speaker = new AudioWorkletNode(context, 'speaker', { numberOfInputs: 0, outputChannelCount: [1] });
        speaker.connect(context.destination);
        const marks = [];
        const answers = new Map();
        speaker.port.onmessage = ({ data }) => {
          if ('mark' in data) marks.push(data.mark);
          if ('answer' in data) answers.get(data.answer)(data.queued);
        };
        const tell = (...commands) => {
          for (const command of commands) speaker.port.postMessage(command);
          return new Promise((resolve) => {
            answers.set(answers.size + 1, resolve);
            speaker.port.postMessage({ ask: answers.size });
          });
        };
        const loud = (samples) => new Uint8Array(samples).fill(0x80);
        const seen = {};
        const at = async (name, seconds, ...commands) => {
          await context.suspend(seconds);
          const queued = await tell(...commands);
          await tell();
          seen[name] = { marks: [...marks], queued };
          context.resume();
        };
        const first = tell({ audio: loud(800) }, { mark: 'one' });
        const steps = [at('early', 0.064), at('played', 0.16, { audio: loud(8000) }, { mark: 'two' }),
          at('talking', 0.32), at('cut', 0.4, { clear: true })];
        await first;
        const rendered = await context.startRendering();
        await Promise.all(steps);
        const sound = rendered.getChannelData(0);
        const level = (from, to) => Math.max(...sound.slice(from * 48000, to * 48000).map(Math.abs));
        return { seen, playing: level(0.34, 0.39), after: level(0.403, 0.9), pause: level(0.11, 0.158) };
    """
    result = page.run(script)
    seen = result["seen"]
    assert seen["early"]["marks"] == []
    assert seen["played"]["marks"] == ["one"]
    assert seen["talking"]["marks"] == ["one"]
    assert seen["talking"]["queued"] > 6000
    assert seen["cut"]["marks"] == ["one", "two"]
    assert seen["cut"]["queued"] == 0
    assert result["playing"] > 0.5
    # At once: 3 ms behind the clear, a block of the audio thread, there is silence.
    assert result["after"] == 0
    assert result["pause"] < 0.01


def test_whole_conversation_by_microphone_and_speaker(pictures: Path) -> None:
    """A recorded caller is understood through the microphone, and hears the answer by the speaker to its end."""
    _require_local()
    with dev(FRONT_DESK) as (url, _), chromium(QUESTION) as page:
        page.open(url)
        page.until_text(".welcome", "front_desk.py")
        page.inspect(pictures, "browser-phone-first")
        page.click("Call")
        page.until_text(".status", "Connected")
        page.until_text(".conversation", "what time do you open")
        # While the agent speaks: the question has not left the picture yet.
        page.until_text(".conversation", "On weekdays")
        # The words that were heard: the marks of the speaker have confirmed them.
        page.until_text(".conversation", "close at eleven.")
        page.until(lambda: "spoken" in page.text("tbody tr:nth-child(2)"), "the second turn")
        assert "cut" not in page.text(".conversation")
        page.click("Key 1")
        page.until_text(".conversation", "pressed 1")
        page.click("Hang up")
        page.until_text(".status", "You have hung up.")
        page.until_text(".ending", "caller hung up")
        check_picture(page)
        assert page.complaints() == []


DESK = """
from patter_trio import Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call


async def free_tables(day: str, seats: int):
    'Return the free tables.'
    return f"2 tables for {seats} are free on {day}"


HOURS = "On weekdays we open at noon and close at ten. On Saturday we open at half past five. May I book a table?"
phone = Patter()
agent = phone.agent(
    "You are brief.",
    first_message="Trattoria Miller, good evening! How can I help you?",
    vad=ScriptedVAD(),
    stt=ScriptedSTT(),
    llm=ScriptedLLM(
        [HOURS, tool_call("free_tables", day="Saturday", seats=4), "Two tables are free. Which one would you like?"],
        first_token=0.3,
        duration=0.5,
    ),
    tts=ScriptedTTS(first_audio=0.2, duration=3.0),
    tools=[free_tables],
)
"""


def test_live_picture_of_a_typed_call(tmp_path: Path, pictures: Path) -> None:
    """A call with a cut and a tool looks as intended while it goes on and when it is over."""
    file = tmp_path / "trattoria.py"
    file.write_text(DESK, encoding="utf-8")
    with dev(file) as (url, _), chromium() as page:
        page.open(url)
        page.click("Call without microphone")
        page.until_text(".status", "Connected without a microphone.")
        page.until_text(".conversation", "help you?")
        field = page.driver.find_element("id", "typed")
        field.send_keys("When do you open?\n")
        # Heard for a while, so that the cut leaves words on both sides of it.
        page.until_text(".conversation", "On weekdays")
        page.run("await new Promise((resolve) => setTimeout(resolve, 1500));")
        field.send_keys("A table for four on Saturday, please.\n")
        page.until_text(".conversation", "Two tables are free.")
        page.inspect(pictures, "browser-phone-call")
        page.until_text(".tools", "2 tables for 4 are free on Saturday")
        assert page.text(".conversation s") != ""
        page.click("Hang up")
        page.until_text(".ending", "caller hung up")
        page.inspect(pictures, "browser-phone-over")
        assert page.complaints() == []


def check_picture(page: Browser) -> None:
    """Expect the picture of a call that is over, with sound in both lanes: the pixels of their colours."""
    count = """
        const canvas = document.querySelector('.picture canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const near = (place, colour) => colour.every((part, index) => Math.abs(data[place + index] - part) < 12);
        const counts = given.map((colour) => {
          let found = 0;
          for (let place = 0; place < data.length; place += 4) found += near(place, colour);
          return found;
        });
        return [canvas.getAttribute('aria-label'), ...counts];
    """
    label, caller, agent = page.run(count, [0x2B, 0x78, 0xB8], [0xD9, 0x82, 0x2B])
    assert "utterances" in label
    assert caller > 200
    assert agent > 200


def test_caller_without_microphone_types_and_plays() -> None:
    """Without a microphone the page says so; a typed text, by keyboard alone, and a recording are answered."""
    _require_local()
    with dev(FRONT_DESK) as (url, _), chromium() as page:
        page.open(url)
        refuse = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotFoundError'));"
        page.driver.execute_script(refuse)
        page.click("Call")
        page.until_text(".status", "No microphone was found. You can type instead, or play a recording.")
        page.until_text(".conversation", "Trattoria Miller")
        field = page.driver.find_element("id", "typed")
        field.send_keys("I would like to book a table for four, <b>please</b>\n")
        page.until_text(".conversation", "A table for four, gladly.")
        # As text, whatever it looks like.
        assert "<b>please</b>" in page.text(".conversation")
        page.until_text(".conversation", "May I have your name, please?")
        page.click("Play")
        page.until_text(".conversation", "time do you open")
        assert page.driver.find_element("id", "typed").get_attribute("value") == ""


def test_states_have_words(tmp_path: Path) -> None:
    """The page says when the agent hangs up, is loaded anew, or is gone, and works again when it is back."""
    leave = "async def on_call_start(event): pass\ndef on_dtmf(event, call_control): call_control.hang_up()"
    file = Path(write_agent(tmp_path, greeting="Hello.", more=leave))
    with dev(file, "--reload") as (url, process), chromium() as page:
        page.open(url)
        page.click("Call without microphone")
        page.until_text(".status", "Connected")
        page.click("Key hash")
        page.until_text(".status", "The agent has hung up.")
        page.click("Call without microphone")
        page.until_text(".status", "Connected")
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        page.until_text(".status", "agent.py has changed.")
        page.until_text(".status", "agent.py was loaded anew.")
        page.click("Call without microphone")
        page.until_text(".status", "Connected")
        process.kill()
        page.until_text(".status", "The agent is gone")


# Chromium's own microphone, kept where the test can end it as an unplugged one ends.
KEEP = """
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => (window.given = await ask(wanted));
"""
LOSE = "const [track] = window.given.getTracks(); track.stop(); track.dispatchEvent(new Event('ended'));"
"""Stopped as well, because the beeps of Chromium's made-up microphone would interrupt each answer."""
DENY = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'));"
INSECURE = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true });"


def test_missing_microphones_have_words(tmp_path: Path) -> None:
    """A microphone that is lost, denied, or kept from an insecure page is reported in words, and the call goes on."""
    with dev(Path(write_agent(tmp_path, greeting="Hello."))) as (url, _), chromium() as page:
        page.open(url)
        page.driver.execute_script(KEEP)
        page.click("Call")
        page.until_text(".status", "Connected")
        page.driver.execute_script(LOSE)
        page.until_text(".status", "The microphone is gone. You can go on by typing.")
        # The call goes on: a typed text is answered, and the caller can hang up.
        page.driver.find_element("id", "typed").send_keys("Still there?\n")
        page.until_text(".conversation", "Yes.")
        page.click("Hang up")
        page.until_text(".status", "You have hung up.")
        for script, words in ((DENY, "was not allowed to use the microphone"), (INSECURE, "only to pages of https")):
            page.driver.execute_script(script)
            page.click("Call")
            page.until_text(".status", "Connected")
            page.until_text(".status", words)
            page.until_text(".conversation", "Hello.")
            page.click("Mute")
            page.until(lambda: page.text("[aria-pressed=true]") == "Muted", "the pressed button")
            page.click("Hang up")
        assert page.complaints() == []


def test_closed_page_ends_its_call(tmp_path: Path) -> None:
    """A page that is closed in mid-call hangs up: the program's on_call_end says so."""
    told = tmp_path / "told.txt"
    end = f"def on_call_end(event): open({os.fspath(told)!r}, 'w').write(event['outcome'])"
    with dev(Path(write_agent(tmp_path, greeting="Hello.", more=end))) as (url, _), chromium() as page:
        page.open(url)
        page.click("Call without microphone")
        page.until_text(".status", "Connected")
        page.driver.get("about:blank")
        page.until(lambda: told.is_file() and bool(told.read_text()), "on_call_end")
    assert told.read_text(encoding="utf-8") == "caller_hung_up"


SCRIPT = "<img src=x onerror=\"document.title='broken'\"><b>four</b>"


def test_chat_in_text(tmp_path: Path) -> None:
    """In text, words that look like HTML stay words, each page sees its own call, and what was typed survives."""
    file = Path(write_agent(tmp_path, greeting="Hello."))
    with dev(file, "--reload") as (url, _), chromium() as page:
        page.open(url)
        page.click("Chat in text")
        page.until_text(".status", "Connected in text.")
        page.until_text(".conversation", "Hello.")
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        page.driver.get(url)
        page.click("Chat in text")
        page.until_text(".status", "Connected in text.")
        page.driver.find_element("id", "typed").send_keys(f"For {SCRIPT}, please\n")
        page.until_text(".conversation", "Yes.")
        assert f"For {SCRIPT}, please" in page.text(".conversation")
        page.driver.close()
        page.driver.switch_to.window(first)
        # The other page's words are not this one's.
        assert "please" not in page.text(".conversation")
        page.driver.find_element("id", "typed").send_keys("Not sent yet")
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        page.until_text(".status", "agent.py was loaded anew.")
        page.driver.refresh()
        page.click("Chat in text")
        page.until_text(".status", "Connected in text.")
        page.click("Send")
        page.until_text(".conversation", "Not sent yet")
        page.until_text(".conversation", "Yes.")
        page.click("Hang up")
        page.until_text(".ending", "caller hung up")
        page.run("navigator.clipboard.writeText = async (text) => { window.copied = text; };")
        page.click("Copy transcript")
        page.until_text(".ending", "Copied.")
        copied = page.run("return window.copied;")
        assert "Agent  Hello." in copied
        assert "You    Not sent yet" in copied
        assert page.driver.title == "Browser phone"
        assert [line for line in page.complaints() if "ERR_CONNECTION_REFUSED" not in line] == []


def test_loudness_is_bounded(tmp_path: Path) -> None:
    """The peaks of a long call take steps that are twice as long, and the loudest sample of each stays."""
    script = """
        const { Loudness } = await import('./loudness.js');
        const loudness = new Loudness();
        loudness.add('caller', 10, 0.5);
        loudness.add('agent', -5, 0.9);
        loudness.add('caller', 24_000 * 25, 1);
        const { step_ms, caller, agent } = loudness.peaks;
        return [step_ms, caller[0], caller.at(-1), caller.length, agent.length, loudness.newest.agent];
    """
    with dev(Path(write_agent(tmp_path))) as (url, _), chromium() as page:
        page.open(url)
        assert page.run(script) == [50, 128, 255, 12_001, 0, 0.9]


def _require_local() -> None:
    """Skip where the local models are not installed."""
    for module in ("ctranslate2", "gruut"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[local]'")
