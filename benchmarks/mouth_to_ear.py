"""The time from the end of a caller's voice to the first sound of the answer, in the browser phone and in ``simulate``.

``python -m benchmarks.mouth_to_ear [--runs 7]``

Both sides call the same agent, whose providers take fixed times, with the same recording, in turns. In the browser the
recording comes through Chromium's fake microphone and its processing. Hooks around the page's own socket and worklets
note when each frame passes; the page itself is unchanged. ``simulate`` writes what both sides heard to ``call.wav``.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from patter_trio.audio.wav import read_wav, write_wav
from tests.kit.chromium import Browser, chromium

ROOT: Final = Path(__file__).parents[1]
QUESTION: Final = ROOT / "examples/audio/hours.wav"
RATE_HZ: Final = 8000
# Judged: a page is connected, and its agent listens, within that.
LEAD_S: Final = 6.0
# Behind the question, so that the microphone is silent while the agent answers.
TAIL_S: Final = 6.0
VOICE_S: Final = 1.2
# Of full scale. Far above what a resampler leaves of silence, far below speech.
LOUD: Final = 0.02
TIMEOUT_S: Final = 60.0
AGENT: Final = """
from patter_trio import Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS

phone = Patter()
agent = phone.agent(
    "You are brief.",
    stt=ScriptedSTT(final_delay=0.02, noise="hours"),
    llm=ScriptedLLM(["Yes."] * 9, first_token=0.05, duration=0.02),
    tts=ScriptedTTS(first_audio=0.05, duration=1.0),
)
"""
HOOKS: Final = """
window.passed = { mouth: [], sent: [], got: [], ear: [], latency: 0 };
const loudIn = (text) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  let last = -1;
  let first = -1;
  for (const [place, byte] of bytes.entries()) {
    const bits = ~byte & 0xff;
    const size = ((((bits & 0x0f) << 3) + 132) << ((bits >> 4) & 7)) - 132;
    if (size < 32768 * LOUD) continue;
    if (first < 0) first = place;
    last = place;
  }
  return { first, last, length: bytes.length };
};
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function hooked(text) {
  const message = JSON.parse(text);
  if (message.event === 'media') passed.sent.push({ at: performance.now(), ...loudIn(message.payload) });
  return send.call(this, text);
};
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    passed.call = String(given[0]).split('/').pop();
    this.addEventListener('message', ({ data }) => {
      const message = JSON.parse(data);
      if (message.event === 'media') passed.got.push({ at: performance.now(), ...loudIn(message.payload) });
    });
  }
};
window.AudioWorkletNode = class extends AudioWorkletNode {
  constructor(context, name, options) {
    super(context, name, options);
    const began = performance.now() - context.currentTime * 1000;
    this.port.addEventListener('message', ({ data }) => {
      if (!('peak' in data)) return;
      passed.latency = 1000 * (context.outputLatency || context.baseLatency || 0);
      passed[name === 'speaker' ? 'ear' : 'mouth'].push({ at: began + data.at * 1000, loud: data.peak > LOUD });
    });
  }
};
"""


def write_question(folder: Path, *, lead: float) -> Path:
    """Write a voice that ends in the middle of a vowel, so that its end is one sample."""
    samples = read_wav(QUESTION.read_bytes())
    voice = samples[: round(VOICE_S * RATE_HZ)]
    near_end = len(voice) - RATE_HZ // 5
    loudest = near_end + int(np.argmax(np.abs(voice[near_end:].astype(int))))
    silence = np.zeros(round(lead * RATE_HZ), np.int16)
    after = np.zeros(round(TAIL_S * RATE_HZ), np.int16)
    file = folder / f"question-{lead:g}.wav"
    file.write_bytes(write_wav([np.concatenate([silence, voice[:loudest], after])]))
    return file


@contextmanager
def serving(program: Path) -> Iterator[str]:
    """Run ``patter-trio dev``; yield the page's URL."""
    command = [sys.executable, "-m", "patter_trio", "dev", os.fspath(program), "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if found := re.search(r"http://\S+/phone/", line):
                    yield found[0]
                    return
            raise RuntimeError("the command ended before its page was served")
        finally:
            process.terminate()
            process.communicate(timeout=30)


def in_browser(page: Browser, url: str) -> dict[str, float]:
    """Hold a call in the page; return the milliseconds of each part of the way."""
    page.open(url)
    page.click("Call")
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        time.sleep(0.5)
        passed = page.run("return window.passed;")
        if any(one["loud"] for one in passed["ear"]):
            break
    else:
        raise RuntimeError("the agent did not answer")
    page.click("Hang up")
    page.until_text(".ending", "caller hung up")
    timeline = page.run("return (await fetch('timelines/' + passed.call)).json();")
    return {**parts_of(passed), **waits_in(timeline)}


def waits_in(timeline: Mapping[str, Any]) -> dict[str, float]:
    """Return the parts of the wait for the first answer as the server measures them, in ms."""
    # Beside the timeline, the file of a simulated call has its metrics.
    turns = timeline.get("timeline", timeline)["turns"]
    turn = next(turn for turn in turns if turn["index"] == 1)
    if turn["total_ms"] is None:
        raise RuntimeError("the question came before the call was connected, or was cut off")
    return {f"server's {part}": turn[f"{part}_ms"] for part in ("total", "endpoint", "llm", "tts")}


def parts_of(passed: Mapping[str, Any]) -> dict[str, float]:
    """Return the parts of the way from what the hooks noted, in ms."""
    # The context's clock is ahead of the page's by the sound card's buffer: what is noted by it is comparable among
    # itself, so "mouth to socket" is too long by what "socket to speaker" is too short.
    answer = next(one for one in passed["got"] if one["first"] >= 0)
    last = max(place for place, one in enumerate(passed["sent"]) if one["last"] >= 0 and one["at"] < answer["at"])
    sent = passed["sent"][last]
    # The frames of the microphone are sent in order; the first ones come before the socket is open.
    before = len(passed["mouth"]) - len(passed["sent"])
    filled = passed["mouth"][last + before]["at"]
    mouth = filled - (sent["length"] - 1 - sent["last"]) * 1000 / RATE_HZ
    # Known to 20 ms, the length of the speaker's notes: its middle.
    ear = next(one["at"] for one in passed["ear"] if one["loud"]) - 10
    return {
        "mouth to ear": ear - mouth,
        "mouth to socket": sent["at"] - mouth,
        "socket to socket": answer["at"] - sent["at"],
        "socket to speaker": ear - answer["at"],
        "speaker to ear (reported, not included)": passed["latency"],
    }


def in_simulation(program: Path, question: Path, folder: Path) -> dict[str, float]:
    """Simulate a call; return the ms from the end of the voice to the answer in its recording, and their parts."""
    command = [sys.executable, "-m", "patter_trio", "simulate", os.fspath(program), "--caller", os.fspath(question)]
    subprocess.run([*command, "--out", os.fspath(folder)], check=True, capture_output=True, cwd=ROOT)
    [file] = folder.glob("calls/*/call.wav")
    with wave.open(os.fspath(file)) as recording:
        sound = np.frombuffer(recording.readframes(recording.getnframes()), np.int16).reshape(-1, 2).astype(int)
    caller, agent = (np.abs(sound[:, side]) > 32768 * LOUD for side in (0, 1))
    wait = float(np.argmax(agent) - np.flatnonzero(caller)[-1]) * 1000 / RATE_HZ
    [timeline] = folder.glob("calls/*/timeline.json")
    return {"mouth to ear": wait, **waits_in(json.loads(timeline.read_text()))}


def told(name: str, values: Sequence[float]) -> str:
    """Return a line with median and spread."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"| {name} | {middle:.0f} | {low:.0f} to {high:.0f} | {min(values):.0f} to {max(values):.0f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="calls on each side (default: %(default)s)")
    runs: int = parser.parse_args().runs
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = folder / "agent.py"
        program.write_text(AGENT, encoding="utf-8")
        # No lead: the simulated caller waits until the agent listens.
        plain, led = write_question(folder, lead=0.0), write_question(folder, lead=LEAD_S)
        with serving(program) as url, chromium(led) as page:
            hooks = HOOKS.replace("LOUD", str(LOUD))
            page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hooks})
            for run in range(runs):
                try:
                    sides = {
                        "browser": in_browser(page, url),
                        "simulate": in_simulation(program, plain, folder / str(run)),
                    }
                # Both sides or none: the machine may have been busy with something else.
                except (RuntimeError, subprocess.CalledProcessError, StopIteration) as error:
                    print(f"run {run} is left out: {error!r}", flush=True)
                    continue
                print(json.dumps(sides), flush=True)
                for side, parts in sides.items():
                    for part, value in parts.items():
                        seen.setdefault(f"{side}, {part}", []).append(value)
    print("| part | median ms | quartiles | range |\n|---|---:|---:|---:|")
    for name, values in seen.items():
        print(told(name, values))


if __name__ == "__main__":
    main()
