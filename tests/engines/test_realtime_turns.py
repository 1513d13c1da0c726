"""Utterances of a Realtime session by their number, and the vendor's items that they are made of."""

from __future__ import annotations

import math

from patter_trio.abc import EngineWords
from patter_trio.engines.openai_realtime._utterances import TRANSCRIPT_TIMEOUT_S, CommittedUtterances


def test_words_that_do_not_come_are_given_up_with_what_is_known() -> None:
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


def test_what_is_committed_again_has_all_its_time_again() -> None:
    utterances = CommittedUtterances()
    utterances.commit(b"audio", 1.0, by_vendor=False)
    assert utterances.lost(8.0) == ([], [(1, b"audio")])
    assert utterances.due == 8.0 + TRANSCRIPT_TIMEOUT_S


def test_a_commit_that_is_never_confirmed_takes_no_words_from_the_next() -> None:
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=False)
    utterances.overdue(1.0 + TRANSCRIPT_TIMEOUT_S)
    utterances.commit(b"", 20.0, by_vendor=False)
    utterances.committed("b")
    assert utterances.heard("b", "Hello", final=True) == [EngineWords(2, "Hello", final=True)]


def test_a_turn_that_the_vendor_finds_while_our_commit_is_on_its_way_is_part_of_it() -> None:
    """Ours takes what was heard since, so that there are two items, and nothing new to answer."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    utterances.stopped("a")
    assert not utterances.committed("a")
    assert utterances.heard("a", "Is there", final=True) == []
    assert not utterances.committed("b")
    assert utterances.heard("b", "a room?", final=True) == [EngineWords(1, "Is there a room?", final=True)]
    utterances.stopped("c")
    assert utterances.committed("c")


def test_a_turn_that_the_vendor_finds_instead_of_our_commit_is_all_of_it() -> None:
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    utterances.stopped("a")
    assert not utterances.committed("a")
    assert utterances.heard("a", "Is there a room?", final=True) == []
    assert utterances.refused(1) == [EngineWords(1, "Is there a room?", final=True)]
    utterances.stopped("b")
    assert utterances.committed("b")


def test_a_turn_of_the_vendors_after_our_commit_is_a_turn() -> None:
    utterances = CommittedUtterances()
    utterances.commit(b"", 1.0, by_vendor=True)
    assert not utterances.committed("a")
    utterances.stopped("b")
    assert utterances.committed("b")
