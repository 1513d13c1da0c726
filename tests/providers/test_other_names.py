"""Options, arguments and names of getpatter 0.6 and 0.7 that providers and tools take."""

import warnings
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from patter_trio import (
    Agent,
    ConfigurationError,
    DeepgramSTT,
    ElevenLabsTTS,
    Guardrail,
    OpenAILLM,
    OpenAIRealtime,
    Patter,
    PipelineHooks,
    PiperTTS,
    SileroVAD,
    SmartTurn,
    Tool,
    Twilio,
    WhisperSTT,
    init_tracing,
)
from patter_trio.llm import openai
from patter_trio.stt import deepgram
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.tts import elevenlabs

KEY = "0123456789abcdef0123456789abcdef01234567"


async def work(day: str) -> str:
    return day


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: DeepgramSTT(KEY), {"api_key": KEY}),
        (lambda: deepgram.STT(KEY, language="de", model="nova-2"), {"language": "de", "model": "nova-2"}),
        (lambda: DeepgramSTT.for_twilio(KEY, model="nova-2"), {"api_key": KEY, "model": "nova-2"}),
        (lambda: ElevenLabsTTS("k"), {"api_key": "k"}),
        (lambda: ElevenLabsTTS(api_key="k", voice_id="rachel"), {"voice": "21m00Tcm4TlvDq8ikWAM"}),
        (lambda: elevenlabs.TTS("k", voice_id="Sarah"), {"voice": "EXAVITQu4vr4xnSDxMaL"}),
        (lambda: ElevenLabsTTS("k", voice=" Rachel "), {"voice": "21m00Tcm4TlvDq8ikWAM"}),
        (lambda: ElevenLabsTTS("k", voice_id="my-own-id"), {"voice": "my-own-id"}),
        (lambda: ElevenLabsTTS("k", model_id="eleven_turbo_v2_5", language_code="de"), {"language": "de"}),
        (
            lambda: ElevenLabsTTS("k", voice_settings={"stability": 0.3, "use_speaker_boost": True}),
            {"stability": 0.3, "use_speaker_boost": True},
        ),
        (lambda: ElevenLabsTTS("k", voice_settings=None, language_code=None), {"stability": None}),
        (lambda: ElevenLabsTTS("k", output_format="ulaw_8000"), {"api_key": "k"}),
        (lambda: ElevenLabsTTS.for_twilio("k", voice_id="rachel"), {"voice": "21m00Tcm4TlvDq8ikWAM"}),
        (lambda: ElevenLabsTTS.for_telnyx("k"), {"api_key": "k"}),
        (lambda: OpenAILLM("sk-x", model="gpt-4o", seed=7), {"model": "gpt-4o", "extra": {"seed": 7}}),
        (lambda: openai.LLM("sk-x", stop=["."], extra={"a": 1}), {"extra": {"a": 1, "stop": ["."]}}),
        (SileroVAD.load, {"threshold": 0.5}),
        (lambda: SileroVAD.load(activation_threshold=0.6, min_silence_duration=0.3), {"threshold": 0.6}),
        (lambda: SileroVAD.for_phone_call(min_speech_duration=0.1), {"min_speech": 0.1}),
        (
            lambda: OpenAIRealtime("sk-x", input_audio_transcription_model="whisper-1", transcription_language="de"),
            {"transcription": "whisper-1", "language": "de"},
        ),
        (lambda: OpenAIRealtime("sk-x", noise_reduction=None, reasoning_effort=None), {"noise_reduction": ""}),
        (lambda: Tool("t", handler=work, strict=False), {"name": "t"}),
        (lambda: Guardrail("n", callable), {"check": callable, "blocked_terms": ()}),
        (lambda: Guardrail("n", callable, ["x"]), {"check": callable, "blocked_terms": ("x",)}),
        (lambda: Guardrail("n", ["x"], callable), {"check": callable, "blocked_terms": ("x",)}),
        (lambda: Guardrail("n", None, None or callable, "Sorry."), {"replacement": "Sorry."}),
    ],
)
def test_shape_of_getpatter_is_taken(make: Callable[[], Any], expected: dict[str, Any]) -> None:
    """A provider made as for getpatter has our options, and warns of nothing."""
    made = make()
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: DeepgramSTT(KEY, endpointing_ms=300, utterance_end_ms=1000, vad_events=True),
            r"DeepgramSTT: endpointing_ms=, utterance_end_ms=, vad_events= have no effect: the call decides where",
        ),
        (
            lambda: DeepgramSTT(KEY, encoding="linear16", sample_rate=16000),
            "DeepgramSTT: encoding=, sample_rate= have no effect: audio is sent as the telephone brings it",
        ),
        (lambda: ElevenLabsTTS("k", chunk_size=4096), "chunk_size= has no effect: audio is passed on as it comes"),
        (lambda: ElevenLabsTTS("k", output_format="pcm_16000"), "output_format= has no effect: .*got 'pcm_16000'"),
        (lambda: SileroVAD.load(sample_rate=16000), "SileroVAD: sample_rate= has no effect"),
        (lambda: Tool("t", handler=work, reassurance="One moment."), "Tool: reassurance= has no effect"),
        (lambda: Tool("t", handler=work, strict=True), "Tool: strict= has no effect"),
    ],
)
def test_option_without_effect_warns_once(make: Callable[[], Any], said: str) -> None:
    """An option that means nothing here is taken, with one warning that says why and points at the program."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    [warning] = caught
    with pytest.raises(UserWarning, match=said):
        raise warning.message  # type: ignore[misc]
    assert warning.filename == __file__


def test_evolved_provider_keeps_and_warns_of_nothing() -> None:
    """A provider can be copied with changes, whichever names it was made with."""
    made = ElevenLabsTTS("k", voice_id="rachel", voice_settings={"speed": 1.1})
    changed = made.with_voice("george")
    assert (changed.voice, changed.speed) == ("JBFqnCBsd6RMkjVDRZzb", 1.1)
    assert attrs.evolve(made, speed=1.0).voice == made.voice
    assert attrs.evolve(Guardrail("n", callable), name="m").check is callable


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ElevenLabsTTS("k", voice="a", voice_id="b"), "voice= and voice_id= must not both be given"),
        (lambda: DeepgramSTT(KEY, smart_formatt=True), "smart_formatt"),
        (lambda: ElevenLabsTTS("k", "rachel"), "positional"),
    ],
)
def test_mistake_is_a_type_error(make: Callable[[], Any], said: str) -> None:
    """An unknown option, or one given by both of its names, is a TypeError that names it."""
    with pytest.raises(TypeError, match=said):
        make()


@pytest.mark.parametrize(
    ("cls", "given", "meant"),
    [
        (DeepgramSTT, "smart_formatt", "smart_format"),
        (ElevenLabsTTS, "stabilty", "stability"),
        (OpenAILLM, "temprature", "temperature"),
        (OpenAIRealtime, "first_audoi", "first_audio"),
        (PipelineHooks, "before_ltm", "before_llm"),
        (PiperTTS, "lenght_scale", "length_scale"),
        (SileroVAD, "treshold", "threshold"),
        (SmartTurn, "pth", "path"),
        (Tool, "timeout", "timeout_s"),
        (Twilio, "auth_tokn", "auth_token"),
        (WhisperSTT, "interim", "interim_every"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_misspelt_option_names_the_meant_one(cls: Any, given: str, meant: str) -> None:
    """An unknown option of a provider, a tool, a carrier or of hooks is a TypeError with the option that was meant."""
    with pytest.raises(TypeError, match=rf"^{cls.__name__}\(\) .* '{given}' \(did you mean {meant}\?\)$"):
        cls(**{given: 1})


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (lambda: OpenAILLM("gpt-4o"), "gpt-4o"),
        (lambda: OpenAILLM("gpt-4.1-mini"), "gpt-4.1-mini"),
        (lambda: OpenAILLM("o3"), "o3"),
        (lambda: OpenAILLM("llama3.2", base_url="http://127.0.0.1:11434/v1"), "llama3.2"),
        (lambda: OpenAILLM("qwen/qwen3-32b", base_url="https://api.groq.com/openai/v1"), "qwen/qwen3-32b"),
        (lambda: DeepgramSTT("nova-2"), "nova-2"),
        (lambda: DeepgramSTT("flux-general-en"), "flux-general-en"),
        (lambda: OpenAIRealtime("gpt-realtime"), "gpt-realtime"),
    ],
)
def test_model_is_not_taken_for_a_key(make: Callable[[], Any], model: str) -> None:
    """The name of a model in the key's place is an error that says how to write it."""
    with pytest.raises(ConfigurationError, match=f"must be a key, got the name of a model; write model='{model}'"):
        make()


@pytest.mark.parametrize("key", ["sk-gpt-4o", "EMPTY", "ollama", "gsk_abcdef", "local", "o", "my-llama-server-key"])
def test_keys_of_other_servers_are_keys(key: str) -> None:
    """Keys that compatible servers use are not mistaken for models."""
    assert OpenAILLM(key, base_url="http://127.0.0.1:11434/v1").api_key == key


def test_voice_settings_are_checked() -> None:
    """An unknown voice setting is named with those that there are."""
    with pytest.raises(ConfigurationError, match=r"voice_settings must have only stability, .*got 'stabilty'"):
        ElevenLabsTTS("k", voice_settings={"stabilty": 0.3})


def test_tracing_takes_getpatters_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """init_tracing takes otlp_endpoint and resource_attributes, and refuses both names of the endpoint."""
    monkeypatch.delenv("PATTER_OTEL_ENABLED", raising=False)
    assert init_tracing("desk", "http://localhost:4318", {"deployment.environment": "test"}) is False
    assert init_tracing(otlp_endpoint=None, resource_attributes=None) is False
    with pytest.raises(ConfigurationError, match="endpoint= or otlp_endpoint="):
        init_tracing(endpoint="http://a:1", otlp_endpoint="http://b:1")
    with pytest.raises(ConfigurationError, match="endpoint must be a URL"):
        init_tracing(otlp_endpoint="localhost")


def desk(**options: Any) -> Agent:
    return Patter().agent(
        system_prompt="x", vad=ScriptedVAD(), stt=ScriptedSTT(), tts=ScriptedTTS(), llm=ScriptedLLM([]), **options
    )


def test_agent_takes_getpatters_names() -> None:
    """An agent takes the name that getpatter has for an option, and warns at the program of options without effect."""
    assert desk(llm_error_message="Sorry.").error_message == "Sorry."
    assert attrs.evolve(desk(llm_error_message="Sorry."), language="de").error_message == "Sorry."
    assert [desk(disable_phone_preamble=disabled).phone_preamble for disabled in (True, False)] == [False, True]
    with pytest.raises(TypeError, match="error_message= and llm_error_message= must not both be given"):
        desk(llm_error_message="Sorry.", error_message="Pardon?")
    with pytest.warns(UserWarning, match="Agent: aggressive_first_flush= has no effect: the first sentence") as caught:
        desk(aggressive_first_flush=True, prewarm_first_message=False)
    assert [warning.filename for warning in caught] == [__file__]
    # Refused, not ignored: a program that relies on one of these would do something else.
    for option in ("mcp_servers", "background_audio", "echo_cancellation", "transfer_allowed_numbers", "model"):
        with pytest.raises(TypeError, match=option):
            desk(**{option: True})
