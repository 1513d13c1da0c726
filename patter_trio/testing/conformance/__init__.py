"""The conformance kit checks that a provider does what ``patter_trio/abc/`` demands.

Each check has a name. A failing check says in one line what the provider did and what is demanded. Run it on an
autojump clock, because some checks wait for deadlines::

    @pytest.mark.parametrize("check", STT_CHECKS)
    async def test_it_conforms(autojump_clock, check):
        await check_stt(MySTT, check, vendor=serve_fake, credentials=...)
"""

from typing import TYPE_CHECKING

from patter_trio._lazy import lazy_exports

if TYPE_CHECKING:
    from patter_trio.testing.conformance.bench import Credentials, NotConforming
    from patter_trio.testing.conformance.engine import ENGINE_CHECKS, check_engine
    from patter_trio.testing.conformance.llm import LLM_CHECKS, check_llm
    from patter_trio.testing.conformance.stt import STT_CHECKS, Speech, check_stt
    from patter_trio.testing.conformance.tts import TTS_CHECKS, check_tts
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "patter_trio.testing.conformance.bench": ("Credentials", "NotConforming"),
            "patter_trio.testing.conformance.engine": ("ENGINE_CHECKS", "check_engine"),
            "patter_trio.testing.conformance.llm": ("LLM_CHECKS", "check_llm"),
            "patter_trio.testing.conformance.stt": ("STT_CHECKS", "Speech", "check_stt"),
            "patter_trio.testing.conformance.tts": ("TTS_CHECKS", "check_tts"),
        },
    )

__all__ = [
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
]
