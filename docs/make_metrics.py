"""Draw docs/metrics.svg, a turn and its latencies: ``python docs/make_metrics.py``.

The instants are made up; the meter computes the latencies from them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.internal_events import (
    CallEvent,
    LlmChunk,
    LlmFinished,
    ReplyEnded,
    ReplyStarted,
    TtsFinished,
    TtsFirstAudio,
    UtteranceOver,
    VoiceOnset,
    WordsFinal,
)
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.public_events import (
    AgentSpeechStarted,
    TranscriptCommitted,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.metrics.results import LatencyBreakdown

PICTURE: Final = Path(__file__).with_name("metrics.svg")

INSTANTS: Final = {"S0": 0.2, "S1": 1.4, "W": 1.55, "E": 1.9, "T": 2.2, "A": 2.5, "P": 2.6, "L": 2.9, "Z": 3.3}
"""Seconds; what the letters mean is in ``patter_trio/metrics/results.py``."""
LANES: Final = (
    ("caller", "S0", "S1", "speaks"),
    ("STT", "S1", "W", ""),
    ("end of utterance", "S1", "E", ""),
    ("LLM", "E", "L", "text"),
    ("TTS", "T", "Z", "audio"),
    ("on the wire", "P", "", "the caller hears the agent"),
)
MEASURED: Final = (
    ("user_speech_duration_ms", "S0", "S1"),
    ("stt_ms", "S1", "W"),
    ("endpoint_ms", "S1", "E"),
    ("llm_ttft_ms", "E", "T"),
    ("llm_total_ms", "E", "L"),
    ("tts_ms", "T", "A"),
    ("tts_total_ms", "T", "Z"),
    ("agent_response_ms", "S1", "A"),
    ("total_ms", "S1", "P"),
)
LEFT: Final = 150
SCALE: Final = 180
LANE: Final = 26
WIDTH: Final = 900
UNTIL: Final = 3.9
STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.letter{font-weight:bold;text-anchor:middle}.name{text-anchor:end}"
    ".value{fill:#a33}.bar{fill:#c9dff2;stroke:#2b78b8}.agent{fill:#f7dfc0;stroke:#d9822b}"
    ".rule{stroke:#bbb;stroke-dasharray:2 3}.span{stroke:#a33;stroke-width:1.5}"
)


def latencies() -> LatencyBreakdown:
    """Return the latencies that the meter computes from these instants."""
    media = MediaClock()
    media.arrived(160, 0.02)
    meter = Meter("CA1", media)
    at, voice_ms = INSTANTS, round((INSTANTS["S1"] - INSTANTS["S0"]) * 1000)
    events: tuple[tuple[float, CallEvent], ...] = (
        (at["S0"], VoiceOnset(at["S0"])),
        (at["S0"], UserSpeechStarted()),
        (at["W"], WordsFinal("Hello")),
        (at["E"], UserSpeechEnded(speech_duration_ms=voice_ms)),
        (at["E"], UtteranceOver(at["E"] - at["S1"])),
        (at["E"], UserSpeechEos(trigger="vad_silence")),
        (at["E"], TranscriptCommitted("user", "Hello", [])),
        (at["E"], ReplyStarted(1, 1, "llm")),
        (at["T"], LlmChunk(1, 1, "Yes.")),
        (at["A"], TtsFirstAudio(1, 1)),
        (at["P"], AgentSpeechStarted(turn_idx=1)),
        (at["L"], LlmFinished(1, 1)),
        (at["Z"], TtsFinished(1, 1)),
        (4.0, ReplyEnded(1, 1, "played")),
    )
    (turn,) = (turn for when, event in events if (turn := meter.on_event(event, when)))
    return turn.latency


def x(seconds: float) -> float:
    """Return the x coordinate of an instant."""
    return round(LEFT + seconds * SCALE, 1)


def lanes() -> Iterator[str]:
    """Draw a lane for each stage."""
    for row, (name, begin, end, text) in enumerate(LANES):
        top = 34 + row * LANE
        left, right = x(INSTANTS[begin]), x(INSTANTS.get(end, UNTIL))
        kind = "bar" if row < 3 else "bar agent"  # noqa: PLR2004 (the caller's side has three lanes)
        yield f'<text class="name" x="{LEFT - 12}" y="{top + 14}">{name}</text>'
        yield f'<rect class="{kind}" x="{left}" y="{top}" width="{right - left:.1f}" height="18"/>'
        yield f'<text x="{left + 6:.1f}" y="{top + 13}">{text}</text>' if text else ""


def letters() -> Iterator[str]:
    """Draw the instants, from top to bottom."""
    bottom = 34 + (len(LANES) + len(MEASURED)) * LANE + 16
    for letter, at in INSTANTS.items():
        yield f'<text class="letter" x="{x(at)}" y="20">{letter}</text>'
        yield f'<line class="rule" x1="{x(at)}" x2="{x(at)}" y1="26" y2="{bottom}"/>'


def spans(measured: LatencyBreakdown) -> Iterator[str]:
    """Draw each latency between its two instants."""
    for row, (name, begin, end) in enumerate(MEASURED):
        y = 34 + (len(LANES) + row) * LANE + 26
        left, right = x(INSTANTS[begin]), x(INSTANTS[end])
        yield f'<line class="span" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<path class="span" d="M{left} {y - 4}v8M{right} {y - 4}v8"/>'
        yield (
            f'<text x="{right + 8:.1f}" y="{y + 4}">{name} <tspan '
            f'class="value">{getattr(measured, name):g}</tspan></text>'
        )


def picture() -> str:
    """Return the picture as SVG."""
    height = 34 + (len(LANES) + len(MEASURED)) * LANE + 26
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<title>A turn and its latencies</title><style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    )
    parts = [head, *letters(), *lanes(), *spans(latencies()), "</svg>"]
    return "\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
