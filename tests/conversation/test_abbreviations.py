"""The tables of abbreviations: written as the chunker reads them."""

import pytest

from patter_trio.conversation.abbreviations import BEFORE_NAMES, BEFORE_NUMBERS, ENDINGS, SAME_AS


@pytest.mark.parametrize("table", [BEFORE_NAMES, BEFORE_NUMBERS], ids=["names", "numbers"])
def test_abbreviations_are_lower_case_without_full_stop(table: dict[str, str]) -> None:
    """Each abbreviation is in lower case, without its last full stop, and stands once in its language."""
    for words in table.values():
        assert words == words.lower()
        assert not any(word.endswith(".") for word in words.split())
        assert len(set(words.split())) == len(words.split())


def test_no_abbreviation_is_in_both_tables() -> None:
    """An abbreviation that belongs to any word behind it is not listed once more for numbers."""
    for language in BEFORE_NAMES.keys() & BEFORE_NUMBERS.keys():
        assert not set(BEFORE_NAMES[language].split()) & set(BEFORE_NUMBERS[language].split())


def test_languages_of_other_tables_have_abbreviations() -> None:
    """The tables of endings and of languages that share abbreviations refer to languages that have some."""
    assert set(ENDINGS) | set(SAME_AS.values()) <= set(BEFORE_NAMES)
