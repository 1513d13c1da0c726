"""The audio of callers and agents in the benchmarks: recordings of people, trimmed to their voice, at telephone
quality.
"""

from pathlib import Path
from typing import Final

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.wav import read_wav

AUDIO: Final = Path(__file__).parents[1] / "tests" / "audio"
FRAME_BYTES: Final = 160
"""Bytes (and samples) of mu-law in 20 ms."""
QUESTION: Final = "ill_disposed"
"""A recording of 2.6 s without a pause that could be taken for its end."""
INTERRUPTION: Final = "cards_1"
"""A recording of 0.8 s, spoken over the agent."""
ANSWER: Final = "dashwood_leisure"
ANSWER_SECONDS: Final = 4.0
# Judged: breath and room are below it, quiet consonants above.
MIN_VOICED_SHARE: Final = 0.15
"""Share of the RMS of a recording's loudest frame from which a frame counts as voiced."""


def voiced(name: str) -> bytes:
    """Return a recording as mu-law, from its first voiced frame to its last, in whole frames of 20 ms."""
    samples = read_wav((AUDIO / f"{name}.wav").read_bytes())
    frames = samples[: len(samples) // FRAME_BYTES * FRAME_BYTES].reshape(-1, FRAME_BYTES)
    loudness = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1))
    loud = np.flatnonzero(loudness > MIN_VOICED_SHARE * loudness.max())
    # Whole frames only, so that the first and the last frame sent are voiced: the stopwatch starts with them.
    return g711.encode(np.ascontiguousarray(frames[loud[0] : loud[-1] + 1]).reshape(-1))


def frames_of(mulaw: bytes) -> list[bytes]:
    """Return mu-law audio in frames of 20 ms."""
    return [mulaw[at : at + FRAME_BYTES] for at in range(0, len(mulaw), FRAME_BYTES)]


def answer() -> bytes:
    """Return the answer of every server: :data:`ANSWER_SECONDS` of mu-law speech."""
    return voiced(ANSWER)[: round(ANSWER_SECONDS * 8000)]


def write_answer(folder: Path) -> None:
    """Write the answer for servers that cannot import this package: as mu-law, and as 16-bit PCM, both at 8 kHz."""
    mulaw = answer()
    (folder / "answer.ulaw").write_bytes(mulaw)
    (folder / "answer.pcm").write_bytes(g711.decode(mulaw).astype("<i2").tobytes())
