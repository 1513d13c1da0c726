"""The rule by which a silent STT is noticed: it keeps its session open and says nothing.

Voice is counted in audio, not in time: a caller who says nothing gives an STT nothing to report.
"""

import math
from typing import Final

import trio

# Judged: a vendor that gives interim words reports several times a second while it hears a voice. Noise that the VAD
# takes for a voice brings empty reports.
RESULT_TIMEOUT_S: Final = 3.0
"""Seconds, of voice or after a request for final words, without a result, after which an STT counts as silent."""


class SilenceWatch:
    """Notices that an STT owes a result.

    Args:
        gives_interims: the STT reports words before they are final, so that each voice brings results.
        final_timeout: seconds that it has for final words which were requested.
    """

    def __init__(self, *, gives_interims: bool, final_timeout: float = RESULT_TIMEOUT_S) -> None:
        self.requested: bool = False
        """True from a request for final words until they come."""
        self._gives_interims = gives_interims
        self._final_timeout = final_timeout
        self._unreported = False  # a voice began after the last result
        self._voiced = 0.0  # seconds of voice since the last result, given to the present session
        self._voiced_in_all = 0.0  # the same over all sessions
        self._patience = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<SilenceWatch: {self._voiced:.2f} s of voice without a result>"

    @property
    def owes_words(self) -> bool:
        """True if a voice began after the last result."""
        return self._unreported

    @property
    def owes_final(self) -> bool:
        """True if requested final words must come."""
        # An STT that has given interim words of the voice may have no more of them, and does not always say so.
        return self.requested and (self._unreported or not self._gives_interims)

    @property
    def is_silent(self) -> bool:
        """True if the voice of :data:`RESULT_TIMEOUT_S` seconds has brought no result, although each voice should."""
        return self._gives_interims and self._voiced >= RESULT_TIMEOUT_S

    def voice_began(self) -> None:
        """Record that a voice began."""
        self._unreported = True

    def heard(self, seconds: float) -> None:
        """Record that the STT was given voice."""
        self._voiced += seconds
        self._voiced_in_all += seconds

    def expect(self) -> None:
        """Count the STT as silent unless a result that it owes comes in time."""
        if self.owes_final:
            self._patience.deadline = min(self._patience.deadline, trio.current_time() + self._final_timeout)

    def resumed(self, *, gives_interims: bool, final_timeout: float = RESULT_TIMEOUT_S) -> None:
        """Record that another session has taken over, and is given the audio that the last one did not answer."""
        self._gives_interims, self._final_timeout = gives_interims, final_timeout
        self._voiced = 0.0
        self._patience.deadline = math.inf
        self.expect()
        if self._gives_interims and self._voiced_in_all >= RESULT_TIMEOUT_S:
            self._patience.deadline = min(self._patience.deadline, trio.current_time() + RESULT_TIMEOUT_S)

    def request(self) -> None:
        """Record that final words were requested."""
        self.requested = True

    def final_came(self) -> None:
        """Record that the requested final words came, or will not come."""
        self.requested = False

    def came(self) -> None:
        """Record that a result came, of any kind."""
        self._voiced = self._voiced_in_all = 0.0
        self._unreported = False
        self._patience.deadline = math.inf

    async def overdue(self) -> None:
        """Wait until a result is overdue."""
        with trio.CancelScope(deadline=self._patience.deadline) as self._patience:
            await trio.sleep_forever()
