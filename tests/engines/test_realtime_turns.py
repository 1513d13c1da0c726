"""Utterances of a Realtime session by their number, and the vendor's items that they are made of."""

from __future__ import annotations

import math

from patter_trio.abc import EngineWords
from patter_trio.engines.openai_realtime._utterances import TRANSCRIPT_TIMEOUT_S, CommittedUtterances


def test_overdue_words_end_with_the_partial_transcript() -> None:
    """An utterance that gets no final words ends at the timeout with its partial transcript."""
    utterances = CommittedUtterances()
    assert utterances.due == math.inf
    utterances.commit(b"", 1.0, by_vendor=False)
    utterances.commit(b"", 3.0, by_vendor=False)
    utterances.committed("a")
    utterances.heard("a", "Is there ", final=False)
    assert utterances.due == 1.0 + TRANSCRIPT_TIMEOUT_S
    assert utterances.overdue(0.9 + TRANSCRIPT_TIMEOUT_S) == []
    assert utterances.overdue(1.0 + TRANSCRIPT_TIMEOUT_S) == [EngineWords(1, "Is there", final=True)]
    assert utterances.heard("a", "Is there a room?", final=True) == []
    assert utterances.due == 3.0 + TRANSCRIPT_TIMEOUT_S
    assert utterances.overdue(3.0 + TRANSCRIPT_TIMEOUT_S) == [EngineWords(2, "", final=True)]
    assert not utterances.waits


def test_recommitted_utterance_restarts_its_timeout() -> None:
    """An utterance that is committed again after a loss gets the full transcript timeout again."""
    utterances = CommittedUtterances()
    utterances.commit(b"audio", 1.0, by_vendor=False)
    assert utterances.lost(8.0) == ([], [(1, b"audio")])
    assert utterances.due == 8.0 + TRANSCRIPT_TIMEOUT_S


def test_unconfirmed_commit_takes_no_later_words() -> None:
    """A commit that the vendor never confirms does not take the words of the next commit."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=False)
    utterances.overdue(1.0 + TRANSCRIPT_TIMEOUT_S)
    utterances.commit(b"", 20.0, by_vendor=False)
    utterances.committed("b")
    assert utterances.heard("b", "Hello", final=True) == [EngineWords(2, "Hello", final=True)]


def test_vendor_turn_during_our_commit_joins_it() -> None:
    """A turn that the vendor commits while our commit is under way joins it in one utterance."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    utterances.stopped("a")
    assert not utterances.committed("a")
    assert utterances.heard("a", "Is there", final=True) == []
    assert not utterances.committed("b")
    assert utterances.heard("b", "a room?", final=True) == [EngineWords(1, "Is there a room?", final=True)]
    utterances.stopped("c")
    assert utterances.committed("c")


def test_vendor_turn_replaces_a_refused_commit() -> None:
    """A vendor turn that takes the place of our refused commit supplies all words of that utterance."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    utterances.stopped("a")
    assert not utterances.committed("a")
    assert utterances.heard("a", "Is there a room?", final=True) == []
    assert utterances.refused(1) == [EngineWords(1, "Is there a room?", final=True)]
    utterances.stopped("b")
    assert utterances.committed("b")


def test_vendor_turn_after_our_commit_is_new() -> None:
    """A turn that the vendor detects after our commit counts as a new turn."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    assert not utterances.committed("a")
    utterances.stopped("b")
    assert utterances.committed("b")
