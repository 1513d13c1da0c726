"""The white space between sentences: history has the text as it was generated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.conversation.written import Gaps, WrittenSentences

TEXTS = [
    "Yes, we are. From nine to five. Goodbye, then!",
    "かしこまりました。少々お待ちください。すぐに参ります。",
    "您好!我是小美!请问需要什么服务？ 我们今天营业到六点！",
    "สวัสดีค่ะ ยินดีให้บริการ。มีอะไรให้ช่วยไหมคะ。 ขอบคุณค่ะ",
    "Hello. 您好。好的。OK, thank you. 再见。",
]


@given(text=st.sampled_from(TEXTS), cuts=st.lists(st.integers(1, 60), unique=True).map(sorted), split=st.booleans())
def test_sentences_are_joined_as_they_were_written(text: str, cuts: list[int], split: bool) -> None:
    """However the text is streamed and however the TTS reports it, the joined sentences are the text."""
    chunker, gaps, written = SentenceChunker(min_sentence_len=1), Gaps(), WrittenSentences()
    sentences = list[str]()
    for begin, end in zip([0, *cuts], [*cuts, None], strict=True):
        gaps.add(text[begin:end])
        for sentence in chunker.push(text[begin:end]) + ([] if end else chunker.flush()):
            sentences.append(sentence)
            written.add(sentence, gaps.before(sentence))
    told = [half for one in sentences for half in (one[:3], one[3:])] if split else [" ".join(sentences)]
    parts = [written.take(part) for part in told if part.strip()]
    assert "".join((gap or "") + part for gap, part in parts) == text


def test_gap_after_text_from_elsewhere_is_unknown() -> None:
    """A text that was not cut from the stream, and the first one behind it, have no known gap."""
    gaps = Gaps()
    gaps.add("Let me see. ")
    assert gaps.before("Let me see.") is None
    assert gaps.before("Still looking.") is None
    gaps.restart()
    gaps.add("We open at nine.Come in.")
    assert gaps.before("We open at nine.") is None
    assert gaps.before("Come in.") == ""


@pytest.mark.parametrize("spoken", ["Three.", "Two.Three.", "Two. Three."])
def test_left_out_sentence_is_skipped(spoken: str) -> None:
    """A sentence that the TTS never reports is left out; the text behind it keeps its gap."""
    written = WrittenSentences()
    for sentence in ("One.", "Two.", "Three."):
        written.add(sentence, " ")
    assert written.take(spoken) == (" ", spoken.replace(".T", ". T"))
    assert written.take("Four.") == (None, "Four.")
