"""Deepgram's listening protocols: the meaning of its messages, in any order, shape and size."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import Transcript
from patter_trio.conversation.inputs import FinalWords, InterimWords, Ready
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.errors import ProviderError, WireError
from patter_trio.wire.deepgram import MAX_SEGMENT_PARTS, FluxCodec, ListenCodec, NovaCodec, listen_url


def results(words: str, start: float, end: float, *, final: bool = False, **more: Any) -> str:
    """Return a result of Nova; its words are spread evenly from ``start`` to ``end``."""
    texts = words.split()
    each = (end - start) / max(1, len(texts))
    shown = [
        {"word": text, "start": start + place * each, "end": start + (place + 1) * each, "confidence": 1.0}
        for place, text in enumerate(texts)
    ]
    alternative = {"transcript": words, "confidence": 0.9, "words": shown}
    message = {
        "type": "Results", "channel_index": [0, 1], "start": start, "duration": end - start, "is_final": final,
        "speech_final": False, "channel": {"alternatives": [alternative]}, "metadata": {},
    }  # fmt: skip
    return json.dumps(message | more)


def turn(event: str, words: str, *, index: int = 0, end: float | None = None, timed: bool = True, **more: Any) -> str:
    """Return a message of Flux; word n lasts from n to n + 1 seconds."""
    texts = words.split()
    shown: list[dict[str, Any]] = [{"word": text, "confidence": 0.9} for text in texts]
    for place, word in enumerate(shown if timed else []):
        word |= {"start": float(place), "end": place + 1.0}
    message = {
        "type": "TurnInfo", "request_id": "r", "sequence_id": 1, "event": event, "turn_index": index,
        "audio_window_start": 0.0, "audio_window_end": len(texts) if end is None else end, "transcript": words,
        "words": shown, "end_of_turn_confidence": 0.5,
    }  # fmt: skip
    return json.dumps(message | more)


def heard(codec: ListenCodec, *messages: str) -> list[Transcript]:
    return [transcript for message in messages for transcript in codec.receive(message)]


def said(text: str, segment: int, *, final: bool = True, finished: bool | None = None) -> Transcript:
    return Transcript(text, final, segment, finished)


# Nova -----------------------------------------------------------------------------------------------------------------
def test_nova_interims_replace_and_final_closes_segment() -> None:
    """Nova interim results replace each other, and the final result closes the segment."""
    reported = heard(
        NovaCodec(),
        results("hello", 0, 1),
        results("hello there", 0, 1.5),
        results("Hello there.", 0, 2, final=True),
        results("more", 2, 3),
        results("More.", 2, 3, final=True),
    )
    assert reported == [
        said("hello", 1, final=False),
        said("hello there", 1, final=False),
        said("Hello there.", 1),
        said("more", 2, final=False),
        said("More.", 2),
    ]


def test_short_final_leaves_segment_open() -> None:
    """A final result that covers only part of the reported words leaves the segment open."""
    reported = heard(
        NovaCodec(),
        results("one two three four", 0, 4),
        results("one two", 0, 2, final=True),
        results("three four", 2, 4.2),
        results("three four", 2, 4, final=True),
    )
    assert reported == [said("one two three four", 1, final=False), said("one two three four", 1)]


@pytest.mark.parametrize("revised", ["one two three four", "one two three for"])
def test_codec_commits_promoted_interim_words_once(revised: str) -> None:
    """Interim words that the turn machine commits do not come again when Nova makes them final in two pieces."""
    machine, codec = TurnMachine(TurnPolicy()), NovaCodec()
    machine.step(Ready(), 0.0)
    texts: list[str] = []
    script = [
        (1.0, results("one two three four", 0, 4)),
        (6.0, results("one two", 0, 2, final=True)),
        (6.5, results(" ".join(revised.split()[2:]), 2, 4, final=True, from_finalize=True)),
    ]
    for at, message in script:
        for transcript in codec.receive(message):
            event = (FinalWords if transcript.final else InterimWords)(transcript.text, transcript.segment)
            texts += [action.text for action in machine.step(event, at) if hasattr(action, "text")]
        texts += [getattr(action, "text", None) for action in machine.step(None, at + 3) if hasattr(action, "text")]
    history = [text for text in texts if text]
    assert history[0] == "one two three four"
    assert set(history[1:]) <= {revised}


def test_finalize_answer_closes_segment() -> None:
    """An answer to Finalize closes the segment with the words so far."""
    reported = heard(
        NovaCodec(),
        results("one two three", 0, 3),
        results("one two", 0, 2, final=True, from_finalize=True),
        results("", 2, 3, final=True, from_finalize=True),
    )
    assert reported == [said("one two three", 1, final=False), said("one two", 1), said("", 2)]


def test_empty_nova_final_retracts_interim_words() -> None:
    """Silence produces no transcript, and an empty final result retracts wrong interim words."""
    codec = NovaCodec()
    assert not heard(codec, results("", 0, 1), results("", 0, 3, final=True))
    assert codec.settled == 3.0
    assert heard(codec, results("uh", 3, 4), results("", 3, 5, final=True)) == [
        said("uh", 2 - 1, final=False),
        said("", 1),
    ]


def test_nova_reconnect_continues_segment_with_shifted_times() -> None:
    """A new Nova connection continues the open segment with shifted times."""
    codec = NovaCodec()
    heard(codec, results("done", 0, 2, final=True), results("one two", 2, 4))
    codec.connected(2.0)
    assert heard(codec, results("one two three", 0, 3, final=True)) == [said("one two three", 2)]
    assert codec.settled == 5.0


def test_repeated_final_result_is_ignored() -> None:
    """NovaCodec ignores a repeated final result."""
    codec = NovaCodec()
    assert heard(codec, results("hello", 0, 1, final=True), results("hello", 0, 1, final=True)) == [said("hello", 1)]


def test_segment_is_bounded_without_reaching_its_end() -> None:
    """NovaCodec bounds a segment even if no final result reaches its end."""
    codec = NovaCodec()
    heard(codec, results("ahead", 0, 500))
    reported = heard(codec, *(results("x", second, second + 1, final=True) for second in range(MAX_SEGMENT_PARTS)))
    assert [(one.final, one.segment) for one in reported] == [(True, 1)]


@pytest.mark.parametrize(
    "channel",
    [
        {},
        {"alternatives": None},
        {"alternatives": []},
        {"alternatives": [{"transcript": None, "words": None}]},
        {"alternatives": [{"transcript": "", "words": [{"word": "a", "start": None, "end": 1.0}]}]},
    ],
)
def test_nulls_of_nova_say_nothing(channel: dict[str, Any]) -> None:
    """A result whose words are null or absent counts as a result without words."""
    codec = NovaCodec()
    assert heard(codec, results("", 0, 1, channel=channel, is_final=None)) == []
    assert codec.results == 1
    channel = {"alternatives": [{"transcript": "so", "words": [{"word": "so", "start": None, "end": None}]}]}
    assert heard(codec, results("", 1, 2, channel=channel, is_final=True)) == [said("so", 1)]


def test_nulls_of_flux_say_nothing() -> None:
    """A TurnInfo whose words and times are null counts as a result without words."""
    codec = FluxCodec()
    nulls = {"words": None, "transcript": None, "audio_window_end": None}
    assert heard(codec, json.dumps(json.loads(turn("Update", "")) | nulls)) == []
    assert codec.results == 1


def test_metadata_sets_billing_and_errors_raise() -> None:
    """Metadata sets the billed duration, and an error message raises an error."""
    codec = NovaCodec()
    metadata = '{"type":"Metadata","duration":12.5,"request_id":"r","channels":1}'
    assert not codec.receive(metadata)
    assert (codec.billed, codec.request_id) == (12.5, "r")
    with pytest.raises(ProviderError, match="Deepgram reports an error: NET-0001 too quiet"):
        codec.receive('{"type":"Error","variant":"NET-0001","description":"too quiet"}')
    with pytest.raises(WireError):
        codec.receive('{"type":"Error","variant":"SchemaError","description":"what?"}')


# Flux -----------------------------------------------------------------------------------------------------------------
def test_flux_turn_is_one_segment_finished_by_end() -> None:
    """A Flux turn is one segment, and EndOfTurn finishes it."""
    codec = FluxCodec()
    reported = heard(
        codec,
        '{"type":"Connected","request_id":"r7","sequence_id":0}',
        turn("StartOfTurn", "hello"),
        turn("Update", "hello there"),
        turn("EndOfTurn", "Hello there.", end=3.5, trigger="model"),
        turn("Update", "hello there"),  # late, of a turn that is over
        turn("StartOfTurn", "next", index=1),
        turn("EndOfTurn", "Next.", index=1),
    )
    assert reported == [
        said("hello", 1, final=False),
        said("hello there", 1, final=False),
        said("Hello there.", 1, finished=True),
        said("next", 2, final=False),
        said("Next.", 2, finished=True),
    ]
    assert (codec.request_id, codec.settled) == ("r7", 3.5)


@pytest.mark.parametrize("timed", [True, False])
def test_flux_resumed_turn_splits_at_eager_end(timed: bool) -> None:
    """TurnResumed splits the turn into two segments at the eager end of turn."""
    reported = heard(
        FluxCodec(),
        turn("StartOfTurn", "my", timed=timed),
        turn("EagerEndOfTurn", "my number", timed=timed),
        turn("TurnResumed", "my number is", timed=timed),
        turn("EagerEndOfTurn", "My number is nine.", timed=timed),
        turn("EndOfTurn", "My number is nine.", timed=timed),
    )
    assert reported == [
        said("my", 1, final=False),
        said("my number", 1, final=False, finished=True),
        said("my number", 1, finished=False),
        said("is", 2, final=False),
        said("is nine.", 2, final=False, finished=True),
        said("is nine.", 2, finished=True),
    ]


@pytest.mark.parametrize(
    ("eager", "resumed", "end", "rest"),
    [
        ("call 5 5 5", "call 555", "call 555 1234", "1234"),  # the documented minimum: words without times
        ("call five", "call five", "call five five five", "five five"),
        ("I live at", "I live at", "I live at 12 Main St.", "12 Main St."),
        ("Yes", "yes,", "Yes, please.", "please."),
        ("it's", "it is", "it is mine", "is mine"),  # spelled in another way: twice is better than never
        ("ich möchte", "Ich moechte", "Ich moechte zahlen", "moechte zahlen"),
        ("no", "no", "no", ""),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_untimed_flux_words_after_resumption_are_kept(
    eager: str, resumed: str, end: str, rest: str, *, listed: bool
) -> None:
    """Words without times after a TurnResumed are reported, however the vendor divides and spells those before."""
    messages = []
    for event, words in (("EagerEndOfTurn", eager), ("TurnResumed", resumed), ("EndOfTurn", end)):
        message = json.loads(turn(event, words, timed=False))
        messages.append(json.dumps(message if listed else message | {"words": None}))
    finals = [one.text for one in heard(FluxCodec(), *messages) if one.final]
    assert finals == [eager, rest]


def test_untimed_flux_turn_may_resume_twice() -> None:
    """Each word of a turn that is resumed twice appears once, though its words have no times."""
    events = [
        ("EagerEndOfTurn", "my number"), ("TurnResumed", "my number is"), ("Update", "my number is 5 5"),
        ("EagerEndOfTurn", "my number is 5 5"), ("TurnResumed", "my number is 55 1"),
         ("EndOfTurn", "my number is 55 1 2"),
    ]  # fmt: skip
    transcripts = heard(FluxCodec(), *(turn(event, words, timed=False) for event, words in events))
    assert [one.text for one in transcripts if one.final] == ["my number", "is 5 5", "1 2"]


def test_short_word_at_boundary_appears_once() -> None:
    """A word of a single frame at the segment boundary appears once."""
    words = [
        {"word": "a", "confidence": 1, "start": 1.0, "end": 1.02},
        {"word": "b", "confidence": 1, "start": 1.02, "end": 2},
    ]
    eager = json.loads(turn("EagerEndOfTurn", "a")) | {"words": words[:1]}
    resumed = json.loads(turn("TurnResumed", "a b")) | {"words": words}
    assert heard(FluxCodec(), json.dumps(eager), json.dumps(resumed))[1:] == [
        said("a", 1, finished=False),
        said("b", 2, final=False),
    ]


def test_flux_passes_bare_resumption_and_empty_end() -> None:
    """FluxCodec passes on a TurnResumed without an eager end and an EndOfTurn without words."""
    assert heard(FluxCodec(), turn("TurnResumed", "a"), turn("EndOfTurn", "")) == [
        said("a", 1, final=False, finished=False),
        said("", 1, finished=True),
    ]


def test_next_turn_closes_flux_turn_without_end() -> None:
    """The next turn closes a Flux turn that has no EndOfTurn."""
    assert heard(FluxCodec(), turn("Update", "a"), turn("StartOfTurn", "b", index=1)) == [
        said("a", 1, final=False),
        said("a", 1),
        said("b", 2, final=False),
    ]


def test_flux_reconnect_repeats_turn_in_same_segment() -> None:
    """A new Flux connection continues the turn in the same segment."""
    codec = FluxCodec()
    heard(codec, turn("EndOfTurn", "done", end=2.0), turn("StartOfTurn", "one", index=1))
    codec.connected(2.0)
    assert heard(codec, turn("EndOfTurn", "one two", end=3.0)) == [said("one two", 2, finished=True)]
    assert codec.settled == 5.0


def test_unknown_flux_event_updates_and_error_raises() -> None:
    """An unknown Flux event counts as an update, and an error message raises ProviderError."""
    assert heard(FluxCodec(), turn("Whatever", "a")) == [said("a", 1, final=False)]
    with pytest.raises(ProviderError, match="INTERNAL_SERVER_ERROR oops"):
        FluxCodec().receive('{"type":"Error","sequence_id":3,"code":"INTERNAL_SERVER_ERROR","description":"oops"}')


# Both -----------------------------------------------------------------------------------------------------------------
CODECS = [NovaCodec, FluxCodec]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["UtteranceEnd", "SpeechStarted", "ConfigureSuccess", "Warning", "Brand-New", ""])
def test_messages_of_no_interest_say_nothing(codec: type[ListenCodec], kind: str) -> None:
    """Both codecs return nothing for messages of other types, whatever their fields hold."""
    assert not codec().receive(json.dumps({"type": kind, "channel": [0, 1], "start": "not a number"}))


@pytest.mark.parametrize(
    "message",
    [
        "", "null", "[]", "7", "{", b"\xff", '{"type":7}', '{"type":"Results"}', '{"type":"TurnInfo","event":4}',
        '{"type":"Metadata","duration":-1}', '{"type":"Metadata","duration":1e300}', '{"type":"Error","description":1}',
        results("a", -1, 1), results("a", 0, 1e9), turn("EndOfTurn", "a", end=-2.0), "[" * 100_000,
        '{"type":"Results","a":' + "[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("codec", CODECS)
def test_malformed_deepgram_message_changes_nothing(codec: type[ListenCodec], message: str) -> None:
    """A malformed message raises WireError or yields nothing, and the codec reads the next good message."""
    session = codec()
    with suppress(WireError):
        assert not session.receive(message)
    assert session.settled == 0.0
    good = results("a", 0, 1, final=True) if codec is NovaCodec else turn("EndOfTurn", "a")
    assert [one.text for one in session.receive(good)] == ["a"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SHAPES = st.sampled_from([results("a b", 0, 2), results("a", 0, 1, final=True), turn("EagerEndOfTurn", "a b"),
turn("TurnResumed", "a b c"),
    turn("EndOfTurn", "a b c d"), '{"type":"Metadata","duration":1}',
    '{"type":"Error","description":"x"}'])  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> str | bytes:
    """Draw a message with some values replaced, or with its text cut."""
    message = json.loads(draw(SHAPES))
    for _ in range(draw(st.integers(0, 3))):
        message[draw(st.sampled_from(sorted(message)) | st.text(max_size=5))] = draw(JSON)
    text = json.dumps(message)
    if draw(st.booleans()):
        text = text[: draw(st.integers(0, len(text)))]
    return text if draw(st.booleans()) else text.encode()


@given(st.sampled_from(CODECS), st.lists(damaged() | st.text() | st.binary(), max_size=12))
def test_deepgram_codecs_survive_any_messages(codec: type[ListenCodec], messages: list[str | bytes]) -> None:
    """For any messages, the codecs raise only their own errors and close each segment at most once."""
    session = codec()
    closed: list[int] = []
    for message in messages:
        try:
            reported = session.receive(message)
        except (WireError, ProviderError):
            continue
        assert 0 <= session.settled < math.inf
        for one in reported:
            assert one.segment not in closed
            closed += [one.segment] if one.final else []
    assert closed == sorted(closed)


@pytest.mark.deep
@given(st.data())
def test_nova_words_are_final_once_in_order(data: st.DataObject) -> None:
    """For any results, each word is final once and in order, and interims are prefixes of the final words."""
    total = data.draw(st.integers(1, 12))
    codec, begin, reported = NovaCodec(), 0, list[Transcript]()
    while begin < total:
        reach = data.draw(st.integers(begin + 1, total))
        words = " ".join(f"w{n}" for n in range(begin, reach))
        reported += codec.receive(results(words, begin, reach))
        if data.draw(st.booleans()):
            stop = data.draw(st.integers(begin + 1, reach))
            words = " ".join(f"w{n}" for n in range(begin, stop))
            reported += codec.receive(results(words, begin, stop, final=True))
            begin = stop
        elif reach == total:
            reported += codec.receive(results(words, begin, total, final=True, from_finalize=True))
            begin = total
    finals = {one.segment: one.text for one in reported if one.final}
    everything = [f"w{n}" for n in range(total)]
    assert " ".join(finals.values()).split() == everything
    for one in reported:  # so that a promoted interim and its final one are the same words
        assert finals[one.segment].startswith(one.text)


def test_listen_url_encodes_booleans_lists_and_escapes() -> None:
    """listen_url writes booleans in lower case, repeats the key for lists, and escapes values."""
    url = listen_url(
        "wss://api.deepgram.com/", "/v1/listen", {"a": True, "b": None, "c": ["x y", "&"], "d": 0.5, "e": ()}
    )
    assert url == "wss://api.deepgram.com/v1/listen?a=true&c=x+y&c=%26&d=0.5"
    assert parse_qs(urlsplit(url).query)["c"] == ["x y", "&"]


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("もしもし", "聞こえますか", "もしもし聞こえますか"),
        ("我想取消", "我的订单", "我想取消我的订单"),
        ("ขอโทษครับ", "เปิดกี่โมง", "ขอโทษครับเปิดกี่โมง"),
        ("여보세요", "들리세요", "여보세요 들리세요"),
        ("hello", "again", "hello again"),
    ],
)
def test_nova_joins_parts_as_their_script_does(first: str, second: str, whole: str) -> None:
    """The parts of one utterance are joined with a space only where their script has spaces."""
    codec = NovaCodec()
    messages = [
        results(f"{first} {second}", 0, 2),
        results(first, 0, 1, final=True),
        results(second, 1, 2, final=True, from_finalize=True),
    ]
    assert heard(codec, *messages)[-1] == said(whole, 1)
