"""The sentence chunker: a table of what is one sentence and what is two, and what holds for any text."""

# ruff: noqa: RUF001 - the marks of other scripts are the point.

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.sentences import MAX_RUN_CHARACTERS, MAX_SENTENCE_WEIGHT, SentenceChunker
from patter_trio.scripts import weight
from tests.kit.counted_work import calls_of
from tests.kit.depth import few


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


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "en",
            "sure, i can help with that.| what day works for you?| we are open monday to friday, e.g. at 9 a.m. or so.",
        ),
        ("en", "hi there!| dr. smith is at 5 oak ave. near the u.s. embassy, etc. and so on.| ok?"),
        ("de", "klar, gerne.| wann passt es ihnen?| hr. meier ist am 3. mai da, z.b. um neun.| gut."),
        ("ru", "да, конечно.| когда вам удобно?| мы на ул. ленина."),
        ("en", "Yahoo! is old. iPhone is not. yes. it is.| OK."),
        ("en", "well, yes.| We close at noon. or later.| Bye."),
    ],
)
def test_lower_case_replies_have_sentences(language: str, text: str) -> None:
    """In a reply that begins in lower case, lower case does not join sentences; a capital ends this."""
    assert cut(text.replace("|", ""), language=language) == text.split("| ")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("zh", "您好!|我是小美!|请问需要什么服务?|我们今天营业到六点!"),
        ("zh", "让我想想……|好的，没有问题。"),
        ("zh", "嗯…。…．|好的."),
        ("zh", "今天3.5元,在example.com!?|好吗."),
        ("zh", "他说“好!”然后走了。|“真的?”|“是。”"),
        ("ja", "いらっしゃいませ．|ご注文をどうぞ．"),
        ("ja", "３．５メートルです。|はい！？|そうです"),
        ("ja", "「はい!」と言った.|次です."),
        ("th", "สวัสดีค่ะ!|ยินดีต้อนรับค่ะ?|เชิญค่ะ"),
        ("ko", "안녕하세요!|반갑습니다?|네."),
        ("hi", "नमस्ते।|आप कैसे हैं?|ठीक।"),
        ("ar", "كيف حالك؟|بخير!|شكرا"),
        ("my", "မင်္ဂလာပါ။|နေကောင်းလား။"),
        ("bo", "བཀྲ་ཤིས།|བདེ་ལེགས།"),
    ],
)
def test_unspaced_sentences_end_at_any_mark(language: str, text: str) -> None:
    """Between letters of a script without capitals, a mark ends a sentence though no space follows."""
    assert cut(text.replace("|", ""), language=language) == text.split("|")


TITLES = {
    "en": "Dr. Mr. Mrs. Ms. Prof. Rev. Hon. Gen. Col. Adm. Cpt. Capt. Lt. Sgt. Maj. Sen. Gov. Jr. Sr. St.",
    "de": "Hr. Fr. Frl. Dr. Prof. Dipl. Mag. Ing. Dipl.-Ing. Prof.Dr.",
    "es": "Sr. Sra. Srta. Sres. Sras. Srtas. Dr. Dra. Dres. Lic. Licda. Ing. Prof. Profa. Arq. Mtro. Mtra. Dña. Ud.",
    "fr": "M. MM. Mme. Mmes. Mlle. Mlles. Dr. Pr. Prof. Me. Mgr.",
    "it": "Sig. Sig.ra Sigg. Dott. Dott.ssa Dr. Prof. Avv. Ing. Geom. Rag. Arch. On. Egr. Spett. Gent. Ill. Sgr.",
    "nl": "Dhr. Mevr. Mw. Dr. Drs. Ir. Ing. Prof.",
    "pl": "Dr. Prof. Inż. Mgr. Św.",
    "pt": "Sr. Sra. Srs. Sras. Srta. Dr. Dra. Prof. Profa. Eng. Enga.",
    "ru": "Г. Проф. Св.",
    "cs": "Ing. Mgr. MUDr. Sl.",
    "tr": "Doç. Sn. Av.",
    "no": "Hr. Ing.",
}
PLACES = {
    "en": "5th Ave.|Suite 300 Sunset Blvd.|Saint 12 Elm Rd.|Apt. 4 Oak Pkwy.|North Acme Inc.|Monday approx.|Forty "
          "Bros. Ltd.|Then Tel.|(555)",
    "de": "Hauptstr.|5 Berliner Str.|12 Marktpl.|3 Fa.|Meier z.T.|Neu inkl.|Steuer",
    "es": "Av.|Libertad C.|Mayor Pza.|España Avda.|Sol Cía.|Naviera Tel.|+34",
    "fr": "bd.|Haussmann av.|Foch l'av.|Foch rte.|Nationale Cie.|Générale tél.|(01)",
    "it": "P.za|Navona V.le Trento S.p.A.|Torino S.r.l.|Roma",
    "nl": "Kalverstr.|5 Fam.|Jansen",
    "pl": "Ul.|Długa Al.|Jerozolimskie Sp.|z o.o.|Gdańsk",
    "pt": "R.|Augusta Pça.|Sé Ltda.|Lisboa",
    "ro": "Str.|Lungă Bd.|Unirii",
    "tr": "Atatürk Cad.|No 5 Gül Sok.|Ankara",
    "el": "οδ.|Σταδίου λεωφ.|Συγγρού",
}  # fmt: skip


@pytest.mark.parametrize(
    ("language", "short"), [(language, short) for language, titles in TITLES.items() for short in titles.split()]
)
def test_no_title_ends_a_sentence(language: str, short: str) -> None:
    """A title of the language stays with the name behind it, at the begin of a sentence and within one."""
    assert cut(f"{short} Rossi.", language=language) == [f"{short} Rossi."]
    assert cut(f"Buongiorno {short} Rossi. Sì?", language=language) == [f"Buongiorno {short} Rossi.", "Sì?"]


@pytest.mark.parametrize("language", PLACES)
def test_addresses_and_companies_stay_whole(language: str) -> None:
    """Abbreviated streets, companies and telephones do not end a sentence before a capital, a digit or a bracket."""
    text = PLACES[language].replace("|", " ")
    assert cut(text, language=language) == [text]


def test_ordinary_words_still_end_sentences() -> None:
    """Words that look like abbreviations of another language or kind end a sentence."""
    for text in (
        "I can. You may.",
        "Turn it on. Then wait.",
        "It is fun. We like it.",
        "Call me. I wait.",
        "See page. Next.",
    ):
        assert len(cut(text)) == 2
    assert cut("Das ist Max. Er kommt um fünf. Gut.", language="de") == ["Das ist Max.", "Er kommt um fünf.", "Gut."]


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


# What a model may repeat, with and without anything that could end a sentence.
ENDLESS = ["A. ", "a. ", ". ", ".", "…", "! x", "\n", "\na", "x", "word ", "我们", "我，", "สวัสดี", "สวัสดี ", "1,000 ",
"e.g. ", '"', '."', ". x",
           "a\u0301", "नमस्ते ", "😀", "， ", "\t", "Mr. ", "1. ", "?!x "]  # fmt: skip


@pytest.mark.parametrize("unit", ENDLESS)
def test_no_sentence_exceeds_the_limit(unit: str) -> None:
    """However long a text goes on without an end, a piece has at most 400 letters, and nothing is lost or reordered."""
    text = unit * (3_000 // len(unit))
    sentences = cut(text, shortest=20)
    assert all(weight(sentence) <= MAX_SENTENCE_WEIGHT + 2 * MAX_RUN_CHARACTERS for sentence in sentences)
    assert "".join("".join(sentences).split()) == "".join(text.split())


@pytest.mark.parametrize("unit", few(ENDLESS, 4))
@pytest.mark.parametrize("cut_at", [1, 4, 1_000_000])
@pytest.mark.no_coverage
def test_work_grows_with_the_text(unit: str, cut_at: int) -> None:
    """Twice the text takes at most 2.5 times the function calls, in tokens and as a whole."""
    work = [calls_of(SentenceChunker(), unit * (size // len(unit)), cut_at) for size in (4_000, 8_000)]
    assert work[1] <= 2.5 * work[0]


@given(
    st.lists(st.sampled_from(["word", "我们", "สวัสดี", ",", "， ", " ", "\n", ".", "x" * 50, "1"]), max_size=400),
    st.data(),
)
def test_forced_cuts_do_not_depend_on_token_boundaries(words: list[str], data: st.DataObject) -> None:
    """The chunker cuts a sentence that is too long at the same places wherever the tokens are split."""
    text = "".join(words)
    whole = cut(text, shortest=20)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunker = SentenceChunker()
    pushed = [piece for start, stop in pairwise([0, *places, len(text)]) for piece in chunker.push(text[start:stop])]
    assert pushed + chunker.flush() == whole
    assert [piece for char in text for piece in chunker.push(char)] + chunker.flush() == whole


@pytest.mark.parametrize("pieces", [["word", " ", "\n", "word"], ["word ", "\n", "word"], ["word", "\n", " ", "word"]])
def test_line_break_behind_a_space_ends_the_sentence(pieces: list[str]) -> None:
    """A line break ends a sentence also where a space came before it, in a piece of its own."""
    chunker = SentenceChunker()
    assert [sentence for piece in pieces for sentence in chunker.push(piece)] + chunker.flush() == ["word", "word"]


def test_long_sentence_is_cut_at_a_clause() -> None:
    """A sentence that is too long is cut at its last clause, else at its last word, else between characters."""
    clause = "we have " * 30
    assert cut(f"{clause.strip()}, {clause * 2}")[0] == f"{clause.strip()},"
    assert cut("we have " * 60)[0] == ("we have " * 50).strip()
    assert cut("x" * 500) == ["x" * 400, "x" * 100]
    assert [len(piece) for piece in cut("我们今天" * 100)] == [133, 133, 133, 1]
    assert not any(piece[0] in "ะาิ" for piece in cut("กะกากิ" * 200, language="th"))


@pytest.mark.parametrize(
    ("text", "clause", "word"),
    [
        ("well, yes, i think so", "well, yes,", "well, yes,"),
        ("i can help you with that and th", "", "i can help you with that and"),
        ("the number is 555 123 4567", "", "the number is"),
        ("please come to room no. 5", "", "please come to room"),
        ("ok so", "", ""),
        ("สวัสดีครับ ยินดีต้อน", "สวัสดีครับ", "สวัสดีครับ"),
        ("สวัสดีครับยินดีต้อนรับ", "", "สวัสดีครับยินดีต้อน"),
        ("我们今天，营业到六点", "我们今天，", "我们今天，"),
        ("我们今天营业到六点", "", "我们今天营业到"),
    ],
)
def test_unfinished_sentence_is_released_at_a_clause(text: str, clause: str, word: str) -> None:
    """release() gives the text up to the last clause, or up to the last word that is complete, and the rest follows."""
    for within_clause, expected in ((False, clause), (True, word)):
        chunker = SentenceChunker()
        assert chunker.push(text) == []
        released = chunker.release(within_clause=within_clause)
        assert "".join(released) == expected
        assert "".join((" ".join(released + chunker.flush())).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("language", "text", "ends"),
    [
        ("en", "One moment, please.", True),
        ("en", "Really?” ", True),
        ("en", "A list:\n", True),
        ("en", "Just a moment", False),
        ("en", "I have a message for Dr.", False),
        ("en", "It is in room No.", False),
        ("en", "That makes 12.", False),
        ("en", "...", False),
        ("de", "Das ist in der Hauptstr.", False),
        ("ja", "少々お待ちください。", True),
        ("ja", "少々お待ちください．", True),
        ("zh", "请稍等……", True),
        ("zh", "请稍等", False),
    ],
)
def test_text_before_pause_may_end_a_sentence(language: str, text: str, ends: bool) -> None:
    """pause() gives the text if it ends a sentence whatever follows: not behind an abbreviation or a number."""
    chunker = SentenceChunker(language=language)
    assert chunker.push(text) == []
    assert chunker.ends_sentence(text) is ends
    assert chunker.pause() == ([text.strip()] if ends else [])
    assert chunker.flush() == ([] if ends else [text.strip()])


@pytest.mark.parametrize(
    ("text", "released"),
    [("let me look that up", ["let me look that up"]), ("Well,", []), ("请稍等", ["请稍等"]), ("Yes.", ["Yes."])],
)
def test_long_pause_releases_any_text(text: str, released: list[str]) -> None:
    """After a long pause text that ends no sentence is released, but not a word or two."""
    chunker = SentenceChunker()
    chunker.push(text)
    assert chunker.pause(long=True) == released


@given(TEXT)
def test_later_sentences_are_never_shorter_than_the_minimum(text: str) -> None:
    """With min_sentence_len=15 every sentence after the first one has at least 15 characters."""
    chunker = SentenceChunker(min_sentence_len=15)
    assert all(len(sentence) >= 15 for sentence in chunker.push(text)[1:])
