"""Fuzz for a given time: ``python -m benchmarks.fuzz --seconds 60 [--keep] [target ...]``.

Needs the extra ``fuzz`` (atheris, a coverage-guided fuzzer). The targets share the time. Each begins with the corpus of
earlier runs; ``--keep`` adds new inputs to it, reduced to those that reach code which no smaller set of them reaches.
An input that breaks a property is printed in base64 and ends the run with exit code 1.
"""

import argparse
import base64
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.fuzz import corpus
from benchmarks.fuzz.seeds import SEEDS
from benchmarks.fuzz.targets import TARGETS

# Small where one input says all that a large one does; the fuzzer is faster with short inputs.
MAX_INPUT_BYTES: Final = {
    "mulaw": 512,
    "wav": 512,
    "codec": 1024,
    "telnyx": 1024,
    "plivo": 1024,
    "websocket": 1024,
    "call": 1024,
}
# Words of the protocols: a fuzzer would take for ever to find a key by chance.
WORDS: Final = (
    *("event", "media", "mark", "start", "stop", "dtmf", "connected", "streamSid", "callSid", "payload", "track"),
    *("MZ1", "CA1", "inbound", "outbound", "digit", "name", "customParameters", "mediaFormat", "encoding", "AAAA"),
    *("RIFF", "WAVE", "fmt ", "data", "GET ", "POST ", " HTTP/1.1", "\r\n", "Upgrade: websocket", "Content-Length: "),
    *("Transfer-Encoding: chunked", "Expect: 100-continue", "/webhooks/twilio/voice", "/ws/twilio/stream/CA1"),
    *("stream_id", "call_control_id", "chunk", "media_format", "custom_parameters", "client_state", "error", "PCMU"),
    *("streamId", "callId", "playedStream", "clearedAudio", "extra_headers", "sampleRate", "audio/x-mulaw"),
    *("X-Twilio-Signature: ", "application/x-www-form-urlencoded", "CallSid=CA1", "From=%2B1", "To=%2B2", "&", "%00"),
)


def fuzz(target: str, seconds: int, *, keep: bool) -> int:
    """Fuzz one target; return the number of inputs, or -1 if one of them broke a property."""
    with tempfile.TemporaryDirectory() as folder:
        found, old = Path(folder, "found"), Path(folder, "old")
        found.mkdir()
        old.mkdir()
        # The seeds as well, each time: a reduced corpus may have lost the kind of input that a new property needs.
        corpus.unpack(corpus.load(target) + SEEDS[target], old)
        words = Path(folder, "words")
        words.write_text("".join(f'"{_quoted(word)}"\n' for word in WORDS))
        options = [f"-max_len={MAX_INPUT_BYTES.get(target, 2048)}", f"-dict={words}", f"-artifact_prefix={folder}/bad-"]
        done = _run(target, [f"-max_total_time={seconds}", "-print_final_stats=1", *options, str(found), str(old)])
        # libFuzzer's own count; without it, the fuzzer did not come to its end.
        tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        bad = sorted(Path(folder).glob("bad-*"))
        if bad or tried is None:
            print(done.stdout[-3000:], done.stderr[-3000:], sep="\n")
            for file in bad:
                print(f"{target}: {file.name.partition('-')[2]} {base64.b64encode(file.read_bytes()).decode()}")
            return -1
        if keep:
            least = Path(folder, "least")
            least.mkdir()
            # Into an empty folder: what earlier runs kept is judged anew, because the code has changed.
            _run(target, ["-merge=1", *options, str(least), str(old), str(found)])
            kept = corpus.save(target, [file.read_bytes() for file in least.iterdir()])
            print(f"{target}: {kept} inputs kept")
        return int(tried[1])


def _run(target: str, options: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.fuzz.one", target, *options]
    # A process for each: libFuzzer ends the process, and the coverage of one target must not count for another.
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _quoted(word: str) -> str:
    # Every byte escaped: quotes and line ends have a meaning in the dictionary's format.
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def main() -> int:
    """Fuzz the targets on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="seconds for all targets together")
    parser.add_argument("--keep", action="store_true", help="keep the inputs that reach something new")
    given = parser.parse_args()
    unknown = sorted(set(given.targets) - set(TARGETS))
    if unknown:
        parser.error(f"targets must be of {', '.join(TARGETS)}, got {', '.join(unknown)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("the fuzzer is not installed: pip install -e '.[dev,fuzz]'")
    targets = given.targets or list(TARGETS)
    seconds = max(1, given.seconds // len(targets))
    bad = False
    for target in targets:
        tried = fuzz(target, seconds, keep=given.keep)
        bad |= tried < 0
        print(f"{target}: {'BROKEN' if tried < 0 else f'{tried} inputs in {seconds} s, all well'}", flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
