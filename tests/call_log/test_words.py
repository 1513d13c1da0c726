"""The words of the full text search: terms, and phrases of scripts without spaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.call_log.words import MAX_QUERY_TERMS, MAX_TERM_CHARACTERS, Phrase, phrases_of, searchable, terms_of


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("What time do you open?", ["what", "time", "do", "you", "open"]),
        ("CAFÉ, Straße & naïve", ["cafe", "strasse", "naive"]),
        ("It's 10:30", ["it", "s", "10", "30"]),
        ("\uff21\uff22\uff23\uff11\uff12", ["abc12"]),
        ("開いています", list("開いています")),
        ("Room 5号室", ["room", "5", "号", "室"]),
        ("Привет, мир", ["привет", "мир"]),
        ("a\0b ' \\ \"", ["a", "b"]),
        ("", []),
    ],
)
def test_text_becomes_terms(text: str, terms: list[str]) -> None:
    """Case, accents, width and punctuation do not matter; a script without spaces has a term for each character."""
    assert terms_of(text) == terms


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("open sat", [Phrase(("open",)), Phrase(("sat",), is_prefix=True)]),
        ("open sat ", [Phrase(("open",)), Phrase(("sat",))]),
        ("開いて", [Phrase(("開", "い", "て"), is_prefix=True)]),
        ("?!", []),
    ],
)
def test_query_becomes_phrases(query: str, phrases: list[Phrase]) -> None:
    """The word that is being typed may go on; characters without spaces belong together."""
    assert phrases_of(query) == phrases


@given(st.text(max_size=60))
def test_terms_survive_their_own_search_form(text: str) -> None:
    """What is searched for has the terms of what was written, and nothing that a database could take for syntax."""
    terms = terms_of(text)
    assert terms_of(searchable(text)) == terms
    assert all(not set(term) & set(" '\"\\&|!():*<>\0") for term in terms)
    assert all(0 < len(term) <= MAX_TERM_CHARACTERS for term in terms)


def test_long_query_is_bounded() -> None:
    """A query of a thousand words asks the database for no more than 32."""
    assert len(phrases_of("word " * 1000)) == MAX_QUERY_TERMS
