"""A simulated carrier and caller, and scripted providers: whole calls in a test, in virtual time.

The pytest plugin's ``call_simulator`` fixture puts them together; ``simulate_call`` of
:mod:`patter_trio.testing.simulation.simulator` does the same without pytest.
"""

from typing import TYPE_CHECKING

from patter_trio._lazy import lazy_exports
from patter_trio.testing.faults.proxy import disturbed

if TYPE_CHECKING:
    from patter_trio.testing.carriers.protocol import CallRefused
    from patter_trio.testing.carriers.twilio import SimulatedTwilio
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
    from patter_trio.testing.scripted_providers.agents import scripted
    from patter_trio.testing.scripted_providers.engine import ScriptedEngine
    from patter_trio.testing.scripted_providers.llm import ScriptedLLM, tool_call
    from patter_trio.testing.scripted_providers.stt import ScriptedSTT
    from patter_trio.testing.scripted_providers.tts import ScriptedTTS
    from patter_trio.testing.scripted_providers.vad import ScriptedVAD
    from patter_trio.testing.servers.fake_vendor import FakeVendor, Misbehaviour, ServeVendor
    from patter_trio.testing.simulation.caller import NotAsExpected, SimulatedCaller
    from patter_trio.testing.simulation.destinations import BUSY, DECLINED, FAILED, NOBODY, Person, Voicemail
    from patter_trio.testing.simulation.outbound import PhoneNetwork
    from patter_trio.testing.simulation.record import Heard
    from patter_trio.testing.simulation.scenario import Scenario, ScenarioError, Step
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "patter_trio.testing.simulation.caller": ("NotAsExpected", "SimulatedCaller"),
            "patter_trio.testing.carriers.protocol": ("CallRefused",),
            "patter_trio.testing.carriers.twilio": ("SimulatedTwilio",),
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
            "patter_trio.testing.simulation.destinations": (
                "BUSY",
                "DECLINED",
                "FAILED",
                "NOBODY",
                "Person",
                "Voicemail",
            ),
            "patter_trio.testing.simulation.outbound": ("PhoneNetwork",),
            "patter_trio.testing.simulation.record": ("Heard",),
            "patter_trio.testing.simulation.scenario": ("Scenario", "ScenarioError", "Step"),
            "patter_trio.testing.scripted_providers.llm": ("ScriptedLLM", "tool_call"),
            "patter_trio.testing.scripted_providers.stt": ("ScriptedSTT",),
            "patter_trio.testing.scripted_providers.tts": ("ScriptedTTS",),
            "patter_trio.testing.scripted_providers.vad": ("ScriptedVAD",),
            "patter_trio.testing.scripted_providers.agents": ("scripted",),
            "patter_trio.testing.scripted_providers.engine": ("ScriptedEngine",),
            "patter_trio.testing.servers.fake_vendor": ("FakeVendor", "Misbehaviour", "ServeVendor"),
        },
    )

__all__ = [
    "BUSY",
    "DECLINED",
    "ENGINE_CHECKS",
    "FAILED",
    "LLM_CHECKS",
    "NOBODY",
    "STT_CHECKS",
    "TTS_CHECKS",
    "CallRefused",
    "Credentials",
    "FakeVendor",
    "Heard",
    "Misbehaviour",
    "NotAsExpected",
    "NotConforming",
    "Person",
    "PhoneNetwork",
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
    "Voicemail",
    "check_engine",
    "check_llm",
    "check_stt",
    "check_tts",
    "disturbed",
    "scripted",
    "tool_call",
]
