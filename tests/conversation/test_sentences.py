"""The sentence chunker: a table of what is one sentence and what is two, and what holds for any text."""

# ruff: noqa: RUF001 - the marks of other scripts are the point.

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.sentences import SentenceChunker


def cut(text: str, *, language: str = "en", shortest: int = 1) -> list[str]:
    chunker = SentenceChunker(min_sentence_len=shortest, language=language)
    return chunker.push(text) + chunker.flush()


@pytest.mark.parametrize(
    "text",
    [
        "Hello there.| How are you?| Fine!| Good.",
        "We are open from 9 a.m. to 5 p.m. on Monday.| Come!",
        "We close at 5 p.m.| Tomorrow we open at nine.",
        "Dr. Smith and Mrs. J. R. Jones live on St. Mary's road.| Yes.",
        "J.R.R. Tolkien wrote it in the U.K. in 1937.| Read it.",
        "It costs 3.50 and not 4.| Pi is 3.14159.| Is that so?",
        "Room No. 5 is free.| I said no.| Then I left.",
        "The table is for Jan. 5 at 7.30.| See you.",
        "In the sun.| On Sat. 3 people came.",
        "Well... maybe.| Wait...| What?| Hm… yes.",
        "Look at www.example.com/a.html?b=c. or mail a.b@example.com.| Then call.",
        'He said "Go." and went.| "Really?"| (He did.)| Fine.',
        "Pizza, pasta, etc. are on the menu, e.g. Margherita, i.e. Tomatoes.| Yes.",
        "1. Pizza is good.| 2. Pasta is better.| Bye.",
        "Really?!| Yes!!| No...| It is I.| Who?",
        "Yahoo! is old. iPhone is not.| OK.",
        "Menu:| Pizza and wine| Bread",
        "Hello,\nhow are you?| Fine.",
        "Mr.\nSmith is here.| Good.",
        "«Ja.» sagte er.| Gut.",
        "« Bonjour. » Il rit.| Bien.",
        "我们九点开门。|你要来吗？|好！|再见。",
        "彼は「はい。」と言った。|「はい。」|「いいえ。」",
        "नमस्ते।| आप कैसे हैं?| ठीक।",
        "مرحبا.| كيف حالك؟| بخير.",
        "Hola.| ¿Qué tal?| ¡Muy bien!| Adiós.",
        "?! Hello.| Bye.",
        "Prof. Lee met Gen. Grant, Sen. Fox and Rev. Green.| Fine.",
        "Mr. and Mrs. Smith, Jr. came.| Martin Luther King Jr. spoke.| Yes.",
        "He works at Acme Inc. in Ohio.| It's on Oak Ave. near me.| OK.",
        "It is 3.5 per cent, $4.99, or 1,000.50 in all.| Version 2.0.1 is out.| Right?",
        "The time is 10:30 a.m. now.| At 9 p.m. we close.| It opens at 5 a.m.| We do too.",
        "Hmm...| Let me see.| One moment … please.| So... you know.| That is it.",
        "Go to example.co.uk or https://a.b/c.html?x=1.5&y=2 now.| Mail info@example.com.| Bye.",
        "The address is 192.168.0.1, on port 80.| Ping it.",
        "NASA, the F.B.I. and the U.N. agree.| She has a Ph.D. in physics.| Nice.",
        'He said: "Stop."| She said: “Go!”| Then (quietly).| "Is it?" he asked.| Yes.',
        "Fig. 3 and No. 7 and pp. 4 to 9.| Approx. 5 kg.| Smith et al. won.| OK.",
        "안녕하세요.| 무엇을 도와드릴까요?| 네.",
        "Привет.| Как дела?| Хорошо.",
        "שלום.| מה שלומך?| טוב.",
        "ሰላም።| እንዴት ነህ?",
        "Բարև։| Ինչպե՞ս ես։| Լավ։",
        "سلام۔| آپ کیسے ہیں؟| ٹھیک۔",
        "你好！|今天是2024年5月1日。|价格是3.5元。",
        "မင်္ဂလာပါ။|နေကောင်းလား။",
        "สวัสดีครับ ยินดีต้อนรับ",
    ],
)
def test_sentences_are_cut_where_a_speaker_would_pause(text: str) -> None:
    """The chunker cuts each text at the bars. In the text with "Menu:" a line break stands for two of the bars."""
    expected = [" ".join(sentence.split()) for sentence in text.split("|")]
    plain = text.replace("Menu:| Pizza and wine| ", "Menu:\nPizza and wine\n").replace("|", "")
    assert cut(plain) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Hr. Meier kommt z.B. Montag um Nr. 5.| Gut."),
        ("es-MX", "La Sra. García vive en el núm. 5.| Bien."),
        ("fr", "M. Dupont et Mme. Dupont.| Bien."),
        ("xx", "Mr.| Smith."),
        ("de", "Der 3. Oktober ist frei, am 1. Mai auch.| Zimmer 365.| Gut."),
        ("en", "It was the 3.| Then came the 4.| Good."),
        ("es", "Está en la Av. Libertad.| Bien."),
        ("it", "Il sig. Rossi e la sig.ra Bianchi.| Bene."),
        ("pt", "O Sr. Silva mora na Av. Brasil.| Bom."),
        ("nl", "Dhr. Jansen komt bijv. Maandag.| Goed."),
        ("pl", "Ul. Długa nr. 5, tj. dr. Nowak.| Dobrze."),
        ("ru", "Он живёт на ул. Ленина.| Да."),
        ("sv", "Dr. Berg kommer t.ex. Fredag.| Bra."),
        ("el", "Τι κάνετε;| Καλά."),
        ("hi", "डॉ. राव आए।| ठीक।"),
    ],
)
def test_abbreviations_are_those_of_the_language(language: str, text: str) -> None:
    """The chunker does not cut after the abbreviations and ordinals of its language."""
    assert cut(text.replace("|", ""), language=language) == text.split("| ")


def test_first_sentence_is_released_at_any_length() -> None:
    """The first sentence is released at any length, and later short sentences join the next one."""
    chunker = SentenceChunker()
    assert chunker.push("Yes. ") == []
    assert chunker.push("I") == ["Yes."]
    assert chunker.push(" do. No. We have a table for you. A") == ["I do. No. We have a table for you."]
    assert chunker.push("nd?") == []
    assert chunker.flush() == ["And?"]


def test_a_new_reply_has_a_first_sentence_again() -> None:
    """After reset() and after flush() the chunker releases the next first sentence at any length."""
    chunker = SentenceChunker()
    assert chunker.push("A long first sentence. B") == ["A long first sentence."]
    chunker.reset()
    assert chunker.push("No. B") == ["No."]
    assert chunker.flush() == ["B"]
    assert chunker.push("No. B") == ["No."]


def test_unspaced_scripts_join_without_spaces() -> None:
    """Short sentences of scripts without spaces are joined without a space."""
    assert cut("我们今天九点开门。好。你要来吗？", shortest=4) == ["我们今天九点开门。", "好。你要来吗？"]


def test_aggressive_first_flush_ends_at_clause() -> None:
    """With aggressive_first_flush the first piece ends at a clause, and by default it does not."""
    chunker = SentenceChunker(aggressive_first_flush=True, aggressive_first_min_len=10)
    assert chunker.push("Well, I can offer 1,000 tables, or two, or") == ["Well, I can offer 1,000 tables,"]
    assert chunker.flush() == ["or two, or"]
    assert SentenceChunker().push("A very long first clause of a reply, and then another one, or") == []


TEXT = st.text(alphabet=st.sampled_from("abIJS 19.!?…。，,;:\n\t\"')»“-¿é我।"), max_size=60) | st.text(max_size=40)
CHUNKERS = st.builds(
    SentenceChunker,
    min_sentence_len=st.integers(0, 30),
    aggressive_first_flush=st.booleans(),
    aggressive_first_min_len=st.integers(0, 20),
    language=st.sampled_from(["en", "de", "xx"]),
)


@given(CHUNKERS, TEXT)
def test_chunker_keeps_all_text_in_order(chunker: SentenceChunker, text: str) -> None:
    """The chunker loses and adds only white space, and keeps the order of the text."""
    sentences = chunker.push(text) + chunker.flush()
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == " ".join(sentence.split()) and sentence for sentence in sentences)


@given(CHUNKERS, TEXT, st.lists(st.integers(0, 60), max_size=8))
def test_sentences_do_not_depend_on_token_boundaries(chunker: SentenceChunker, text: str, cuts: list[int]) -> None:
    """The chunker finds the same sentences wherever the tokens are split."""
    whole = chunker.push(text) + chunker.flush()
    bounds = sorted({0, len(text), *(min(place, len(text)) for place in cuts)})
    parts = [text[a:b] for a, b in pairwise(bounds)]
    pushed = [sentence for part in parts for sentence in chunker.push(part)]
    assert pushed + chunker.flush() == whole
    assert [sentence for char in text for sentence in chunker.push(char)] + chunker.flush() == whole


@given(TEXT)
def test_later_sentences_are_never_shorter_than_the_minimum(text: str) -> None:
    """With min_sentence_len=15 every sentence after the first one has at least 15 characters."""
    chunker = SentenceChunker(min_sentence_len=15)
    assert all(len(sentence) >= 15 for sentence in chunker.push(text)[1:])
