"""An agent is frozen options: what is wrong with them is said when they are given."""

import inspect
import math
import re
from typing import Any

import attrs
import pytest

from patter_trio import Agent, ConfigurationError, Fallback, Patter, PiperTTS, SileroVAD, WhisperSTT, end_call
from patter_trio.conversation.prompts import filled
from patter_trio.errors import ProviderError
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

PROVIDERS: dict[str, Any] = {"stt": ScriptedSTT(), "tts": ScriptedTTS(), "vad": ScriptedVAD()}


def make(**options: Any) -> Agent:
    return Patter().agent(**{"system_prompt": "x", **PROVIDERS} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system_prompt": 1}, "system_prompt must be a str, got int: 1"),
        ({"stt": "deepgram"}, "stt must be a SpeechToText, got str: 'deepgram'"),
        ({"tts": ScriptedSTT()}, "tts must be a TextToSpeech, got ScriptedSTT: "),
        ({"vad": ScriptedVAD}, "vad must be a VoiceActivity, got "),
        ({"llm": print}, "llm= must be a LanguageModel, or have its method stream(messages), got builtin_function"),
        ({"turn_detector": ScriptedVAD()}, "turn_detector must be a TurnDetector, got ScriptedVAD: "),
        ({"language": None}, "language must be a str, got NoneType: None"),
        ({"first_message": ["Hi"]}, "first_message must be a str, got list"),
        ({"first_message": "   "}, "first_message must have words, or be empty for none"),
        ({"recording_notice": "\n"}, "recording_notice must have words, or be empty for none"),
        ({"variables": 5}, "variables must be a Mapping, got int: 5"),
        ({"variables": "name"}, "variables must be a Mapping, got str: 'name'"),
        ({"variables": {1: 2}}, "variables must have strings as names, got 1"),
        (
            {"barge_in_threshold_ms": -1},
            "barge_in_threshold_ms must be a whole number of milliseconds of at least 0, got -1",
        ),
        ({"barge_in_min_words": "2"}, "barge_in_min_words must be a whole number of at least 0, got '2'"),
        ({"endpointing_ms": math.nan}, "endpointing_ms must be a whole number of milliseconds of at least 0, got nan"),
        (
            {"user_away_timeout": -0.1},
            "user_away_timeout must be a number of seconds above 0, or None for never, got -0.1",
        ),
        (
            {"silence_timeout": "long"},
            "silence_timeout must be a number of seconds above 0, or None for never, got 'long'",
        ),
        (
            {"max_call_duration": -60},
            "max_call_duration must be a number of seconds above 0, or None for never, got -60",
        ),
        ({"endpointing_ms": 0.5}, "endpointing_ms must be a whole number of milliseconds of at least 0, got 0.5"),
        ({"endpointing_ms": True}, "endpointing_ms must be a whole number of milliseconds of at least 0, got True"),
        ({"endpointing_ms": math.inf}, "endpointing_ms must be a whole number of milliseconds of at least 0, got inf"),
        ({"barge_in_threshold_ms": True}, "barge_in_threshold_ms must be a whole number of milliseconds"),
        ({"barge_in_min_words": 1.5}, "barge_in_min_words must be a whole number of at least 0, got 1.5"),
        ({"silence_timeout": 0}, "silence_timeout must be a number of seconds above 0, or None for never, got 0"),
        ({"silence_timeout": True}, "silence_timeout must be a number of seconds above 0, or None for never, got True"),
        ({"error_message": b""}, "error_message must be a str, got bytes"),
    ],
)
def test_invalid_agent_option_raises_error_naming_it(options: dict[str, Any], message: str) -> None:
    """An agent option of a wrong type or value raises a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError) as raised:
        make(**options)
    assert message in str(raised.value)
    assert isinstance(raised.value, ValueError)


@attrs.frozen
class Toolless(ScriptedLLM):
    """A model that cannot call tools, and says so."""

    takes_tools = False


def test_model_that_cannot_call_tools_refuses_them() -> None:
    """An agent with tools needs an LLM that takes them; without tools any LLM will do."""
    assert make(llm=Toolless(["Yes."])).tools == ()
    with pytest.raises(ConfigurationError, match=r"llm= must be a model that can call tools.*got Toolless"):
        make(llm=Toolless(["Yes."]), tools=[end_call])
    both = Fallback(ScriptedLLM(["Yes."]), Toolless(["Yes."]))
    with pytest.raises(ConfigurationError, match="got FallbackLLM: its stream"):
        make(llm=both, tools=[end_call])


def test_overrides_change_llm_and_tools_together() -> None:
    """An override from an LLM with tools to one that takes none, or back, is valid as a whole."""
    plain, capable = Toolless(["Yes."]), ScriptedLLM(["Yes."])
    changed, complaints = make(llm=capable, tools=[end_call]).overridden({"llm": plain, "tools": []})
    assert (changed.llm, changed.tools, complaints) == (plain, (), [])
    changed, complaints = make(llm=plain).overridden({"llm": capable, "tools": [end_call]})
    assert (changed.llm, len(changed.tools), complaints) == (capable, 1, [])
    changed, complaints = make(llm=capable, tools=[end_call]).overridden({"llm": plain})
    assert (changed.llm, len(complaints)) == (capable, 1)


def test_agent_needs_a_prompt_alone() -> None:
    """An agent needs only a prompt: it keeps its fields, and its resolved copy has the embedded providers."""
    agent = Agent("x", llm=ScriptedLLM(["Yes."]))
    assert (agent.stt, agent.tts, agent.vad) == (None, None, SileroVAD())
    assert (agent.resolved.stt, agent.resolved.tts) == (WhisperSTT(), PiperTTS())
    assert agent.resolved.resolved is agent.resolved
    assert Agent("x", stt=ScriptedSTT()).resolved.stt == ScriptedSTT()


def test_an_engine_needs_no_other_provider() -> None:
    """An agent with an engine is complete: it gets neither an STT nor a TTS."""
    agent = Agent("x", engine=ScriptedEngine())
    assert agent.resolved is agent
    assert (agent.stt, agent.tts) == (None, None)


def test_phone_makes_the_same_agent() -> None:
    """``phone.agent`` makes the same agent as ``Agent`` and takes None for an option that is omitted."""
    options: dict[str, Any] = {**PROVIDERS, "tools": [end_call], "variables": {"a": 1}, "language": "de"}
    assert Patter().agent("x", **options) == Agent("x", **options) == Agent(system_prompt="x", **options)
    omitted = dict.fromkeys(("vad", "tools", "variables", "text_transforms", "guardrails", "error_message"))
    assert Patter().agent("x", **omitted) == Agent("x")
    with pytest.raises(TypeError, match="positional"):
        Agent("x", "en")  # type: ignore[misc]


def test_help_shows_every_option() -> None:
    """``help(phone.agent)`` has each option's type and default in the signature, and a line about it below."""
    shown = inspect.signature(Patter().agent)
    assert shown.parameters == inspect.signature(Agent).parameters
    assert list(inspect.signature(Patter.agent).parameters) == ["self", *shown.parameters]
    page = inspect.getdoc(Patter().agent) or ""
    described = re.findall(r"^    (\w+): ", page.partition("Raises:")[0], re.MULTILINE)
    assert described == list(shown.parameters)
    assert shown.parameters["endpointing_ms"].default == 500
    assert "endpointing_ms: milliseconds of silence" in page


def test_an_unknown_option_is_a_type_error() -> None:
    """An unknown option of an agent raises a TypeError that names the option."""
    with pytest.raises(TypeError, match="first_mesage"):
        make(first_mesage="Hello")


def test_value_of_a_variable_is_not_a_template() -> None:
    """A variable's value is inserted as it is, even if it looks like the name of another variable."""
    agent = make(variables={"caller": "{account}", "account": "12"}, system_prompt="{caller} has {account}.")
    assert filled(agent.system_prompt, agent.variables) == "{account} has 12."


def test_agent_is_frozen_and_copies_its_variables() -> None:
    """The agent is frozen and copies its variables, so later changes of the given dict do not reach it."""
    variables = {"name": "Miller"}
    agent = make(variables=variables, system_prompt="At {name}'s, {other} {} {name}.")
    variables["name"] = "Moser"
    assert filled(agent.system_prompt, agent.variables) == "At Miller's, {other} {} Miller."
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        agent.language = "de"  # type: ignore[misc]


def test_its_numbers_become_the_turns() -> None:
    """The agent's milliseconds become seconds of the turn policy, and a barge-in threshold of 0 becomes infinity."""
    policy = make(endpointing_ms=700, barge_in_threshold_ms=300, barge_in_min_words=2, user_away_timeout=9.5).policy(
        reply=15.0
    )
    assert (policy.endpoint, policy.overlap, policy.min_words, policy.away, policy.reply) == (0.7, 0.3, 2, 9.5, 15.0)
    defaults = make().policy(reply=1.0)
    assert (defaults.endpoint, defaults.overlap, defaults.min_words, defaults.away) == (0.5, 0.25, 0, math.inf)
    assert make(barge_in_threshold_ms=0).policy(reply=1.0).overlap == math.inf


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ({}, 0.7),
        ({"ends_turns": "vad_silence", "longest_silence": 4.5}, 4.5),
        ({"ends_turns": "vad_silence"}, 2.0),
        ({"ends_turns": "semantic_turn_detector"}, 10.0),
    ],
)
def test_engine_turn_timeout_follows_engine_setting(options: dict[str, Any], endpoint: float) -> None:
    """The agent waits for an engine that ends turns itself for as long as the engine states."""
    agent = Patter().agent("x", engine=ScriptedEngine(**options), vad=ScriptedVAD(), endpointing_ms=700)
    assert agent.policy(reply=1.0).endpoint == endpoint


def test_overriding_gives_another_agent_and_leaves_this_one() -> None:
    """An override gives a new agent with the changed options, and the first agent keeps its own."""
    agent = make(first_message="Hello.")
    other, complaints = agent.overridden({"first_message": "Good evening.", "llm": ScriptedLLM(["x"])})
    assert (agent.first_message, agent.llm) == ("Hello.", None)
    assert (other.first_message, other.stt, complaints) == ("Good evening.", agent.stt, [])


def test_invalid_overrides_are_reported_and_valid_ones_apply() -> None:
    """The agent reports each invalid override by name and still applies the valid ones."""
    agent = make()
    overrides = {"voise": 1, "vad": 4, "stt": 2, "language": 3, "first_message": "Hello."}
    other, complaints = agent.overridden(overrides)
    assert (other.first_message, other.language, other.stt) == ("Hello.", "en", agent.stt)
    unknown, *wrong = complaints
    assert unknown == (
        "on_call_start cannot override vad, voise; it can: error_message, first_message, guardrails, hooks, "
        "language, llm, max_call_duration, on_failure, recording_notice, silence_timeout, stt, system_prompt, "
        "text_transforms, tools, tts, variables, voice"
    )
    assert sorted(wrong) == ["language must be a str, got int: 3", "stt must be a SpeechToText, got int: 2"]


async def test_prewarming_prewarms_every_provider_there_is() -> None:
    """prewarm() prewarms the agent's own LLM and TTS and raises the ProviderError of the TTS that fails."""
    warmed: list[str] = []

    class Model(ScriptedLLM):
        async def prewarm(self) -> None:
            warmed.append("llm")

    class Voice(ScriptedTTS):
        async def prewarm(self) -> None:
            warmed.append("tts")
            raise ProviderError("no such voice")

    await make(llm=Model(["x"])).prewarm()
    with pytest.raises(ProviderError, match="no such voice"):
        await make(llm=Model(["x"]), tts=Voice()).prewarm()
    assert warmed == ["llm", "tts"]


def test_calls_last_an_hour_by_default() -> None:
    """An agent hangs up after an hour unless it was told otherwise; None is never."""
    assert Agent("x", **PROVIDERS).max_call_duration == 3600.0
    assert Agent("x", **PROVIDERS, max_call_duration=None).max_call_duration is None
