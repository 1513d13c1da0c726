"""A simulated carrier and caller, and providers that follow a script: whole calls in a test, in virtual time.

The pytest plugin's ``call_simulator`` fixture puts them together.
"""

from patter_trio.testing.scripted import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

__all__ = ["ScriptedLLM", "ScriptedSTT", "ScriptedTTS", "ScriptedVAD"]
