"""Write the tables of docs/migrating-from-getpatter.md: ``python docs/make_migrating.py``.

The script looks each name up in the package, so the page cannot promise a name that does not work yet.
"""

import inspect
import re
from pathlib import Path

import patter_trio

PAGE = Path(__file__).with_name("migrating-from-getpatter.md")
BEGIN, END = "<!-- {} -->\n", "<!-- end of {} -->\n"

NAMES = {
    "The phone": ["Patter", "Agent", "Twilio", "Telnyx", "Plivo", "CallControl"],
    "Engines": ["OpenAIRealtime", "ElevenLabsConvAI"],
    "STT": [
        "DeepgramSTT",
        "OpenAITranscribeSTT",
        "AssemblyAISTT",
        "CartesiaSTT",
        "SonioxSTT",
        "SpeechmaticsSTT",
        "WhisperSTT",
    ],
    "TTS": ["ElevenLabsTTS", "OpenAITTS", "CartesiaTTS", "RimeTTS", "LMNTTTS"],
    "LLM": ["OpenAILLM", "AnthropicLLM", "GroqLLM", "CerebrasLLM", "GoogleLLM"],
    "Tools and guardrails": ["Tool", "tool", "Guardrail", "guardrail", "PatterTool"],
    "Hooks": [
        "PipelineHooks",
        "HookContext",
        "PatterDeprecationWarning",
        "filter_markdown",
        "filter_emoji",
        "filter_for_tts",
    ],
    "Events": [
        "EventBus",
        "PatterEventType",
        "SpeechEvents",
        "SpeechEventCallback",
        "ConversationStateSnapshot",
        "UserState",
        "AgentState",
        "EouTrigger",
    ],
    "Metrics": ["CallMetrics", "TurnMetrics", "LatencyBreakdown", "CostBreakdown"],
    "Tracing": ["init_tracing", "shutdown_tracing"],
    "Audio and text": [
        "SileroVAD",
        "SentenceChunker",
        "BackgroundAudioPlayer",
        "mix_pcm",
        "ChatContext",
        "IVRActivity",
    ],
    "Time": ["ScheduleHandle", "schedule_once", "schedule_interval", "schedule_cron"],
    "Errors": ["PatterError", "PatterConnectionError", "AuthenticationError", "ProvisionError", "RateLimitError"],
}
"""The names that programs import from ``getpatter``, by purpose."""

EIGHTEEN: list[tuple[str, str, str]] = [
    ("`transcript` in `on_call_end` was always empty", "it is the whole conversation", ""),
    ("no `phone.events`, no `PatterEventType`", "both, with every type", "EventBus"),
    ("speech edges fired only on one carrier with one engine", "they fire on every path", ""),
    (
        "the state stayed `initializing`; no `audio_offset_ms`",
        "states follow their table; the offset is always present",
        "",
    ),
    (
        "with an engine, eos came after the reply: no `llm_token`, no `audio_out`, a wrong `turn_idx`",
        "the order is the same as with a pipeline",
        "OpenAIRealtime",
    ),
    (
        "a barge-in during the last audio in the carrier's buffer was not reported, and late audio followed it",
        "it is reported, and nothing follows the `clear`",
        "",
    ),
    ("`agent_speech_ended` came before `user_speech_started`", "the caller's voice is reported first", ""),
    ("the audio path awaited callbacks", "callbacks run in a task of their own; the audio never waits", ""),
    (
        "one state for all calls; a VAD, STT or TTS object shared by calls mixed them up",
        "a provider is frozen; each call opens its own session",
        "",
    ),
    (
        "`PATTER_OTEL_ENABLED` was ignored, and no call had a span",
        "it takes effect, and each call is a trace",
        "init_tracing",
    ),
    ('"Yes." and "No." were dropped as noise; a second utterance within 0.5 s was lost', "both are answered", ""),
    ("the model got the caller's message twice", "once", ""),
    (
        "no barge-in without a VAD or with a confirmation strategy",
        "barge-in always works; `barge_in_min_words` waits for words",
        "",
    ),
    ("overrides of `on_call_start` damaged hooks and providers", "they make a new agent for that call", ""),
    (
        "`call(agent=)` was ignored, no id came back, the direction was always `inbound`",
        "`agent=` is used, the id is returned, the direction is right",
        "Patter.call",
    ),
    ("two outbound calls overwrote each other's voicemail state", "each call has its own", "Patter.call"),
    ("an interrupted reply stayed in the history as a whole", "the history keeps the part that the caller heard", ""),
    (
        "media sockets accepted any client; transcripts were on an unprotected dashboard",
        "a socket needs the one-time token of its call; the dashboard needs a token, or answers this machine alone",
        "",
    ),
]
"""What that SDK does, what happens here, and the name that must exist for it."""


def is_here(name: str) -> bool:
    """Return True if a name works already: an export, or a member of the phone."""
    if name.startswith("Patter."):
        return hasattr(patter_trio.Patter, name.removeprefix("Patter."))
    if name.startswith("serve."):
        return name.removeprefix("serve.") in inspect.signature(patter_trio.Patter.serve).parameters
    return name in patter_trio.__all__


def names() -> str:
    """Return the table of imports."""
    lines = ["| | `from patter_trio import ...` | not there yet |", "|---|---|---|"]
    for what, wanted in NAMES.items():
        here = ", ".join(f"`{name}`" for name in wanted if is_here(name))
        missing = ", ".join(f"`{name}`" for name in wanted if not is_here(name))
        lines.append(f"| {what} | {here} | {missing} |")
    return "\n".join(lines) + "\n"


def eighteen() -> str:
    """Return the table of differences."""
    lines = ["| | `getpatter` | `patter_trio` |", "|---|---|---|"]
    for number, (theirs, ours, needs) in enumerate(EIGHTEEN, 1):
        lines.append(f"| {number} | {theirs} | {ours if not needs or is_here(needs) else 'not there yet'} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with its tables brought up to date."""
    for title, table in (("the names", names()), ("the eighteen", eighteen())):
        begin, end = BEGIN.format(title), END.format(title)
        pattern = f"{re.escape(begin)}.*{re.escape(end)}"
        text = re.sub(pattern, lambda _, whole=begin + table + end: whole, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
