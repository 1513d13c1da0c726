"""Division of a reply for a TTS model that makes whole pieces at once, and estimated times of its words. Pure.

Such a model is silent until the first piece is done, so the first one should be short: a clause of the sentence,
spoken as one. Later pieces are synthesised while the previous one is played, and may be whole sentences.
"""

import re
from collections.abc import Iterator, Sequence

from patter_trio.abc import Word

MAX_FIRST_PIECE_CHARACTERS = 30
"""Most characters of a first piece: 0.1 s of work for 2 s of speech, about as soon as a caller expects an answer."""
_MIN_FIRST_PIECE_CHARACTERS = 8
"""Fewest characters of a first piece; a single word alone sounds cut off."""
# Judged: a clause may be a little longer than a piece that is cut within a clause.
_MAX_JOINT_CHARACTERS = 45
_LONG_SENTENCE_CHARACTERS = 100
"""Length, in characters, above which a later sentence is cut, too: an abandoned piece occupies its thread until it is
done."""
# A comma within a number has no space behind it.
_CLAUSE_END = re.compile(r"[,;:\u2013\u2014](?=\s)")
# Words before which a speaker may breathe.
_JOINT = re.compile(
    r"\s(?=(?:and|or|but|because|so|if|when|while|that|which|who|where|with|for|from|until|before|after|at|in|on|to)\s)"
)


def first_pieces(sentence: str) -> tuple[str, ...]:
    """Cut the first sentence of a reply after its first clause, if it is too long to be synthesised as a whole.

    Returns:
        The pieces; joined by a space they are the sentence.
    """
    if len(sentence) <= MAX_FIRST_PIECE_CHARACTERS:
        return (sentence,)
    # From the eighth character on: a single word alone sounds cut off.
    ends = [match.end() for match in _CLAUSE_END.finditer(sentence, _MIN_FIRST_PIECE_CHARACTERS, _MAX_JOINT_CHARACTERS)]
    # Of the joints the last that fits: the first piece should be long enough to cover the work for the second.
    ends = (
        ends
        or [
            match.start()
            for match in _JOINT.finditer(sentence, _MIN_FIRST_PIECE_CHARACTERS, MAX_FIRST_PIECE_CHARACTERS)
        ][-1:]
    )
    if not ends:
        return later_pieces(sentence)
    return sentence[: ends[0]].rstrip(), *later_pieces(sentence[ends[0] :].lstrip())


def later_pieces(sentence: str) -> tuple[str, ...]:
    """Cut a later sentence of a reply between clauses into pieces of about 100 characters.

    Joined by a space they are the sentence.
    """
    pieces = []
    while len(sentence) > _LONG_SENTENCE_CHARACTERS:
        ends = [match.end() for match in _CLAUSE_END.finditer(sentence, _MIN_FIRST_PIECE_CHARACTERS)]
        # Not at joints: cut within a clause, the melody would break, and there is time now.
        if not ends:
            break
        # The longest piece that fits, or the shortest that does not.
        end = max((end for end in ends if end <= _LONG_SENTENCE_CHARACTERS), default=ends[0])
        pieces.append(sentence[:end].rstrip())
        sentence = sentence[end:].lstrip()
    return (*pieces, sentence)


def word_times(text: str, start: float, seconds: float) -> Iterator[Word]:
    """Estimate the time of each word of a piece from the amount of sound in it.

    Args:
        text: the piece as it was written.
        start: beginning of its voice, in seconds since the chunk's beginning.
        seconds: duration of its voice.
    """
    # Not empty: a piece has been pronounced.
    words = text.split()
    weights = [_weight(word) for word in words]
    heard, total = 0, sum(weights)
    for word, weight in zip(words, weights, strict=True):
        yield Word(word, start + seconds * heard / total, start + seconds * (heard + weight) / total)
        heard += weight


def ends_sentence(pieces: Sequence[str]) -> bool:
    """Return True if the last of these pieces ends a sentence, so that a longer pause follows."""
    # Behind quotation marks and brackets.
    return bool(pieces) and pieces[-1].rstrip("\"')]\u201d\u2019").endswith((".", "!", "?", "…"))


def _weight(word: str) -> int:
    """Return the number of letters to pronounce.

    A digit counts as a word of about four letters; the space or comma counts, too.
    """
    digits = sum(character.isdigit() for character in word)
    # The numbers are judged: a digit is spoken as a word of four letters or so.
    return len(word) + 3 * digits + 1
