"""Writes the tables of docs/migrating-from-getpatter.md: ``python docs/make_migrating.py``.

What is here and what is not is asked of the package, so that the page cannot promise what does not work yet.
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
    "Recognisers": ["DeepgramSTT", "OpenAITranscribeSTT", "AssemblyAISTT", "CartesiaSTT", "SonioxSTT", "SpeechmaticsSTT", "WhisperSTT"],
    "Voices": ["ElevenLabsTTS", "OpenAITTS", "CartesiaTTS", "RimeTTS", "LMNTTTS"],
    "Models": ["OpenAILLM", "AnthropicLLM", "GroqLLM", "CerebrasLLM", "GoogleLLM"],
    "Tools and guardrails": ["Tool", "tool", "Guardrail", "guardrail", "PatterTool"],
    "Hooks": ["PipelineHooks", "HookContext", "PatterDeprecationWarning", "filter_markdown", "filter_emoji", "filter_for_tts"],
    "Events": ["EventBus", "PatterEventType", "SpeechEvents", "SpeechEventCallback", "ConversationStateSnapshot", "UserState", "AgentState", "EouTrigger"],
    "Numbers": ["CallMetrics", "TurnMetrics", "LatencyBreakdown", "CostBreakdown"],
    "Tracing": ["init_tracing", "shutdown_tracing"],
    "Audio and text": ["SileroVAD", "SentenceChunker", "BackgroundAudioPlayer", "mix_pcm", "ChatContext", "IVRActivity"],
    "Time": ["ScheduleHandle", "schedule_once", "schedule_interval", "schedule_cron"],
    "Errors": ["PatterError", "PatterConnectionError", "AuthenticationError", "ProvisionError", "RateLimitError"],
}  # fmt: skip
"""The names that programs import from ``getpatter``, by what they are for."""

EIGHTEEN: list[tuple[str, str, str]] = [
    ("`transcript` in `on_call_end` was always empty", "it is the whole conversation", ""),
    ("no `phone.events`, no `PatterEventType`", "both, with every type", "EventBus"),
    ("speech edges were silent but on one carrier with one engine", "they fire on every path", ""),
    ("the state stayed `initializing`; no `audio_offset_ms`", "states follow their table; the offset is always there", ""),
    ("with an engine, eos came after the reply: no `llm_token`, no `audio_out`, a wrong `turn_idx`", "the order holds", "OpenAIRealtime"),
    ("a barge-in while the carrier still played the rest was not told, and late audio followed it", "it is a barge-in, and nothing follows the `clear`", ""),
    ("`agent_speech_ended` came before `user_speech_started`", "the caller's voice comes first", ""),
    ("callbacks were awaited by the audio", "a task of their own; the audio never waits", ""),
    ("one state for all calls; a VAD, STT or TTS object shared by calls mixed them up", "a recipe is frozen; each call opens its own session", ""),
    ("`PATTER_OTEL_ENABLED` was ignored, and no call had a span", "it is obeyed", "init_tracing"),
    ('"Yes." and "No." were dropped as noise; a second utterance within 0.5 s was lost', "both are heard", ""),
    ("the model got the caller's message twice", "once", ""),
    ("no barge-in without a VAD, none with a strategy of confirmation", "always; `barge_in_min_words` waits for words", ""),
    ("overrides of `on_call_start` damaged hooks and providers", "they make another agent, for one call", ""),
    ("`call(agent=)` was ignored, no id came back, the direction was always `inbound`", "obeyed, returned, true", "Patter.call"),
    ("two outbound calls overwrote each other's voicemail state", "each call has its own", "Patter.call"),
    ("an interrupted reply stayed in the history whole", "what was heard of it does", ""),
    ("media sockets took anybody; transcripts lay on an open dashboard", "a socket needs the one-time token of its call; there is no dashboard", ""),
]  # fmt: skip
"""What that SDK does, what happens here, and what has to be there for it."""


def is_here(name: str) -> bool:
    """Say whether a name works already: an export, or a member of the phone's."""
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
    """Return the table of what differs."""
    lines = ["| | `getpatter` | `patter_trio` |", "|---|---|---|"]
    for number, (theirs, ours, needs) in enumerate(EIGHTEEN, 1):
        lines.append(f"| {number} | {theirs} | {ours if not needs or is_here(needs) else 'not there yet'} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with its tables as the package is now."""
    for title, table in (("the names", names()), ("the eighteen", eighteen())):
        begin, end = BEGIN.format(title), END.format(title)
        pattern = f"{re.escape(begin)}.*{re.escape(end)}"
        text = re.sub(pattern, lambda _, whole=begin + table + end: whole, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
