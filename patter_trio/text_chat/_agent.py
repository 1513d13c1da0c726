"""The agent of a call in text: the same agent without the parts that hear and speak."""

import attrs

from patter_trio.agent.agent import Agent
from patter_trio.text_chat._engine import ShownEngine
from patter_trio.text_chat._providers import NoSpeech, NoVoice, Shown


def in_text(agent: Agent) -> Agent:
    """Return an agent for calls in text; prompt, LLM, tools, hooks, guardrails and texts stay as they are.

    An engine keeps its voice and makes its audio, which nobody hears. The limits of silence are left out, because a
    person who types is silent for longer than one who speaks.
    """
    engine = agent.engine
    if engine is not None and not isinstance(engine, ShownEngine):
        engine = ShownEngine(engine.with_voice(agent.voice) if agent.voice else engine)
    return attrs.evolve(
        agent,
        engine=engine,
        vad=NoVoice(),
        turn_detector=None,
        stt=NoSpeech() if engine is None else None,
        # With an engine only where the agent has a voice for texts that are not the engine's.
        tts=Shown() if engine is None or agent.tts is not None else None,
        voice="",
        silence_timeout=None,
        user_away_timeout=None,
    )
