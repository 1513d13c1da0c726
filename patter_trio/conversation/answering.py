"""The detection of answering machines by the sound of the line alone: a person, a machine or a fax.

A person says a few words and waits for an answer. A machine talks on: its greeting is long, and often a beep follows.
So three things decide, in this order of weight:

* **A beep** after speech: one steady tone, and then silence. Only machines make one; a message can be left now.
* **Long speech**: six seconds without a pause of one second. A menu that offers choices counts as a machine, too.
* **A pause.** After a few words, one second of it means a person who waits. After more than a few words, a machine may
  still beep: only a longer pause means a person.

Words play no part, so neither does the language. The verdict "machine" cuts a person off in the middle of a sentence,
the verdict "human" only lets an agent talk to a machine; so what is in doubt is a person. The verdict about a person is
final, whatever the line sounds like later.

After the verdict that a machine has answered, the end of its greeting is found: a beep, or a pause of 2.5 s.

Voice is what is clearly louder than the line's own noise, which is measured all the time. Nothing here knows a clock:
time is counted by the steps of audio.
"""

from typing import Final, Literal

import attrs

from patter_trio.audio.sounds import STEP_S, Sound

# The numbers of this block are judged on the recordings of docs/outbound.md, and hold for all of its languages. -------
MACHINE_SPEECH_S: Final = 6.0
"""Seconds of speech without a pause that only a machine makes: the longest greeting of a person there lasts 4.6 s."""
SPEECH_PAUSE_S: Final = 1.0
"""Seconds of silence that end a speech, and are a pause. Machines put their sentences closer together."""
SHORT_GREETING_S: Final = 2.5
"""Longest greeting, in seconds, of somebody who waits for an answer: a name and a word or two."""
GREETING_PAUSE_S: Final = 2.5
"""Seconds of silence after which no beep will come any more."""
BEEP_S: Final = (0.2, 2.0)
"""Shortest and longest duration of a beep, in seconds. Tones of a keypad and of cash desks are shorter."""
BEEP_SILENCE_S: Final = 0.24
"""Seconds without voice or tone behind a beep, by which it differs from a note of music."""
BEEP_DRIFT_HZ: Final = 20.0
"""Most that the frequency of a beep changes from one step to the next; a whistle slides."""
NOISE_MARGIN_DB: Final = 7.0
"""How much louder than the noise of the line a voice is, in dB."""
NOISE_RISE_DB_PER_S: Final = 10.0
"""How fast the estimate of the noise follows a noise that begins; it follows a quieter line at once."""
VOICE_RANGE_DB: Final = 10.0
"""How much quieter a voice may be than the loudest part of it, in dB; people in the background are quieter."""
VOICE_FALL_DB_PER_S: Final = 1.0
"""How fast the loudest part is forgotten, for another speaker may be quieter."""
MIN_VOICE_DB: Final = -50.0
"""The quietest voice, in dB below full scale."""
MAX_NOISE_DB: Final = -30.0
"""The loudest noise of a line, in dB below full scale: what is 10 dB louder is a voice, however long it lasts."""
MIN_VOICE_STEPS: Final = 4
"""Shortest voice, in steps of 20 ms; a click is shorter."""
MIN_SPEECH_S: Final = 0.3
"""Seconds of voice before which no beep counts: what comes first may be a tone of the network."""
# ITU-T E.180: the tones of networks (dial, ringing, busy) are at 400 to 450 Hz, or have two frequencies.
BEEP_HZ: Final = (500.0, 2500.0)
"""Lowest and highest frequency of a beep."""
# ITU-T T.30: a fax that is called answers with 2100 Hz (CED) for 2.6 to 4 s; one that calls sends 1100 Hz (CNG) for 0.5
# s.
FAX_TONES: Final[tuple[tuple[float, float, float], ...]] = ((2100.0, 15.0, 1.0), (1100.0, 38.0, 0.42))
"""The tones of a fax: frequency and tolerance in Hz, and the seconds after which it is one."""
# Judged: machines begin within 2 s of the answer, people, too.
SILENT_TIMEOUT_S: Final = 6.0
"""Seconds without a voice until the verdict is that nobody knows."""
VERDICT_TIMEOUT_S: Final = 20.0
"""Seconds until there is a verdict in any case."""
# Judged: Plivo listens for 5 s (carriers/plivo_rest.py), and its report has a way to go.
REPORT_TIMEOUT_S: Final = 30.0
"""Seconds after the answer in which a carrier reports a machine; without a report, a person has answered."""


@attrs.frozen
class Answer:
    """A finding about who has answered; ``greeting_ended`` is True if a message can be left now."""

    answered_by: Literal["human", "machine", "fax", "unknown"]
    greeting_ended: bool = False


class _Voice:
    """The voice on a line, as far as its level shows it."""

    def __init__(self) -> None:
        # The voice may have begun before the line did.
        self._noise_db = MAX_NOISE_DB
        self._loudest_db = MIN_VOICE_DB
        self._run = 0
        """Number of steps in a row that are loud."""
        self.total: float = 0.0
        """Seconds of voice so far."""
        self.began: float = 0.0
        """When the newest speech, which has no pause in it, began."""
        self.ended: float = 0.0
        """The end of the newest voice."""

    @property
    def speech_s(self) -> float:
        """The length of the newest speech, with the short gaps in it."""
        return self.ended - self.began

    def hear(self, level_db: float, end: float) -> None:
        """Take one step of audio, which ends at ``end``."""
        noise = self._noise_db
        # Speech falls to the noise between any two words, and the estimate with it.
        self._noise_db = min(level_db, noise + NOISE_RISE_DB_PER_S * STEP_S, MAX_NOISE_DB)
        self._loudest_db -= VOICE_FALL_DB_PER_S * STEP_S
        lowest = max(noise + NOISE_MARGIN_DB, self._loudest_db - VOICE_RANGE_DB, MIN_VOICE_DB)
        self._run = self._run + 1 if level_db >= lowest else 0
        if self._run < MIN_VOICE_STEPS:
            return
        self._loudest_db = max(self._loudest_db, level_db)
        # The step that makes it a voice brings those before it, which did not count yet.
        added = STEP_S * (self._run if self._run == MIN_VOICE_STEPS else 1)
        if not self.total or end - added - self.ended > SPEECH_PAUSE_S:
            self.began = end - added
        self.total += added
        self.ended = end


@attrs.define
class _Tone:
    """A steady tone: its frequency, its begin and its end."""

    hz: float
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def goes_on(self, hz: float, end: float) -> bool:
        """Return True if a tone in the step that ends at ``end`` is the same; one step in between may have lost it."""
        # This step and the one that was lost, and half a step because sums of steps are not exact.
        return abs(hz - self.hz) <= BEEP_DRIFT_HZ and end - self.ended < 2.5 * STEP_S

    @property
    def is_beep(self) -> bool:
        # Half a step: sums of steps are not exact.
        return BEEP_S[0] - STEP_S / 2 <= self.seconds <= BEEP_S[1]


class _Line:
    """The sound of the other side, step by step."""

    def __init__(self) -> None:
        self._steps = 0
        self.voice: _Voice = _Voice()
        self.tone: _Tone | None = None
        """The newest tone, until what follows it says what it was."""
        self._resumed = 0.0
        """When the line was heard again after audio was lost."""

    @property
    def at(self) -> float:
        """Seconds since the answer."""
        return self._steps * STEP_S

    @property
    def pause(self) -> float:
        """Seconds since the newest voice; 0 while a tone sounds, which may be a beep."""
        return 0.0 if self.tone is not None else self.at - max(self.voice.ended, self._resumed)

    def miss(self) -> None:
        """Begin the pause anew, and forget a tone, because audio was lost: somebody may have spoken in it."""
        self._resumed, self.tone = self.at, None

    def hear(self, sound: Sound) -> bool:
        """Take the next step; return True if a beep is over, and neither voice nor tone has followed it."""
        # Also in the middle of a tone: these steps are the only clock.
        self._steps += 1
        tone = self.tone
        # Any other steady tone is as good a voice as a hum.
        if BEEP_HZ[0] <= sound.tone_hz <= BEEP_HZ[1]:
            if tone is None or not tone.goes_on(sound.tone_hz, self.at):
                tone = self.tone = _Tone(sound.tone_hz, self.at - STEP_S, self.at)
            tone.hz, tone.ended = sound.tone_hz, self.at
            return False
        self.voice.hear(sound.level_db, self.at)
        if tone is None:
            return False
        # A voice right behind a tone makes it a note, or the chime of an announcement.
        if self.voice.ended > tone.ended:
            self.tone = None
            return False
        if self.at - tone.ended < BEEP_SILENCE_S - STEP_S / 2:
            return False
        self.tone = None
        return tone.is_beep and self.voice.total >= MIN_SPEECH_S


class AnswerDetector:
    """Finds out who has answered one call. Feed it the sound of the other side, from the answer on."""

    def __init__(self) -> None:
        self._line = _Line()
        self.verdict: Answer | None = None
        """The first finding; None: it is not known yet."""
        self.is_done: bool = False
        """True if nothing more will be found."""

    def __repr__(self) -> str:
        return f"<AnswerDetector after {self._line.at:.2f} s: {self.verdict}>"

    def miss(self) -> None:
        """Note that audio was lost behind what was heard."""
        self._line.miss()

    def hear(self, sound: Sound) -> Answer | None:
        """Take the next step of audio; return what it shows, if that is new."""
        if self.is_done:
            return None
        beeped = self._line.hear(sound)
        if self.verdict is None:
            found = self.verdict = self._first(beeped=beeped)
        else:
            ended = beeped or self._line.pause >= GREETING_PAUSE_S
            found = Answer("machine", greeting_ended=True) if ended else None
        if found is not None:
            self.is_done = found.greeting_ended or found.answered_by != "machine"
        return found

    def _first(self, *, beeped: bool) -> Answer | None:
        """Return the verdict, if there is one."""
        line, voice, tone = self._line, self._line.voice, self._line.tone
        if beeped:
            return Answer("machine", greeting_ended=True)
        # Only before anybody has spoken: behind a voice, the tone is a part of something else.
        if tone is not None and voice.total < MIN_SPEECH_S and any(_is_fax(tone, *fax) for fax in FAX_TONES):
            return Answer("fax")
        if not voice.total:
            return Answer("unknown") if line.at >= SILENT_TIMEOUT_S else None
        if voice.speech_s >= MACHINE_SPEECH_S:
            return Answer("machine")
        if line.pause >= (SPEECH_PAUSE_S if voice.speech_s <= SHORT_GREETING_S else GREETING_PAUSE_S):
            return Answer("human")
        return Answer("unknown") if line.at >= VERDICT_TIMEOUT_S else None


class GreetingDetector:
    """Finds the end of a machine's greeting, where the carrier only finds the machine."""

    def __init__(self) -> None:
        self._line = _Line()
        self.is_done: bool = False
        """True if the end was found, or a person has answered."""

    def miss(self) -> None:
        """Note that audio was lost behind what was heard."""
        self._line.miss()

    def hear(self, sound: Sound, *, is_machine: bool) -> Answer | None:
        """Take the next step of audio; return the end of the greeting as soon as ``is_machine`` and it has ended."""
        if self.is_done:
            return None
        beeped = self._line.hear(sound)
        if not is_machine:
            # Without a report until then a person has answered: such a carrier reports machines alone.
            self.is_done = self._line.at >= REPORT_TIMEOUT_S
            return None
        if not (beeped or self._line.pause >= GREETING_PAUSE_S):
            return None
        self.is_done = True
        return Answer("machine", greeting_ended=True)


def _is_fax(tone: _Tone, hz: float, tolerance_hz: float, seconds: float) -> bool:
    return abs(tone.hz - hz) <= tolerance_hz and tone.seconds >= seconds
