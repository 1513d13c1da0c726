"""A simulated carrier and caller, and providers that follow a script: whole calls in a test, in virtual time.

The pytest plugin's ``call_simulator`` fixture puts them together; ``simulate_call`` of
:mod:`patter_trio.testing.simulator` does the same without pytest.
"""

from typing import TYPE_CHECKING

from patter_trio._lazy import lazy_exports
from patter_trio.testing.disturbed import disturbed

if TYPE_CHECKING:
    from patter_trio.testing.caller import NotAsExpected, SimulatedCaller
    from patter_trio.testing.carrier import CallRefused, SimulatedTwilio
    from patter_trio.testing.conformance import (
        ENGINE_CHECKS,
        LLM_CHECKS,
        STT_CHECKS,
        TTS_CHECKS,
        Credentials,
        NotConforming,
        Speech,
        check_engine,
        check_llm,
        check_stt,
        check_tts,
    )
    from patter_trio.testing.record import Heard
    from patter_trio.testing.scenario import Scenario, ScenarioError, Step
    from patter_trio.testing.scripted import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
    from patter_trio.testing.scripted_engine import ScriptedEngine
    from patter_trio.testing.vendor import FakeVendor, Misbehaviour, ServeVendor
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "patter_trio.testing.caller": ("NotAsExpected", "SimulatedCaller"),
            "patter_trio.testing.carrier": ("CallRefused", "SimulatedTwilio"),
            "patter_trio.testing.conformance": (
                "ENGINE_CHECKS",
                "LLM_CHECKS",
                "STT_CHECKS",
                "TTS_CHECKS",
                "Credentials",
                "NotConforming",
                "Speech",
                "check_engine",
                "check_llm",
                "check_stt",
                "check_tts",
            ),
            "patter_trio.testing.record": ("Heard",),
            "patter_trio.testing.scenario": ("Scenario", "ScenarioError", "Step"),
            "patter_trio.testing.scripted": ("ScriptedLLM", "ScriptedSTT", "ScriptedTTS", "ScriptedVAD", "tool_call"),
            "patter_trio.testing.scripted_engine": ("ScriptedEngine",),
            "patter_trio.testing.vendor": ("FakeVendor", "Misbehaviour", "ServeVendor"),
        },
    )

__all__ = [
    "ENGINE_CHECKS",
    "LLM_CHECKS",
    "STT_CHECKS",
    "TTS_CHECKS",
    "CallRefused",
    "Credentials",
    "FakeVendor",
    "Heard",
    "Misbehaviour",
    "NotAsExpected",
    "NotConforming",
    "Scenario",
    "ScenarioError",
    "ScriptedEngine",
    "ScriptedLLM",
    "ScriptedSTT",
    "ScriptedTTS",
    "ScriptedVAD",
    "ServeVendor",
    "SimulatedCaller",
    "SimulatedTwilio",
    "Speech",
    "Step",
    "check_engine",
    "check_llm",
    "check_stt",
    "check_tts",
    "disturbed",
    "tool_call",
]
