"""The pieces of an answer that come with pauses, as the texts that the TTS is given."""

import random
from collections.abc import Sequence

import pytest

from patter_trio.conversation.cutting import ReplyText
from patter_trio.conversation.pacing import WORD_WAIT_S

PAUSE_S = 0.2
"""Seconds without a piece after which a source reports a pause, as ``responder/streamed.py`` does."""


def spoken(pieces: Sequence[tuple[float, str]]) -> list[str]:
    """Return the texts for the TTS, from pieces with the seconds that each comes after the one before."""
    text, now = ReplyText("en", None), 0.0
    out: list[str] = []
    for wait, piece in pieces:
        end = now + wait
        if wait > PAUSE_S:
            now += PAUSE_S
            out += text.pause(now)
        while (late := text.next_late(now)) < end:
            now = late
            out += text.late(now)
        now = end
        out += text.push(piece, now)
    return out + text.rest(now)


def test_whole_words_are_spoken_in_a_stall() -> None:
    """Where pieces are whole words, all of them are spoken when the rest does not come in time."""
    assert spoken([(0.0, "One"), (0.0, " moment"), (4.0, " please.")]) == ["One moment", "please."]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["It costs ten", " eu", "ros a ni", "ght."], ["It costs ten euros a", "night."]),
        (["Reser", "vations are o", "pen."], ["Reservations are", "open."]),
    ],
)
def test_stall_does_not_cut_a_word(pieces: list[str], expected: list[str]) -> None:
    """Where a piece has gone on with the word of the one before, the last word waits for its rest in a stall."""
    *first, last = pieces
    assert spoken([*((0.0, piece) for piece in first), (WORD_WAIT_S + 2.0, last)]) == expected


@pytest.mark.parametrize("seed", range(8))
def test_tokens_with_stalls_stay_whole_words(seed: int) -> None:
    """Whatever a source of tokens is held up by, no word is cut once a token has shown that they may end in one."""
    answer = "Certainly, your room at the Grand Hotel, with breakfast and parking, is booked for two nights. Thank you!"
    chance = random.Random(seed)  # noqa: S311 (no secret)
    # The first two show it; in between, all lengths.
    tokens, place = ["Cer", "tainly"], 9
    while place < len(answer):
        size = chance.choice([1, 2, 3, 4, 6, 9])
        tokens.append(answer[place : place + size])
        place += size
    waits = [0.0, 0.0, *(chance.choice([0.01] * 6 + [0.3, 1.2, 3.0, 8.0]) for _ in tokens[2:])]
    assert " ".join(spoken(list(zip(waits, tokens, strict=True)))) == answer
