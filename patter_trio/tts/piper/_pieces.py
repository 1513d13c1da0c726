"""Division of a reply for a TTS model that makes whole pieces at once, and estimated times of its words. Pure.

Such a model is silent until the first piece is done, so the first one should be short: a clause of the sentence,
spoken as one. Later pieces are synthesised while the previous one is played, and may be whole sentences. Memory and
time of the model grow with the square of the piece, so no piece exceeds :data:`MAX_PIECE_CHARACTERS` as it is spoken.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import attrs

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
MAX_PIECE_CHARACTERS = 150
"""Most spoken characters of any piece, about 10 s of speech: 1,000 took 1.5 GB and 6 s, 8,000 took 21 GB and 188 s."""
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
    if not ends and len(sentence) > _LONG_SENTENCE_CHARACTERS:
        # Anywhere: a broken melody is better than a second of silence.
        ends = [space] if (space := sentence.rfind(" ", 1, _MAX_JOINT_CHARACTERS)) > 0 else []
    if not ends:
        return later_pieces(sentence)
    return sentence[: ends[0]].rstrip(), *later_pieces(sentence[ends[0] :].lstrip())


def later_pieces(sentence: str) -> tuple[str, ...]:
    """Cut a later sentence of a reply between clauses into pieces of about 100 characters.

    Joined by a space they are the sentence. Only a single word may be longer than :data:`MAX_PIECE_CHARACTERS`.
    """
    pieces = []
    start = 0
    while len(sentence) - start > _LONG_SENTENCE_CHARACTERS:
        # Only as far as a piece may reach, so that the work does not grow with the square of the sentence.
        window = _CLAUSE_END.finditer(sentence, start + _MIN_FIRST_PIECE_CHARACTERS, start + MAX_PIECE_CHARACTERS + 1)
        ends = [match.end() for match in window]
        if not ends and len(sentence) - start <= MAX_PIECE_CHARACTERS:
            break
        # The longest piece that fits, or the shortest that does not. Cut within a clause, the melody breaks: only a
        # clause that is too long for the model is cut at a joint, or anywhere.
        fitting = [end for end in ends if end - start <= _LONG_SENTENCE_CHARACTERS]
        end = max(fitting) if fitting else ends[0] if ends else _forced_end(sentence, start)
        pieces.append(sentence[start:end].rstrip())
        start = end + (sentence[end : end + 1] == " ")
    rest = sentence[start:]
    return (*pieces, rest) if rest or not pieces else tuple(pieces)


def _forced_end(sentence: str, start: int) -> int:
    """Return where a sentence without clauses is cut: at its last joint or space that fits, or behind a longer word."""
    reach = start + MAX_PIECE_CHARACTERS
    joints = [match.start() for match in _JOINT.finditer(sentence, start + _LONG_SENTENCE_CHARACTERS // 2, reach)]
    space = joints[-1] if joints else sentence.rfind(" ", start + 1, reach + 1)
    if space < 0:
        space = sentence.find(" ", reach)
    return space if space > 0 else len(sentence)


@attrs.frozen
class Part:
    """The text for one inference: a piece, or a part of a word that is too long when spoken."""

    text: str
    """The written text that begins here; empty if the part goes on with a word."""
    said: str
    """The text as it is spoken, of :data:`MAX_PIECE_CHARACTERS` at most."""
    words: str
    """The written words that end here."""


def parts_of(piece: str, spoken: Callable[[str], str]) -> list[Part]:
    """Return the parts in which a piece is made; ``spoken`` returns a text as it is spoken, which may be longer."""
    said = spoken(piece)
    if len(said) <= MAX_PIECE_CHARACTERS:
        return [Part(piece, said, piece)]
    # "1,200 x 800" is short in writing only. Halved, because nobody knows which of the words are long.
    middle = len(piece) // 2
    spaces = [place for place in (piece.rfind(" ", 0, middle), piece.find(" ", middle)) if place > 0]
    if spaces:
        space = min(spaces, key=lambda place: abs(place - middle))
        return [part for half in (piece[:space], piece[space + 1 :]) for part in parts_of(half, spoken)]
    cut = list(stretches(said, MAX_PIECE_CHARACTERS))
    return [
        Part("" if number else piece, stretch, piece if number == len(cut) - 1 else "")
        for number, stretch in enumerate(cut)
    ]


def stretches(text: str, limit: int) -> Iterator[str]:
    """Yield a text in stretches of at most ``limit`` characters, cut at spaces where there are any."""
    start = 0
    while len(text) - start > limit:
        space = text.rfind(" ", start + 1, start + limit + 1)
        end = space if space > 0 else start + limit
        yield text[start:end]
        start = end + (space > 0)
    yield text[start:]


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
