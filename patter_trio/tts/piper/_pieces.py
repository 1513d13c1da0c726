"""How a reply is cut for a synthesiser that makes whole pieces at once, and when each word is heard. Pure.

Such a synthesiser is silent until the first piece is done, so the first one should be short: a clause of it, spoken
as one. Later pieces are made while the one before is heard, and may be whole sentences.
"""

import re
from collections.abc import Iterator, Sequence

from patter_trio.abc import Word

MAX_FIRST_PIECE_CHARACTERS = 30
"""Characters that are spoken about as fast as a caller expects an answer: 0.1 s of work for 2 s of speech."""
_MIN_FIRST_PIECE_CHARACTERS = 8
"""Characters that a first piece has at least; a single word alone sounds cut off."""
_MAX_JOINT_CHARACTERS = 45
_LONG_SENTENCE_CHARACTERS = 100
"""Characters from which a later sentence is cut, too: an abandoned piece keeps its thread until it is made."""
_CLAUSE_END = re.compile(r"[,;:\u2013\u2014](?=\s)")
_JOINT = re.compile(
    r"\s(?=(?:and|or|but|because|so|if|when|while|that|which|who|where|with|for|from|until|before|after|at|in|on|to)\s)"
)


def first_pieces(sentence: str) -> tuple[str, ...]:
    """Cut the first sentence of a reply where its first clause ends, if it is too long to be awaited whole.

    Returns:
        The pieces; joined by a space they are the sentence.
    """
    if len(sentence) <= MAX_FIRST_PIECE_CHARACTERS:
        return (sentence,)
    ends = [match.end() for match in _CLAUSE_END.finditer(sentence, _MIN_FIRST_PIECE_CHARACTERS, _MAX_JOINT_CHARACTERS)]
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
    """Cut a later sentence of a reply where clauses end, into pieces of about 100 characters; joined, they are it."""
    pieces = []
    while len(sentence) > _LONG_SENTENCE_CHARACTERS:
        ends = [match.end() for match in _CLAUSE_END.finditer(sentence, _MIN_FIRST_PIECE_CHARACTERS)]
        if not ends:
            break
        end = max((end for end in ends if end <= _LONG_SENTENCE_CHARACTERS), default=ends[0])
        pieces.append(sentence[:end].rstrip())
        sentence = sentence[end:].lstrip()
    return (*pieces, sentence)


def word_times(text: str, start: float, seconds: float) -> Iterator[Word]:
    """Estimate when each word of a piece is heard, from how much there is to pronounce in it.

    Args:
        text: the piece as it was written.
        start: where its voice begins, in seconds since the chunk's beginning.
        seconds: how long its voice lasts.
    """
    words = text.split()
    weights = [_weight(word) for word in words]
    heard, total = 0, sum(weights)
    for word, weight in zip(words, weights, strict=True):
        yield Word(word, start + seconds * heard / total, start + seconds * (heard + weight) / total)
        heard += weight


def ends_sentence(pieces: Sequence[str]) -> bool:
    """Whether the last of these pieces ends a sentence, so that a longer pause follows."""
    return bool(pieces) and pieces[-1].rstrip("\"')]\u201d\u2019").endswith((".", "!", "?", "…"))


def _weight(word: str) -> int:
    """Letters to pronounce: a digit is a word of about four; the space and a comma are heard as well."""
    digits = sum(character.isdigit() for character in word)
    return len(word) + 3 * digits + 1
