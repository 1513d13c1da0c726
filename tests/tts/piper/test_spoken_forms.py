"""The spoken forms of times, numbers, money, dates and abbreviations."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.tts.piper._spoken_forms import MAX_BLOCK_CHARACTERS, MAX_CACHED_NUMBERS, _number, spoken

CASES = {
    # times
    "We open at 3:30.": "We open at three thirty.",
    "3:05": "three oh five",
    "at 7:00": "at seven o'clock",
    "7:00 pm": "seven P M",
    "7 p.m. today": "seven P M today",
    "7:30pm,": "seven thirty P M,",
    "Till 7:30 p.m. We close at 8 p.m., no later than 9 p.m.": "Till seven thirty P M. We close at eight P M, no later "
    "than nine P M.",
    "15:30": "fifteen thirty",
    "from 5pm to 11pm": "from five P M to eleven P M",
    "5-11 pm": "five to eleven P M",
    "11:30am \u2013 2:00pm": "eleven thirty A M to two P M",
    "10:00-14:00": "ten o'clock to fourteen hundred",
    "At 5:30 in the afternoon": "At five thirty in the afternoon",
    "7.30pm": "seven thirty P M",
    "at 9:00 sharp, 9:15 at most": "at nine o'clock sharp, nine fifteen at most",
    "24h service": "twenty four hours service",
    # phone numbers and codes
    "Call 911 now.": "Call nine one one now.",
    "Call 555-1234.": "Call five five five, one two three four.",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "+1 555 123 4567": "plus one, five five five, one two three, four five six seven",
    "555.123.4567": "five five five, one two three, four five six seven",
    "+15551234567": "plus one five five, five one two, three four five, six seven",
    "5551234567": "five five five, one two three, four five six seven",
    "order 004512": "order zero zero four, five one two",
    "zip 90210": "zip nine zero two, one zero",
    # money
    "$12.50": "twelve dollars and fifty cents",
    "$1": "one dollar",
    "$1.01": "one dollar and one cent",
    "$0.99": "ninety nine cents",
    "$20.00 please": "twenty dollars please",
    "$1,200": "one thousand two hundred dollars",
    "€5": "five euros",
    "£3.20": "three pounds and twenty pence",
    "$5 million": "five million dollars",
    "$12.5": "twelve dollars and fifty cents",
    "$2.345": "two point three four five dollars",
    "-$5": "minus five dollars",
    "$5-10": "five to ten dollars",
    "$1k": "one thousand dollars",
    # dates
    "31.12.2026": "December thirty first, twenty twenty six",
    "13/1/2026": "January thirteenth, twenty twenty six",
    "Mon.-Fri., Sat-Sun": "Monday to Friday, Saturday to Sunday",
    "the 1990s": "the nineteen nineties",
    "2026-11-24": "November twenty fourth, twenty twenty six",
    "11/24/2026": "November twenty fourth, twenty twenty six",
    "13/45/2026": "thirteen/forty five/two thousand and twenty six",
    "Nov 24": "November twenty fourth",
    "on May 3rd, 2027": "on May third, twenty twenty seven",
    "24 December": "December twenty fourth",
    "the 3rd of June": "the June third",
    "Sat., Mon. or later": "Saturday, Monday or later",
    "I may be 5 minutes late": "I may be five minutes late",
    # percentages, units, ordinals
    "50%": "fifty percent",
    "2.5 % off": "two point five percent off",
    "5 km": "five kilometers",
    "1 lb of ham": "one pound of ham",
    "21°C": "twenty one degrees Celsius",
    "30 min": "thirty minutes",
    "the 1st and 22nd": "the first and twenty second",
    # numbers
    "1,234": "one thousand two hundred and thirty four",
    "3.50": "three point five zero",
    "in 1999": "in nineteen ninety nine",
    "a table for 4-6": "a table for four to six",
    "#5": "number five",
    "-4": "minus four",
    "room B12": "room B one two",
    "apartment 12B": "apartment twelve B",
    "1/2 cup, 3/4 done": "one half cup, three quarters done",
    # words
    "tea & cake, e.g. scones, ok?": "tea and cake, for example scones, okay?",
    "info@joes-diner.com": "info at joes dash diner dot com",
    "see www.example.com/menu.": "see example dot com slash menu.",
    # what must stay
    "Hello, how are you?": "Hello, how are you?",
    "I am in. It's a.m. somewhere": "I am in. It's a.m. somewhere",
    "": "",
}


@pytest.mark.parametrize(("written", "said"), CASES.items(), ids=str)
def test_spoken_form(written: str, said: str) -> None:
    """Each written form has exactly the spoken form of the table."""
    assert spoken(written) == said


@given(st.text(alphabet=st.sampled_from("0123456789:.,-/$%#+() ampkth°€£stndrd"), max_size=40))
def test_spoken_form_of_any_text_has_no_digit(written: str) -> None:
    """The spoken form of any text contains no digit, and no text raises an error."""
    assert not re.search(r"[0-9]", spoken(written))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("$" + "9" * 280, " ".join(["nine"] * 280) + " dollars"),
        ("1" + ",000" * 70, " ".join(["one", *["zero"] * 210])),
        ("3." + "1" * 40, "three point " + " ".join(["one"] * 40)),
        ("1,1234567890123456th", "one,one two three four five six seven eight nine zero one two three four five sixth"),
        ("€1,234,567,890,123,456", ("one two three four five six seven eight nine zero one two three four five six "
                                   "euros")),
        ("1,000,000,000,000 km", "one trillion kilometers"),
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_numbers_of_any_length_are_spoken(written: str, said: str) -> None:
    """A number of 16 digits or more is read digit by digit."""
    assert spoken(written) == said


@given(st.text(alphabet="0123456789,.$€% ktmbn-/:", min_size=20, max_size=9000) | st.integers(1, 9000).map("7".__mul__))
def test_no_number_is_too_long(written: str) -> None:
    """No text of digits and marks raises an error or keeps a digit."""
    assert not re.search(r"[0-9]", spoken(written))


def test_words_of_numbers_are_kept_for_few() -> None:
    """The words of 10,000 amounts leave a bounded number of entries behind."""
    for amount in range(10_000):
        spoken(f"${amount}")
    assert _number.cache_info().currsize <= MAX_CACHED_NUMBERS


@pytest.mark.parametrize(
    "unit", ["1-", "a.", "a.a", "9", "1,", "5 p.m.", "+1 ", "@", "1:", "Jan ", "x@", "www.", "1/2"]
)
def test_work_of_spoken_forms_grows_with_the_text(unit: str) -> None:
    """The rules see a text of any length in blocks of 300 characters, so that twice the text is twice the work."""
    seen: list[int] = []

    class Counted(str):
        __slots__ = ()

        def __getitem__(self, key: object) -> str:  # the blocks are cut out of the text
            block = super().__getitem__(key)  # type: ignore[index]
            seen.append(len(block))
            return block

    spoken(Counted(unit * (5_000 // len(unit))))
    assert max(seen) <= MAX_BLOCK_CHARACTERS
    assert sum(seen) <= 5_000
