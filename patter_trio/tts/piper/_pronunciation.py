"""The pronunciation of English, in eSpeak's notation, which the Piper voices were trained on.

gruut (https://github.com/rhasspy/gruut, MIT) produces it without eSpeak, whose licence (GPL) would apply to your
programs. gruut's lexicon of 124,000 words has no index, so each new word costs a search through all of it, 10 to 30 ms;
a copy in memory with an index answers at once. Words missing from it are guessed.
"""

import sqlite3
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.providers.weights import LoadOnce, model_errors, optional_module, package_folder

_MARKS = ".,?!:;"
# As the lexicon writes the letter: primary stress and a diphthong.
_LETTER_A = "\u02c8e\u026a"


@attrs.frozen(eq=False)
class Pronunciation:
    """gruut with its lexicon; several threads may use it, one after another."""

    _writer: Any
    """gruut's TextProcessor."""
    _lock: Lock = attrs.field(factory=Lock, init=False)

    def phonemes(self, text: str) -> str:
        """Return a text's phonemes, in 5 to 20 ms: words with spaces between, marks after the word before them.

        Raises:
            ProviderError: gruut failed.
        """
        # The lexicon has no accents: "café" would lose its last vowel.
        plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        # One after another: the threads share the lexicon's connection.
        with self._lock, model_errors("gruut"):
            graph, root = self._writer(plain)
            words = [word for sentence in self._writer.sentences(graph, root) for word in sentence]
        return "".join(map(_written, words, _beside_letters(words))).strip()


def _written(word: Any, beside_letter: bool) -> str:
    if word.is_minor_break or word.is_major_break:
        # A mark that Piper does not know becomes a comma, which is a pause.
        return word.text if word.text in _MARKS else ","
    if not word.phonemes:
        return ""
    # In "A M" and "A B C" gruut mistakes the letter for the article.
    return " " + (_LETTER_A if word.text == "A" and beside_letter else "".join(word.phonemes))


def _beside_letters(words: Sequence[Any]) -> list[bool]:
    # With a False at both ends, so that each word has two neighbours.
    letters = [False, *(len(word.text) == 1 and word.text.isupper() for word in words), False]
    return [before or after for before, after in zip(letters, letters[2:], strict=False)]


@LoadOnce
def pronunciation() -> Pronunciation:
    """Load gruut and its English lexicon, once per process, in about 0.3 s.

    Raises:
        MissingExtraError: the packages of the extra ``local`` are not installed.
        ConfigurationError: the lexicon is missing.
    """
    gruut, lookup = optional_module("gruut"), optional_module("gruut.phonemize")
    lexicon = lookup.SqlitePhonemizer(
        db_conn=_indexed(package_folder("gruut_lang_en") / "espeak" / "lexicon.db"),
        # Forms to look up for a word that the lexicon does not have as written.
        word_transform_funcs=(str.lower, _letters, lambda word: _letters(word.lower())),
    )
    return Pronunciation(gruut.TextProcessor(default_lang="en_US", model_prefix="espeak", lookup_phonemes=lexicon))


def _letters(word: str) -> str:
    return "".join(character for character in word if character.isalnum() or character == "_")


def _indexed(file: Path) -> sqlite3.Connection:
    """Return an indexed copy of the lexicon in memory, for use by any thread."""
    if not file.is_file():
        raise ConfigurationError(f"the file {file} must exist, but is missing: reinstall its package")
    # ``check_same_thread=False``: the lock above keeps threads apart.
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    # Read-only: the file belongs to a package, perhaps of another user.
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as disk:
        disk.backup(memory)
    memory.execute("CREATE INDEX by_word ON word_phonemes (word)")
    return memory
