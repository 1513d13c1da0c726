"""Limits to how long text waits for the end of its sentence. Pure, with time as an argument.

A sentence that is spoken as a whole sounds best, so the TTS is given whole sentences while the caller can wait for
them: until about a second after the first token, and later until what was given before has almost been spoken. Then a
clause has to do, and after that the words so far.
"""

import math
from enum import Enum
from typing import Final

from patter_trio.scripts import weight

# Judged: with a TTS that takes 0.3 s, the caller hears something 1.3 s after the first token, which is not yet a
# silence.
CLAUSE_WAIT_S: Final = 1.0
"""Seconds for which text waits for the end of its sentence; then it is spoken up to its last clause."""
WORD_WAIT_S: Final = 1.5
"""Seconds after which it is spoken up to its last word."""
# Judged: the TTS needs some of it to make the next piece.
LEAD_S: Final = 1.0
"""Seconds of speech that is still to come while the text may go on waiting."""
# 15 letters a second, as most voices speak.
LETTER_S: Final = 0.065
"""Seconds that a letter takes to speak."""


class Cut(Enum):
    """The place at which waiting text may be cut."""

    CLAUSE = "clause"
    WORD = "word"


class Pacing:
    """Decides, for one reply, when text has waited long enough for the end of its sentence."""

    def __init__(self) -> None:
        self._waits_since = math.inf
        self._spoken_until = -math.inf

    def __repr__(self) -> str:
        return f"<Pacing: waits since {self._waits_since:.2f}, spoken until {self._spoken_until:.2f}>"

    def waits(self, now: float) -> None:
        """Record that text waits for the end of its sentence."""
        self._waits_since = min(self._waits_since, now)

    def released(self, text: str, now: float) -> None:
        """Record that a text was given to the TTS; what waits from now on waits anew."""
        self._waits_since = math.inf
        self._spoken_until = max(self._spoken_until, now) + weight(text) * LETTER_S

    def due(self, now: float) -> Cut | None:
        """Return where the waiting text may be cut now; None if it can wait for the end of its sentence."""
        for cut in (Cut.WORD, Cut.CLAUSE):
            if now >= self._due_at(cut):
                return cut
        return None

    def next_due(self, now: float) -> float:
        """Return the next instant after ``now`` at which :meth:`due` changes if nothing else happens; else infinity."""
        return min((at for cut in Cut if (at := self._due_at(cut)) > now), default=math.inf)

    def _due_at(self, cut: Cut) -> float:
        wait = CLAUSE_WAIT_S if cut is Cut.CLAUSE else WORD_WAIT_S
        return max(self._waits_since + wait, self._spoken_until - LEAD_S + wait - CLAUSE_WAIT_S)
