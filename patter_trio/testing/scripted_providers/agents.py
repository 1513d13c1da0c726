"""An agent of an application with scripted providers in place of its own."""

from typing import Final, TypeVar

import attrs

from patter_trio.abc import Engine, LanguageModel, SpeechToText, TextToSpeech, TurnDetector, VoiceActivity
from patter_trio.agent.agent import Agent
from patter_trio.testing.scripted_providers.engine import ScriptedEngine
from patter_trio.testing.scripted_providers.llm import ScriptedLLM
from patter_trio.testing.scripted_providers.stt import ScriptedSTT
from patter_trio.testing.scripted_providers.tts import ScriptedTTS
from patter_trio.testing.scripted_providers.vad import ScriptedVAD

PROVIDERS: Final = ("engine", "vad", "turn_detector", "stt", "llm", "tts")
"""The options of an agent that name a provider."""
Provider = TypeVar("Provider")
_SCRIPTED: Final = (ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD)


def scripted(
    agent: Agent,
    *,
    engine: Engine | None = None,
    vad: VoiceActivity | None = None,
    turn_detector: TurnDetector | None = None,
    stt: SpeechToText | None = None,
    llm: LanguageModel | None = None,
    tts: TextToSpeech | None = None,
) -> Agent:
    """Return the same agent with scripted providers, so that a simulated call needs no vendor, key or model.

    Prompt, tools, hooks, guardrails, texts and time limits stay as they are. A provider that is given takes its place;
    a scripted provider that the agent has already stays; any other VAD, STT or TTS becomes a ``ScriptedVAD``,
    ``ScriptedSTT`` or ``ScriptedTTS`` with the defaults, and a turn detector is left out. What the agent answers with
    has to be given, because only the test knows its words: ``llm=ScriptedLLM([...])``, or
    ``engine=ScriptedEngine([...])``. An agent that answers with ``on_message`` needs neither.

    Raises:
        TypeError: the agent answers with an LLM or an engine, and no scripted one is given.
        ValueError: the given providers contradict each other, as for ``Agent``.
    """
    # The answers first: without them no other replacement helps.
    for option, own, given in (("llm", agent.llm, llm), ("engine", agent.engine, engine)):
        if own is not None and given is None and not isinstance(own, _SCRIPTED):
            example = "ScriptedLLM" if option == "llm" else "ScriptedEngine"
            raise TypeError(
                f"scripted() must have {option}=: the agent answers with {type(own).__name__}, and only the test knows "
                f'what it says; give {option}={example}(["..."])'
            )
    pipeline = agent.engine is None and engine is None
    return attrs.evolve(
        agent,
        engine=engine or agent.engine,
        vad=_chosen(vad, agent.vad, ScriptedVAD()),
        turn_detector=_chosen(turn_detector, agent.turn_detector, None),
        stt=_chosen(stt, agent.stt, ScriptedSTT()) if pipeline else stt,
        llm=llm or agent.llm,
        # With an engine only where the agent has a voice of its own for texts that are not the engine's.
        tts=_chosen(tts, agent.tts, ScriptedTTS()) if pipeline or agent.tts is not None else tts,
    )


def _chosen(given: Provider | None, own: Provider | None, default: Provider | None) -> Provider | None:
    if given is not None:
        return given
    return own if isinstance(own, _SCRIPTED) else default
