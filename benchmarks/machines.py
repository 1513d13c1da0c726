"""How often our own detection of answering machines is right, on real recordings in five languages.

``python -m benchmarks.machines --sounds /usr/share/asterisk/sounds --each 40``

The recordings are those of Debian's packages ``asterisk-core-sounds-{en,es,fr,it,ru}-wav``: prompts by professional
speakers, at 8 kHz (CC-BY-SA-3.0; the Russian ones CC-BY-3.0). A person is one prompt of the length of a greeting, a
wait of 4 s for an answer, and two more prompts. A machine is the prompts of a voicemail in the order in which Asterisk
plays them, or a menu or an announcement. Every line goes through mu-law, at half of the recordings' level, with noise
of a stated level below the voice.
"""

import argparse
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import numpy as np
import numpy.typing as npt

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.sounds import STEP_S, SoundMeter
from patter_trio.conversation.answering import Answer, AnswerDetector

Audio = npt.NDArray[np.float64]

# Asterisk's prompts are loud; half of it is a voice at -20 dB below full scale.
GAIN: Final = 0.5
_AUDIBLE: Final = 300.0
_MENUS: Final = (
    *("conf-adminmenu", "demo-congrats", "vm-options", "demo-instruct", "ss-noservice", "vm-mailboxfull", "vm-opts"),
    "basic-pbx-ivr-main",
)
SHORT_S: Final = (0.3, 2.5)
LONG_S: Final = (2.5, 4.6)
"""Shortest and longest greeting of a person, in seconds: a word or two, and that of a company."""


@attrs.frozen
class Line:
    """One call's audio, and what it is; ``ends`` is when a message can be left, in seconds."""

    kind: str
    audio: Audio
    is_machine: bool
    ends: float = 0.0


def load(file: Path) -> Audio:
    """Read a prompt, without the silence around it."""
    with wave.open(str(file)) as opened:
        audio = np.frombuffer(opened.readframes(opened.getnframes()), "<i2").astype(float)
    loud = np.flatnonzero(np.abs(audio) > _AUDIBLE)
    return audio[loud[0] : loud[-1] + 1] if len(loud) else audio


def quiet(seconds: float) -> Audio:
    """Return silence."""
    return np.zeros(int(seconds * RATE_HZ))


def people(folder: Path, each: int) -> Iterator[Line]:
    """Yield calls that people of one language have answered."""
    random = np.random.default_rng(5)
    files = sorted(file for file in folder.rglob("*.wav") if "silence" not in file.parts and "beep" not in file.name)
    prompts = [load(files[number]) for number in random.permutation(len(files))[: 12 * each]]
    lengths = {"a person, a few words": SHORT_S, "a person, a sentence": LONG_S}
    chosen = {
        kind: [prompt for prompt in prompts if low < len(prompt) / RATE_HZ <= high][:each]
        for kind, (low, high) in lengths.items()
    }
    short = chosen["a person, a few words"]
    for kind, greetings in chosen.items():
        for greeting in greetings:
            first, second = (short[random.integers(len(short))] for _ in range(2))
            before = quiet(random.uniform(0.1, 1.2))
            yield Line(kind, np.concatenate([before, greeting, quiet(4), first, quiet(3), second, quiet(3)]), False)


def machines(folder: Path, each: int) -> Iterator[Line]:
    """Yield calls that machines of one language have answered."""
    random = np.random.default_rng(6)

    def prompt(name: str) -> Audio:
        return load(folder / f"{name}.wav")

    def line(kind: str, greeting: Audio, *, beeps: bool) -> Line:
        before, pause = quiet(random.uniform(0.2, 1.5)), quiet(random.uniform(0.2, 1.5))
        audio = np.concatenate([before, greeting, pause, prompt("beep")] if beeps else [before, greeting])
        return Line(kind, np.concatenate([audio, quiet(8)]), True, len(audio) / RATE_HZ)

    for _ in range(max(1, each // 6)):
        digits = [part for _ in range(4) for part in (quiet(0.08), prompt(f"digits/{random.integers(10)}"))]
        who = [prompt("vm-theperson"), *digits, quiet(0.1), prompt("vm-isunavail")]
        greeting = np.concatenate([*who, quiet(random.uniform(0.2, 0.8)), prompt("vm-intro")])
        yield line("voicemail with a beep", greeting, beeps=True)
        yield line("voicemail with a beep", np.concatenate([prompt("vm-nobodyavail"), prompt("vm-intro")]), beeps=True)
        yield line("short voicemail with a beep", prompt("vm-nobodyavail"), beeps=True)
        yield line("voicemail without a beep", greeting, beeps=False)
    for name in _MENUS:
        if (folder / f"{name}.wav").is_file():
            menu = prompt(name)
            kind = "menu" if len(menu) / RATE_HZ > 6 else "announcement of 3 to 6 s"
            yield line(kind, menu, beeps=False)


Noise = Callable[[int, np.random.Generator], Audio]


def pink(samples: int, random: np.random.Generator) -> Audio:
    """Return pink noise above 100 Hz, as of a street."""
    spectrum = np.fft.rfft(random.normal(size=samples))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    audio: Audio = np.fft.irfft(spectrum / np.sqrt(bins) * (bins * RATE_HZ / samples > 100), samples)
    return audio


def babble_of(folder: Path) -> Noise:
    """Return a noise of six people who talk at once."""
    files = sorted(file for file in folder.rglob("*.wav") if "silence" not in file.parts)
    prompts = [load(file) for file in files[::8]]

    def babble(samples: int, random: np.random.Generator) -> Audio:
        audio = np.zeros(samples)
        for _ in range(6):
            at = 0
            while at < samples:
                part = prompts[random.integers(len(prompts))][: samples - at]
                audio[at : at + len(part)] += part
                at += len(part) + int(random.integers(2400))
        return audio

    return babble


def findings(line: Line, noise: Noise | None = None, snr_db: float = 0.0, seed: int = 0) -> list[tuple[float, Answer]]:
    """Return what the detection finds on a line, each with its time in seconds."""
    audio = line.audio * GAIN
    if noise is not None:
        random = np.random.default_rng(seed)
        added = noise(len(audio), random)
        voice = float(np.mean(audio[np.abs(audio) > _AUDIBLE * GAIN] ** 2))
        audio = audio + added * np.sqrt(voice / np.mean(added**2)) * 10 ** (-snr_db / 20)
    samples = g711.decode(g711.encode(audio.clip(-32768, 32767).astype(np.int16)))
    detector = AnswerDetector()
    heard = enumerate(map(detector.hear, SoundMeter().hear(samples)), start=1)
    return [(step * STEP_S, answer) for step, answer in heard if answer is not None]


def measured(root: Path, each: int, condition: str) -> Iterator[str]:
    """Yield the table's lines for one condition: ``clean``, or ``pink`` or ``babble`` with dB, as in ``pink20``."""
    name = condition.rstrip("0123456789")
    snr_db = float(condition.removeprefix(name) or 0)
    folders = sorted(folder for folder in root.iterdir() if (folder / "vm-intro.wav").is_file())
    verdicts: dict[str, Counter[str]] = {}
    late: dict[str, list[float]] = {}
    for folder in folders:
        noise: Noise | None = {"clean": None, "pink": pink, "babble": babble_of(folder)}[name]
        for number, line in enumerate([*people(folder, each), *machines(folder, each)]):
            found = findings(line, noise, snr_db, number)
            verdicts.setdefault(line.kind, Counter())[found[0][1].answered_by if found else "none"] += 1
            late.setdefault(line.kind, []).extend(at - line.ends for at, answer in found if answer.greeting_ended)
    for kind, counted in verdicts.items():
        times = late[kind]
        after = f"{np.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})" if times else ""
        cells = (str(counted[who]) for who in ("human", "machine", "unknown"))
        yield f"| {condition} | {kind} | {' | '.join(cells)} | {after} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, default=Path("/usr/share/asterisk/sounds"))
    parser.add_argument("--each", type=int, default=40, help="people of each kind and language")
    parser.add_argument("conditions", nargs="*", default=["clean", "pink20", "babble15"])
    options = parser.parse_args()
    print("| line | who answers | human | machine | unknown | a message is left, after the end of the greeting |")
    print("|---|---|---:|---:|---:|---|")
    for condition in options.conditions:
        for row in measured(options.sounds, options.each, condition):
            print(row, flush=True)


if __name__ == "__main__":
    main()
