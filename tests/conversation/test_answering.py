"""Who has answered, by the sound of the line: the rules, step by step."""

from collections.abc import Iterable, Iterator

import pytest

from patter_trio.audio.sounds import STEP_S, Sound
from patter_trio.conversation.answering import (
    BEEP_SILENCE_S,
    GREETING_PAUSE_S,
    MACHINE_SPEECH_S,
    REPORT_TIMEOUT_S,
    SILENT_TIMEOUT_S,
    SPEECH_PAUSE_S,
    VERDICT_TIMEOUT_S,
    Answer,
    AnswerDetector,
    GreetingDetector,
)

HUMAN, MACHINE, FAX, UNKNOWN = Answer("human"), Answer("machine"), Answer("fax"), Answer("unknown")
ENDED = Answer("machine", greeting_ended=True)
Part = tuple[str, float]


def sounds(parts: Iterable[Part], noise_db: float = -60.0) -> Iterator[Sound]:
    """Make a line of parts: ``voice``, ``quiet``, or the frequency of a tone, each with its seconds."""
    for kind, seconds in parts:
        for step in range(round(seconds / STEP_S)):
            if kind == "quiet":
                yield Sound(noise_db)
            elif kind == "voice":
                # Every 0.4 s the voice falls to the noise, as between words.
                yield Sound(noise_db if step % 20 == 19 else -20.0)
            else:
                yield Sound(-15.0, float(kind))


def found(*parts: Part, noise_db: float = -60.0) -> list[tuple[float, Answer]]:
    """Return the findings about a line, each with its time in seconds."""
    detector, at = AnswerDetector(), 0.0
    answers = []
    for sound in sounds(parts, noise_db):
        at += STEP_S
        if answer := detector.hear(sound):
            answers.append((round(at, 2), answer))
    return answers


@pytest.mark.parametrize("noise_db", [-80.0, -60.0, -40.0])
def test_few_words_and_a_pause_are_a_person(noise_db: float) -> None:
    """A short greeting and a second of silence are a person, in silence and in noise."""
    parts = ("quiet", 0.5), ("voice", 0.8), ("quiet", 3.0), ("voice", 9.0), ("1000", 0.5), ("quiet", 9.0)
    assert found(*parts, noise_db=noise_db) == [(pytest.approx(0.5 + 0.8 + SPEECH_PAUSE_S, abs=0.03), HUMAN)]


def test_pause_begins_anew_after_lost_audio() -> None:
    """The pause behind lost audio begins with the line, and a tone across the gap does not count as a beep."""
    detector = AnswerDetector()
    for sound in sounds([("voice", 0.8), ("quiet", 0.9), ("1000", 0.3)]):
        assert detector.hear(sound) is None
    detector.miss()
    after = [detector.hear(sound) for sound in sounds([("quiet", 1.5)])]
    assert after.index(HUMAN) * STEP_S == pytest.approx(SPEECH_PAUSE_S, abs=0.03)
    assert after.count(None) == len(after) - 1


def test_sentence_of_a_person_waits_for_beep() -> None:
    """After four seconds of speech only a long pause means a person."""
    assert found(("voice", 4.0), ("quiet", 5.0)) == [(pytest.approx(4.0 + GREETING_PAUSE_S, abs=0.03), HUMAN)]


def test_beep_after_speech_is_a_machine() -> None:
    """A beep after speech is a machine whose greeting is over, shortly behind the beep."""
    assert found(("voice", 3.0), ("quiet", 0.7), ("1000", 0.4), ("quiet", 5.0)) == [
        (pytest.approx(4.1 + BEEP_SILENCE_S, abs=0.03), ENDED)
    ]


def test_long_speech_is_a_machine_until_its_beep() -> None:
    """Six seconds of speech are a machine; its beep, or a pause, ends the greeting."""
    at_last = (pytest.approx(MACHINE_SPEECH_S, abs=0.1), MACHINE)
    beeped = found(("voice", 9.0), ("quiet", 1.0), ("800", 0.5), ("quiet", 5.0))
    assert beeped == [at_last, (pytest.approx(10.5 + BEEP_SILENCE_S, abs=0.03), ENDED)]
    silent = found(("voice", 9.0), ("quiet", 5.0))
    assert silent == [at_last, (pytest.approx(9.0 + GREETING_PAUSE_S, abs=0.05), ENDED)]


def test_pauses_between_sentences_do_not_end_a_greeting() -> None:
    """A machine's sentences with pauses below a second are one speech."""
    parts = [("voice", 1.6), ("quiet", 0.8)] * 4
    assert [answer for _, answer in found(*parts)] == [MACHINE]


@pytest.mark.parametrize(
    ("hz", "seconds"),
    [("1000", 0.1), ("1000", 2.5), ("425", 0.5), ("2800", 0.5)],
    ids=["short", "long", "ringing", "high"],
)
def test_other_tones_are_no_beep(hz: str, seconds: float) -> None:
    """A tone that is too short or too long, or at a frequency of the network's own tones, is not a beep."""
    assert [answer for _, answer in found(("voice", 1.0), ("quiet", 0.5), (hz, seconds), ("quiet", 5.0))] == [HUMAN]


def test_a_note_in_music_is_no_beep() -> None:
    """A tone that is followed by a voice or by another tone is not a beep."""
    melody = ("523", 0.3), ("659", 0.3), ("voice", 0.3), ("784", 0.3), ("voice", 0.5)
    assert [answer for _, answer in found(("voice", 1.0), *melody, ("quiet", 5.0))] == [HUMAN]


def test_tone_before_any_speech_is_no_beep() -> None:
    """A tone before any speech is the network's: the person behind it is a person."""
    assert [answer for _, answer in found(("1000", 0.4), ("quiet", 1.0), ("voice", 0.6), ("quiet", 3.0))] == [HUMAN]


@pytest.mark.parametrize(("hz", "seconds", "at"), [("2100", 3.0, 1.2), ("1100", 0.5, 0.62)], ids=["called", "calling"])
def test_fax_tones_are_a_fax(hz: str, seconds: float, at: float) -> None:
    """The tones of a fax, with nothing said before, are a fax."""
    assert found(("quiet", 0.2), (hz, seconds), ("quiet", 3.0)) == [(pytest.approx(at, abs=0.03), FAX)]


def test_silence_is_unknown_in_time() -> None:
    """A line on which nobody speaks, and one that never comes to an end, have a verdict in time."""
    assert found(("quiet", 30.0)) == [(pytest.approx(SILENT_TIMEOUT_S), UNKNOWN)]
    chatter = [("voice", 3.0), ("quiet", 1.5)] * 10
    assert found(*chatter) == [(pytest.approx(VERDICT_TIMEOUT_S), UNKNOWN)]


def test_clicks_are_no_voice() -> None:
    """Sounds shorter than 80 ms are not a voice."""
    assert [answer for _, answer in found(*[("voice", 0.06), ("quiet", 0.3)] * 40)] == [UNKNOWN]


def test_noise_that_begins_becomes_the_line() -> None:
    """A noise that begins in the call counts as voice for some seconds at most, and a greeting in it is a person's."""
    loud = [Sound(-40.0)] * 150 + [*sounds([("voice", 0.8), ("quiet", 3.0)], -40.0)]
    detector = AnswerDetector()
    assert [answer for sound in [Sound(-70.0)] * 10 + loud if (answer := detector.hear(sound))] == [HUMAN]


def test_greeting_ends_only_for_a_machine() -> None:
    """Where the carrier finds the machine, the end of the greeting is found after that, once."""
    detector = GreetingDetector()
    parts = ("voice", 3.0), ("quiet", 4.0), ("voice", 3.0), ("1000", 0.4), ("quiet", 4.0)
    answers = []
    for number, sound in enumerate(sounds(parts)):
        if answer := detector.hear(sound, is_machine=number * STEP_S > 8.0):
            answers.append((round(number * STEP_S, 2), answer))
    assert answers == [(pytest.approx(10.4 + BEEP_SILENCE_S, abs=0.05), ENDED)]
    assert detector.is_done


def test_person_ends_the_search_for_greetings() -> None:
    """Without a report of a machine the detector is done after 30 s, and a late report finds no end any more."""
    detector = GreetingDetector()
    steps = list(sounds([("voice", 1.0), ("quiet", 2.0)] * 11))
    done = []
    for sound in steps:
        assert detector.hear(sound, is_machine=False) is None
        done.append(detector.is_done)
    assert done.index(True) + 1 == pytest.approx(REPORT_TIMEOUT_S / STEP_S, abs=1)
    assert [detector.hear(sound, is_machine=True) for sound in sounds([("quiet", 4.0)])] == [None] * round(4.0 / STEP_S)
