"""The phonemes of a text, in the notation of eSpeak."""

from pathlib import Path

import pytest

from patter_trio.errors import ConfigurationError
from patter_trio.tts.piper._pronunciation import _indexed, pronunciation


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello, world!", "həlˈoʊ, wˈɜːld!"),  # noqa: RUF001 (IPA)
        ("A table at eight A M", "ɐ tˈeɪbəl æɾ ˈeɪt ˈeɪ ˈɛm"),  # noqa: RUF001 (IPA)
        ("Is it open? Yes.", "ɪz ɪɾ ˈoʊpən? jˈɛs."),  # noqa: RUF001 (IPA)
        ("café", "kˈæfeɪ"),  # noqa: RUF001 (IPA)
        ("", ""),
        ("\u2603", ""),
    ],
)
def test_phonemes(text: str, phonemes: str) -> None:
    """The pronunciation has eSpeak's phonemes for words, letters and punctuation, and none for other signs."""
    assert pronunciation().phonemes(text) == phonemes


def test_a_word_that_the_lexicon_lacks_is_guessed() -> None:
    """A word that is not in the lexicon gets guessed phonemes."""
    assert len(pronunciation().phonemes("Zorblaxian")) > 5


def test_a_missing_lexicon_is_said(tmp_path: Path) -> None:
    """A missing lexicon raises ConfigurationError that names its file."""
    with pytest.raises(ConfigurationError, match=r"lexicon\.db"):
        _indexed(tmp_path / "lexicon.db")
