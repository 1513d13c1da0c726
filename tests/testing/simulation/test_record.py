"""Heard utterances from sound and events, and the picture of a call."""

import numpy as np

from patter_trio.audio import g711
from patter_trio.testing.carriers.playback import Stretch
from patter_trio.testing.scripted_providers.audible_text import Kind, encode
from patter_trio.testing.simulation.record import Event, Heard, Said, heard_utterances
from patter_trio.testing.simulation.timeline import timeline

TONE = g711.encode((9000 * np.sin(np.arange(8000) / 5 + 1)).astype(np.int16))


def started(at: float) -> Event:
    return Event(at, "agent_speech_started", {"turn_idx": 1})


def ended(at: float, *, interrupted: bool = False) -> Event:
    return Event(at, "agent_speech_ended", {"turn_idx": 1, "interrupted": interrupted})


def said_by_agent(at: float, text: str) -> Event:
    return Event(at, "transcript", {"role": "assistant", "text": text})


def test_words_are_those_played_to_their_end() -> None:
    """A cut utterance has the words whose audio has played to their end: two of three."""
    audio = encode("one two three", 50)
    [heard] = heard_utterances([Stretch(1.0, audio[:5000])], [started(1.0), ended(1.625, interrupted=True)])
    assert heard == Heard("one two", 1.0, 1.625, interrupted=True)


def test_sentences_are_joined_by_a_space() -> None:
    """The text of an utterance joins its sentences with a space."""
    audio = encode("One.", 20, part=1) + encode("Two.", 20, part=2)
    assert heard_utterances([Stretch(1.0, audio)], [started(1.0), ended(1.8)])[0].text == "One. Two."


def test_events_separate_utterances_without_gap() -> None:
    """The events separate two utterances that have no gap between them."""
    first, second = encode("first", 50, utterance=1), encode("second", 50, utterance=2)
    events = [started(1.0), ended(2.0), started(2.0), ended(3.0)]
    heard = heard_utterances([Stretch(1.0, first + second)], events)
    assert [(one.text, one.started, one.ended) for one in heard] == [("first", 1.0, 2.0), ("second", 2.0, 3.0)]


def test_heard_sound_trails_events_by_network_delay() -> None:
    """The recorded sound trails the events by the delay of the network."""
    first, second = encode("first", 50, utterance=1), encode("second", 50, utterance=2)
    events = [started(1.0), ended(2.0), started(2.0), ended(3.0)]
    heard = heard_utterances([Stretch(1.3, first + second)], events, 0.3)
    assert [one.text for one in heard] == ["first", "second"]


def test_late_event_on_real_clock_matches_its_sound() -> None:
    """On a real clock, the record matches an event with the sound that precedes it."""
    first, second = encode("first", 50, utterance=1), encode("second", 50, utterance=2)
    events = [started(1.03), ended(2.05), started(2.54), ended(3.5)]
    heard = heard_utterances([Stretch(1.0, first), Stretch(2.5, second)], events)
    assert [one.text for one in heard] == ["first", "second"]


def test_wordless_voice_takes_text_the_agent_reports() -> None:
    """A voice without readable words takes the text that the agent reports for it."""
    events = [started(1.0), ended(2.0), said_by_agent(2.0, "Hello"), started(3.0), ended(4.0)]
    heard = heard_utterances([Stretch(1.0, TONE), Stretch(3.0, TONE)], events)
    assert [one.text for one in heard] == ["Hello", ""]


def test_unheard_utterance_is_empty_and_open_one_absent() -> None:
    """An unheard utterance has empty text, and the record omits an utterance that has not ended."""
    assert heard_utterances([], [started(1.0), ended(1.0)]) == [Heard("", 1.0, 1.0, interrupted=False)]
    assert heard_utterances([Stretch(1.0, TONE)], [started(1.0)]) == []


def test_timeline_shows_both_speakers_in_ten_second_rows() -> None:
    """The timeline shows caller and agent in rows of ten seconds."""
    said = [Said("Hello", 0.5, 1.5), Said("", 9.5, 10.5, Kind.COUGH), Said("mhm", 11.0, 11.7, Kind.HUM)]
    heard = [Heard("Good evening", 2.0, 10.2, interrupted=True)]
    events = [Event(0.0, "call_start", {"call_id": "x"}), Event(1.0, "transcript_partial", {}), ended(10.2)]
    lines = timeline(said, heard, events, 12.0).splitlines()
    assert lines == [
        "s       0         1         2         3         4         5         6         7         8         9",
        "caller       [Hello===]" + 80 * " " + "[*cou",
        "agent                       [Good evening" + 67 * "=",
        "",
        "s       10        11        12        13        14        15        16        17        18        19",
        "caller  gh*=]     [(mhm)]",
        "agent   =X",
        "         ^ interrupted",
        "",
        "   0.000  call_start",
        "  10.200  agent_speech_ended    turn_idx=1  interrupted=False",
    ]
