"""When text must be spoken although its sentence goes on: instants."""

from patter_trio.conversation.pacing import CLAUSE_WAIT_S, LEAD_S, LETTER_S, WORD_WAIT_S, Cut, Pacing


def test_first_text_waits_a_second() -> None:
    """The first text of a reply may be cut at a clause after 1 s, and at a word after 1.5 s."""
    pacing = Pacing()
    assert pacing.due(100.0) is None
    pacing.waits(10.0)
    pacing.waits(10.5)
    assert pacing.due(10.0 + CLAUSE_WAIT_S - 0.01) is None
    assert pacing.due(10.0 + CLAUSE_WAIT_S) is Cut.CLAUSE
    assert pacing.due(10.0 + WORD_WAIT_S) is Cut.WORD


def test_later_text_waits_while_speech_lasts() -> None:
    """Later text may wait until the text before it is spoken but for one second."""
    pacing = Pacing()
    pacing.released("x" * 100, 10.0)
    pacing.waits(10.1)
    end = 10.0 + 100 * LETTER_S
    assert pacing.due(end - LEAD_S - 0.01) is None
    assert pacing.due(end - LEAD_S) is Cut.CLAUSE
    assert pacing.due(end - LEAD_S + WORD_WAIT_S - CLAUSE_WAIT_S) is Cut.WORD


def test_text_behind_a_pause_waits_anew() -> None:
    """After all speech has ended, new text waits for a second again."""
    pacing = Pacing()
    pacing.released("x", 10.0)
    pacing.waits(20.0)
    assert pacing.due(20.9) is None
    assert pacing.due(21.0) is Cut.CLAUSE


def test_ideographs_are_spoken_for_longer() -> None:
    """A character of Chinese covers as much time as three letters."""
    letters, ideographs = Pacing(), Pacing()
    letters.released("x" * 30, 0.0)
    ideographs.released("我" * 10, 0.0)
    assert repr(letters) == repr(ideographs)
